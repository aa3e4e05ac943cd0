//! Calls to OSS: signed, sent within their deadlines, repeated where that is
//! safe, and read to the end of their answers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use futures_util::StreamExt as _;
use http::Method;
use http::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderValue};
use tokio::time::{sleep, timeout};

use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::store::deadline::{Deadlines, Overdue, metered};
use crate::store::error::BodyBroken;
use crate::store::oss::SignatureVersion;
use crate::store::oss::answer::{self, Answer, Failure};
use crate::store::oss::downloads::{AGENT, Downloads};
use crate::store::oss::endpoint::Endpoint;
use crate::store::oss::request::{Call, broken, chain, late, unreachable_store};
use crate::store::oss::setup::Credentials;
use crate::store::oss::sign::{self, Query, Request, Signer};
use crate::store::retry::{Backoff, Budget};
use crate::store::{Body, StoreConfig, StoreError};
use crate::units::Secret;

/// The largest answer that is read into memory. A thousand listed parts make
/// a tenth of it.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// A difference of clocks that is not worth correcting: an answer's `Date` has
/// whole seconds, and took its time to arrive.
const SKEW_MIN: Duration = Duration::from_secs(30);
/// How much later than our own deadline the operating system gives up a
/// connection whose peer takes nothing.
const TCP_GRACE: Duration = Duration::from_secs(10);

/// The client of one bucket.
pub struct Client {
    http: reqwest::Client,
    downloads: Downloads,
    clock: Arc<dyn Clock>,
    endpoint: Endpoint,
    /// `host:port` of the endpoint, for errors.
    address: Arc<str>,
    region: String,
    version: SignatureVersion,
    credentials: Credentials,
    deadlines: Deadlines,
    connect_timeout: Duration,
    backoff: Backoff,
    budget: Budget,
    /// How far the store's clock is ahead of ours, in milliseconds.
    skew_millis: AtomicI64,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.endpoint).field("region", &self.region).finish_non_exhaustive()
    }
}

impl Client {
    /// A client with a pool of connections of its own.
    pub fn new(
        config: &StoreConfig,
        clock: Arc<dyn Clock>,
        endpoint: Endpoint,
        region: String,
        credentials: Credentials,
    ) -> Result<Self, String> {
        // No `timeout` and no `read_timeout`: they begin with the request and
        // would kill slow senders. Redirects would carry the signature elsewhere.
        let http = reqwest::Client::builder()
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(AGENT)
            .tcp_nodelay(true)
            .connect_timeout(config.connect_timeout)
            .pool_max_idle_per_host(config.pool.max_idle)
            .pool_idle_timeout(config.pool.idle_timeout);
        let user_timeout = config.idle_timeout.saturating_add(TCP_GRACE);
        #[cfg(target_os = "linux")]
        let http = http.tcp_user_timeout(user_timeout);
        let downloads = Downloads::new(config, user_timeout);
        Ok(Self {
            downloads: downloads.map_err(|error| format!("no HTTP client for the store: {error}"))?,
            http: http.build().map_err(|e| format!("no HTTP client for the store: {}", chain(&e)))?,
            clock,
            address: endpoint.address().into(),
            endpoint,
            region,
            version: config.oss.signature,
            credentials,
            deadlines: Deadlines { first_byte: config.first_byte_timeout, idle: config.idle_timeout },
            connect_timeout: config.connect_timeout,
            backoff: Backoff::with_retries(config.retries),
            budget: Budget::full(),
            skew_millis: AtomicI64::new(0),
        })
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.endpoint.bucket
    }

    /// `host:port` of the endpoint, for errors.
    pub const fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// How long answers' bodies may pause.
    pub const fn idle_timeout(&self) -> Duration {
        self.deadlines.idle
    }

    /// A call whose body, if any, is small and here: sent as often as need be.
    pub async fn call(&self, call: &Call<'_>) -> Result<Answer, StoreError> {
        self.call_with(call, self.backoff, |failure| failure.repeat).await
    }

    /// The same in a single attempt.
    pub async fn call_once(&self, call: &Call<'_>) -> Result<Answer, StoreError> {
        self.call_with(call, Backoff::with_retries(0), |failure| failure.repeat).await
    }

    /// For a call that must not be done twice: sent again only when the store
    /// says that it has done nothing. An answer that is lost may have.
    pub async fn call_until_begun(&self, call: &Call<'_>) -> Result<Answer, StoreError> {
        self.call_with(call, self.backoff, Failure::is_undone).await
    }

    async fn call_with(
        &self,
        call: &Call<'_>,
        backoff: Backoff,
        repeat: fn(&Failure) -> bool,
    ) -> Result<Answer, StoreError> {
        let mut done = 0;
        loop {
            match self.attempt(call).await {
                Ok(answer) => {
                    self.budget.earn();
                    return Ok(answer);
                }
                Err(failure) => {
                    let failure = Failure { repeat: repeat(&failure), ..failure };
                    self.pause(call, backoff, &mut done, failure).await?;
                }
            }
        }
    }

