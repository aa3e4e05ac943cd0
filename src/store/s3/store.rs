//! The store itself: each call of the trait, in S3's words.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use http::header::{CONTENT_TYPE, HOST};
use tokio::sync::OnceCell;

use crate::clock::Clock;
use crate::domain::{ObjectKey, Part, PartBounds, PartNumber, SessionId};
use crate::store::credentials::Keeper;
use crate::store::error::Fault;
use crate::store::parts::{self, gapless};
use crate::store::remote::answer::Answer;
use crate::store::remote::calls::{self, etag, unreadable};
use crate::store::remote::client::Client;
use crate::store::remote::encode::Query;
use crate::store::remote::endpoint::Endpoint;
use crate::store::remote::lifecycle;
use crate::store::remote::policy::FormLimits;
use crate::store::remote::request::Call;
use crate::store::remote::setup::told;
use crate::store::remote::xml;
use crate::store::s3::endpoint::takes_forms;
use crate::store::s3::identity::S3Identity;
use crate::store::s3::outgoing::Outgoing;
use crate::store::s3::proof::{Algorithm, CANDIDATES, NO_PROOF, PartProof};
use crate::store::s3::setup::Setup;
use crate::store::s3::sign::{self, PAYLOAD_HEADER, Request, UNSIGNED_TRAILER, form};
use crate::store::{
    Abandoned, Begin, Body, Download, FormAsk, Identification, Joined, Limits, ListedUpload, NewPart, Proof, Reading,
    Shown, SignedForm, SignedGet, SignedPut, Store, StoreConfig, StoreError, StoredObject, StoredPart, Target, body_of,
};

/// S3's bounds of a multipart upload.
pub const PART_BOUNDS: PartBounds = PartBounds { part_bytes_min: 5 << 20, part_bytes_max: 5 << 30, parts_max: 10_000 };
/// The largest object in one PutObject, in bytes.
const PUT_BYTES_MAX: u64 = 5 << 30;
/// The largest object, in bytes.
const OBJECT_BYTES_MAX: u64 = 5 << 40;
/// Its part is put to see how the store proves it, and is never joined.
const PROBE: &[u8] = b"does it come through?";

/// A bucket of S3, or of what speaks its dialect.
#[derive(Debug)]
pub struct S3Store {
    client: Client,
    identity: S3Identity,
    /// Where URLs point that are given out.
    public: Endpoint,
    /// What proves a part, once it is known.
    proof: OnceCell<PartProof>,
}

impl S3Store {
    /// Connects to nothing yet. `env` is asked for what the configuration
    /// leaves open. The error names every key that is missing or wrong.
    pub fn new(
        config: &StoreConfig,
        clock: Arc<dyn Clock>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let setup = Setup::of(&config.s3, env).map_err(|mistakes| told(&mistakes))?;
        let Setup { endpoint, public, region, credentials, proof } = setup;
        let identity = S3Identity { region: region.into(), keeper: Keeper::new(credentials, clock.clone())? };
        let client = Client::new(config, clock, endpoint, Arc::new(identity.clone()))?;
        Ok(Self { client, identity, public, proof: OnceCell::new_with(proof) })
    }

    /// A URL at the public endpoint that anybody may use with this method until
    /// it expires, within seven days. `query` holds what it asks for.
    pub async fn presign(
        &self,
        method: &Method,
        key: &ObjectKey,
        query: &Query,
        expires_in: Duration,
    ) -> Result<String, StoreError> {
        self.presigned("Presign", method, key, query, expires_in).await.map(|(url, _)| url)
    }

    /// The same, and for how long it is good: a token that ends takes along what
    /// it signed.
    async fn presigned(
        &self,
        operation: &'static str,
        method: &Method,
        key: &ObjectKey,
        query: &Query,
        expires_in: Duration,
    ) -> Result<(String, Duration), StoreError> {
        let signing = self.identity.now(operation).await?;
        let expires_in = self.identity.keeper.within_life(expires_in);
        let key = Some(key.as_str());
        let call = Call::new(operation, method.clone(), key).header(HOST.as_str(), &self.public.host())?;
        let request = Request { method: method.as_str(), path: &self.public.path(key), query };
        let (at, host) = (self.client.store_time(), &call.headers[HOST]);
        let query = sign::presign(&signing.signer(), at, expires_in, &request, host);
        Ok((self.public.url(key, &query), expires_in))
    }

