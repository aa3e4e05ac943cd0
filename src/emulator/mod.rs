//! An OSS emulator: a server that speaks OSS's dialect and keeps a bucket in
//! a folder, so that all of the gateway can be tried and tested without a
//! network. The official SDKs take it for OSS.
//!
//! ```text
//! request → address (host, path) → access (signature) → operation (method, query)
//!         → faults → objects | multipart | copy | form | settings → storage
//!                           → callback
//! ```
//!
//! `GET /-/stats`, which needs no signature, says what it was asked for; nor
//! does `/-/callback_pub_key_v1.pem`, the key that callbacks are signed with.

mod access;
mod address;
mod body;
mod call;
mod callback;
mod config;
mod copy;
mod cors;
mod documents;
mod error;
mod faults;
mod form;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod given;
mod keys;
mod listing;
mod multipart;
mod objects;
mod operation;
mod policy;
mod range;
mod settings;
mod stats;
mod storage;
mod xml;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{CONTENT_TYPE, EXPECT, HOST, HeaderName, HeaderValue, ORIGIN};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;

use access::AccessKeys;
use address::Address;
use call::{Call, empty, set};
use callback::CallbackKey;
use error::OssError;
use faults::{Drawn, Faults};
use keys::Keys;
use operation::Operation;
use storage::{Setting, Storage};

pub use config::{EmulatorConfig, EmulatorOptions};
pub use faults::Fault;
pub use keys::GrantedKey;
pub use stats::Stats;
pub use storage::OpenError;

use crate::clock::Clock;
use crate::serve::ServeLimits;
use crate::store::oss::sign::v1::http_date;
use crate::store::oss::sign::{Query, Signable};

/// How long whoever is called back may take.
const CALLBACK_TIME_MAX: Duration = Duration::from_secs(5);

/// The emulator of one bucket.
#[derive(Clone, Debug)]
pub struct Emulator(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    bucket: String,
    keys: Keys,
    region: String,
    clock: Arc<dyn Clock>,
    storage: Arc<Storage>,
    callback_key: CallbackKey,
    callback_key_url: String,
    callback_client: reqwest::Client,
    faults: Faults,
    stats: Stats,
}

impl Inner {
    /// Asks something of the keys that are accepted now.
    fn with_keys<T>(&self, ask: impl FnOnce(&AccessKeys<'_>) -> T) -> T {
        self.keys.with(&self.region, ask)
    }

    fn cors_rules(&self) -> Vec<cors::Rule> {
        self.storage.setting(Setting::Cors).and_then(|document| cors::rules(&document)).unwrap_or_default()
    }
}

impl Emulator {
    /// Opens the bucket's folder, or makes it. One emulator at a time may
    /// have it open.
    pub fn open(config: EmulatorConfig, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let storage = Arc::new(Storage::open(&config.data_dir, &config.bucket, Arc::clone(&clock))?);
        let options = config.options;
        let own = GrantedKey { id: config.access_key_id, secret: config.access_key_secret, token: None, expires: None };
        let key_file = config.data_dir.join(&config.bucket).join("callback-key.pem");
        let key_url = || format!("http://{}/-/callback_pub_key_v1.pem", config.listen);
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let client = client.user_agent("aliyun-oss-callback").timeout(CALLBACK_TIME_MAX).build();
        let seed = options.fault_seed.unwrap_or_else(|| u64::try_from(clock.random() >> 96).unwrap_or_default());
        Ok(Self(Arc::new(Inner {
            bucket: config.bucket,
            keys: Keys::new(std::iter::once(own).chain(options.sts).collect()),
            region: config.region,
            storage,
            callback_key: CallbackKey::new(key_file, Arc::clone(&clock)),
            callback_key_url: options.callback_key_url.unwrap_or_else(key_url),
            callback_client: client.map_err(OpenError::Client)?,
            faults: Faults::new(options.fault, seed),
            stats: Stats::default(),
            clock,
        })))
    }

