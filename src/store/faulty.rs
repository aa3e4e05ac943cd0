//! A store that fails on purpose, around any other: by seeded lot, or once by
//! script. For tests; the seed repeats a run exactly, as long as the calls
//! come in the same order.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use tokio::sync::watch;

use crate::domain::{Crc64, ObjectKey, Part, PartNumber, SessionId};
use crate::store::{
    Abandoned, Begin, Body, Download, FormAsk, Heard, Identification, Joined, Limits, ListedUpload, NewPart, Reading,
    SignedForm, SignedGet, SignedPut, Store, StoreConfig, StoreError, StoredObject, StoredPart, Target, error,
};

/// The calls of a store that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the call of that name")]
pub enum Operation {
    Begin,
    PutPart,
    ListParts,
    Complete,
    Abort,
    Put,
    Head,
    Get,
    Delete,
    ListUploads,
    Check,
}

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails before it has done anything.
    Unavailable,
    /// It fails in mid-body, after half of it was read; as `Unavailable` where
    /// there is no body.
    MidBody,
    /// It does all of what it was asked for, and then its answer is lost.
    AnswerLost,
    /// It is refused for good before it has done anything.
    Refused,
    /// There is no space left, before it has done anything.
    Full,
    /// It says that the multipart upload is gone; nothing was done.
    NoSuchUpload,
    /// It does what it was asked for and answers with another ETag and CRC-64
    /// than those of the bytes.
    WrongProof,
    /// It does nothing and does not answer until [`FaultyStore::release`].
    Hang,
}

/// How often calls of one operation fail or wait, in calls of a thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Fail before they have done anything.
    pub unavailable_per_mille: u16,
    /// Fail after they have done what they were asked for.
    pub answer_lost_per_mille: u16,
    /// Wait for `delay` before they begin.
    pub delayed_per_mille: u16,
    /// For how long.
    pub delay: Duration,
}

/// The failing store.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    plot: Mutex<Plot>,
    released: watch::Sender<u64>,
}

/// What is going to go wrong.
#[derive(Debug)]
struct Plot {
    random: SplitMix64,
    rates: HashMap<Operation, Rates>,
    script: HashMap<Operation, VecDeque<Fault>>,
    struck: u64,
}

impl FaultyStore {
    /// Around a store, failing nothing yet.
    pub fn new(inner: Arc<dyn Store>, seed: u64) -> Self {
        let plot = Plot { random: SplitMix64(seed), rates: HashMap::new(), script: HashMap::new(), struck: 0 };
        Self { inner, plot: Mutex::new(plot), released: watch::Sender::new(0) }
    }

    /// From now on, calls of this operation fail by lot.
    pub fn set_rates(&self, operation: Operation, rates: Rates) {
        self.plot().rates.insert(operation, rates);
    }

    /// The next call of this operation that has no fault scripted yet fails so.
    pub fn fail_next(&self, operation: Operation, fault: Fault) {
        self.plot().script.entry(operation).or_default().push_back(fault);
    }

    /// The next call of this operation hangs until [`FaultyStore::release`].
    pub fn hang_next(&self, operation: Operation) {
        self.fail_next(operation, Fault::Hang);
    }

    /// Lets all calls that hang go on; they then succeed.
    pub fn release(&self) {
        self.released.send_modify(|times| *times += 1);
    }

    /// How many faults have struck, delays aside.
    pub fn struck(&self) -> u64 {
        self.plot().struck
    }

    fn plot(&self) -> MutexGuard<'_, Plot> {
        self.plot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What befalls this call before it begins; the fault that it still has to
    /// suffer on its way, if any.
    async fn before(&self, operation: Operation) -> Result<Option<Fault>, StoreError> {
        // Subscribed before the lot is drawn: a release right after counts.
        let mut released = self.released.subscribe();
        let (fault, delay) = self.plot().draw(operation);
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        match fault {
            None => Ok(None),
            Some(Fault::Unavailable) => Err(unavailable(operation, "Injected")),
            Some(Fault::Refused) => Err(StoreError::Refused(told(operation, "InjectedRefusal"))),
            Some(Fault::Full) => Err(StoreError::Full),
            Some(Fault::NoSuchUpload) => Err(StoreError::NoSuchUpload),
            Some(Fault::Hang) => {
                // An error means that the store is being dropped, and this call with it.
                let _ = released.changed().await;
                Ok(None)
            }
            Some(fault @ (Fault::MidBody | Fault::AnswerLost | Fault::WrongProof)) => Ok(Some(fault)),
        }
    }
}

