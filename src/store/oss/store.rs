//! The store itself: each call of the trait, in OSS's words.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use http::header::{CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::json;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::domain::{ObjectKey, Part, PartBounds, PartNumber, SessionId};
use crate::store::oss::answer::{Answer, object};
use crate::store::oss::client::Client;
use crate::store::oss::endpoint::Endpoint;
use crate::store::oss::remedy::NOT_OSS;
use crate::store::oss::request::{Call, unreachable_store};
use crate::store::oss::setup::Setup;
use crate::store::oss::sign::Query;
use crate::store::oss::xml;
use crate::store::parts::gapless;
use crate::store::{
    Begin, Body, Download, FormAsk, Limits, ListedUpload, NewPart, ObjectStream, Proof, Reading, SignedForm, SignedPut,
    Store, StoreConfig, StoreError, StoredObject, StoredPart, Target,
};

/// OSS's bounds of a multipart upload.
pub const PART_BOUNDS: PartBounds =
    PartBounds { part_bytes_min: 100 << 10, part_bytes_max: 5 << 30, parts_max: 10_000 };
/// The largest object in one PutObject, in bytes.
const PUT_BYTES_MAX: u64 = 5 << 30;
/// The type that parts are sent as by whoever puts them without us.
const PART_TYPE: &str = "application/octet-stream";
/// Pages of a thousand uploads that one sweep looks at.
const UPLOAD_PAGES_MAX: u32 = 100;

/// A bucket of Aliyun OSS, or of what speaks its dialect.
#[derive(Debug)]
pub struct OssStore {
    client: Client,
    /// Where URLs point that are given out.
    public: Endpoint,
    /// Whom OSS tells of a form's file: the parameter, in base64.
    callback: Option<String>,
}

impl OssStore {
    /// Connects to nothing yet. `env` is asked for what the configuration
    /// leaves open. The error names every key that is missing or wrong.
    pub fn new(
        config: &StoreConfig,
        clock: Arc<dyn Clock>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let setup = Setup::of(&config.oss, env).map_err(|mistakes| {
            let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            told.join("; ")
        })?;
        let Setup { endpoint, public, region, credentials } = setup;
        let client = Client::new(config, clock, endpoint, region, credentials)?;
        let callback = config.oss.callback_url.as_deref().map(callback);
        Ok(Self { client, public, callback })
    }

    /// A URL at the public endpoint that anybody may use with this method
    /// until it expires (V4: within seven days). `query` holds what it asks
    /// for: `partNumber` and `uploadId`, `response-content-disposition`, …
    pub fn presign(&self, method: &Method, key: &ObjectKey, query: &Query, expires_in: Duration) -> String {
        self.client.presigned(&self.public, method, key.as_str(), query, expires_in, &HeaderMap::new())
    }

