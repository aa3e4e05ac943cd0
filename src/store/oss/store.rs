//! The store itself: each call of the trait, in OSS's words.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::json;

use crate::clock::Clock;
use crate::domain::{ObjectKey, Part, PartBounds, PartNumber, SessionId};
use crate::store::credentials::Keeper;
use crate::store::oss::codes::{CALLBACK_FAILED, EXISTS};
use crate::store::oss::identity::{OssIdentity, Signing};
use crate::store::oss::object::ObjectHeaders;
use crate::store::oss::setup::Setup;
use crate::store::oss::sign::{self, Query, form};
use crate::store::parts::gapless;
use crate::store::remote::calls::{self, etag, unreadable};
use crate::store::remote::client::Client;
use crate::store::remote::endpoint::Endpoint;
use crate::store::remote::lifecycle;
use crate::store::remote::policy::FormLimits;
use crate::store::remote::request::Call;
use crate::store::remote::setup::told;
use crate::store::remote::xml;
use crate::store::{
    Abandoned, Begin, Body, Download, FormAsk, Heard, Identification, Joined, Limits, ListedUpload, NewPart, Proof,
    Reading, SignedForm, SignedGet, SignedPut, Store, StoreConfig, StoreError, StoredObject, StoredPart, Target,
    body_of,
};

/// OSS's bounds of a multipart upload.
pub const PART_BOUNDS: PartBounds =
    PartBounds { part_bytes_min: 100 << 10, part_bytes_max: 5 << 30, parts_max: 10_000 };
/// The largest object in one PutObject, in bytes.
const PUT_BYTES_MAX: u64 = 5 << 30;
/// The type that parts are sent as by whoever puts them without us.
const PART_TYPE: &str = "application/octet-stream";

/// A bucket of Aliyun OSS, or of what speaks its dialect.
#[derive(Debug)]
pub struct OssStore {
    client: Client,
    identity: OssIdentity,
    /// Where URLs point that are given out.
    public: Endpoint,
    /// Whom OSS tells of a form's file: the parameter, in base64.
    callback: Option<String>,
    /// What objects are made with.
    object: ObjectHeaders,
}

impl OssStore {
    /// Connects to nothing yet. `env` is asked for what the configuration
    /// leaves open. The error names every key that is missing or wrong.
    pub fn new(
        config: &StoreConfig,
        clock: Arc<dyn Clock>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let setup = Setup::of(&config.oss, env).map_err(|mistakes| told(&mistakes))?;
        let Setup { endpoint, public, region, credentials, object } = setup;
        let keeper = Keeper::new(credentials, clock.clone())?;
        let identity = OssIdentity { version: config.oss.signature, region: region.into(), keeper };
        let client = Client::new(config, clock, endpoint, Arc::new(identity.clone()))?;
        let callback = config.oss.callback_url.as_deref().map(callback);
        Ok(Self { client, identity, public, callback, object })
    }

    /// A URL at the public endpoint that anybody may use with this method
    /// until it expires (V4: within seven days). `query` holds what it asks
    /// for: `partNumber` and `uploadId`, `response-content-disposition`, …
    pub async fn presign(
        &self,
        method: &Method,
        key: &ObjectKey,
        query: &Query,
        expires_in: Duration,
    ) -> Result<String, StoreError> {
        let (signing, expires_in) = self.signing("Presign", expires_in).await?;
        Ok(self.presigned(&signing, method, key, query, expires_in, &HeaderMap::new()))
    }

    /// Who we are to the store.
    pub const fn credentials(&self) -> &Keeper {
        &self.identity.keeper
    }

    /// Whoever signs now, and for how long what they sign is good: a token that
    /// ends takes along what it signed.
    async fn signing(&self, operation: &'static str, expires_in: Duration) -> Result<(Signing, Duration), StoreError> {
        let signing = self.identity.now(operation).await?;
        Ok((signing, self.credentials().within_life(expires_in)))
    }

    /// A URL at the public endpoint, with exactly these headers.
    fn presigned(
        &self,
        signing: &Signing,
        method: &Method,
        key: &ObjectKey,
        query: &Query,
        expires_in: Duration,
        headers: &HeaderMap,
    ) -> String {
        let (bucket, key) = (Some(self.client.bucket()), Some(key.as_str()));
        let request = sign::Request { method: method.as_str(), bucket, key, query };
        let (version, at) = (self.identity.version, self.client.store_time());
        self.public.url(key, &sign::presign(version, &signing.signer(), at, expires_in, &request, headers))
    }
}

