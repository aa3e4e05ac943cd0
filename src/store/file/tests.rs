//! The file store as a whole: restarts, crashes between two steps, power
//! cuts, late writers, damage.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;

use super::*;
use crate::clock::SystemClock;
use crate::domain::{Crc64, Plan};
use crate::store::{BodyBroken, body_of, conformance};

const CHUNK: u64 = 300_001;

/// A folder whose store can be closed and opened again, with one upload of
/// three chunks in it.
struct Bench {
    dir: tempfile::TempDir,
    key: ObjectKey,
    plan: Plan,
    whole: Bytes,
}

impl Bench {
    fn new() -> Self {
        let plan = Plan::restore(CHUNK, 3, CHUNK * 2 + 100_003).expect("a plan");
        let whole = (0..plan.total_bytes()).map(|i| (i % 251) as u8 ^ (i >> 13) as u8).collect();
        let key = ObjectKey::parse("uploads/local/2026/a.bin").expect("a key");
        Self { dir: tempfile::tempdir().expect("a folder"), key, plan, whole }
    }

    fn open(&self) -> FileStore {
        self.open_in(Boot(1))
    }

    fn open_in(&self, boot: Boot) -> FileStore {
        FileStore::open_in(self.dir.path(), Arc::new(SystemClock::new()), boot).expect("opened")
    }

    async fn begin(&self, store: &FileStore, declared: bool) -> SessionId {
        let plan = declared.then_some(&self.plan);
        store
            .begin(Begin { key: &self.key, content_type: Some("text/plain"), plan, direct: false })
            .await
            .expect("begun")
    }

    fn at<'a>(&'a self, session: &'a SessionId) -> Target<'a> {
        Target { key: &self.key, session }
    }

    fn chunk(&self, n: u32) -> Bytes {
        let from = self.plan.offset_of(n - 1).expect("in the plan") as usize;
        self.whole.slice(from..from + self.plan.bytes_of(n - 1).expect("in the plan") as usize)
    }

    async fn put(&self, store: &FileStore, session: &SessionId, n: u32) -> Part {
        let bytes = self.chunk(n);
        let part = NewPart { number: number(n), bytes: bytes.len() as u64, body: body_of(bytes) };
        let stored = store.put_part(self.at(session), part).await.expect("put");
        Part { number: number(n), bytes: self.chunk(n).len() as u64, etag: stored.etag, crc64: stored.crc64 }
    }

    async fn put_all(&self, store: &FileStore, session: &SessionId) -> Vec<Part> {
        let mut parts = Vec::new();
        for n in 1..=3 {
            parts.push(self.put(store, session, n).await);
        }
        parts
    }

    async fn list(&self, store: &FileStore, session: &SessionId) -> Vec<Part> {
        store.list_parts(self.at(session)).await.expect("listed")
    }

    fn file(&self, session: &SessionId, name: &str) -> PathBuf {
        self.dir.path().join(layout::OWN).join(layout::UPLOADS).join(session.as_str()).join(name)
    }

    fn object(&self) -> PathBuf {
        self.dir.path().join(self.key.as_str())
    }

    /// The object is there, whole, and nothing else is left.
    async fn is_completed(&self, store: &FileStore) {
        let head = store.head(&self.key).await.expect("head").expect("an object");
        assert_eq!(head.crc64, Some(Crc64::of(&self.whole)));
        assert_eq!(head.content_type.as_deref(), Some("text/plain"));
        assert!(std::fs::read(self.object()).expect("read") == self.whole, "the client's bytes");
        assert_eq!(store.list_uploads("").await.expect("listed"), vec![]);
        self.has_no_remains();
    }

