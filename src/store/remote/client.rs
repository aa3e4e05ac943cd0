//! Calls to a store: signed, sent within their deadlines, repeated where that is
//! safe, and read to the end of their answers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use futures_util::StreamExt as _;
use http::Method;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, InvalidHeaderValue};
use tokio::time::{sleep, timeout};

use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::store::connecting::CountConnections;
use crate::store::deadline::{Deadlines, Overdue, metered};
use crate::store::error::{BodyBroken, Fault, RENEWED};
use crate::store::remote::answer::{self, Answer, Failure};
use crate::store::remote::downloads::{AGENT, Downloads};
use crate::store::remote::endpoint::Endpoint;
use crate::store::remote::request::{Call, broken, chain, late, unreachable_store};
use crate::store::remote::skew::Skew;
use crate::store::retry::{Backoff, Budget};
use crate::store::{Body, StoreConfig, StoreError};

/// The largest answer that is read into memory. A thousand listed parts make
/// a tenth of it.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// How much later than our own deadline the operating system gives up a
/// connection whose peer takes nothing.
const TCP_GRACE: Duration = Duration::from_secs(10);

/// How a store knows a request for ours.
#[async_trait]
pub trait Sign: Send + Sync + fmt::Debug {
    /// Signs a call to `endpoint` in its headers: what they hold already is
    /// covered as the dialect says, and the signature is added.
    fn sign(
        &self,
        at: Timestamp,
        endpoint: &Endpoint,
        call: &Call<'_>,
        headers: &mut HeaderMap,
    ) -> Result<(), InvalidHeaderValue>;

    /// The store has refused what this one signed, with this code: whether
    /// there is another one by now.
    async fn is_replaced(&self, _code: &str) -> bool {
        false
    }
}

/// Who we are to a store.
#[async_trait]
pub trait Identity: Send + Sync + fmt::Debug {
    /// Whoever signs now. Credentials may have to be asked for first.
    async fn signer(&self, operation: &'static str) -> Result<Arc<dyn Sign>, StoreError>;

    /// Adds what to do about it, where the dialect's code tells.
    fn explain(&self, fault: &mut Fault, endpoint: &Endpoint);
}

/// Repetitions that are left.
const BUDGET: &str = "chunkgate_store_retry_budget";

/// The client of one bucket.
pub struct Client {
    http: reqwest::Client,
    downloads: Downloads,
    clock: Arc<dyn Clock>,
    endpoint: Endpoint,
    /// `host:port` of the endpoint, for errors.
    address: Arc<str>,
    identity: Arc<dyn Identity>,
    deadlines: Deadlines,
    connect_timeout: Duration,
    backoff: Backoff,
    budget: Budget,
    skew: Skew,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoint", &self.endpoint)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client with a pool of connections of its own.
    pub fn new(
        config: &StoreConfig,
        clock: Arc<dyn Clock>,
        endpoint: Endpoint,
        identity: Arc<dyn Identity>,
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
            .connector_layer(CountConnections)
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
            identity,
            deadlines: Deadlines { first_byte: config.first_byte_timeout, idle: config.idle_timeout },
            connect_timeout: config.connect_timeout,
            backoff: Backoff::with_retries(config.retries),
            budget: Budget::full(),
            skew: Skew::default(),
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
            let signer = self.identity.signer(call.operation).await?;
            match self.attempt(call, &*signer).await {
                Ok(answer) => {
                    if self.budget.earn() {
                        metrics::gauge!(BUDGET).set(self.budget.left());
                    }
                    return Ok(answer);
                }
                Err(failure) => {
                    let failure = Failure { repeat: repeat(&failure), ..failure };
                    let failure = self.with_others(failure, &*signer).await;
                    self.pause(call, backoff, &mut done, failure).await?;
                }
            }
        }
    }

    /// As `call`, but a successful answer's body is left to be read.
    pub async fn open(&self, call: &Call<'_>) -> Result<reqwest::Response, StoreError> {
        let mut done = 0;
        loop {
            let signer = self.identity.signer(call.operation).await?;
            match self.attempt_to_open(call, &*signer).await {
                Ok(response) => return Ok(response),
                Err(failure) => {
                    let failure = self.with_others(failure, &*signer).await;
                    self.pause(call, self.backoff, &mut done, failure).await?;
                }
            }
        }
    }

    /// A call with a streamed body of exactly `bytes` bytes: sent once, for
    /// the body cannot be had again.
    pub async fn stream(&self, call: &Call<'_>, bytes: u64, body: Body) -> Result<Answer, StoreError> {
        self.stream_once(call, bytes, body).await.map_err(|error| self.noted(call, error))
    }