    /// From now on this key is accepted, in place of one with its id.
    pub fn grant(&self, key: GrantedKey) {
        self.0.keys.grant(key);
    }

    /// From now on it is not.
    pub fn revoke(&self, access_key_id: &str) {
        self.0.keys.revoke(access_key_id);
    }

    /// How many kinds of faults there are, and the seed that they are drawn
    /// from; none if nothing goes wrong on purpose.
    pub fn faults(&self) -> Option<String> {
        (!self.0.faults.is_empty()).then(|| self.0.faults.to_string())
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
    let (method, waits) = (head.method.clone(), head.headers.contains_key(EXPECT));
    let text = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
    let (host, origin) = (text(HOST).unwrap_or_default(), text(ORIGIN));
    let mut response = match answer(&emulator, head, &host, &request_id, &mut body).await {
        Ok(response) => response,
        Err(error) => {
            Stats::add(&emulator.stats.refused, 1);
            // Whoever waits for a 100 sends nothing after a refusal.
            if !waits {
                body::drain(&mut body).await;
            }
            refusal(&error, method == Method::HEAD, &request_id, &host)
        }
    };
    let headers = response.headers_mut();
    if let Some(origin) = origin.filter(|_| method != Method::OPTIONS) {
        cors::expose(headers, &origin, &method, &emulator.cors_rules());
    }
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
    request_id: &str,
    body: &mut Body,
) -> Result<Response, OssError> {
    if head.method == Method::OPTIONS
        && let Some(preflight) = cors::preflight(&head.method, &head.headers, &emulator.cors_rules())
    {
        let mut response = empty(StatusCode::OK);
        response.headers_mut().extend(preflight?);
        return Ok(response);
    }
    let address = address::locate(&emulator.bucket, host, head.uri.path())?;
    let query = address::query_pairs(head.uri.query().unwrap_or_default());
    let (bucket, key) = match &address {
        Address::Stats => return stats_answer(emulator),
        Address::CallbackKey => return Ok(Response::new(Body::from(emulator.callback_key.public().await?))),
        Address::Service => (None, None),
        Address::Bucket(bucket) => (Some(bucket.as_str()), None),
        Address::Object { bucket, key } => (Some(bucket.as_str()), Some(key.as_str())),
    };
    let is_form = key.is_none() && bucket.is_some() && form::is_form(&head.method, &head.headers, &query);
    if !is_form && !is_public(emulator, &head.method, key, &query, &head.headers) {
        let signable = Signable { method: head.method.as_str(), bucket, key, query: &query, headers: &head.headers };
        emulator.with_keys(|keys| access::verify(keys, emulator.clock.now(), &signable))?;
    }
    if let Some(other) = bucket.filter(|bucket| *bucket != emulator.bucket) {
        return Err(OssError::no_such_bucket(other));
    }
    let operation = match address {
        _ if is_form => Operation::PostObject,
        Address::Service | Address::Stats | Address::CallbackKey => Operation::on_service(&head.method)?,
        Address::Bucket(_) => Operation::on_bucket(&head.method, &query)?,
        Address::Object { .. } => Operation::on_object(&head.method, &query, &head.headers)?,
    };
    emulator.stats.count(&operation);
    let call = Call {
        emulator: Arc::clone(emulator),
        request_id: request_id.to_owned(),
        method: head.method,
        host: host.to_owned(),
        key: key.unwrap_or_default().to_owned(),
        query,
        headers: head.headers,
    };
    with_faults(&call, operation, body).await
}

/// Whether anybody may read this, whoever asks.
fn is_public(emulator: &Inner, method: &Method, key: Option<&str>, query: &Query, headers: &HeaderMap) -> bool {
    let reads = [Method::GET, Method::HEAD].contains(method) && query.is_empty();
    let object =
        key.filter(|_| reads && access::is_anonymous(headers, query)).and_then(|key| emulator.storage.object(key));
    object.is_some_and(|object| object.properties.acl.is_public())
}

/// As it should go, or as it was drawn to go wrong.
async fn with_faults(call: &Call, operation: Operation, body: &mut Body) -> Result<Response, OssError> {
    let emulator = &call.emulator;
    let drawn = emulator.faults.draw(operation.name());
    if drawn == Drawn::default() {
        return carry_out(call, operation, body).await;
    }
    Stats::add(&emulator.stats.faults, 1);
    tracing::info!(
        operation = operation.name(),
        key = call.key,
        request_id = call.request_id,
        ?drawn,
        "a fault on purpose"
    );
    tokio::time::sleep(drawn.slow).await;
    if let Some(refusal) = drawn.refusal {
        return Err(refusal);
    }
    if drawn.resets {
        // Some of it came; all else, if there is more, is cut off.
        let _ = body.frame().await;
        return Ok(faults::no_answer());
    }
    let brings =
        matches!(operation, Operation::PutObject | Operation::UploadPart { .. } | Operation::AppendObject { .. });
    if drawn.corrupts && brings {
        *body = faults::corrupted(std::mem::take(body));
    }
    let mut response = carry_out(call, operation, body).await?;
    if drawn.corrupts && !brings {
        response = response.map(faults::corrupted);
    }
    Ok(if drawn.loses_answer { faults::no_answer() } else { response })
}

async fn carry_out(call: &Call, operation: Operation, body: &mut Body) -> Result<Response, OssError> {
    let (bucket, region) = (&call.emulator.bucket, &call.emulator.region);
    match operation {
        Operation::InitiateMultipartUpload => multipart::initiate(call).await,
        Operation::UploadPart { upload_id, number } => multipart::upload_part(call, &upload_id, number, body).await,
        Operation::UploadPartCopy { upload_id, number, source } => copy::part(call, &upload_id, number, &source).await,
        Operation::ListParts(list) => multipart::list_parts(call, &list).await,
        Operation::CompleteMultipartUpload { upload_id } => multipart::complete(call, &upload_id, body).await,
        Operation::AbortMultipartUpload { upload_id } => multipart::abort(call, &upload_id).await,
        Operation::ListMultipartUploads(list) => multipart::list_uploads(call, &list),
        Operation::PutObject => objects::put(call, body).await,
        Operation::PostObject => form::post(call, body).await,
        Operation::AppendObject { position } => objects::append(call, position, body).await,
        Operation::CopyObject(source) => copy::object(call, &source).await,
        Operation::GetObject | Operation::HeadObject => objects::get(call),
        Operation::GetObjectMeta => objects::meta(call),
        Operation::DeleteObject => objects::delete(call).await,
        Operation::DeleteMultipleObjects => objects::delete_many(call, body).await,
        Operation::GetObjectAcl => settings::object_acl(call),
        Operation::PutObjectAcl => settings::put_object_acl(call).await,
        Operation::GetObjectTagging => settings::object_tagging(call),
        Operation::PutObjectTagging => settings::put_object_tagging(call, body).await,
        Operation::DeleteObjectTagging => settings::delete_object_tagging(call).await,
        Operation::ListObjects(list) => objects::list(call, &list),
        Operation::ListBuckets => Ok(call::xml(xml::buckets(bucket, region, &call.host)?)),
        Operation::GetBucketInfo => Ok(call::xml(xml::bucket_info(bucket, region, &call.host)?)),
        Operation::GetBucketLocation => Ok(call::xml(xml::location(region))),
        Operation::GetBucketStat => settings::bucket_stat(call),
        Operation::GetBucketAcl => settings::bucket_acl(),
        Operation::GetBucketSetting(setting) => settings::bucket_setting(call, setting),
        Operation::PutBucketSetting(setting) => settings::put_bucket_setting(call, setting, body).await,
        Operation::DeleteBucketSetting(setting) => settings::delete_bucket_setting(call, setting).await,
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