    /// As `call`, but a successful answer's body is left to be read.
    pub async fn open(&self, call: &Call<'_>) -> Result<reqwest::Response, StoreError> {
        let mut done = 0;
        loop {
            match self.attempt_to_open(call).await {
                Ok(response) => return Ok(response),
                Err(failure) => self.pause(call, self.backoff, &mut done, failure).await?,
            }
        }
    }

    /// A call with a streamed body of exactly `bytes` bytes: sent once, for
    /// the body cannot be had again.
    pub async fn stream(&self, call: &Call<'_>, bytes: u64, body: Body) -> Result<Answer, StoreError> {
        self.stream_once(call, bytes, body).await.map_err(|error| error.at(&self.address))
    }

    async fn stream_once(&self, call: &Call<'_>, bytes: u64, body: Body) -> Result<Answer, StoreError> {
        if bytes == 0 {
            // An empty body is polled by nobody, yet may be found wrong.
            ends_at_once(body).await.map_err(|BodyBroken| StoreError::Body)?;
            return self.call_once(call).await;
        }
        let (body, meter) = metered(body, bytes);
        let request = self.signed(call, bytes, reqwest::Body::wrap(body))?;
        let sent = tokio::select! {
            biased;
            sent = self.http.execute(request) => sent.map_err(|e| unreachable_store(call, e)),
            overdue = meter.overdue(self.deadlines) => Err(late(call, overdue)),
        };
        if meter.is_broken() {
            return Err(StoreError::Body);
        }
        let response = sent?;
        let was_sent = meter.is_sent();
        let answer = self.read(call, response).await.map_err(|failure| *failure.error)?;
        drop(meter);
        let headers = answer.headers.clone();
        match answer.checked(call.operation, &call.method) {
            Ok(answer) if was_sent => Ok(answer),
            Ok(_) => Err(call.unavailable("EarlyAnswer", "success was answered before the body had ended")),
            Err(failure) => {
                if failure.is_skew() {
                    self.learn_skew(&headers);
                }
                Err(*failure.error)
            }
        }
    }

    /// A URL at `endpoint` that anybody may use, with exactly these headers.
    pub fn presigned(
        &self,
        endpoint: &Endpoint,
        method: &Method,
        key: &str,
        query: &Query,
        expires_in: Duration,
        headers: &HeaderMap,
    ) -> String {
        let request = Request { method: method.as_str(), bucket: Some(self.bucket()), key: Some(key), query };
        let query = sign::presign(self.version, &self.signer(), self.store_time(), expires_in, &request, headers);
        endpoint.url(Some(key), &query)
    }

    /// The fields of a form that anybody may send until it expires.
    pub fn signed_form(
        &self,
        bytes_max: u64,
        expires_in: Duration,
        fields: Vec<(String, String)>,
    ) -> Vec<(String, String)> {
        let at = self.store_time();
        let limits = sign::form::Limits { bucket: self.bucket(), bytes_max, expires: at.plus(expires_in) };
        sign::form::sign(self.version, &self.signer(), at, limits, fields)
    }

    /// Waits before the next attempt, or says that there is none.
    async fn pause(
        &self,
        call: &Call<'_>,
        backoff: Backoff,
        done: &mut u32,
        failure: Failure,
    ) -> Result<(), StoreError> {
        *done += 1;
        let pause = backoff.pause_after(*done, self.clock.random()).filter(|_| failure.repeat);
        let error = failure.error.at(&self.address);
        let Some(pause) = pause.filter(|_| self.budget.take()) else { return Err(error) };
        tracing::debug!(operation = call.operation, %error, attempt = *done, "asking the store again");
        sleep(pause).await;
        Ok(())
    }

    async fn attempt(&self, call: &Call<'_>) -> Result<Answer, Failure> {
        let send = async |request| self.http.execute(request).await.map_err(|error| unreachable_store(call, error));
        let response = self.exchange(call, send).await?;
        self.read(call, response).await?.checked(call.operation, &call.method)
    }

    async fn attempt_to_open(&self, call: &Call<'_>) -> Result<reqwest::Response, Failure> {
        let send = async |request| {
            let sent = self.downloads.execute(request).await;
            sent.map_err(|error| broken(call, error.is_connect(), &error))
        };
        let response = self.exchange(call, send).await?;
        if answer::is_success(response.status()) {
            return Ok(response);
        }
        let answer = self.read(call, response).await?;
        Err(answer.failure(call.operation, &call.method))
    }

