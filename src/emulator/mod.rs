//! An OSS emulator: a server that speaks OSS's dialect and keeps a bucket in
//! a folder, so that all of the gateway can be tried and tested without a
//! network. The official SDKs take it for OSS.
//!
//! ```text
//! request → address (host, path) → access (signature) → operation (method, query)
//!         → objects | multipart → storage
//! ```
//!
//! `GET /-/stats`, which needs no signature, says what it was asked for.

mod access;
mod address;
mod body;
mod call;
mod config;
mod cors;
mod error;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod listing;
mod multipart;
mod objects;
mod operation;
mod range;
mod stats;
mod storage;
mod xml;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{CONTENT_TYPE, EXPECT, HOST, HeaderValue, ORIGIN};
use http::{HeaderMap, Method, StatusCode};

use access::AccessKey;
use address::Address;
use call::{Call, empty, set};
use error::OssError;
use operation::Operation;
use storage::Storage;

pub use config::EmulatorConfig;
pub use stats::Stats;
pub use storage::OpenError;

use crate::clock::Clock;
use crate::serve::ServeLimits;
use crate::store::oss::sign::v1::http_date;
use crate::store::oss::sign::{Query, Signable};
use crate::units::Secret;

/// The emulator of one bucket.
#[derive(Clone, Debug)]
pub struct Emulator(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    bucket: String,
    access_key_id: String,
    access_key_secret: Secret,
    region: String,
    clock: Arc<dyn Clock>,
    storage: Arc<Storage>,
    stats: Stats,
}

impl Emulator {
    /// Opens the bucket's folder, or makes it. One emulator at a time may
    /// have it open.
    pub fn open(config: EmulatorConfig, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let storage = Arc::new(Storage::open(&config.data_dir, &config.bucket, Arc::clone(&clock))?);
        Ok(Self(Arc::new(Inner {
            bucket: config.bucket,
            access_key_id: config.access_key_id,
            access_key_secret: config.access_key_secret,
            region: config.region,
            clock,
            storage,
            stats: Stats::default(),
        })))
    }

    /// All of its HTTP: for whatever host and path.
    pub fn router(&self) -> Router {
        Router::new().fallback(serve).with_state(Arc::clone(&self.0))
    }

    /// The bounds of its listener: connections are kept for longer than any
    /// client keeps them, so that none sends a part into one that just closed.
    pub fn serve_limits() -> ServeLimits {
        ServeLimits { header_timeout: Duration::from_secs(120), ..ServeLimits::default() }
    }

    /// What it was asked for so far.
    pub fn stats(&self) -> &Stats {
        &self.0.stats
    }

    /// How many multipart uploads are open, and how many parts they have.
    pub fn open_uploads(&self) -> (usize, usize) {
        self.0.storage.upload_counts()
    }
}

async fn serve(State(emulator): State<Arc<Inner>>, request: Request) -> Response {
    let request_id = format!("{:024X}", emulator.clock.random() >> 32);
    let now = emulator.clock.now();
    let (head, mut body) = request.into_parts();
    let (is_head, waits) = (head.method == Method::HEAD, head.headers.contains_key(EXPECT));
    let cross_origin = head.headers.contains_key(ORIGIN);
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    let mut response = match answer(&emulator, head, &host, &mut body).await {
        Ok(response) => response,
        Err(error) => {
            Stats::add(&emulator.stats.refused, 1);
            // Whoever waits for a 100 sends nothing after a refusal.
            if !waits {
                body::drain(&mut body).await;
            }
            refusal(&error, is_head, &request_id, &host)
        }
    };
    let headers = response.headers_mut();
    cors::expose(headers, cross_origin);
    set(headers, "x-oss-request-id", &request_id);
    set(headers, "x-oss-server-time", emulator.clock.now().since(now).as_millis().to_string());
    set(headers, "server", "AliyunOSS");
    set(headers, "date", http_date(now));
    response
}

fn refusal(error: &OssError, is_head: bool, request_id: &str, host: &str) -> Response {
    let (headers, body) = error.answer(!is_head, request_id, host);
    let mut response = if body.is_empty() { empty(error.status) } else { Response::new(Body::from(body)) };
    *response.status_mut() = error.status;
    response.headers_mut().extend(headers);
    response
}

