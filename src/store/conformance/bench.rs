//! What the cases share: one case's view of the store, its bytes and bodies.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use crate::domain::{Crc64, ObjectKey, Part, PartNumber, Plan, SessionId};
use crate::store::{
    Begin, Body, BodyBroken, Joined, NewPart, Proof, Reading, Shown, Store, StoreError, StoredObject, StoredPart,
    Target,
};

/// Parts are never smaller than this here, so that they come in several frames.
const PART_BYTES: u64 = 150_000;

/// One case's view of the store.
pub(super) struct Bench {
    pub(super) store: Arc<dyn Store>,
    pub(super) prefix: String,
    pub(super) case: &'static str,
}

impl Bench {
    pub(super) fn key(&self, name: &str) -> ObjectKey {
        let text = format!("{}/{}/{name}", self.prefix, self.case);
        ObjectKey::parse(&text).unwrap_or_else(|| panic!("conformance: {text:?} is no key"))
    }

    /// What must have gone well.
    #[track_caller]
    pub(super) fn well<T, E: Debug>(&self, what: &str, result: Result<T, E>) -> T {
        result.unwrap_or_else(|error| panic!("conformance: {} ({}): {what}: {error:?}", self.case, self.store.kind()))
    }

    #[track_caller]
    pub(super) fn holds(&self, what: &str, holds: bool) {
        assert!(holds, "conformance: {} ({}): {what}", self.case, self.store.kind());
    }

    #[track_caller]
    pub(super) fn same<T: PartialEq + Debug>(&self, what: &str, got: T, expected: T) {
        assert_eq!(got, expected, "conformance: {} ({}): {what}", self.case, self.store.kind());
    }

    /// What must have been refused, and how.
    #[track_caller]
    pub(super) fn refused<T: Debug>(
        &self,
        what: &str,
        result: Result<T, StoreError>,
        expected: fn(&StoreError) -> bool,
    ) {
        match result {
            Err(error) if expected(&error) => {}
            Ok(_) | Err(_) => {
                panic!("conformance: {} ({}): {what}: {result:?}", self.case, self.store.kind())
            }
        }
    }

    /// A size of part that the store takes and that is no round number.
    pub(super) fn part_bytes(&self) -> u64 {
        self.store.limits().parts.part_bytes_min.max(PART_BYTES) + 37
    }

    /// A plan of `count` regular parts and some bytes more.
    pub(super) fn plan(&self, count: u32) -> Plan {
        let (chunk, count) = (self.part_bytes(), u64::from(count));
        let total = chunk * (count - 1) + chunk / 3;
        self.well("the plan", Plan::declare(total, Some(chunk), Some(count), &self.store.limits().parts))
    }

    pub(super) async fn begin(&self, key: &ObjectKey, plan: Option<&Plan>) -> SessionId {
        let begin = Begin { key, content_type: Some("application/x-conformance"), plan, direct: false };
        self.well("begin", self.store.begin(begin).await)
    }

    pub(super) async fn put_body(
        &self,
        at: Target<'_>,
        number: u32,
        bytes: u64,
        body: Body,
    ) -> Result<StoredPart, StoreError> {
        let part = NewPart { number: number_of(number), bytes, body };
        self.store.put_part(at, part).await
    }

    /// Puts one part in frames and checks what the store answers.
    pub(super) async fn put(&self, at: Target<'_>, number: u32, bytes: &Bytes) -> Part {
        let length = bytes.len() as u64;
        let stored = self.well("put_part", self.put_body(at, number, length, in_frames(bytes)).await);
        self.proven("the part's CRC-64", stored.crc64, bytes);
        self.holds("the part has an ETag without quotes", !stored.etag.is_empty() && !stored.etag.contains('"'));
        Part { number: number_of(number), bytes: length, etag: stored.etag, crc64: Some(Crc64::of(bytes)) }
    }

    /// A CRC-64 that a store says is right, and one whose proof it is says it.
    #[track_caller]
    pub(super) fn proven(&self, what: &str, said: Option<Crc64>, bytes: &[u8]) {
        match (said, self.store.limits().proof) {
            (Some(crc64), _) => self.same(what, crc64, Crc64::of(bytes)),
            (None, Proof::Crc64Xz) => self.holds(&format!("{what} is missing"), false),
            (None, Proof::Checksum(_) | Proof::Md5Etag | Proof::SizeOnly) => {}
        }
    }