    async fn list_uploads_page(
        &self,
        prefix: &str,
        after: Option<&(String, String)>,
    ) -> Result<xml::UploadsPage, StoreError> {
        let mut call = Call::new("ListMultipartUploads", Method::GET, None)
            .query("uploads", "")
            .query("encoding-type", "url")
            .query("max-uploads", "1000");
        if !prefix.is_empty() {
            call = call.query("prefix", prefix);
        }
        if let Some((key, upload)) = after {
            call = call.query("key-marker", key).query("upload-id-marker", upload);
        }
        let answer = self.client.call(&call).await?;
        xml::uploads(&answer.text()).map_err(|e| unreadable(&call, &e))
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
            .query("encoding-type", "url");
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
        let mut parts: Vec<Part> = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut call = Call::new("ListParts", Method::GET, Some(target.key.as_str()))
                .query("uploadId", target.session.as_str())
                .query("max-parts", "1000")
                .query("encoding-type", "url");
            if let Some(marker) = &after {
                call = call.query("part-number-marker", marker);
            }
            let answer = self.client.call(&call).await?;
            let page = xml::parts(&answer.text()).map_err(|e| unreadable(&call, &e))?;
            // Ascending over all pages: what goes round in circles ends here.
            let last = parts.last().map(|part| part.number);
            let numbers = last.into_iter().chain(page.parts.iter().map(|part| part.number));
            if !numbers.is_sorted_by(|a, b| a < b) || (page.parts.is_empty() && page.next.is_some()) {
                return Err(call.unavailable("UnreadableAnswer", "the listed parts do not ascend"));
            }
            parts.extend(page.parts);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(parts),
            }
        }
    }

    /// OSS itself would join over gaps, so it is not asked to. It says neither
    /// size nor type here: the size is the parts' sum.
    async fn complete(&self, target: Target<'_>, parts: &[Part]) -> Result<StoredObject, StoreError> {
        gapless(parts)?;
        let mut call = Call::new("CompleteMultipartUpload", Method::POST, Some(target.key.as_str()))
            .query("uploadId", target.session.as_str())
            .header(CONTENT_TYPE.as_str(), "application/xml")?;
        call.body = xml::complete(parts).into();
        let answer = self.client.call(&call).await?;
        let etag = xml::completed(&answer.text()).map_err(|e| unreadable(&call, &e))?;
        let bytes = parts.iter().map(|part| part.bytes).sum();
        Ok(StoredObject { bytes, etag, crc64: answer.crc64(), content_type: None })
    }

    async fn abort(&self, target: Target<'_>) -> Result<(), StoreError> {
        let call = Call::new("AbortMultipartUpload", Method::DELETE, Some(target.key.as_str()))
            .query("uploadId", target.session.as_str());
        match self.client.call(&call).await {
            Ok(_) | Err(StoreError::NoSuchUpload) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn put(
        &self,
        key: &ObjectKey,
        content_type: Option<&str>,
        bytes: u64,
        body: Body,
    ) -> Result<StoredObject, StoreError> {
        let mut call = Call::new("PutObject", Method::PUT, Some(key.as_str()));
        if let Some(kind) = content_type {
            call = call.header(CONTENT_TYPE.as_str(), kind)?;
        }
        let answer = self.client.stream(&call, bytes, body).await?;
        let (etag, crc64) = (etag(&call, &answer)?, answer.crc64());
        Ok(StoredObject { bytes, etag, crc64, content_type: content_type.map(ToOwned::to_owned) })
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<StoredObject>, StoreError> {
        let call = Call::new("HeadObject", Method::HEAD, Some(key.as_str()));
        match self.client.call(&call).await {
            Ok(answer) => {
                let read = object(&answer.headers);
                read.map(Some).ok_or_else(|| call.unavailable("UnreadableAnswer", "the object's size is missing"))
            }
            Err(StoreError::NoSuchObject) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Reading, StoreError> {
        if range.as_ref().is_some_and(Range::is_empty) {
            // HTTP has no way to ask for nothing.
            let object = self.head(key).await?.ok_or(StoreError::NoSuchObject)?;
            return Ok(Reading { object, stream: Box::pin(stream::empty()) });
        }
        let mut call = Call::new("GetObject", Method::GET, Some(key.as_str()));
        if let Some(range) = &range {
            // Without the second header, OSS answers a bad range with the whole object.
            call = call
                .header(RANGE.as_str(), &format!("bytes={}-{}", range.start, range.end - 1))?
                .header("x-oss-range-behavior", "standard")?;
        }
        let response = self.client.open(&call).await?;
        let headers = response.headers();
        let unexpected = |what| call.unavailable("UnreadableAnswer", what);
        let object = object(headers).ok_or_else(|| unexpected("the object's size is missing"))?;
        let bytes = match &range {
            None => object.bytes,
            Some(range) => {
                let start = format!("bytes {}-{}/", range.start, range.end - 1);
                let answered = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
                if !answered.is_some_and(|text| text.starts_with(&start)) {
                    return Err(unexpected("another range than the one asked for"));
                }
                range.end - range.start
            }
        };
        let stream = read_through(call.operation, response, bytes, &self.client);
        Ok(Reading { object, stream })
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let call = Call::new("DeleteObject", Method::DELETE, Some(key.as_str()));
        match self.client.call(&call).await {
            Ok(_) | Err(StoreError::NoSuchObject) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<ListedUpload>, StoreError> {
        let mut uploads = Vec::new();
        let mut after = None;
        for _ in 0..UPLOAD_PAGES_MAX {
            let page = self.list_uploads_page(prefix, after.as_ref()).await?;
            uploads.extend(page.uploads);
            if page.next.is_none() || page.next == after {
                return Ok(uploads);
            }
            after = page.next;
        }
        tracing::warn!(prefix, listed = uploads.len(), "too many multipart uploads to list at once");
        Ok(uploads)
    }

    async fn check(&self) -> Result<(), StoreError> {
        let call = Call::new("ListMultipartUploads", Method::GET, None).query("uploads", "").query("max-uploads", "1");
        let answer = self.client.call_once(&call).await?;
        // A web server that is no OSS may answer 200 to anything.
        let read = xml::uploads(&answer.text());
        read.map(|_| ()).map_err(|e| StoreError::Refused(call.fault(NOT_OSS, e.to_string())).at(self.client.address()))
    }

    fn download_url(&self, download: &Download<'_>) -> Option<String> {
        let mut query = vec![("response-content-disposition".to_owned(), download.disposition.clone())];
        query.extend(download.content_type.map(|kind| ("response-content-type".to_owned(), kind.to_owned())));
        Some(self.presign(download.method, download.key, &query, download.expires_in))
    }

    fn sign_part(&self, target: Target<'_>, number: PartNumber, expires_in: Duration) -> Option<SignedPut> {
        // Said, so that nobody's library says another: OSS covers the type that it is sent.
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(PART_TYPE))]);
        let query = [
            ("partNumber".to_owned(), number.get().to_string()),
            ("uploadId".to_owned(), target.session.as_str().to_owned()),
        ];
        let key = target.key.as_str();
        let url = self.client.presigned(&self.public, &Method::PUT, key, &query, expires_in, &headers);
        Some(SignedPut { url, headers: vec![("Content-Type", PART_TYPE)] })
    }

    fn sign_form(&self, ask: &FormAsk<'_>) -> Option<SignedForm> {
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        // Sent twice, a form must not write over what is recorded already.
        let mut fields = vec![field("key", ask.key.as_str()), field("x-oss-forbid-overwrite", "true")];
        fields.push(field("success_action_status", "200"));
        fields.extend(ask.content_type.map(|kind| field("Content-Type", kind)));
        fields.extend(self.callback.as_deref().map(|callback| field("callback", callback)));
        let fields = self.client.signed_form(ask.bytes_max, ask.expires_in, fields);
        Some(SignedForm { url: self.public.url(None, &[]), fields })
    }
}

/// What OSS is to tell us of a form's file.
fn callback(url: &str) -> String {
    const BODY: &str = "bucket=${bucket}&object=${object}&size=${size}&etag=${etag}";
    let parameter =
        json!({"callbackUrl": url, "callbackBody": BODY, "callbackBodyType": "application/x-www-form-urlencoded"});
    STANDARD.encode(parameter.to_string())
}

fn etag(call: &Call<'_>, answer: &Answer) -> Result<String, StoreError> {
    answer.etag().ok_or_else(|| call.unavailable("UnreadableAnswer", "the ETag is missing"))
}

fn unreadable(call: &Call<'_>, error: &xml::Unreadable) -> StoreError {
    call.unavailable("UnreadableAnswer", error.to_string())
}

/// An answer's body as it comes: exactly `bytes` bytes, none of them late.
/// The deadline runs only while the reader waits for the store.
fn read_through(operation: &'static str, response: reqwest::Response, bytes: u64, client: &Client) -> ObjectStream {
    let call = Call::new(operation, Method::GET, None);
    let (idle_timeout, address) = (client.idle_timeout(), Arc::clone(client.address()));
    let bytes_in_order = stream::unfold(Some((call, response, bytes)), move |state| async move {
        let (call, mut response, left) = state?;
        let read: Result<Option<Bytes>, StoreError> = match timeout(idle_timeout, response.chunk()).await {
            Err(_) => Err(call.unavailable("IdleTimeout", "the object stopped in the middle")),
            Ok(Err(error)) => Err(unreachable_store(&call, error)),
            Ok(Ok(chunk)) => Ok(chunk),
        };
        match read {
            Ok(None) if left == 0 => None,
            Ok(Some(chunk)) if chunk.len() as u64 <= left => {
                let left = left - chunk.len() as u64;
                Some((Ok(chunk), Some((call, response, left))))
            }
            Ok(_) => Some((Err(call.unavailable("UnreadableAnswer", "another length than announced")), None)),
            Err(error) => Some((Err(error), None)),
        }
    });
    Box::pin(bytes_in_order.map_err(move |error: StoreError| error.at(&address)))
}

#[cfg(test)]
mod tests;