async fn answer(
    emulator: &Arc<Inner>,
    head: http::request::Parts,
    host: &str,
    body: &mut Body,
) -> Result<Response, OssError> {
    if let Some(response) = cors::preflight(&head.method, &head.headers) {
        return Ok(response);
    }
    let address = address::locate(&emulator.bucket, host, head.uri.path())?;
    let query = address::query_pairs(head.uri.query().unwrap_or_default());
    let (bucket, key) = match &address {
        Address::Stats => return stats_answer(emulator),
        Address::Service => (None, None),
        Address::Bucket(bucket) => (Some(bucket.as_str()), None),
        Address::Object { bucket, key } => (Some(bucket.as_str()), Some(key.as_str())),
    };
    authorize(emulator, &head.method, bucket, key, &query, &head.headers)?;
    if let Some(other) = bucket.filter(|bucket| *bucket != emulator.bucket) {
        return Err(OssError::no_such_bucket(other));
    }
    let operation = match address {
        Address::Service | Address::Stats => Operation::on_service(&head.method)?,
        Address::Bucket(_) => Operation::on_bucket(&head.method, &query)?,
        Address::Object { .. } => Operation::on_object(&head.method, &query, &head.headers)?,
    };
    emulator.stats.count(&operation);
    let call = Call {
        emulator: Arc::clone(emulator),
        method: head.method,
        host: host.to_owned(),
        key: key.unwrap_or_default().to_owned(),
        query,
        headers: head.headers,
    };
    carry_out(&call, operation, body).await
}

fn authorize(
    emulator: &Inner,
    method: &Method,
    bucket: Option<&str>,
    key: Option<&str>,
    query: &Query,
    headers: &HeaderMap,
) -> Result<(), OssError> {
    let access_key = AccessKey {
        id: &emulator.access_key_id,
        secret: emulator.access_key_secret.expose(),
        region: &emulator.region,
    };
    let signable = Signable { method: method.as_str(), bucket, key, query, headers };
    access::verify(access_key, emulator.clock.now(), &signable)
}

async fn carry_out(call: &Call, operation: Operation, body: &mut Body) -> Result<Response, OssError> {
    let (bucket, region) = (&call.emulator.bucket, &call.emulator.region);
    match operation {
        Operation::InitiateMultipartUpload => multipart::initiate(call).await,
        Operation::UploadPart { upload_id, number } => multipart::upload_part(call, &upload_id, number, body).await,
        Operation::ListParts(list) => multipart::list_parts(call, &list).await,
        Operation::CompleteMultipartUpload { upload_id } => multipart::complete(call, &upload_id, body).await,
        Operation::AbortMultipartUpload { upload_id } => multipart::abort(call, &upload_id).await,
        Operation::ListMultipartUploads(list) => multipart::list_uploads(call, &list),
        Operation::PutObject => objects::put(call, body).await,
        Operation::GetObject | Operation::HeadObject => objects::get(call),
        Operation::GetObjectMeta => objects::meta(call),
        Operation::DeleteObject => objects::delete(call).await,
        Operation::ListObjects(list) => objects::list(call, &list),
        Operation::ListBuckets => Ok(call::xml(xml::buckets(bucket, region, &call.host)?)),
        Operation::GetBucketInfo => Ok(call::xml(xml::bucket_info(bucket, region, &call.host)?)),
        Operation::GetBucketLocation => Ok(call::xml(xml::location(region))),
        // It is there already, and it is ours.
        Operation::PutBucket => Ok(empty(StatusCode::OK)),
    }
}

/// What was asked for, and what there is.
fn stats_answer(emulator: &Inner) -> Result<Response, OssError> {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer<'a> {
        #[serde(flatten)]
        stats: &'a Stats,
        objects: usize,
        open_uploads: usize,
        open_parts: usize,
    }
    let (open_uploads, open_parts) = emulator.storage.upload_counts();
    let objects = emulator.storage.object_count();
    let answer = Answer { stats: &emulator.stats, objects, open_uploads, open_parts };
    let json = serde_json::to_vec(&answer).map_err(|e| OssError::internal(&e))?;
    let mut response = Response::new(Body::from(json));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

#[cfg(test)]
mod tests;
