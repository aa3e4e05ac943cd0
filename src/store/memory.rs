//! A store in memory: exact, and for tests only. It counts its calls, so that
//! a test can prove that bytes were stored once.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use md5::{Digest as _, Md5};

use crate::domain::{Crc64, ObjectKey, Part, PartBounds, PartNumber, Plan, SessionId, Timestamp};
use crate::store::error::Fault;
use crate::store::{
    Abandoned, Begin, Body, Download, Joined, Limits, ListedUpload, NewPart, Proof, Reading, SignedGet, SignedPut,
    Store, StoreConfig, StoreError, StoredObject, StoredPart, Target, parts,
};

/// How often each operation was called, refused calls included.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "each is the call of that name")]
pub struct Calls {
    pub begin: AtomicU64,
    pub put_part: AtomicU64,
    pub list_parts: AtomicU64,
    pub complete: AtomicU64,
    pub abort: AtomicU64,
    pub put: AtomicU64,
    pub head: AtomicU64,
    pub get: AtomicU64,
    pub delete: AtomicU64,
    pub list_uploads: AtomicU64,
    pub check: AtomicU64,
}

/// The store in memory.
#[derive(Debug)]
pub struct MemoryStore {
    limits: Limits,
    state: Mutex<State>,
    calls: Calls,
}

#[derive(Debug, Default)]
struct State {
    begun: u64,
    uploads: BTreeMap<String, Multipart>,
    objects: BTreeMap<String, Object>,
}

#[derive(Debug)]
struct Multipart {
    key: ObjectKey,
    content_type: Option<String>,
    plan: Option<Plan>,
    parts: BTreeMap<PartNumber, Bytes>,
}

#[derive(Clone, Debug)]
struct Object {
    bytes: Bytes,
    content_type: Option<String>,
    etag: String,
    crc64: Option<Crc64>,
}

impl MemoryStore {
    /// Empty, with the limits of the file store.
    pub fn new() -> Self {
        let parts = PartBounds { part_bytes_min: 1, part_bytes_max: 5 << 30, parts_max: u32::from(PartNumber::MAX) };
        Self::with_limits(Limits {
            parts,
            put_bytes_max: 5 << 30,
            object_bytes_max: parts.object_bytes_max(),
            proof: Proof::Crc64Xz,
            direct: false,
        })
    }

    /// Empty, with the limits of another store, and what that shows of bytes.
    pub fn with_limits(limits: Limits) -> Self {
        Self { limits, state: Mutex::default(), calls: Calls::default() }
    }

    /// How often it was called.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// The bytes of an object that is there.
    pub fn object(&self, key: &ObjectKey) -> Option<Bytes> {
        self.state().objects.get(key.as_str()).map(|object| object.bytes.clone())
    }