    pub(super) async fn complete(&self, at: Target<'_>, parts: &[Part], whole: &[u8]) -> StoredObject {
        let Joined { object, shown } = self.well("complete", self.store.complete(at, parts).await);
        self.same("the object's size", object.bytes, whole.len() as u64);
        self.proven("the object's CRC-64", object.crc64, whole);
        self.holds("the object is not shown to be its parts", object.crc64.is_some() || shown == Shown::TheseParts);
        self.read_back(at.key, whole).await;
        let head = self.head(at.key).await;
        self.same("head after complete: the ETag", &head.etag, &object.etag);
        object
    }

    pub(super) async fn head(&self, key: &ObjectKey) -> StoredObject {
        let head = self.well("head", self.store.head(key).await);
        head.unwrap_or_else(|| panic!("conformance: {}: there is no object {key}", self.case))
    }

    /// The object's bytes are these, by an independent digest, and head agrees.
    pub(super) async fn read_back(&self, key: &ObjectKey, whole: &[u8]) {
        let head = self.head(key).await;
        self.same("head: the size", head.bytes, whole.len() as u64);
        if let Some(crc64) = head.crc64 {
            self.same("head: the CRC-64", crc64, Crc64::of(whole));
        }
        let read = self.read(key, None).await;
        self.same("the bytes' SHA-256", Sha256::digest(&read), Sha256::digest(whole));
    }

    pub(super) async fn read(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Vec<u8> {
        let Reading { stream, .. } = self.well("get", self.store.get(key, range).await);
        let frames: Vec<_> = stream.collect().await;
        frames.into_iter().flat_map(|frame| self.well("a frame", frame).to_vec()).collect()
    }

    /// A whole upload whose parts are put in this order.
    pub(super) async fn upload(&self, plan: &Plan, declared: bool, order: &[u32]) {
        let key = self.key("object.bin");
        let whole = noise(self.case, plan.total_bytes());
        let session = self.begin(&key, declared.then_some(plan)).await;
        let at = Target { key: &key, session: &session };
        let mut parts = Vec::new();
        for &number in order {
            parts.push(self.put(at, number, &piece(&whole, plan, number)).await);
        }
        parts.sort_by_key(|part| part.number);
        self.complete(at, &parts, &whole).await;
    }

    pub(super) async fn sweep(&self) {
        for name in ["object.bin", "other.bin", "deep/object.bin"] {
            self.well("delete", self.store.delete(&self.key(name)).await);
        }
        for listed in self.well("list_uploads", self.store.list_uploads(&format!("{}/", self.prefix)).await) {
            let key =
                ObjectKey::parse(&listed.key).unwrap_or_else(|| panic!("conformance: {:?} is no key", listed.key));
            self.well("abort", self.store.abort(Target { key: &key, session: &listed.session }).await);
        }
    }
}

#[track_caller]
pub(super) fn number_of(number: u32) -> PartNumber {
    PartNumber::new(number).unwrap_or_else(|| panic!("conformance: {number} is no part number"))
}

/// Bytes that no two cases share and no length repeats.
pub(super) fn noise(seed: &str, bytes: u64) -> Bytes {
    let mut state = Crc64::of(seed.as_bytes()).0 | 1;
    let words = (0..bytes.div_ceil(8)).flat_map(|_| {
        // xorshift64: Marsaglia, 2003.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(usize::try_from(bytes).unwrap_or(usize::MAX)).collect()
}

pub(super) fn piece(whole: &Bytes, plan: &Plan, number: u32) -> Bytes {
    let range = plan.offset_of(number - 1).zip(plan.bytes_of(number - 1));
    let (from, bytes) = range.unwrap_or_else(|| panic!("conformance: the plan has no part {number}"));
    // Both lie within a buffer, so they fit a usize.
    whole.slice(from as usize..(from + bytes) as usize)
}

/// A body in frames of unequal sizes, none of them aligned.
pub(super) fn in_frames(bytes: &Bytes) -> Body {
    let mut rest = bytes.clone();
    let mut sizes = [8_191usize, 1, 40_000, 65_537].into_iter().cycle();
    let frames = std::iter::from_fn(move || {
        let size = sizes.next()?.min(rest.len());
        (size > 0).then(|| Ok(rest.split_to(size)))
    });
    Box::pin(stream::iter(frames))
}

/// A body that breaks after half of its bytes.
pub(super) fn broken(bytes: &Bytes) -> Body {
    let half = bytes.slice(..bytes.len() / 2);
    Box::pin(in_frames(&half).chain(stream::iter([Err(BodyBroken)])))
}