    /// Sends a call with a small body or none, up to the answer's head.
    async fn exchange(
        &self,
        call: &Call<'_>,
        send: impl AsyncFnOnce(reqwest::Request) -> Result<reqwest::Response, StoreError>,
    ) -> Result<reqwest::Response, Failure> {
        let bytes = call.body.len() as u64;
        let request = self.signed(call, bytes, call.body.clone().into());
        let request = request.map_err(|error| Failure::new(error, false))?;
        let deadline = self.connect_timeout.saturating_add(self.deadlines.first_byte);
        let response = timeout(deadline, send(request))
            .await
            .map_err(|_| transient(late(call, Overdue::FirstByte)))?
            .map_err(transient)?;
        self.learn_skew(response.headers());
        Ok(response)
    }

    /// The request, signed at the store's time. Nothing of it is kept: the
    /// next attempt is signed anew.
    fn signed(&self, call: &Call<'_>, bytes: u64, body: reqwest::Body) -> Result<reqwest::Request, StoreError> {
        let invalid = |e: &dyn fmt::Display| StoreError::Refused(call.fault("InvalidRequest", e.to_string()));
        let url = self.endpoint.url(call.key, &call.query);
        let url = reqwest::Url::parse(&url).map_err(|e| invalid(&e))?;
        let mut headers = call.headers.clone();
        if bytes > 0 || matches!(call.method, Method::PUT | Method::POST) {
            // OSS answers 411 to a body of unknown length.
            headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
        }
        let (method, bucket) = (call.method.as_str(), Some(self.bucket()));
        let unsigned = Request { method, bucket, key: call.key, query: &call.query };
        sign::sign(self.version, &self.signer(), self.store_time(), &unsigned, &mut headers)
            .map_err(|_| invalid(&"the credentials cannot stand in a header"))?;
        let mut request = reqwest::Request::new(call.method.clone(), url);
        *request.headers_mut() = headers;
        if bytes > 0 {
            *request.body_mut() = Some(body);
        }
        Ok(request)
    }

    fn signer(&self) -> Signer<'_> {
        Signer {
            access_key_id: &self.credentials.access_key_id,
            access_key_secret: self.credentials.access_key_secret.expose(),
            security_token: self.credentials.security_token.as_ref().map(Secret::expose),
            region: &self.region,
        }
    }

    fn store_time(&self) -> Timestamp {
        let skew = self.skew_millis.load(Ordering::Relaxed);
        Timestamp::from_millis(self.clock.now().millis().saturating_add(skew))
    }

    /// Learns from an answer's `Date` how far the store's clock is from ours.
    /// Only called for answers that followed their request at once: that of a
    /// streamed body says nothing but that it took long.
    fn learn_skew(&self, headers: &HeaderMap) {
        if let Some(skew) = skew(headers, self.clock.now()) {
            let before = self.skew_millis.swap(skew, Ordering::Relaxed);
            if before == 0 && skew != 0 {
                tracing::warn!(seconds = skew / 1000, "the store's clock differs from ours; signing by the store's");
            }
        }
    }

    /// Reads an answer to its end, within its idle deadline and its bound.
    async fn read(&self, call: &Call<'_>, mut response: reqwest::Response) -> Result<Answer, Failure> {
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let mut body = BytesMut::new();
        loop {
            let chunk = timeout(self.deadlines.idle, response.chunk())
                .await
                .map_err(|_| transient(late(call, Overdue::Idle)))?
                .map_err(|e| transient(unreachable_store(call, e)))?;
            let Some(chunk) = chunk else { break };
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                let message = format!("more than {ANSWER_BYTES_MAX} bytes");
                let error = call.unavailable("AnswerTooLarge", message);
                return Err(Failure::new(error, false));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body: body.freeze() })
    }
}

/// Milliseconds by which the store is ahead; 0 when the clocks agree.
fn skew(headers: &HeaderMap, now: Timestamp) -> Option<i64> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let date = date.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let skew = i64::try_from(date.as_millis()).ok()?.saturating_sub(now.millis());
    let matters = u128::from(skew.unsigned_abs()) >= SKEW_MIN.as_millis();
    Some(if matters { skew } else { 0 })
}

async fn ends_at_once(mut body: Body) -> Result<(), BodyBroken> {
    while let Some(frame) = body.next().await {
        if !frame?.is_empty() {
            return Err(BodyBroken);
        }
    }
    Ok(())
}

fn transient(error: StoreError) -> Failure {
    Failure::new(error, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_differences_of_clocks_are_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(skew(&headers, Timestamp::from_millis(0)), None);
        headers.insert(DATE, HeaderValue::from_static("Fri, 20 Nov 2026 09:11:08 GMT"));
        let date = 1_795_165_868_000;
        assert_eq!(skew(&headers, Timestamp::from_millis(date + 29_000)), Some(0));
        assert_eq!(skew(&headers, Timestamp::from_millis(date + 3_600_000)), Some(-3_600_000));
        assert_eq!(skew(&headers, Timestamp::from_millis(date - 86_400_000)), Some(86_400_000));
    }
}
