//! A proxy in front of the emulator that knows OSS's protocol and does, once
//! for each time it is told to, what a store should not: lose an answer, say
//! no in mid-body, put an error into a 200, damage a part or its checksum.
//! It also has a clock of its own.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use chunkgate::clock::{Clock as _, SystemClock};
use chunkgate::domain::Timestamp;
use chunkgate::store::oss::SignatureVersion;
use chunkgate::store::oss::sign::{self, Signer};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

static DATE: HeaderName = HeaderName::from_static("x-oss-date");
static CRC: HeaderName = HeaderName::from_static("x-oss-hash-crc64ecma");
/// OSS refuses a signature that is further from its own time.
const SKEW_MAX: Duration = Duration::from_secs(15 * 60);

/// What is asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Initiate,
    UploadPart,
    ListParts,
    Complete,
    Abort,
    Head,
    PutObject,
    Other,
}

/// What goes wrong with one request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Answered with this status and code before the body is read; nothing is done.
    /// As OSS's front ends do, the body is read on and dropped.
    Refused(u16, &'static str),
    /// The same when half of the body was read; the connection is closed under the rest.
    RefusedInMidBody(u16, &'static str),
    /// Nothing is done, and the connection ends without an answer.
    RequestLost,
    /// All is done, and then the connection ends without an answer.
    AnswerLost,
    /// A 200 with an error of this code in its body; nothing is done.
    ErrorInside(&'static str),
    /// A 200 with this body; nothing is done.
    Says(String),
    /// One bit of the body is another one when the store gets it.
    FlippedBit,
    /// The answer's header has another value, or is not there.
    Header(HeaderName, Option<&'static str>),
    /// Kept until the gate opens, and only then done.
    HeldBefore(Gate),
    /// Done at once; the answer is kept until the gate opens.
    HeldAfter(Gate),
}

impl Fault {
    pub(crate) fn crc(value: Option<&'static str>) -> Self {
        Self::Header(CRC.clone(), value)
    }

    pub(crate) const fn etag(value: Option<&'static str>) -> Self {
        Self::Header(header::ETAG, value)
    }
}

/// Where a request is held.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    reached: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { reached: Arc::new(Semaphore::new(0)), open: Arc::new(Semaphore::new(0)) }
    }

    /// Waits for a request to be held here.
    pub(crate) async fn reached(&self) {
        let reached = tokio::time::timeout(Duration::from_secs(20), self.reached.acquire()).await;
        reached.expect("a request gets here").expect("open").forget();
    }

    pub(crate) fn open(&self) {
        self.open.add_permits(1);
    }

    async fn pass(&self) {
        self.reached.add_permits(1);
        self.open.acquire().await.expect("open").forget();
    }
}

/// The proxy; it ends when it is dropped.
pub(crate) struct OssProxy {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    _stop: DropGuard,
}

struct State {
    emulator: SocketAddr,
    http: reqwest::Client,
    plot: Mutex<Plot>,
    /// How far this store's clock is ahead.
    skew_seconds: AtomicI64,
    skewed: AtomicU64,
    /// So many in a hundred are refused with a 503.
    busy_percent: AtomicU64,
    busy: AtomicU64,
    seen: AtomicU64,
}

#[derive(Default)]
struct Plot {
    calls: HashMap<Operation, u64>,
    script: HashMap<Operation, VecDeque<Fault>>,
    /// Every request as it came, if somebody wants to know.
    heads: Option<Vec<Head>>,
}

/// What a request said before its body.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
}