#[async_trait]
impl Store for OssStore {
    fn kind(&self) -> &'static str {
        "oss"
    }

    fn bucket(&self) -> &str {
        self.client.bucket()
    }

    fn limits(&self) -> Limits {
        Limits {
            parts: PART_BOUNDS,
            put_bytes_max: PUT_BYTES_MAX,
            object_bytes_max: PART_BOUNDS.object_bytes_max(),
            proof: Proof::Crc64Xz,
            direct: true,
        }
    }

    async fn begin(&self, begin: Begin<'_>) -> Result<SessionId, StoreError> {
        let mut call = Call::new("InitiateMultipartUpload", Method::POST, Some(begin.key.as_str()))
            .query("uploads", "")
            .query("encoding-type", "url")
            .headers(&self.object.begin);
        if let Some(kind) = begin.content_type {
            call = call.header(CONTENT_TYPE.as_str(), kind)?;
        }
        // Not again after a lost answer: that has begun one, and the caller counts how many.
        let answer = self.client.call_until_begun(&call).await?;
        xml::initiated(&answer.text()).map_err(|e| unreadable(&call, &e))
    }

    async fn put_part(&self, target: Target<'_>, part: NewPart) -> Result<StoredPart, StoreError> {
        let call = Call::new("UploadPart", Method::PUT, Some(target.key.as_str()))
            .query("partNumber", part.number.to_string())
            .query("uploadId", target.session.as_str());
        let answer = self.client.stream(&call, part.bytes, part.body).await?;
        Ok(StoredPart { etag: etag(&call, &answer)?, crc64: answer.crc64() })
    }

    async fn list_parts(&self, target: Target<'_>) -> Result<Vec<Part>, StoreError> {
        let listed = calls::list_parts(&self.client, target).await?;
        Ok(listed.into_iter().map(|listed| listed.part).collect())
    }

    /// OSS itself would join over gaps, so it is not asked to. It says neither
    /// size nor type here: the size is the parts' sum.
    async fn complete(&self, target: Target<'_>, parts: &[Part]) -> Result<Joined, StoreError> {
        gapless(parts)?;
        let mut call = Call::new("CompleteMultipartUpload", Method::POST, Some(target.key.as_str()))
            .query("uploadId", target.session.as_str())
            .headers(&self.object.complete)
            .header(CONTENT_TYPE.as_str(), "application/xml")?;
        call.body = xml::complete(parts, |_| None).into();
        let answer = self.client.call(&call).await.map_err(|error| {
            // Perhaps it is ours, and the answer before was lost: HEAD decides.
            let exists = matches!(&error, StoreError::Refused(fault) if fault.code == EXISTS);
            if exists { StoreError::NoSuchUpload } else { error }
        })?;
        let etag = xml::completed(&answer.text()).map_err(|e| unreadable(&call, &e))?.etag;
        let bytes = parts.iter().map(|part| part.bytes).sum();
        Ok(StoredObject { bytes, etag, crc64: answer.crc64(), content_type: None }.into())
    }

    async fn abort(&self, target: Target<'_>) -> Result<(), StoreError> {
        calls::abort(&self.client, target).await
    }

    async fn put(
        &self,
        key: &ObjectKey,
        content_type: Option<&str>,
        bytes: u64,
        body: Body,
    ) -> Result<StoredObject, StoreError> {
        let mut call = Call::new("PutObject", Method::PUT, Some(key.as_str())).headers(&self.object.put);
        if let Some(kind) = content_type {
            call = call.header(CONTENT_TYPE.as_str(), kind)?;
        }
        let answer = self.client.stream(&call, bytes, body).await?;
        let (etag, crc64) = (etag(&call, &answer)?, answer.crc64());
        Ok(StoredObject { bytes, etag, crc64, content_type: content_type.map(ToOwned::to_owned) })
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<StoredObject>, StoreError> {
        calls::head(&self.client, key).await
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Reading, StoreError> {
        // Without the header, OSS answers a bad range with the whole object.
        let call =
            Call::new("GetObject", Method::GET, Some(key.as_str())).header("x-oss-range-behavior", "standard")?;
        calls::get(&self.client, call, key, range).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        calls::delete(&self.client, key).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<ListedUpload>, StoreError> {
        calls::list_uploads(&self.client, prefix).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        calls::check(&self.client).await
    }

    async fn abandoned(&self, key: &ObjectKey) -> Result<Abandoned, StoreError> {
        let call = Call::new("GetBucketLifecycle", Method::GET, None).query("lifecycle", "");
        match self.client.call_once(&call).await {
            Ok(answer) => lifecycle::abandoned(&answer.text(), key.as_str()).map_err(|e| unreadable(&call, &e)),
            Err(StoreError::Refused(fault)) if fault.code == "NoSuchLifecycle" => Ok(Abandoned::Kept),
            Err(error) => Err(error),
        }
    }

    async fn tell(&self, key: &ObjectKey, body: &'static [u8]) -> Result<Option<Heard>, StoreError> {
        let Some(callback) = &self.callback else { return Ok(None) };
        let call = Call::new("PutObject", Method::PUT, Some(key.as_str())).header("x-oss-callback", callback)?;
        match self.client.stream(&call, body.len() as u64, body_of(body)).await {
            Ok(_) => Ok(Some(Heard::Well)),
            Err(StoreError::Unavailable(fault)) if fault.code == CALLBACK_FAILED => Ok(Some(heard(&fault.message))),
            Err(error) => Err(error),
        }
    }

    async fn identify(&self) -> Result<Option<Identification>, StoreError> {
        let identified = self.credentials().identify().await;
        identified.map(Some).map_err(|none| none.of_call("Credentials"))
    }

    fn renew(&self, config: &StoreConfig, env: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
        let setup = Setup::of(&config.oss, env).map_err(|mistakes| told(&mistakes))?;
        self.credentials().replace(setup.credentials);
        Ok(())
    }

    async fn download_url(&self, download: &Download<'_>) -> Result<Option<SignedGet>, StoreError> {
        let query = calls::download_query(download);
        let (signing, expires_in) = self.signing("GetObject", download.expires_in).await?;
        let url = self.presigned(&signing, download.method, download.key, &query, expires_in, &HeaderMap::new());
        Ok(Some(SignedGet { url, expires_in }))
    }

    async fn sign_part(
        &self,
        target: Target<'_>,
        number: PartNumber,
        expires_in: Duration,
    ) -> Result<Option<SignedPut>, StoreError> {
        // Said, so that nobody's library says another: OSS covers the type that it is sent.
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(PART_TYPE))]);
        let query = calls::part_query(target, number);
        let (signing, expires_in) = self.signing("UploadPart", expires_in).await?;
        let url = self.presigned(&signing, &Method::PUT, target.key, &query, expires_in, &headers);
        Ok(Some(SignedPut { url, headers: vec![("Content-Type", PART_TYPE)], expires_in }))
    }

    async fn sign_form(&self, ask: &FormAsk<'_>) -> Result<Option<SignedForm>, StoreError> {
        let (signing, expires_in) = self.signing("PostObject", ask.expires_in).await?;
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        // Sent twice, a form must not write over what is recorded already.
        let mut fields = vec![field("key", ask.key.as_str()), field("x-oss-forbid-overwrite", "true")];
        // The object is what those are that come through the gateway.
        let own = self.object.put.iter().filter(|(name, _)| *name != "x-oss-forbid-overwrite");
        fields.extend(own.filter_map(|(name, value)| Some(field(as_documented(name.as_str()), value.to_str().ok()?))));
        fields.push(field("success_action_status", "200"));
        fields.extend(ask.content_type.map(|kind| field("Content-Type", kind)));
        fields.extend(self.callback.as_deref().map(|callback| field("callback", callback)));
        let at = self.client.store_time();
        let limits =
            FormLimits { bucket: self.client.bucket(), bytes_max: ask.bytes_max, expires: at.plus(expires_in) };
        let fields = form::sign(self.identity.version, &signing.signer(), at, limits, fields);
        Ok(Some(SignedForm { url: self.public.url(None, &[]), fields, expires_in, is_for_once: true }))
    }
}

/// What OSS is to tell us of a form's file.
fn callback(url: &str) -> String {
    const BODY: &str = "bucket=${bucket}&object=${object}&size=${size}&etag=${etag}";
    let parameter =
        json!({"callbackUrl": url, "callbackBody": BODY, "callbackBodyType": "application/x-www-form-urlencoded"});
    STANDARD.encode(parameter.to_string())
}

/// A form's field, as OSS writes it.
fn as_documented(header: &str) -> &str {
    match header {
        "cache-control" => "Cache-Control",
        "content-disposition" => "Content-Disposition",
        other => other,
    }
}

/// `Error status : 404.`; what is no status, such as -1, is no answer.
fn heard(message: &str) -> Heard {
    let said = message.split_once("Error status : ").map_or("", |(_, said)| said);
    let status: String = said.chars().take_while(char::is_ascii_digit).collect();
    status.parse().map_or_else(|_| Heard::Nothing(message.to_owned()), Heard::Status)
}

#[cfg(test)]
mod tests;