impl Plot {
    fn draw(&mut self, operation: Operation) -> (Option<Fault>, Option<Duration>) {
        let rates = self.rates.get(&operation).copied().unwrap_or_default();
        // Three lots in each call, needed or not: a rate that is changed does
        // not shift the lots of the calls after it.
        let [unavailable, lost, delayed] = [(); 3].map(|()| self.random.next() % 1000);
        let by_lot = if unavailable < u64::from(rates.unavailable_per_mille) {
            Some(Fault::Unavailable)
        } else {
            (lost < u64::from(rates.answer_lost_per_mille)).then_some(Fault::AnswerLost)
        };
        let scripted = self.script.get_mut(&operation).and_then(VecDeque::pop_front);
        let fault = scripted.or(by_lot);
        self.struck += u64::from(fault.is_some());
        (fault, (delayed < u64::from(rates.delayed_per_mille)).then_some(rates.delay))
    }
}

/// A small deterministic generator: Steele, Lea, Flood, "Fast splittable
/// pseudorandom number generators", 2014.
#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

fn told(operation: Operation, code: &str) -> error::Fault {
    let name = match operation {
        Operation::Begin => "InitiateMultipartUpload",
        Operation::PutPart => "UploadPart",
        Operation::ListParts => "ListParts",
        Operation::Complete => "CompleteMultipartUpload",
        Operation::Abort => "AbortMultipartUpload",
        Operation::Put => "PutObject",
        Operation::Head => "HeadObject",
        Operation::Get => "GetObject",
        Operation::Delete => "DeleteObject",
        Operation::ListUploads => "ListMultipartUploads",
        Operation::Check => "Check",
    };
    error::Fault { operation: name, code: code.to_owned(), ..error::Fault::default() }
}

fn unavailable(operation: Operation, code: &str) -> StoreError {
    StoreError::Unavailable(told(operation, code))
}

/// What becomes of an answer on its way back.
fn after<T>(operation: Operation, fault: Option<Fault>, answer: T) -> Result<T, StoreError> {
    if fault == Some(Fault::AnswerLost) { Err(unavailable(operation, "AnswerLost")) } else { Ok(answer) }
}

/// Reads half of a body and lets it go.
async fn read_half(mut body: Body, bytes: u64, operation: Operation) -> StoreError {
    let mut read = 0;
    while read * 2 < bytes {
        match body.next().await {
            Some(Ok(frame)) => read += frame.len() as u64,
            Some(Err(_)) => return StoreError::Body,
            None => break,
        }
    }
    unavailable(operation, "ConnectionReset")
}

fn spoil(crc64: &mut Option<Crc64>, etag: &mut String) {
    *crc64 = crc64.map(|crc| Crc64(!crc.0));
    etag.insert_str(0, "wrong-");
}