    fn has_no_remains(&self) {
        let own = self.dir.path().join(layout::OWN);
        for folder in [layout::WORK, layout::UPLOADS] {
            let left: Vec<_> = own.join(folder).read_dir().expect("a folder").collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

fn number(n: u32) -> PartNumber {
    PartNumber::new(n).expect("a number")
}

/// A body that is fed by hand. It breaks when the feeder says so.
fn fed() -> (mpsc::Sender<Result<Bytes, BodyBroken>>, Body) {
    let (feeder, body) = mpsc::channel(1);
    (feeder, Box::pin(stream::unfold(body, |mut body| async move { Some((body.recv().await?, body)) })))
}

/// Changes bytes of a file behind the store's back.
fn spoil(path: &Path, offset: u64, bytes: &[u8]) {
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("opened");
    file.write_all_at(bytes, offset).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_store_conforms() {
    let bench = Bench::new();
    conformance::run(Arc::new(bench.open()), "uploads/conformance").await;
    bench.has_no_remains();
}

#[tokio::test]
async fn a_restart_keeps_what_was_stored() {
    for declared in [true, false] {
        let bench = Bench::new();
        let store = bench.open();
        let session = bench.begin(&store, declared).await;
        let (third, first) = (bench.put(&store, &session, 3).await, bench.put(&store, &session, 1).await);
        drop(store);
        // The machine may have been started anew in between, or not.
        for boot in [Boot(1), Boot(2)] {
            let store = bench.open_in(boot);
            assert_eq!(bench.list(&store, &session).await, vec![first.clone(), third.clone()]);
            let listed = store.list_uploads("uploads/local/").await.expect("listed");
            let [ListedUpload { key, session: listed, begun_at: Some(_) }] = &listed[..] else { panic!("{listed:?}") };
            assert_eq!((key.as_str(), listed), (bench.key.as_str(), &session));
        }
        let store = bench.open_in(Boot(3));
        let second = bench.put(&store, &session, 2).await;
        let joined = store.complete(bench.at(&session), &[first, second, third]).await.expect("completed");
        let object = joined.object;
        assert_eq!(object.crc64, Some(Crc64::of(&bench.whole)));
        bench.is_completed(&store).await;
    }
}

#[tokio::test]
async fn a_folder_serves_one_gateway() {
    let bench = Bench::new();
    let store = bench.open();
    let second = FileStore::open(bench.dir.path(), Arc::new(SystemClock::new())).expect_err("locked").to_string();
    assert!(second.contains(&format!("process {}", std::process::id())), "{second}");
    assert!(second.contains("oss"), "{second}");
    drop(store);
    bench.open();
}

#[tokio::test]
async fn a_crash_after_the_records_were_cut_off_is_finished_by_the_next_complete() {
    let bench = Bench::new();
    let store = bench.open();
    let session = bench.begin(&store, true).await;
    let parts = bench.put_all(&store, &session).await;
    drop(store);
    let data = std::fs::OpenOptions::new().write(true).open(bench.file(&session, layout::DATA)).expect("opened");
    data.set_len(bench.plan.total_bytes()).expect("cut");
    let store = bench.open();
    assert_eq!(bench.list(&store, &session).await, parts, "the bytes say what the records said");
    assert_eq!(store.head(&bench.key).await.expect("head"), None, "nothing under the object's name yet");
    let late = NewPart { number: number(1), bytes: CHUNK, body: body_of(vec![7; CHUNK as usize]) };
    let late = store.put_part(bench.at(&session), late).await.expect_err("on its way to being the object");
    assert!(late.is_transient(), "{late}");
    store.complete(bench.at(&session), &parts).await.expect("completed");
    bench.is_completed(&store).await;
}

#[tokio::test]
async fn a_crash_after_the_object_got_its_name_leaves_no_upload() {
    let bench = Bench::new();
    let store = bench.open();
    let session = bench.begin(&store, true).await;
    let parts = bench.put_all(&store, &session).await;
    let remains = bench.file(&session, layout::HEADER);
    let kept = std::fs::read(&remains).expect("read");
    store.complete(bench.at(&session), &parts).await.expect("completed");
    drop(store);
    std::fs::create_dir(remains.parent().expect("a folder")).expect("made");
    std::fs::write(&remains, kept).expect("written");
    let store = bench.open();
    let again = store.complete(bench.at(&session), &parts).await;
    assert!(matches!(again, Err(StoreError::NoSuchUpload)), "{again:?}");
    bench.is_completed(&store).await;
}

#[tokio::test]
async fn a_crash_while_parts_are_joined_is_finished_by_the_next_complete() {
    let bench = Bench::new();
    let store = bench.open();
    let session = bench.begin(&store, false).await;
    let parts = bench.put_all(&store, &session).await;
    drop(store);
    // Half joined; and once more with the object named but the parts still there.
    std::fs::write(bench.dir.path().join(layout::OWN).join(layout::WORK).join("0"), "half").expect("written");
    std::fs::create_dir_all(bench.object().parent().expect("a folder")).expect("made");
    std::fs::write(bench.object(), &bench.whole).expect("written");
    let store = bench.open();
    assert_eq!(bench.list(&store, &session).await, parts);
    store.complete(bench.at(&session), &parts).await.expect("completed");
    bench.is_completed(&store).await;
}

#[tokio::test]
async fn a_part_that_a_power_cut_tore_is_not_listed() {
    let bench = Bench::new();
    let store = bench.open();
    let session = bench.begin(&store, true).await;
    let parts = bench.put_all(&store, &session).await;
    drop(store);
    // The disk kept the second part's record, but not all of its bytes.
    spoil(&bench.file(&session, layout::DATA), CHUNK + 200_000, &[0; 4096]);
    let store = bench.open_in(Boot(2));
    for _ in 0..2 {
        assert_eq!(bench.list(&store, &session).await, vec![parts[0].clone(), parts[2].clone()]);
    }
    let refused = store.complete(bench.at(&session), &parts).await;
    assert!(matches!(refused, Err(StoreError::PartsDiffer(_))), "{refused:?}");
    bench.put(&store, &session, 2).await;
    store.complete(bench.at(&session), &parts).await.expect("completed");
    bench.is_completed(&store).await;
}

#[tokio::test]
async fn a_damaged_record_is_no_part() {
    for declared in [true, false] {
        let bench = Bench::new();
        let store = bench.open();
        let session = bench.begin(&store, declared).await;
        let parts = bench.put_all(&store, &session).await;
        if declared {
            let layout = layout::InPlace::of(&bench.plan).expect("it has chunks");
            spoil(&bench.file(&session, layout::DATA), layout.record_at(number(2)).expect("in the plan") + 20, &[9]);
        } else {
            spoil(&bench.file(&session, &layout::part_name(number(2))), CHUNK + 20, &[9]);
        }
        assert_eq!(bench.list(&store, &session).await, vec![parts[0].clone(), parts[2].clone()]);
        bench.put(&store, &session, 2).await;
        store.complete(bench.at(&session), &parts).await.expect("completed");
        bench.is_completed(&store).await;
    }
}

#[tokio::test]
async fn a_damaged_header_costs_nobody_but_its_upload() {
    let bench = Bench::new();
    let store = bench.open();
    let (damaged, sound) = (bench.begin(&store, true).await, bench.begin(&store, true).await);
    drop(store);
    spoil(&bench.file(&damaged, layout::HEADER), 30, b"?");
    let store = bench.open();
    assert!(store.list_parts(bench.at(&damaged)).await.is_err_and(|e| !matches!(e, StoreError::NoSuchUpload)));
    let listed = store.list_uploads("").await.expect("listed");
    assert_eq!(listed.into_iter().map(|upload| upload.session).collect::<Vec<_>>(), vec![sound]);
}

#[tokio::test]
async fn an_overwrite_that_breaks_is_no_part_after_a_restart_either() {
    let bench = Bench::new();
    let store = bench.open();
    let session = bench.begin(&store, true).await;
    let first = bench.put(&store, &session, 1).await;
    let before_any_byte = NewPart { number: number(1), bytes: CHUNK, body: body_of("") };
    let broke = store.put_part(bench.at(&session), before_any_byte).await;
    assert!(matches!(broke, Err(StoreError::Body)), "{broke:?}");
    assert_eq!(bench.list(&store, &session).await, vec![first], "not a byte was replaced");
    let (feeder, body) = fed();
    let overwrite = store.put_part(bench.at(&session), NewPart { number: number(1), bytes: CHUNK, body });
    let (broke, ()) = tokio::join!(overwrite, async {
        feeder.send(Ok(vec![7; 1000].into())).await.expect("taken");
        feeder.send(Err(BodyBroken)).await.expect("taken");
    });
    assert!(matches!(broke, Err(StoreError::Body)), "{broke:?}");
    drop(store);
    for boot in [Boot(1), Boot(2)] {
        assert_eq!(bench.list(&bench.open_in(boot), &session).await, vec![]);
    }
}

#[tokio::test]
async fn a_body_that_is_longer_or_shorter_than_announced_is_no_part() {
    for (declared, bytes) in [(true, CHUNK - 1), (true, CHUNK + 1), (false, CHUNK - 1), (false, CHUNK + 1)] {
        let bench = Bench::new();
        let store = bench.open();
        let session = bench.begin(&store, declared).await;
        let part = NewPart { number: number(1), bytes: CHUNK, body: body_of(vec![7; bytes as usize]) };
        let broke = store.put_part(bench.at(&session), part).await;
        assert!(matches!(broke, Err(StoreError::Body)), "{broke:?}");
        assert_eq!(bench.list(&store, &session).await, vec![]);
    }
}

#[tokio::test]
async fn a_writer_that_comes_late_never_touches_the_object() {
    let bench = Bench::new();
    let store = bench.open();
    let session = bench.begin(&store, true).await;
    let parts = bench.put_all(&store, &session).await;
    let (feeder, body) = fed();
    let late = store.put_part(bench.at(&session), NewPart { number: number(2), bytes: CHUNK, body });
    let (late, ()) = tokio::join!(late, async {
        // It has come in, but has not written yet.
        tokio::time::sleep(Duration::from_millis(20)).await;
        store.complete(bench.at(&session), &parts).await.expect("completed");
        feeder.send(Ok(vec![7; CHUNK as usize].into())).await.expect("taken");
        drop(feeder);
    });
    assert!(matches!(late, Err(StoreError::NoSuchUpload)), "{late:?}");
    bench.is_completed(&store).await;
}

#[tokio::test]
async fn a_writer_in_mid_body_keeps_its_part_from_being_joined() {
    let bench = Bench::new();
    let store = bench.open();
    let session = bench.begin(&store, true).await;
    let parts = bench.put_all(&store, &session).await;
    let (feeder, body) = fed();
    let late = store.put_part(bench.at(&session), NewPart { number: number(2), bytes: CHUNK, body });
    let (late, ()) = tokio::join!(late, async {
        feeder.send(Ok(bench.chunk(2).slice(..1000))).await.expect("taken");
        while bench.list(&store, &session).await.len() == 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let refused = store.complete(bench.at(&session), &parts).await;
        assert!(matches!(refused, Err(StoreError::PartsDiffer(_))), "{refused:?}");
        // A refused completion takes nothing from the writer.
        feeder.send(Ok(bench.chunk(2).slice(1000..))).await.expect("taken");
        drop(feeder);
    });
    late.expect("stored");
    store.complete(bench.at(&session), &parts).await.expect("completed");
    bench.is_completed(&store).await;
}

#[tokio::test]
async fn of_two_writers_of_a_part_the_later_has_it() {
    let bench = Bench::new();
    let store = bench.open();
    let session = bench.begin(&store, true).await;
    let (feeder, body) = fed();
    let first = store.put_part(bench.at(&session), NewPart { number: number(1), bytes: CHUNK, body });
    let (first, second) = tokio::join!(first, async {
        feeder.send(Ok(vec![7; 1000].into())).await.expect("taken");
        // Taken, and so written or about to be: the second either waits for it
        // or comes before it, and has the part in both cases.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let second = bench.put(&store, &session, 1).await;
        feeder.send(Ok(vec![7; CHUNK as usize - 1000].into())).await.expect("taken");
        drop(feeder);
        second
    });
    assert!(first.is_err_and(|error| error.is_transient()));
    assert_eq!(bench.list(&store, &session).await, vec![second]);
}

#[tokio::test]
async fn a_caller_that_leaves_leaves_nothing() {
    for declared in [true, false] {
        let bench = Bench::new();
        let store = bench.open();
        let session = bench.begin(&store, declared).await;
        let (feeder, body) = fed();
        let part = NewPart { number: number(1), bytes: CHUNK, body };
        let put = tokio::spawn({
            let (store, key, session) = (store.clone(), bench.key.clone(), session.clone());
            async move { store.put_part(Target { key: &key, session: &session }, part).await.map(drop) }
        });
        feeder.send(Ok(vec![7; 1000].into())).await.expect("taken");
        put.abort();
        assert!(put.await.is_err_and(|error| error.is_cancelled()));
        assert_eq!(bench.list(&store, &session).await, vec![]);
        store.abort(bench.at(&session)).await.expect("aborted");
        assert_eq!(store.list_uploads("").await.expect("listed"), vec![]);
    }
}

#[tokio::test]
async fn no_key_leads_out_of_the_folder_or_into_our_own() {
    let bench = Bench::new();
    let store = bench.open();
    let outside = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(outside.path(), bench.dir.path().join("link")).expect("linked");
    std::fs::write(outside.path().join("secret"), "s").expect("written");
    for text in ["link/secret", ".chunkgate/lock", ".chunkgate"] {
        let key = ObjectKey::parse(text).expect("a key");
        let put = store.put(&key, None, 1, body_of("x")).await;
        assert!(matches!(put, Err(StoreError::Refused(_))), "{text}: {put:?}");
        assert!(!matches!(store.head(&key).await, Ok(Some(_))), "{text}");
        assert!(store.get(&key, None).await.is_err(), "{text}");
        drop(store.delete(&key).await);
    }
    assert_eq!(std::fs::read(outside.path().join("secret")).expect("read"), b"s");
    bench.has_no_remains();
}

#[tokio::test]
async fn an_object_that_was_edited_by_hand_has_no_checksum() {
    let bench = Bench::new();
    let store = bench.open();
    let put = store.put(&bench.key, None, 3, body_of("abc")).await.expect("put");
    std::fs::write(bench.object(), "other").expect("written");
    let head = store.head(&bench.key).await.expect("head").expect("an object");
    assert_eq!((head.bytes, head.crc64), (5, None));
    assert_ne!(head.etag, put.etag);
}

#[tokio::test]
async fn part_sizes_are_those_of_the_plan() {
    let bench = Bench::new();
    let store = bench.open();
    let session = bench.begin(&store, true).await;
    for (n, bytes) in [(1, CHUNK - 1), (3, CHUNK), (4, CHUNK)] {
        let part = NewPart { number: number(n), bytes, body: body_of(vec![7; bytes as usize]) };
        let refused = store.put_part(bench.at(&session), part).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    }
}