    /// The keys of all objects.
    pub fn keys(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    /// How many multipart uploads are open.
    pub fn open_uploads(&self) -> usize {
        self.state().uploads.len()
    }

    /// Puts other bytes into a part that is there, as a late losing writer
    /// would. False if there is no such part.
    pub fn overwrite_part(&self, session: &SessionId, number: PartNumber, bytes: impl Into<Bytes>) -> bool {
        let mut state = self.state();
        let part = state.uploads.get_mut(session.as_str()).and_then(|upload| upload.parts.get_mut(&number));
        part.map(|part| *part = bytes.into()).is_some()
    }

    /// Puts a part, also into a multipart upload that is gone: as does one that
    /// was in flight when it was aborted.
    pub fn leave_part(&self, target: Target<'_>, number: PartNumber, bytes: impl Into<Bytes>) {
        let begun = || Multipart { key: target.key.clone(), content_type: None, plan: None, parts: BTreeMap::new() };
        let mut state = self.state();
        let upload = state.uploads.entry(target.session.as_str().to_owned()).or_insert_with(begun);
        upload.parts.insert(number, bytes.into());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn upload(&mut self, target: Target<'_>) -> Result<&mut Multipart, StoreError> {
        let found = self.uploads.get_mut(target.session.as_str());
        found.filter(|upload| upload.key == *target.key).ok_or(StoreError::NoSuchUpload)
    }
}

impl Multipart {
    fn listed(&self, proof: Proof) -> Vec<Part> {
        let part = |(&number, bytes): (&PartNumber, &Bytes)| {
            let (etag, crc64) = shown(proof, bytes);
            Part { number, bytes: bytes.len() as u64, etag, crc64 }
        };
        self.parts.iter().map(part).collect()
    }
}

impl Object {
    fn stored(&self) -> StoredObject {
        StoredObject {
            bytes: self.bytes.len() as u64,
            etag: self.etag.clone(),
            crc64: self.crc64,
            content_type: self.content_type.clone(),
        }
    }
}

/// What a store of this proof shows of bytes: an ETag, and their CRC-64.
fn shown(proof: Proof, bytes: &[u8]) -> (String, Option<Crc64>) {
    let crc64 = Crc64::of(bytes);
    let etag = match proof {
        Proof::Md5Etag => hex::encode(Md5::digest(bytes)),
        Proof::Crc64Xz | Proof::Checksum(_) | Proof::SizeOnly => format!("{:016x}-{:x}", crc64.0, bytes.len()),
    };
    (etag, proof.lists_crc64().then_some(crc64))
}

fn refused(operation: &'static str, code: &str, message: String) -> StoreError {
    StoreError::Refused(Fault { operation, code: code.to_owned(), message, ..Fault::default() })
}

/// Takes exactly the announced bytes in, or none.
async fn collect(mut body: Body, bytes: u64) -> Result<Bytes, StoreError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.next().await {
        whole.extend_from_slice(&frame.map_err(|_| StoreError::Body)?);
    }
    if whole.len() as u64 == bytes { Ok(whole.freeze()) } else { Err(StoreError::Body) }
}

fn count(calls: &AtomicU64) {
    calls.fetch_add(1, Ordering::SeqCst);
}

#[async_trait]
impl Store for MemoryStore {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn bucket(&self) -> &str {
        "memory"
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    async fn begin(&self, begin: Begin<'_>) -> Result<SessionId, StoreError> {
        count(&self.calls.begin);
        let mut state = self.state();
        state.begun += 1;
        let session = format!("memory-{}", state.begun);
        let upload = Multipart {
            key: begin.key.clone(),
            content_type: begin.content_type.map(str::to_owned),
            plan: begin.plan.copied(),
            parts: BTreeMap::new(),
        };
        state.uploads.insert(session.clone(), upload);
        Ok(SessionId::new(session))
    }

    async fn put_part(&self, target: Target<'_>, part: NewPart) -> Result<StoredPart, StoreError> {
        count(&self.calls.put_part);
        let plan = self.state().upload(target)?.plan;
        let planned = plan.map(|plan| plan.bytes_of(part.number.chunk_index()));
        if planned.is_some_and(|bytes| bytes != Some(part.bytes)) {
            return Err(refused("UploadPart", "PartNotInPlan", format!("part {} of {}", part.number, part.bytes)));
        }
        let bytes = collect(part.body, part.bytes).await?;
        let (etag, crc64) = shown(self.limits.proof, &bytes);
        let stored = StoredPart { etag, crc64 };
        self.state().upload(target)?.parts.insert(part.number, bytes);
        Ok(stored)
    }

    async fn list_parts(&self, target: Target<'_>) -> Result<Vec<Part>, StoreError> {
        count(&self.calls.list_parts);
        Ok(self.state().upload(target)?.listed(self.limits.proof))
    }

    async fn complete(&self, target: Target<'_>, parts: &[Part]) -> Result<Joined, StoreError> {
        count(&self.calls.complete);
        let mut state = self.state();
        let upload = state.upload(target)?;
        parts::verify(parts, &upload.listed(self.limits.proof))?;
        let regular = &parts[..parts.len() - 1];
        if let Some(small) = regular.iter().find(|part| part.bytes < self.limits.parts.part_bytes_min) {
            return Err(refused("CompleteMultipartUpload", "EntityTooSmall", format!("part {}", small.number)));
        }
        let mut whole = BytesMut::new();
        for part in parts {
            whole.extend_from_slice(&upload.parts[&part.number]);
        }
        let (etag, crc64) = shown(self.limits.proof, &whole);
        let etag = parts::joined_etag(parts).unwrap_or(etag);
        let object = Object { bytes: whole.freeze(), content_type: upload.content_type.clone(), etag, crc64 };
        let stored = object.stored();
        state.uploads.remove(target.session.as_str());
        state.objects.insert(target.key.as_str().to_owned(), object);
        Ok(parts::found(stored, parts))
    }