    /// What proves a part here: tried once, on an upload of this key that is
    /// given up again. However many parts wait for it, one tries.
    async fn proof(&self, key: &ObjectKey) -> Result<PartProof, StoreError> {
        self.proof.get_or_try_init(|| self.find_proof(key)).await.copied()
    }

    async fn find_proof(&self, key: &ObjectKey) -> Result<PartProof, StoreError> {
        for candidate in CANDIDATES {
            match self.probe(key, candidate).await {
                Ok(()) => {
                    tracing::info!(proof = candidate.name(), "how the store proves that parts came through");
                    return Ok(candidate);
                }
                Err(error) if is_not_known(&error) => {
                    tracing::debug!(proof = candidate.name(), %error, "the store does not prove parts so");
                }
                Err(error) => return Err(error),
            }
        }
        let message = "neither a checksum nor the ETag shows that a part came through";
        let fault = Fault {
            operation: "UploadPart",
            code: NO_PROOF.to_owned(),
            message: message.to_owned(),
            ..Fault::default()
        };
        Err(StoreError::Refused(fault).at(self.client.address()))
    }

    async fn probe(&self, key: &ObjectKey, proof: PartProof) -> Result<(), StoreError> {
        let session = self.begin_with(key, None, proof.algorithm()).await?;
        let target = Target { key, session: &session };
        let put = self.put_with(part_call(target, PartNumber::FIRST), PROBE.len() as u64, body_of(PROBE), proof).await;
        // Whoever may not give it up can upload all the same, and is told of what stays.
        if let Err(error) = calls::abort(&self.client, target).await {
            tracing::warn!(%key, %error, "an upload that was begun to see how parts are proven stays in the store");
        }
        put.map(|_| ())
    }

    async fn begin_with(
        &self,
        key: &ObjectKey,
        content_type: Option<&str>,
        algorithm: Option<Algorithm>,
    ) -> Result<SessionId, StoreError> {
        let mut call = Call::new("CreateMultipartUpload", Method::POST, Some(key.as_str())).query("uploads", "");
        if let Some(kind) = content_type {
            call = call.header(CONTENT_TYPE.as_str(), kind)?;
        }
        if let Some(algorithm) = algorithm {
            // So that the parts' make the whole object's.
            call = call
                .header("x-amz-checksum-algorithm", algorithm.name())?
                .header("x-amz-checksum-type", "FULL_OBJECT")?;
        }
        // Not again after a lost answer: that has begun one, and the caller counts how many.
        let answer = self.client.call_until_begun(&call).await?;
        xml::initiated(&answer.text()).map_err(|e| unreadable(&call, &e))
    }

    /// Sends a body, and looks whether the answer shows that it came through.
    async fn put_with(
        &self,
        mut call: Call<'_>,
        bytes: u64,
        body: Body,
        proof: PartProof,
    ) -> Result<Answer, StoreError> {
        if let Some(algorithm) = proof.algorithm() {
            call = call
                .header(PAYLOAD_HEADER, UNSIGNED_TRAILER)?
                .header("content-encoding", "aws-chunked")?
                .header("x-amz-decoded-content-length", &bytes.to_string())?
                .header("x-amz-trailer", algorithm.header())?;
        }
        let Outgoing { body, bytes, sent } = Outgoing::new(proof, bytes, body);
        let answer = self.client.stream(&call, bytes, body).await?;
        if sent.get().is_some_and(|sent| sent.is_shown_by(&answer)) {
            return Ok(answer);
        }
        let message = format!("the store's {} of what was sent is not ours, or is missing", proof.name());
        Err(call.unavailable(NO_PROOF, message).at(self.client.address()))
    }

    /// Whoever refuses a body before it has come may cut it off with the answer,
    /// which is lost then; and there are servers that fall over an upload that is
    /// gone. Whether there is such an upload is asked again.
    async fn why_not_stored(&self, target: Target<'_>, error: StoreError) -> StoreError {
        if !matches!(&error, StoreError::Unavailable(fault) if matches!(&*fault.code, "ConnectionReset" | "Http500")) {
            return error;
        }
        let call = Call::new("ListParts", Method::GET, Some(target.key.as_str()))
            .query("uploadId", target.session.as_str())
            .query("max-parts", "1");
        match self.client.call_once(&call).await {
            Err(StoreError::NoSuchUpload) => StoreError::NoSuchUpload,
            Ok(_) | Err(_) => error,
        }
    }
}

