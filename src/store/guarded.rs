//! A store whose calls are timed for `/metrics` and held back while it fails.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::domain::{ObjectKey, Part, PartNumber, SessionId};
use crate::store::breaker::{Breaker, Change, Sign};
use crate::store::error::{Fault, RENEWED};
use crate::store::{
    Abandoned, Begin, Body, BreakerConfig, Download, FormAsk, Heard, Identification, Joined, Limits, ListedUpload,
    NewPart, Reading, SignedForm, SignedGet, SignedPut, Store, StoreConfig, StoreError, StoredObject, StoredPart,
    Target,
};

/// Wraps a store with a circuit breaker and metrics.
#[derive(Debug)]
pub struct Guarded {
    inner: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    breaker: Breaker,
}

impl Guarded {
    /// Guards this store.
    pub fn new(inner: Arc<dyn Store>, clock: Arc<dyn Clock>, config: &BreakerConfig) -> Self {
        metrics::gauge!(OPEN).set(0);
        Self { inner, clock, breaker: Breaker::new(config.failures, config.open_for) }
    }

    /// One call, unless the store is left alone just now.
    async fn guarded<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match self.breaker.admit(self.clock.monotonic()) {
            Ok(()) => self.timed(operation, call).await,
            Err(left) => Err(StoreError::Unavailable(Fault {
                operation,
                code: "CircuitOpen".to_owned(),
                message: format!("the store failed again and again; it is tried again in {left:.1?}"),
                ..Fault::default()
            })),
        }
    }

    async fn timed<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let began = self.clock.monotonic();
        let under_way = UnderWay::begin();
        let answer = call.await;
        drop(under_way);
        let now = self.clock.monotonic();
        let outcome = answer.as_ref().err().map_or("ok", outcome);
        metrics::histogram!("chunkgate_store_seconds", "operation" => operation, "outcome" => outcome)
            .record(now.saturating_sub(began).as_secs_f64());
        self.note(&answer, now);
        answer
    }

    fn note<T>(&self, answer: &Result<T, StoreError>, now: Duration) {
        match self.breaker.note(answer.as_ref().err().map_or(Sign::Alive, sign), now) {
            None => {}
            Some(Change::Opened) => {
                metrics::gauge!(OPEN).set(1);
                let error = answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
                warn!(error, "the store fails again and again: requests that need it get 503 until it answers");
            }
            Some(Change::Closed) => {
                metrics::gauge!(OPEN).set(0);
                info!("the store answers again");
            }
        }
    }
}

/// A call, as long as somebody waits for it.
struct UnderWay;

impl UnderWay {
    fn begin() -> Self {
        metrics::gauge!(UNDER_WAY).increment(1);
        Self
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        metrics::gauge!(UNDER_WAY).decrement(1);
    }
}

const UNDER_WAY: &str = "chunkgate_store_calls_under_way";
const OPEN: &str = "chunkgate_store_breaker_open";

fn sign(error: &StoreError) -> Sign {
    match error {
        // The store was not sent the body in its own time: who sends it is a client.
        StoreError::Unavailable(fault) if matches!(fault.code.as_str(), "RequestTimeout" | "IncompleteBody") => {
            Sign::None
        }
        StoreError::Unavailable(fault) if fault.code == RENEWED => Sign::Alive,
        StoreError::Unavailable(_) => Sign::Failing,
        StoreError::Body => Sign::None,
        StoreError::NoSuchUpload
        | StoreError::NoSuchObject
        | StoreError::PartsDiffer(_)
        | StoreError::Full
        | StoreError::Refused(_) => Sign::Alive,
    }
}

const fn outcome(error: &StoreError) -> &'static str {
    match error {
        StoreError::Body => "body",
        StoreError::NoSuchUpload | StoreError::NoSuchObject => "absent",
        StoreError::PartsDiffer(_) => "parts_differ",
        StoreError::Full => "full",
        StoreError::Unavailable(_) => "unavailable",
        StoreError::Refused(_) => "refused",
    }
}

#[async_trait]
impl Store for Guarded {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn bucket(&self) -> &str {
        self.inner.bucket()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    async fn begin(&self, begin: Begin<'_>) -> Result<SessionId, StoreError> {
        self.guarded("begin", self.inner.begin(begin)).await
    }

    async fn put_part(&self, target: Target<'_>, part: NewPart) -> Result<StoredPart, StoreError> {
        self.guarded("put_part", self.inner.put_part(target, part)).await
    }

    async fn list_parts(&self, target: Target<'_>) -> Result<Vec<Part>, StoreError> {
        self.guarded("list_parts", self.inner.list_parts(target)).await
    }

    async fn complete(&self, target: Target<'_>, parts: &[Part]) -> Result<Joined, StoreError> {
        self.guarded("complete", self.inner.complete(target, parts)).await
    }

    async fn abort(&self, target: Target<'_>) -> Result<(), StoreError> {
        self.guarded("abort", self.inner.abort(target)).await
    }

    async fn put(
        &self,
        key: &ObjectKey,
        content_type: Option<&str>,
        bytes: u64,
        body: Body,
    ) -> Result<StoredObject, StoreError> {
        self.guarded("put", self.inner.put(key, content_type, bytes, body)).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<StoredObject>, StoreError> {
        self.guarded("head", self.inner.head(key)).await
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Reading, StoreError> {
        self.guarded("get", self.inner.get(key, range)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.guarded("delete", self.inner.delete(key)).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<ListedUpload>, StoreError> {
        self.guarded("list_uploads", self.inner.list_uploads(prefix)).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        // Asked how it is, the store is asked.
        self.timed("check", self.inner.check()).await
    }

    async fn abandoned(&self, key: &ObjectKey) -> Result<Abandoned, StoreError> {
        self.timed("abandoned", self.inner.abandoned(key)).await
    }

    async fn tell(&self, key: &ObjectKey, body: &'static [u8]) -> Result<Option<Heard>, StoreError> {
        self.inner.tell(key, body).await
    }

    async fn identify(&self) -> Result<Option<Identification>, StoreError> {
        self.inner.identify().await
    }

    fn renew(&self, config: &StoreConfig, env: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
        self.inner.renew(config, env)
    }

    async fn download_url(&self, download: &Download<'_>) -> Result<Option<SignedGet>, StoreError> {
        self.inner.download_url(download).await
    }

    async fn sign_part(
        &self,
        target: Target<'_>,
        number: PartNumber,
        expires_in: Duration,
    ) -> Result<Option<SignedPut>, StoreError> {
        self.inner.sign_part(target, number, expires_in).await
    }

    async fn sign_form(&self, ask: &FormAsk<'_>) -> Result<Option<SignedForm>, StoreError> {
        self.inner.sign_form(ask).await
    }
}