    async fn abort(&self, target: Target<'_>) -> Result<(), StoreError> {
        count(&self.calls.abort);
        let mut state = self.state();
        if state.upload(target).is_ok() {
            state.uploads.remove(target.session.as_str());
        }
        Ok(())
    }

    async fn put(
        &self,
        key: &ObjectKey,
        content_type: Option<&str>,
        bytes: u64,
        body: Body,
    ) -> Result<StoredObject, StoreError> {
        count(&self.calls.put);
        let bytes = collect(body, bytes).await?;
        let (etag, crc64) = shown(self.limits.proof, &bytes);
        let object = Object { bytes, content_type: content_type.map(str::to_owned), etag, crc64 };
        let stored = object.stored();
        self.state().objects.insert(key.as_str().to_owned(), object);
        Ok(stored)
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<StoredObject>, StoreError> {
        count(&self.calls.head);
        Ok(self.state().objects.get(key.as_str()).map(Object::stored))
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Reading, StoreError> {
        count(&self.calls.get);
        let object = self.state().objects.get(key.as_str()).cloned().ok_or(StoreError::NoSuchObject)?;
        let size = object.bytes.len() as u64;
        let range = range.unwrap_or(0..size);
        if range.start > range.end || range.end > size {
            return Err(refused("GetObject", "InvalidRange", format!("{}-{} of {size}", range.start, range.end)));
        }
        // Both lie within a length that is a usize.
        let wanted = object.bytes.slice(range.start as usize..range.end as usize);
        let frames = (!wanted.is_empty()).then_some(Ok(wanted));
        Ok(Reading { object: object.stored(), stream: Box::pin(futures_util::stream::iter(frames)) })
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        count(&self.calls.delete);
        self.state().objects.remove(key.as_str());
        Ok(())
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<ListedUpload>, StoreError> {
        count(&self.calls.list_uploads);
        let listed = |(session, upload): (&String, &Multipart)| ListedUpload {
            key: upload.key.as_str().to_owned(),
            session: SessionId::new(session.clone()),
            begun_at: Some(Timestamp::from_millis(0)),
        };
        let state = self.state();
        Ok(state.uploads.iter().filter(|(_, u)| u.key.as_str().starts_with(prefix)).map(listed).collect())
    }

    async fn check(&self) -> Result<(), StoreError> {
        count(&self.calls.check);
        Ok(())
    }

    async fn abandoned(&self, _: &ObjectKey) -> Result<Abandoned, StoreError> {
        Ok(Abandoned::Swept)
    }

    fn renew(&self, _: &StoreConfig, _: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
        Ok(())
    }

    async fn download_url(&self, _: &Download<'_>) -> Result<Option<SignedGet>, StoreError> {
        Ok(None)
    }

    async fn sign_part(
        &self,
        target: Target<'_>,
        number: PartNumber,
        expires_in: Duration,
    ) -> Result<Option<SignedPut>, StoreError> {
        // Nobody can put anything there; whoever signs wants to have signed.
        let url = format!("memory:{}?partNumber={number}&uploadId={}", target.key, target.session);
        Ok(self.limits.direct.then_some(SignedPut { url, headers: Vec::new(), expires_in }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{body_of, conformance};

    #[tokio::test]
    async fn the_memory_store_conforms() {
        conformance::run(Arc::new(MemoryStore::new()), "memory").await;
        // And with limits like those of OSS, which the suite must respect.
        let mut limits = MemoryStore::new().limits();
        limits.parts.part_bytes_min = 100 << 10;
        conformance::run(Arc::new(MemoryStore::with_limits(limits)), "memory").await;
        limits.proof = Proof::Md5Etag;
        conformance::run(Arc::new(MemoryStore::with_limits(limits)), "memory").await;
    }

    #[tokio::test]
    async fn calls_are_counted() {
        let store = MemoryStore::new();
        let key = ObjectKey::parse("a/b").expect("a key");
        store.put(&key, None, 3, body_of("abc")).await.expect("put");
        assert!(matches!(store.put(&key, None, 4, body_of("abc")).await, Err(StoreError::Body)));
        assert_eq!(store.calls().put.load(Ordering::SeqCst), 2);
        assert_eq!(store.object(&key).as_deref(), Some(b"abc".as_slice()), "a short body replaces nothing");
    }
}