    async fn stream_once(&self, call: &Call<'_>, bytes: u64, body: Body) -> Result<Answer, StoreError> {
        if bytes == 0 {
            // An empty body is polled by nobody, yet may be found wrong.
            ends_at_once(body).await.map_err(|BodyBroken| StoreError::Body)?;
            return self.call_once(call).await;
        }
        let signer = self.identity.signer(call.operation).await?;
        let (body, meter) = metered(body, bytes);
        let request = self.signed(call, &*signer, bytes, reqwest::Body::wrap(body))?;
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
                    self.skew.learn(&headers, self.clock.now());
                }
                Err(*self.with_others(failure, &*signer).await.error)
            }
        }
    }

    /// An attempt's failure, counted, with what is known of our end.
    fn noted(&self, call: &Call<'_>, error: StoreError) -> StoreError {
        let error = self.explained(error);
        if let StoreError::Unavailable(fault) | StoreError::Refused(fault) = &error {
            metrics::counter!("chunkgate_store_attempts_failed_total", "operation" => call.operation, "why" => why(fault))
                .increment(1);
        }
        error
    }

    /// With the address, and what to do about it.
    pub fn explained(&self, error: StoreError) -> StoreError {
        let mut error = error.at(&self.address);
        if let StoreError::Unavailable(fault) | StoreError::Refused(fault) = &mut error {
            self.identity.explain(fault, &self.endpoint);
        }
        error
    }

    /// A failure by credentials that have been replaced is one of the moment:
    /// signed with the others, the same call may succeed.
    async fn with_others(&self, mut failure: Failure, used: &dyn Sign) -> Failure {
        if let StoreError::Refused(fault) = &mut *failure.error
            && used.is_replaced(&fault.code).await
        {
            let code = std::mem::replace(&mut fault.code, RENEWED.to_owned());
            fault.message = format!("{code}: {}", fault.message);
            let fault = std::mem::take(fault);
            return Failure::new(StoreError::Unavailable(fault), true);
        }
        failure
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
        let error = self.noted(call, *failure.error);
        let Some(pause) = pause else { return Err(error) };
        let has_budget = self.budget.take();
        metrics::gauge!(BUDGET).set(self.budget.left());
        if !has_budget {
            metrics::counter!("chunkgate_store_retries_withheld_total", "operation" => call.operation).increment(1);
            return Err(error);
        }
        metrics::counter!("chunkgate_store_retries_total", "operation" => call.operation).increment(1);
        tracing::debug!(operation = call.operation, %error, attempt = *done, "asking the store again");
        sleep(pause).await;
        Ok(())
    }

    async fn attempt(&self, call: &Call<'_>, signer: &dyn Sign) -> Result<Answer, Failure> {
        let send = async |request| self.http.execute(request).await.map_err(|error| unreachable_store(call, error));
        let response = self.exchange(call, signer, send).await?;
        self.read(call, response).await?.checked(call.operation, &call.method)
    }

    async fn attempt_to_open(&self, call: &Call<'_>, signer: &dyn Sign) -> Result<reqwest::Response, Failure> {
        let send = async |request| {
            let sent = self.downloads.execute(request).await;
            sent.map_err(|error| broken(call, error.is_connect(), &error))
        };
        let response = self.exchange(call, signer, send).await?;
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
        signer: &dyn Sign,
        send: impl AsyncFnOnce(reqwest::Request) -> Result<reqwest::Response, StoreError>,
    ) -> Result<reqwest::Response, Failure> {
        let bytes = call.body.len() as u64;
        let request = self.signed(call, signer, bytes, call.body.clone().into());
        let request = request.map_err(|error| Failure::new(error, false))?;
        let deadline = self.connect_timeout.saturating_add(self.deadlines.first_byte);
        let response = timeout(deadline, send(request))
            .await
            .map_err(|_| transient(late(call, Overdue::FirstByte)))?
            .map_err(transient)?;
        self.skew.learn(response.headers(), self.clock.now());
        Ok(response)
    }

    /// The request, signed at the store's time. Nothing of it is kept: the
    /// next attempt is signed anew.
    fn signed(
        &self,
        call: &Call<'_>,
        signer: &dyn Sign,
        bytes: u64,
        body: reqwest::Body,
    ) -> Result<reqwest::Request, StoreError> {
        let invalid = |e: &dyn fmt::Display| StoreError::Refused(call.fault("InvalidRequest", e.to_string()));
        let url = self.endpoint.url(call.key, &call.query);
        let url = reqwest::Url::parse(&url).map_err(|e| invalid(&e))?;
        let mut headers = call.headers.clone();
        if bytes > 0 || matches!(call.method, Method::PUT | Method::POST) {
            // Stores answer 411 to a body of unknown length.
            headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
        }
        signer
            .sign(self.store_time(), &self.endpoint, call, &mut headers)
            .map_err(|_| invalid(&"the credentials cannot stand in a header"))?;
        let mut request = reqwest::Request::new(call.method.clone(), url);
        *request.headers_mut() = headers;
        if bytes > 0 {
            *request.body_mut() = Some(body);
        }
        Ok(request)
    }

    /// What time it is to the store: signatures are made at.
    pub fn store_time(&self) -> Timestamp {
        self.skew.of_store(self.clock.now())
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

/// What kind of a failure it is. Codes are the store's own to choose: labels are not.
fn why(fault: &Fault) -> &'static str {
    match (fault.code.as_str(), fault.status) {
        ("ConnectTimeout" | "ConnectFailed" | "NameNotResolved", _) => "connect",
        ("FirstByteTimeout", _) => "first_byte",
        ("IdleTimeout", _) => "idle",
        ("ConnectionReset", _) => "reset",
        (RENEWED, _) => "credentials",
        (_, Some(429 | 503)) => "busy",
        (_, Some(500..)) => "failing",
        (_, Some(_)) => "refused",
        (_, None) => "other",
    }
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