impl OssProxy {
    pub(crate) async fn before(emulator: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let http = reqwest::Client::builder().no_proxy().http1_only().build().expect("a client");
        let (plot, skew_seconds, none) = (Mutex::default(), AtomicI64::new(0), || AtomicU64::new(0));
        let (skewed, busy_percent, busy, seen) = (none(), none(), none(), none());
        let state = Arc::new(State { emulator, http, plot, skew_seconds, skewed, busy_percent, busy, seen });
        let stop = CancellationToken::new();
        let (serving, every) = (state.clone(), stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = serving.clone();
                let service = service_fn(move |request| answer(state.clone(), request));
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(every.clone().run_until_cancelled_owned(async move { connection.await.ok() }));
            }
        }));
        Self { address, state, _stop: stop.drop_guard() }
    }

    /// The next request of this kind that has no fault yet meets this one.
    pub(crate) fn next(&self, operation: Operation, fault: Fault) {
        self.state.plot.lock().expect("a lock").script.entry(operation).or_default().push_back(fault);
    }

    /// Faults of this kind that did not happen yet do not.
    pub(crate) fn forget(&self, operation: Operation) {
        self.state.plot.lock().expect("a lock").script.remove(&operation);
    }

    /// Faults of this kind that did not happen yet.
    pub(crate) fn pending(&self, operation: Operation) -> usize {
        self.state.plot.lock().expect("a lock").script.get(&operation).map_or(0, VecDeque::len)
    }

    /// Requests of this kind so far, whatever came of them.
    pub(crate) fn calls(&self, operation: Operation) -> u64 {
        self.state.plot.lock().expect("a lock").calls.get(&operation).copied().unwrap_or(0)
    }

    /// From now on it keeps the head of each request.
    pub(crate) fn keep_heads(&self) {
        self.state.plot.lock().expect("a lock").heads = Some(Vec::new());
    }

    /// The heads that it has kept.
    pub(crate) fn heads(&self) -> Vec<Head> {
        self.state.plot.lock().expect("a lock").heads.clone().unwrap_or_default()
    }

    /// From now on the store's clock is ahead by so much.
    pub(crate) fn set_clock_ahead(&self, seconds: i64) {
        self.state.skew_seconds.store(seconds, Ordering::SeqCst);
    }

    /// From now on so many in a hundred requests are refused with a 503, by a lot that is always the same.
    pub(crate) fn be_busy(&self, percent: u64) {
        self.state.busy_percent.store(percent, Ordering::SeqCst);
    }

    /// Requests that came, and those that were refused because it was busy.
    pub(crate) fn load(&self) -> (u64, u64) {
        (self.state.seen.load(Ordering::SeqCst), self.state.busy.load(Ordering::SeqCst))
    }

    /// Requests that were refused for their date.
    pub(crate) fn skewed(&self) -> u64 {
        self.state.skewed.load(Ordering::SeqCst)
    }
}

/// Ends the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("lost")]
struct Lost;