fn part_call(target: Target<'_>, number: PartNumber) -> Call<'_> {
    Call::new("UploadPart", Method::PUT, Some(target.key.as_str()))
        .query("partNumber", number.to_string())
        .query("uploadId", target.session.as_str())
}

/// A client's bytes that did not come through are counted, a probe's are not.
fn count(error: &StoreError) {
    if matches!(error, StoreError::Unavailable(fault) if fault.code == NO_PROOF) {
        metrics::counter!("chunkgate_store_proof_failures_total").increment(1);
    }
}

/// Whether the store does not know what it was asked, or did not show it. Whoever
/// is not let in is told so by what is tried last.
fn is_not_known(error: &StoreError) -> bool {
    match error {
        StoreError::Refused(fault) => matches!(fault.status, Some(400 | 501)),
        StoreError::Unavailable(fault) => fault.code == NO_PROOF || fault.status == Some(501),
        StoreError::Body
        | StoreError::NoSuchUpload
        | StoreError::NoSuchObject
        | StoreError::PartsDiffer(_)
        | StoreError::Full => false,
    }
}

#[async_trait]
impl Store for S3Store {
    fn kind(&self) -> &'static str {
        "s3"
    }

    fn bucket(&self) -> &str {
        self.client.bucket()
    }

    fn limits(&self) -> Limits {
        let proof = match self.proof.get() {
            Some(PartProof::Checksum(algorithm)) => Proof::Checksum(algorithm.name()),
            Some(PartProof::Size) => Proof::SizeOnly,
            Some(PartProof::Md5) | None => Proof::Md5Etag,
        };
        Limits {
            parts: PART_BOUNDS,
            put_bytes_max: PUT_BYTES_MAX,
            object_bytes_max: OBJECT_BYTES_MAX,
            proof,
            direct: true,
        }
    }

    async fn begin(&self, begin: Begin<'_>) -> Result<SessionId, StoreError> {
        // A browser sends no checksum, and there are servers (MinIO) that take nothing else
        // into an upload that was begun with one.
        let algorithm = self.proof(begin.key).await?.algorithm().filter(|_| !begin.direct);
        self.begin_with(begin.key, begin.content_type, algorithm).await
    }

    async fn put_part(&self, target: Target<'_>, part: NewPart) -> Result<StoredPart, StoreError> {
        let proof = self.proof(target.key).await?;
        let call = part_call(target, part.number);
        match self.put_with(call.clone(), part.bytes, part.body, proof).await.inspect_err(count) {
            Ok(answer) => Ok(StoredPart { etag: etag(&call, &answer)?, crc64: None }),
            Err(error) => Err(self.why_not_stored(target, error).await),
        }
    }

    async fn list_parts(&self, target: Target<'_>) -> Result<Vec<Part>, StoreError> {
        let listed = calls::list_parts(&self.client, target).await?;
        Ok(listed.into_iter().map(|listed| listed.part).collect())
    }

    /// S3 answers a repeated Complete as it did the first: so it is asked first
    /// whether there is such an upload. The parts' checksums, which it wants to
    /// be given, come with that, and make the whole object's.
    async fn complete(&self, target: Target<'_>, parts: &[Part]) -> Result<Joined, StoreError> {
        gapless(parts)?;
        let listed = calls::list_parts(&self.client, target).await?;
        let stored: Vec<Part> = listed.iter().map(|listed| listed.part.clone()).collect();
        parts::verify(parts, &stored)?;
        // Gapless, and all there: the first ones of what is listed.
        let listed = &listed[..parts.len()];
        let kept = Algorithm::ALL.into_iter().find_map(|algorithm| Some((algorithm, algorithm.joined(listed)?)));
        let mut call = Call::new("CompleteMultipartUpload", Method::POST, Some(target.key.as_str()))
            .query("uploadId", target.session.as_str())
            .header(CONTENT_TYPE.as_str(), "application/xml")?;
        let checksum = |part: &Part| {
            let of_part = &listed.get(usize::from(part.number.get()) - 1)?.checksums;
            kept.and_then(|(algorithm, _)| Some((algorithm.element(), algorithm.of(of_part)?)))
        };
        call.body = xml::complete(parts, checksum).into();
        let answer = self.client.call(&call).await?;
        let joined = xml::completed(&answer.text()).map_err(|e| unreadable(&call, &e))?;
        let object = calls::head(&self.client, target.key).await?.ok_or(StoreError::NoSuchObject)?;
        let is_other = kept.is_some_and(|(algorithm, ours)| {
            let theirs = algorithm.of(&joined.checksums).and_then(|text| algorithm.parse(text));
            theirs.is_some_and(|theirs| theirs != ours)
        });
        // Where the whole has no checksum, the parts' proofs suffice: they were joined by
        // their ETags.
        let shown = match (is_other, object.etag == joined.etag) {
            (true, _) => Shown::Others,
            (false, true) => Shown::TheseParts,
            (false, false) => Shown::Nothing,
        };
        Ok(Joined { object, shown })
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
        let proof = self.proof(key).await?;
        let mut call = Call::new("PutObject", Method::PUT, Some(key.as_str()));
        if let Some(kind) = content_type {
            call = call.header(CONTENT_TYPE.as_str(), kind)?;
        }
        let answer = self.put_with(call.clone(), bytes, body, proof).await.inspect_err(count)?;
        let etag = etag(&call, &answer)?;
        Ok(StoredObject { bytes, etag, crc64: None, content_type: content_type.map(ToOwned::to_owned) })
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<StoredObject>, StoreError> {
        calls::head(&self.client, key).await
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Reading, StoreError> {
        let call = Call::new("GetObject", Method::GET, Some(key.as_str()));
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
        let call = Call::new("GetBucketLifecycleConfiguration", Method::GET, None).query("lifecycle", "");
        match self.client.call_once(&call).await {
            Ok(answer) => lifecycle::abandoned(&answer.text(), key.as_str()).map_err(|e| unreadable(&call, &e)),
            Err(StoreError::Refused(fault)) if fault.code == "NoSuchLifecycleConfiguration" => Ok(Abandoned::Kept),
            Err(error) => Err(error),
        }
    }

    async fn identify(&self) -> Result<Option<Identification>, StoreError> {
        let identified = self.identity.keeper.identify().await;
        identified.map(Some).map_err(|none| none.of_call("Credentials"))
    }

    fn renew(&self, config: &StoreConfig, env: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
        let setup = Setup::of(&config.s3, env).map_err(|mistakes| told(&mistakes))?;
        self.identity.keeper.replace(setup.credentials);
        Ok(())
    }

    async fn download_url(&self, download: &Download<'_>) -> Result<Option<SignedGet>, StoreError> {
        let query = calls::download_query(download);
        let signed = self.presigned("GetObject", download.method, download.key, &query, download.expires_in).await;
        signed.map(|(url, expires_in)| Some(SignedGet { url, expires_in }))
    }

    async fn sign_part(
        &self,
        target: Target<'_>,
        number: PartNumber,
        expires_in: Duration,
    ) -> Result<Option<SignedPut>, StoreError> {
        let query = calls::part_query(target, number);
        let signed = self.presigned("UploadPart", &Method::PUT, target.key, &query, expires_in).await;
        signed.map(|(url, expires_in)| Some(SignedPut { url, headers: Vec::new(), expires_in }))
    }

    /// S3 has no form that writes nothing over: sent twice, it replaces what it put.
    async fn sign_form(&self, ask: &FormAsk<'_>) -> Result<Option<SignedForm>, StoreError> {
        if !takes_forms(&self.public) {
            return Ok(None);
        }
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut fields = vec![field("key", ask.key.as_str()), field("success_action_status", "200")];
        fields.extend(ask.content_type.map(|kind| field("Content-Type", kind)));
        let signing = self.identity.now("PostObject").await?;
        let (at, expires_in) = (self.client.store_time(), self.identity.keeper.within_life(ask.expires_in));
        let limits =
            FormLimits { bucket: self.client.bucket(), bytes_max: ask.bytes_max, expires: at.plus(expires_in) };
        let fields = form::sign(&signing.signer(), at, limits, fields);
        Ok(Some(SignedForm { url: self.public.url(None, &[]), fields, expires_in, is_for_once: false }))
    }
}

#[cfg(test)]
mod tests;
