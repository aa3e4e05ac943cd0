//! A store whose calls are timed for `/metrics`.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::domain::{ObjectKey, Part, SessionId};
use crate::store::{
    Begin, Body, Limits, ListedUpload, NewPart, Reading, Store, StoreError, StoredObject, StoredPart, Target,
};

/// Wraps a store; changes nothing but the metrics.
#[derive(Debug)]
pub struct Measured {
    inner: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl Measured {
    /// Times the calls of this store.
    pub fn new(inner: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, clock }
    }

    async fn timed<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let began = self.clock.monotonic();
        let answer = call.await;
        let took: Duration = self.clock.monotonic().saturating_sub(began);
        let outcome = answer.as_ref().err().map_or("ok", outcome);
        metrics::histogram!("chunkgate_store_seconds", "operation" => operation, "outcome" => outcome)
            .record(took.as_secs_f64());
        answer
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
impl Store for Measured {
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
        self.timed("begin", self.inner.begin(begin)).await
    }

    async fn put_part(&self, target: Target<'_>, part: NewPart) -> Result<StoredPart, StoreError> {
        self.timed("put_part", self.inner.put_part(target, part)).await
    }

    async fn list_parts(&self, target: Target<'_>) -> Result<Vec<Part>, StoreError> {
        self.timed("list_parts", self.inner.list_parts(target)).await
    }

    async fn complete(&self, target: Target<'_>, parts: &[Part]) -> Result<StoredObject, StoreError> {
        self.timed("complete", self.inner.complete(target, parts)).await
    }

    async fn abort(&self, target: Target<'_>) -> Result<(), StoreError> {
        self.timed("abort", self.inner.abort(target)).await
    }

    async fn put(
        &self,
        key: &ObjectKey,
        content_type: Option<&str>,
        bytes: u64,
        body: Body,
    ) -> Result<StoredObject, StoreError> {
        self.timed("put", self.inner.put(key, content_type, bytes, body)).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<StoredObject>, StoreError> {
        self.timed("head", self.inner.head(key)).await
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Reading, StoreError> {
        self.timed("get", self.inner.get(key, range)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.timed("delete", self.inner.delete(key)).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<ListedUpload>, StoreError> {
        self.timed("list_uploads", self.inner.list_uploads(prefix)).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.timed("check", self.inner.check()).await
    }
}