impl From<hyper::Error> for Lost {
    fn from(_: hyper::Error) -> Self {
        Self
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Lost> {
    let operation = operation_of(&request);
    let fault = {
        let mut plot = state.plot.lock().expect("a lock");
        *plot.calls.entry(operation).or_default() += 1;
        if let Some(heads) = &mut plot.heads {
            let query = request.uri().query().unwrap_or_default().to_owned();
            heads.push(Head { query, headers: request.headers().clone() });
        }
        plot.script.get_mut(&operation).and_then(VecDeque::pop_front)
    };
    if state.is_busy() {
        linger(request.into_body());
        return Ok(error(503, "SlowDown"));
    }
    if let Some(refusal) = state.too_skewed(request.headers()) {
        linger(request.into_body());
        return Ok(refusal);
    }
    let (head, mut body) = request.into_parts();
    let mut answer = match &fault {
        Some(Fault::Refused(status, code)) => {
            linger(body);
            return Ok(error(*status, code));
        }
        Some(Fault::RefusedInMidBody(status, code)) => {
            let half = hyper::body::Body::size_hint(&body).lower() / 2;
            let mut read = 0;
            while read < half {
                let frame = body.frame().await.ok_or(Lost)??;
                read += frame.data_ref().map_or(0, Bytes::len) as u64;
            }
            return Ok(error(*status, code));
        }
        Some(Fault::RequestLost) => return Err(Lost),
        Some(Fault::ErrorInside(code)) => {
            body.collect().await?;
            return Ok(error(200, code));
        }
        Some(Fault::Says(text)) => {
            body.collect().await?;
            return Ok(xml(200, text.clone()));
        }
        Some(Fault::FlippedBit) => {
            let mut bytes = body.collect().await?.to_bytes().to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            state.forward(head, bytes.into()).await?
        }
        Some(Fault::HeldBefore(gate)) => {
            gate.pass().await;
            state.forward(head, reqwest::Body::wrap(body)).await?
        }
        Some(Fault::AnswerLost | Fault::Header(..) | Fault::HeldAfter(_)) | None => {
            state.forward(head, reqwest::Body::wrap(body)).await?
        }
    };
    match fault {
        Some(Fault::AnswerLost) => return Err(Lost),
        Some(Fault::HeldAfter(gate)) => gate.pass().await,
        Some(Fault::Header(name, value)) => {
            answer.headers_mut().remove(&name);
            if let Some(value) = value {
                answer.headers_mut().insert(name, HeaderValue::from_static(value));
            }
        }
        _ => {}
    }
    Ok(answer)
}

fn operation_of(request: &Request<Incoming>) -> Operation {
    let query = request.uri().query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    match (request.method(), has("uploadId")) {
        (&Method::POST, false) if has("uploads") => Operation::Initiate,
        (&Method::PUT, true) => Operation::UploadPart,
        (&Method::GET, true) => Operation::ListParts,
        (&Method::POST, true) => Operation::Complete,
        (&Method::DELETE, true) => Operation::Abort,
        (&Method::HEAD, _) => Operation::Head,
        (&Method::PUT, false) => Operation::PutObject,
        _ => Operation::Other,
    }
}

/// Reads on what nobody wants, so that the answer is not lost with the connection.
fn linger(mut body: Incoming) {
    tokio::spawn(async move { while let Some(Ok(_)) = body.frame().await {} });
}

/// An error of the store's own.
fn error(status: u16, code: &str) -> Response<Full<Bytes>> {
    xml(status, format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>scripted</Message></Error>"))
}

fn xml(status: u16, text: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    answer
}

impl State {
    fn is_busy(&self) -> bool {
        let nth = self.seen.fetch_add(1, Ordering::SeqCst) + 1;
        let lot = (nth.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % 100;
        let is_busy = lot < self.busy_percent.load(Ordering::SeqCst);
        self.busy.fetch_add(u64::from(is_busy), Ordering::SeqCst);
        is_busy
    }

    fn now(&self) -> SystemTime {
        let (now, skew) = (SystemClock::new().now(), self.skew_seconds.load(Ordering::SeqCst));
        let millis = u64::try_from(now.millis() + 1000 * skew).expect("after 1970");
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    fn date(&self) -> HeaderValue {
        HeaderValue::try_from(httpdate::fmt_http_date(self.now())).expect("a date")
    }

    /// As OSS refuses a request whose date is not its own.
    fn too_skewed(&self, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
        if self.skew_seconds.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let signed_at = headers[&DATE].to_str().expect("text");
        let signed_at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", signed_at).expect("a date");
        let signed_at = SystemTime::from(signed_at.to_zoned(jiff::tz::TimeZone::UTC).expect("a time").timestamp());
        let apart = |a: SystemTime, b: SystemTime| a.duration_since(b).unwrap_or_default();
        let now = self.now();
        if apart(now, signed_at).max(apart(signed_at, now)) <= SKEW_MAX {
            return None;
        }
        self.skewed.fetch_add(1, Ordering::SeqCst);
        let mut refusal = error(403, "RequestTimeTooSkewed");
        refusal.headers_mut().insert(header::DATE, self.date());
        Some(refusal)
    }

    async fn forward(
        &self,
        mut head: http::request::Parts,
        body: reqwest::Body,
    ) -> Result<Response<Full<Bytes>>, Lost> {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let url = reqwest::Url::parse(&format!("http://{}{path}", self.emulator)).expect("a URL");
        let is_skewed = self.skew_seconds.load(Ordering::SeqCst) != 0;
        if is_skewed {
            sign_anew(&head.method, &url, &mut head.headers);
        }
        let request = self.http.request(head.method.clone(), url).headers(head.headers).body(body);
        let response = request.send().await.map_err(|_| Lost)?;
        let (status, mut headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.map_err(|_| Lost)?;
        headers.remove(header::TRANSFER_ENCODING);
        if is_skewed {
            headers.insert(header::DATE, self.date());
        }
        let mut answer = Response::new(Full::from(body));
        (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
        Ok(answer)
    }
}

/// What of a URL is signed: bucket, key and query.
pub(crate) fn signable(url: &reqwest::Url) -> (String, Option<String>, Vec<(String, String)>) {
    let path = percent_encoding::percent_decode_str(url.path()).decode_utf8().expect("UTF-8").into_owned();
    let (bucket, key) = path[1..].split_once('/').expect("/{bucket}/…");
    let key = Some(key.to_owned()).filter(|key| !key.is_empty());
    (bucket.to_owned(), key, url.query_pairs().into_owned().collect())
}

/// The emulator has the true time, and wants it signed.
pub(crate) fn sign_anew(method: &Method, url: &reqwest::Url, headers: &mut HeaderMap) {
    let (bucket, key, query) = signable(url);
    let request = sign::Request { method: method.as_str(), bucket: Some(&bucket), key: key.as_deref(), query: &query };
    let signer = Signer { access_key_id: "ak", access_key_secret: "sk", security_token: None, region: "cn-hangzhou" };
    let now: Timestamp = SystemClock::new().now();
    headers.remove(&DATE);
    headers.remove(header::AUTHORIZATION);
    sign::sign(SignatureVersion::V4, &signer, now, &request, headers).expect("signed");
}
