//! The suite that every store passes. It is public so that integration tests
//! can run it against a store that must be started first; it panics with the
//! name of the case and of the call that went wrong.
//!
//! It knows a store only by its trait and its limits: parts are as small as
//! the store takes them, and a case that a limit rules out says so by name.

use std::fmt::Debug;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use crate::domain::{Crc64, ObjectKey, Part, PartNumber, Plan, SessionId};
use crate::store::{
    Begin, Body, BodyBroken, NewPart, Proof, Reading, Store, StoreError, StoredObject, StoredPart, Target, body_of,
};

/// Parts are never smaller than this here, so that they come in several frames.
const PART_BYTES: u64 = 150_000;

type Running<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
type Case = (&'static str, for<'a> fn(&'a Bench) -> Running<'a>);

macro_rules! cases {
    ($($name:ident),+ $(,)?) => { &[$((stringify!($name), |bench| Box::pin($name(bench)))),+] };
}

/// All cases, by name.
const CASES: &[Case] = cases![
    parts_in_order_make_the_object,
    parts_out_of_order_make_the_object,
    parts_at_once_make_the_object,
    a_learnt_plan_makes_the_object,
    a_larger_last_chunk_makes_the_object,
    a_single_part_makes_the_object,
    parts_are_listed_as_they_were_answered,
    a_part_put_again_replaces_the_first,
    a_missing_part_is_refused,
    a_gap_is_refused,
    another_etag_is_refused,
    a_broken_body_leaves_no_part,
    a_broken_overwrite_is_never_the_old_part_with_new_bytes,
    abort_can_be_repeated,
    an_aborted_upload_is_unknown,
    a_completed_upload_is_unknown,
    an_upload_that_never_was_is_unknown,
    two_uploads_of_one_key_are_two,
    uploads_are_listed_by_prefix,
    a_small_object_is_put_and_read,
    an_empty_object_is_put_and_read,
    a_put_replaces_and_a_broken_one_does_not,
    ranges_are_read_exactly,
    an_absent_object_is_absent,
    the_store_is_well,
];

/// Runs the whole suite. Keys lie under `prefix`, which should be the test's
/// own; everything that is made there is removed again.
pub async fn run(store: Arc<dyn Store>, prefix: &str) {
    for (name, case) in CASES {
        let bench = Bench { store: store.clone(), prefix: prefix.to_owned(), case: name };
        case(&bench).await;
        bench.sweep().await;
    }
}

/// One case's view of the store.
struct Bench {
    store: Arc<dyn Store>,
    prefix: String,
    case: &'static str,
}

impl Bench {
    fn key(&self, name: &str) -> ObjectKey {
        let text = format!("{}/{}/{name}", self.prefix, self.case);
        ObjectKey::parse(&text).unwrap_or_else(|| panic!("conformance: {text:?} is no key"))
    }

    /// What must have gone well.
    #[track_caller]
    fn well<T, E: Debug>(&self, what: &str, result: Result<T, E>) -> T {
        result.unwrap_or_else(|error| panic!("conformance: {} ({}): {what}: {error:?}", self.case, self.store.kind()))
    }

    #[track_caller]
    fn holds(&self, what: &str, holds: bool) {
        assert!(holds, "conformance: {} ({}): {what}", self.case, self.store.kind());
    }

    #[track_caller]
    fn same<T: PartialEq + Debug>(&self, what: &str, got: T, expected: T) {
        assert_eq!(got, expected, "conformance: {} ({}): {what}", self.case, self.store.kind());
    }

    /// What must have been refused, and how.
    #[track_caller]
    fn refused<T: Debug>(&self, what: &str, result: Result<T, StoreError>, expected: fn(&StoreError) -> bool) {
        match result {
            Err(error) if expected(&error) => {}
            Ok(_) | Err(_) => {
                panic!("conformance: {} ({}): {what}: {result:?}", self.case, self.store.kind())
            }
        }
    }

    /// A size of part that the store takes and that is no round number.
    fn part_bytes(&self) -> u64 {
        self.store.limits().parts.part_bytes_min.max(PART_BYTES) + 37
    }

    /// A plan of `count` regular parts and some bytes more.
    fn plan(&self, count: u32) -> Plan {
        let (chunk, count) = (self.part_bytes(), u64::from(count));
        let total = chunk * (count - 1) + chunk / 3;
        self.well("the plan", Plan::declare(total, Some(chunk), Some(count), &self.store.limits().parts))
    }

    async fn begin(&self, key: &ObjectKey, plan: Option<&Plan>) -> SessionId {
        let begin = Begin { key, content_type: Some("application/x-conformance"), plan };
        self.well("begin", self.store.begin(begin).await)
    }

    async fn put_body(&self, at: Target<'_>, number: u32, bytes: u64, body: Body) -> Result<StoredPart, StoreError> {
        let part = NewPart { number: number_of(number), bytes, body };
        self.store.put_part(at, part).await
    }

    /// Puts one part in frames and checks what the store answers.
    async fn put(&self, at: Target<'_>, number: u32, bytes: &Bytes) -> Part {
        let length = bytes.len() as u64;
        let stored = self.well("put_part", self.put_body(at, number, length, in_frames(bytes)).await);
        self.proven("the part's CRC-64", stored.crc64, bytes);
        self.holds("the part has an ETag without quotes", !stored.etag.is_empty() && !stored.etag.contains('"'));
        Part { number: number_of(number), bytes: length, etag: stored.etag, crc64: Some(Crc64::of(bytes)) }
    }

    /// A CRC-64 that a store says is right, and one whose proof it is says it.
    #[track_caller]
    fn proven(&self, what: &str, said: Option<Crc64>, bytes: &[u8]) {
        match (said, self.store.limits().proof) {
            (Some(crc64), _) => self.same(what, crc64, Crc64::of(bytes)),
            (None, Proof::Crc64Xz) => self.holds(&format!("{what} is missing"), false),
            (None, Proof::Md5Etag | Proof::SizeOnly) => {}
        }
    }

    async fn complete(&self, at: Target<'_>, parts: &[Part], whole: &[u8]) -> StoredObject {
        let object = self.well("complete", self.store.complete(at, parts).await);
        self.same("the object's size", object.bytes, whole.len() as u64);
        self.proven("the object's CRC-64", object.crc64, whole);
        self.read_back(at.key, whole).await;
        let head = self.head(at.key).await;
        self.same("head after complete: the ETag", &head.etag, &object.etag);
        object
    }

    async fn head(&self, key: &ObjectKey) -> StoredObject {
        let head = self.well("head", self.store.head(key).await);
        head.unwrap_or_else(|| panic!("conformance: {}: there is no object {key}", self.case))
    }

    /// The object's bytes are these, by an independent digest, and head agrees.
    async fn read_back(&self, key: &ObjectKey, whole: &[u8]) {
        let head = self.head(key).await;
        self.same("head: the size", head.bytes, whole.len() as u64);
        if let Some(crc64) = head.crc64 {
            self.same("head: the CRC-64", crc64, Crc64::of(whole));
        }
        let read = self.read(key, None).await;
        self.same("the bytes' SHA-256", Sha256::digest(&read), Sha256::digest(whole));
    }

    async fn read(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Vec<u8> {
        let Reading { stream, .. } = self.well("get", self.store.get(key, range).await);
        let frames: Vec<_> = stream.collect().await;
        frames.into_iter().flat_map(|frame| self.well("a frame", frame).to_vec()).collect()
    }

    /// A whole upload whose parts are put in this order.
    async fn upload(&self, plan: &Plan, declared: bool, order: &[u32]) {
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

    async fn sweep(&self) {
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
fn number_of(number: u32) -> PartNumber {
    PartNumber::new(number).unwrap_or_else(|| panic!("conformance: {number} is no part number"))
}

/// Bytes that no two cases share and no length repeats.
fn noise(seed: &str, bytes: u64) -> Bytes {
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

fn piece(whole: &Bytes, plan: &Plan, number: u32) -> Bytes {
    let range = plan.offset_of(number - 1).zip(plan.bytes_of(number - 1));
    let (from, bytes) = range.unwrap_or_else(|| panic!("conformance: the plan has no part {number}"));
    // Both lie within a buffer, so they fit a usize.
    whole.slice(from as usize..(from + bytes) as usize)
}

/// A body in frames of unequal sizes, none of them aligned.
fn in_frames(bytes: &Bytes) -> Body {
    let mut rest = bytes.clone();
    let mut sizes = [8_191usize, 1, 40_000, 65_537].into_iter().cycle();
    let frames = std::iter::from_fn(move || {
        let size = sizes.next()?.min(rest.len());
        (size > 0).then(|| Ok(rest.split_to(size)))
    });
    Box::pin(stream::iter(frames))
}

/// A body that breaks after half of its bytes.
fn broken(bytes: &Bytes) -> Body {
    let half = bytes.slice(..bytes.len() / 2);
    Box::pin(in_frames(&half).chain(stream::iter([Err(BodyBroken)])))
}

fn unknown(error: &StoreError) -> bool {
    matches!(error, StoreError::NoSuchUpload)
}

fn differ(error: &StoreError) -> bool {
    matches!(error, StoreError::PartsDiffer(_))
}

async fn parts_in_order_make_the_object(bench: &Bench) {
    bench.upload(&bench.plan(3), true, &[1, 2, 3]).await;
}

async fn parts_out_of_order_make_the_object(bench: &Bench) {
    bench.upload(&bench.plan(4), true, &[4, 2, 1, 3]).await;
}

async fn parts_at_once_make_the_object(bench: &Bench) {
    let (key, plan) = (bench.key("object.bin"), bench.plan(6));
    let whole = noise(bench.case, plan.total_bytes());
    let session = bench.begin(&key, Some(&plan)).await;
    let at = Target { key: &key, session: &session };
    let parts = futures_util::future::join_all((1..=6).map(|number| {
        let bytes = piece(&whole, &plan, number);
        async move { bench.put(at, number, &bytes).await }
    }));
    let parts = parts.await;
    bench.complete(at, &parts, &whole).await;
}

async fn a_learnt_plan_makes_the_object(bench: &Bench) {
    bench.upload(&bench.plan(4), false, &[3, 4, 1, 2]).await;
}

async fn a_larger_last_chunk_makes_the_object(bench: &Bench) {
    let chunk = bench.part_bytes();
    // Two chunks and two thirds, cut into two: the client rounded down.
    let total = chunk * 2 + chunk * 2 / 3;
    let plan = bench.well("plan", Plan::declare(total, Some(chunk), Some(2), &bench.store.limits().parts));
    bench.holds("the last chunk is the larger one", plan.last_bytes() > plan.chunk_bytes());
    bench.upload(&plan, true, &[2, 1]).await;
    bench.upload(&plan, false, &[2, 1]).await;
}

async fn a_single_part_makes_the_object(bench: &Bench) {
    // The only part is the last one, which may be as small as it likes.
    let plan = bench.well("plan", Plan::declare(11, Some(11), Some(1), &bench.store.limits().parts));
    bench.upload(&plan, true, &[1]).await;
    bench.upload(&plan, false, &[1]).await;
}

async fn parts_are_listed_as_they_were_answered(bench: &Bench) {
    for declared in [true, false] {
        let (key, plan) = (bench.key("object.bin"), bench.plan(3));
        let whole = noise(bench.case, plan.total_bytes());
        let session = bench.begin(&key, declared.then_some(&plan)).await;
        let at = Target { key: &key, session: &session };
        bench.same("nothing yet", bench.well("list_parts", bench.store.list_parts(at).await), Vec::new());
        let third = bench.put(at, 3, &piece(&whole, &plan, 3)).await;
        let first = bench.put(at, 1, &piece(&whole, &plan, 1)).await;
        let listed = bench.well("list_parts", bench.store.list_parts(at).await);
        for part in &listed {
            bench.holds(
                "a listed CRC-64 is some or none",
                part.crc64.is_none_or(|crc| Some(crc) == crc_of(part, &whole, &plan)),
            );
        }
        let bare = |part: &Part| (part.number, part.bytes, part.etag.clone());
        bench.same("the parts", listed.iter().map(bare).collect::<Vec<_>>(), vec![bare(&first), bare(&third)]);
        bench.well("abort", bench.store.abort(at).await);
    }
}

fn crc_of(part: &Part, whole: &Bytes, plan: &Plan) -> Option<Crc64> {
    Some(Crc64::of(&piece(whole, plan, u32::from(part.number.get()))))
}

async fn a_part_put_again_replaces_the_first(bench: &Bench) {
    for declared in [true, false] {
        let (key, plan) = (bench.key("object.bin"), bench.plan(2));
        let whole = noise(bench.case, plan.total_bytes());
        let session = bench.begin(&key, declared.then_some(&plan)).await;
        let at = Target { key: &key, session: &session };
        let other = noise("other bytes of the same length", plan.chunk_bytes());
        let stale = bench.put(at, 1, &other).await;
        let second = bench.put(at, 2, &piece(&whole, &plan, 2)).await;
        let first = bench.put(at, 1, &piece(&whole, &plan, 1)).await;
        bench.holds("other bytes have another ETag", first.etag != stale.etag);
        bench.same("still two", bench.well("list_parts", bench.store.list_parts(at).await).len(), 2);
        bench.refused("the replaced part", bench.store.complete(at, &[stale, second.clone()]).await, differ);
        bench.complete(at, &[first, second], &whole).await;
    }
}

async fn a_missing_part_is_refused(bench: &Bench) {
    for declared in [true, false] {
        let (key, plan) = (bench.key("object.bin"), bench.plan(3));
        let whole = noise(bench.case, plan.total_bytes());
        let session = bench.begin(&key, declared.then_some(&plan)).await;
        let at = Target { key: &key, session: &session };
        let first = bench.put(at, 1, &piece(&whole, &plan, 1)).await;
        let third = bench.put(at, 3, &piece(&whole, &plan, 3)).await;
        let never_put = Part { number: number_of(2), ..first.clone() };
        let parts = [first.clone(), never_put, third.clone()];
        bench.refused("a part that was never put", bench.store.complete(at, &parts).await, differ);
        bench.same("no object", bench.well("head", bench.store.head(&key).await), None);
        let second = bench.put(at, 2, &piece(&whole, &plan, 2)).await;
        bench.complete(at, &[first, second, third], &whole).await;
        bench.well("delete", bench.store.delete(&key).await);
    }
}

async fn a_gap_is_refused(bench: &Bench) {
    for declared in [true, false] {
        let (key, plan) = (bench.key("object.bin"), bench.plan(3));
        let whole = noise(bench.case, plan.total_bytes());
        let session = bench.begin(&key, declared.then_some(&plan)).await;
        let at = Target { key: &key, session: &session };
        let first = bench.put(at, 1, &piece(&whole, &plan, 1)).await;
        let third = bench.put(at, 3, &piece(&whole, &plan, 3)).await;
        bench.refused("no parts", bench.store.complete(at, &[]).await, differ);
        bench.refused("parts 1 and 3", bench.store.complete(at, &[first, third.clone()]).await, differ);
        bench.refused("part 3 alone", bench.store.complete(at, &[third]).await, differ);
        bench.same("no object", bench.well("head", bench.store.head(&key).await), None);
        bench.same("both parts are still there", bench.well("list_parts", bench.store.list_parts(at).await).len(), 2);
    }
}

async fn another_etag_is_refused(bench: &Bench) {
    let (key, plan) = (bench.key("object.bin"), bench.plan(2));
    let whole = noise(bench.case, plan.total_bytes());
    let session = bench.begin(&key, Some(&plan)).await;
    let at = Target { key: &key, session: &session };
    let first = bench.put(at, 1, &piece(&whole, &plan, 1)).await;
    let second = bench.put(at, 2, &piece(&whole, &plan, 2)).await;
    let wrong = Part { etag: first.etag.clone(), crc64: first.crc64, ..second.clone() };
    bench.refused("another part's ETag", bench.store.complete(at, &[first.clone(), wrong]).await, differ);
    bench.same("no object", bench.well("head", bench.store.head(&key).await), None);
    bench.complete(at, &[first, second], &whole).await;
}

async fn a_broken_body_leaves_no_part(bench: &Bench) {
    for declared in [true, false] {
        let (key, plan) = (bench.key("object.bin"), bench.plan(2));
        let whole = noise(bench.case, plan.total_bytes());
        let session = bench.begin(&key, declared.then_some(&plan)).await;
        let at = Target { key: &key, session: &session };
        let bytes = piece(&whole, &plan, 1);
        let broke = bench.put_body(at, 1, bytes.len() as u64, broken(&bytes)).await;
        bench.refused("a broken body", broke, |error| matches!(error, StoreError::Body));
        bench.same("no part", bench.well("list_parts", bench.store.list_parts(at).await), Vec::new());
        let first = bench.put(at, 1, &bytes).await;
        let second = bench.put(at, 2, &piece(&whole, &plan, 2)).await;
        bench.complete(at, &[first, second], &whole).await;
    }
}

/// A store may keep the old part or lose it, but what it lists must be true.
async fn a_broken_overwrite_is_never_the_old_part_with_new_bytes(bench: &Bench) {
    for declared in [true, false] {
        let (key, plan) = (bench.key("object.bin"), bench.plan(1));
        let whole = noise(bench.case, plan.total_bytes());
        let session = bench.begin(&key, declared.then_some(&plan)).await;
        let at = Target { key: &key, session: &session };
        let old = bench.put(at, 1, &whole).await;
        let other = noise("other bytes of the same length", plan.total_bytes());
        let broke = bench.put_body(at, 1, plan.total_bytes(), broken(&other)).await;
        bench.refused("a broken body", broke, |error| matches!(error, StoreError::Body));
        let kept = !bench.well("list_parts", bench.store.list_parts(at).await).is_empty();
        let now = if kept { old } else { bench.put(at, 1, &whole).await };
        bench.complete(at, &[now], &whole).await;
    }
}

async fn abort_can_be_repeated(bench: &Bench) {
    for declared in [true, false] {
        let (key, plan) = (bench.key("object.bin"), bench.plan(2));
        let session = bench.begin(&key, declared.then_some(&plan)).await;
        let at = Target { key: &key, session: &session };
        bench.put(at, 1, &noise(bench.case, plan.chunk_bytes())).await;
        for _ in 0..2 {
            bench.well("abort", bench.store.abort(at).await);
        }
        bench.same("no object", bench.well("head", bench.store.head(&key).await), None);
    }
}

/// Every call of an upload that is gone says so.
async fn is_unknown(bench: &Bench, at: Target<'_>, part: &Part, bytes: &Bytes) {
    let put = bench.put_body(at, 1, bytes.len() as u64, in_frames(bytes)).await;
    bench.refused("put_part", put, unknown);
    bench.refused("list_parts", bench.store.list_parts(at).await, unknown);
    bench.refused("complete", bench.store.complete(at, std::slice::from_ref(part)).await, unknown);
    bench.well("abort", bench.store.abort(at).await);
}

async fn an_aborted_upload_is_unknown(bench: &Bench) {
    for declared in [true, false] {
        let (key, plan) = (bench.key("object.bin"), bench.plan(1));
        let whole = noise(bench.case, plan.total_bytes());
        let session = bench.begin(&key, declared.then_some(&plan)).await;
        let at = Target { key: &key, session: &session };
        let part = bench.put(at, 1, &whole).await;
        bench.well("abort", bench.store.abort(at).await);
        is_unknown(bench, at, &part, &whole).await;
    }
}

async fn a_completed_upload_is_unknown(bench: &Bench) {
    for declared in [true, false] {
        let (key, plan) = (bench.key("object.bin"), bench.plan(1));
        let whole = noise(bench.case, plan.total_bytes());
        let session = bench.begin(&key, declared.then_some(&plan)).await;
        let at = Target { key: &key, session: &session };
        let part = bench.put(at, 1, &whole).await;
        bench.complete(at, std::slice::from_ref(&part), &whole).await;
        is_unknown(bench, at, &part, &noise("late bytes", plan.total_bytes())).await;
        bench.read_back(&key, &whole).await;
    }
}

async fn an_upload_that_never_was_is_unknown(bench: &Bench) {
    let (key, bytes) = (bench.key("object.bin"), noise(bench.case, bench.part_bytes()));
    let part = Part { number: number_of(1), bytes: bytes.len() as u64, etag: "none".to_owned(), crc64: None };
    for session in ["0004B9895DBBB6EC98E36FFFFFFFFFFF", "0123456789abcdef0123456789abcdef"] {
        let session = SessionId::new(session);
        is_unknown(bench, Target { key: &key, session: &session }, &part, &bytes).await;
    }
}

async fn two_uploads_of_one_key_are_two(bench: &Bench) {
    let (key, plan) = (bench.key("object.bin"), bench.plan(1));
    let (one, two) = (noise("one", plan.total_bytes()), noise("two", plan.total_bytes()));
    let session_one = bench.begin(&key, Some(&plan)).await;
    let session_two = bench.begin(&key, Some(&plan)).await;
    bench.holds("each begin begins another", session_one != session_two);
    let (at_one, at_two) = (Target { key: &key, session: &session_one }, Target { key: &key, session: &session_two });
    let part_two = bench.put(at_two, 1, &two).await;
    let part_one = bench.put(at_one, 1, &one).await;
    bench.complete(at_one, &[part_one], &one).await;
    bench.complete(at_two, &[part_two], &two).await;
}

async fn uploads_are_listed_by_prefix(bench: &Bench) {
    let (key, other) = (bench.key("object.bin"), bench.key("deep/object.bin"));
    let (session, deep) = (bench.begin(&key, Some(&bench.plan(2))).await, bench.begin(&other, None).await);
    let listed = |prefix: String| async move {
        let mut listed = bench.well("list_uploads", bench.store.list_uploads(&prefix).await);
        listed.sort_by(|a, b| a.key.cmp(&b.key));
        listed.into_iter().map(|upload| (upload.key, upload.session)).collect::<Vec<_>>()
    };
    let root = format!("{}/{}/", bench.prefix, bench.case);
    let both = vec![(other.to_string(), deep.clone()), (key.to_string(), session.clone())];
    bench.same("both", listed(root.clone()).await, both);
    bench.same("one", listed(format!("{root}deep/")).await, vec![(other.to_string(), deep.clone())]);
    bench.same("none", listed(format!("{root}nothing/")).await, Vec::new());
    bench.well("abort", bench.store.abort(Target { key: &other, session: &deep }).await);
    bench.same("the other is left", listed(root).await, vec![(key.to_string(), session)]);
}

async fn a_small_object_is_put_and_read(bench: &Bench) {
    let (key, bytes) = (bench.key("deep/object.bin"), noise(bench.case, 100_001));
    let put = bench.store.put(&key, Some("text/plain"), bytes.len() as u64, in_frames(&bytes)).await;
    let put = bench.well("put", put);
    bench.same("the size", put.bytes, 100_001);
    bench.proven("the CRC-64", put.crc64, &bytes);
    bench.read_back(&key, &bytes).await;
    let head = bench.head(&key).await;
    bench.same("the ETag", &head.etag, &put.etag);
    let kept = head.content_type.is_none_or(|content_type| content_type == "text/plain");
    bench.holds("a content type that is kept is the one given", kept);
    for _ in 0..2 {
        bench.well("delete", bench.store.delete(&key).await);
    }
    bench.same("it is gone", bench.well("head", bench.store.head(&key).await), None);
}

async fn an_empty_object_is_put_and_read(bench: &Bench) {
    let key = bench.key("object.bin");
    let put = bench.well("put", bench.store.put(&key, None, 0, body_of("")).await);
    bench.same("the size", put.bytes, 0);
    bench.proven("the CRC-64", put.crc64, b"");
    bench.read_back(&key, b"").await;
}

async fn a_put_replaces_and_a_broken_one_does_not(bench: &Bench) {
    let key = bench.key("object.bin");
    let (first, second) = (noise("first", 30_000), noise("second", 20_000));
    for bytes in [&first, &second] {
        bench.well("put", bench.store.put(&key, None, bytes.len() as u64, in_frames(bytes)).await);
        bench.read_back(&key, bytes).await;
    }
    let broke = bench.store.put(&key, None, first.len() as u64, broken(&first)).await;
    bench.refused("a broken body", broke, |error| matches!(error, StoreError::Body));
    bench.read_back(&key, &second).await;
    let other = bench.key("other.bin");
    let broke = bench.store.put(&other, None, first.len() as u64, broken(&first)).await;
    bench.refused("a broken body", broke, |error| matches!(error, StoreError::Body));
    bench.same("no object", bench.well("head", bench.store.head(&other).await), None);
}

async fn ranges_are_read_exactly(bench: &Bench) {
    let (key, bytes) = (bench.key("object.bin"), noise(bench.case, 600_011));
    bench.well("put", bench.store.put(&key, None, bytes.len() as u64, in_frames(&bytes)).await);
    for range in [0..1, 600_010..600_011, 0..600_011, 262_143..262_145, 1..524_289, 300_000..600_011] {
        let read = bench.read(&key, Some(range.clone())).await;
        let wanted = &bytes[range.start as usize..range.end as usize];
        bench.holds(&format!("the bytes of {range:?}"), read == wanted);
        let reading = bench.well("get", bench.store.get(&key, Some(range)).await);
        bench.same("the whole object's size", reading.object.bytes, 600_011);
    }
}

async fn an_absent_object_is_absent(bench: &Bench) {
    let key = bench.key("object.bin");
    bench.same("head", bench.well("head", bench.store.head(&key).await), None);
    let absent: fn(&StoreError) -> bool = |error| matches!(error, StoreError::NoSuchObject);
    bench.refused("get", bench.store.get(&key, None).await, absent);
    bench.refused("get of a range", bench.store.get(&key, Some(0..1)).await, absent);
    bench.well("delete", bench.store.delete(&key).await);
}

async fn the_store_is_well(bench: &Bench) {
    bench.well("check", bench.store.check().await);
}