#[async_trait]
impl Store for FaultyStore {
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
        let fault = self.before(Operation::Begin).await?;
        after(Operation::Begin, fault, self.inner.begin(begin).await?)
    }

    async fn put_part(&self, target: Target<'_>, part: NewPart) -> Result<StoredPart, StoreError> {
        let fault = self.before(Operation::PutPart).await?;
        if fault == Some(Fault::MidBody) {
            return Err(read_half(part.body, part.bytes, Operation::PutPart).await);
        }
        let mut stored = self.inner.put_part(target, part).await?;
        if fault == Some(Fault::WrongProof) {
            spoil(&mut stored.crc64, &mut stored.etag);
        }
        after(Operation::PutPart, fault, stored)
    }

    async fn list_parts(&self, target: Target<'_>) -> Result<Vec<Part>, StoreError> {
        let fault = self.before(Operation::ListParts).await?;
        let mut parts = self.inner.list_parts(target).await?;
        if let (Some(Fault::WrongProof), Some(first)) = (fault, parts.first_mut()) {
            spoil(&mut first.crc64, &mut first.etag);
        }
        after(Operation::ListParts, fault, parts)
    }

    async fn complete(&self, target: Target<'_>, parts: &[Part]) -> Result<Joined, StoreError> {
        let fault = self.before(Operation::Complete).await?;
        let mut joined = self.inner.complete(target, parts).await?;
        if fault == Some(Fault::WrongProof) {
            spoil(&mut joined.object.crc64, &mut joined.object.etag);
        }
        after(Operation::Complete, fault, joined)
    }

    async fn abort(&self, target: Target<'_>) -> Result<(), StoreError> {
        let fault = self.before(Operation::Abort).await?;
        self.inner.abort(target).await?;
        after(Operation::Abort, fault, ())
    }

    async fn put(
        &self,
        key: &ObjectKey,
        content_type: Option<&str>,
        bytes: u64,
        body: Body,
    ) -> Result<StoredObject, StoreError> {
        let fault = self.before(Operation::Put).await?;
        if fault == Some(Fault::MidBody) {
            return Err(read_half(body, bytes, Operation::Put).await);
        }
        let mut object = self.inner.put(key, content_type, bytes, body).await?;
        if fault == Some(Fault::WrongProof) {
            spoil(&mut object.crc64, &mut object.etag);
        }
        after(Operation::Put, fault, object)
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<StoredObject>, StoreError> {
        let fault = self.before(Operation::Head).await?;
        let mut object = self.inner.head(key).await?;
        if let (Some(Fault::WrongProof), Some(object)) = (fault, &mut object) {
            spoil(&mut object.crc64, &mut object.etag);
        }
        after(Operation::Head, fault, object)
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Reading, StoreError> {
        let fault = self.before(Operation::Get).await?;
        after(Operation::Get, fault, self.inner.get(key, range).await?)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let fault = self.before(Operation::Delete).await?;
        self.inner.delete(key).await?;
        after(Operation::Delete, fault, ())
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<ListedUpload>, StoreError> {
        let fault = self.before(Operation::ListUploads).await?;
        after(Operation::ListUploads, fault, self.inner.list_uploads(prefix).await?)
    }

    async fn check(&self) -> Result<(), StoreError> {
        let fault = self.before(Operation::Check).await?;
        self.inner.check().await?;
        after(Operation::Check, fault, ())
    }

    async fn abandoned(&self, key: &ObjectKey) -> Result<Abandoned, StoreError> {
        self.inner.abandoned(key).await
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;
    use crate::store::{body_of, conformance};

    fn store() -> (Arc<MemoryStore>, FaultyStore) {
        let memory = Arc::new(MemoryStore::new());
        (memory.clone(), FaultyStore::new(memory, 42))
    }

    fn key() -> ObjectKey {
        ObjectKey::parse("some/key").expect("a key")
    }

    #[tokio::test]
    async fn without_faults_it_is_the_store_itself() {
        let (_, faulty) = store();
        conformance::run(Arc::new(faulty), "faulty").await;
    }

    #[tokio::test]
    async fn a_script_strikes_once_and_in_order() {
        let (memory, faulty) = store();
        faulty.fail_next(Operation::Put, Fault::MidBody);
        faulty.fail_next(Operation::Put, Fault::AnswerLost);
        faulty.fail_next(Operation::Put, Fault::WrongProof);
        let key = key();
        let put = || faulty.put(&key, None, 3, body_of("abc"));
        assert!(put().await.is_err());
        assert_eq!(memory.object(&key), None, "broken off in mid-body");
        assert!(put().await.is_err_and(|e| e.is_transient()));
        assert!(memory.object(&key).is_some(), "only the answer was lost");
        assert_ne!(put().await.expect("wrong but answered").crc64, Some(Crc64::of(b"abc")));
        assert_eq!(put().await.expect("in order again").crc64, Some(Crc64::of(b"abc")));
        assert_eq!(faulty.struck(), 3);
    }

    #[tokio::test]
    async fn a_call_hangs_until_it_is_released() {
        let (_, faulty) = store();
        faulty.hang_next(Operation::Head);
        let key = key();
        let mut hanging = std::pin::pin!(faulty.head(&key));
        let waited = tokio::time::timeout(Duration::from_millis(20), &mut hanging).await;
        assert!(waited.is_err());
        faulty.release();
        assert_eq!(hanging.await.expect("released"), None);
    }

    #[tokio::test]
    async fn the_same_seed_fails_the_same_calls() {
        let failures = |seed| async move {
            let faulty = FaultyStore::new(Arc::new(MemoryStore::new()), seed);
            faulty.set_rates(Operation::Check, Rates { unavailable_per_mille: 200, ..Rates::default() });
            let mut failures = Vec::new();
            for call in 0..500 {
                if faulty.check().await.is_err() {
                    failures.push(call);
                }
            }
            failures
        };
        let first = failures(7).await;
        assert_eq!(first, failures(7).await);
        assert_ne!(first, failures(8).await);
        assert!((60..140).contains(&first.len()), "about a fifth: {}", first.len());
    }
}
