//! Keys that the application chose, on the engine: whoever deletes, joins or
//! looks by such a key is the one who has it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use chunkgate::clock::{Clock as _, SystemClock, TestClock};
use chunkgate::domain::{Checksum, Crc64, FileId, Grant, ObjectKey, Owner, Refusal, Status, Timestamp};
use chunkgate::engine::create::CreateUpload;
use chunkgate::engine::hooks::Completed;
use chunkgate::engine::sweep::Sweeper;
use chunkgate::engine::{EngineError, SweepConfig};
use chunkgate::notify::config::{HookConfig, HooksConfig};
use chunkgate::notify::{Hooks, WebhookConfig};
use chunkgate::store::faulty::{Fault, Operation};
use chunkgate::store::memory::MemoryStore;
use chunkgate::store::{Store as _, body_of};
use chunkgate::units::Secret;
use futures_util::StreamExt as _;
use serde_json::json;

use super::{CHUNK, House, file_id, wanted};
use crate::application::Application;
use crate::harness::WEBHOOK_SECRET;
use crate::postgres;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A house whose application chooses keys, and whose time a test holds.
struct Asking {
    house: Arc<House>,
    application: Application,
    clock: Arc<TestClock>,
}

impl Asking {
    async fn on(url: Option<String>) -> Self {
        let application = Application::start().await;
        let clock = Arc::new(TestClock::at(Timestamp::from_millis(1_795_000_000_000)));
        let asked = HookConfig { url: Some(application.url("before_create")) };
        let hooks = HooksConfig { before_create: asked, ..HooksConfig::default() };
        let webhook = WebhookConfig { secret: Some(Secret::new(WEBHOOK_SECRET)), ..WebhookConfig::default() };
        let hooks = Hooks::new(&hooks, &webhook).expect("hooks");
        let house = House::new(url, SweepConfig::default(), hooks, clock.clone(), MemoryStore::new()).await;
        Self { house: Arc::new(house), application, clock }
    }

    async fn both() -> [Self; 2] {
        [Self::on(None).await, Self::on(Some(postgres::new_database().await)).await]
    }

    fn chooses(&self, key: &str) {
        self.application.says(200, json!({ "objectKey": key }));
    }

    async fn create(&self, id: &str, chunks: usize) -> Result<bool, &'static str> {
        self.create_as(wanted(id, chunks * CHUNK)).await
    }

    async fn create_as(&self, wanted: CreateUpload) -> Result<bool, &'static str> {
        let created = self.house.engine.create(&Grant::all(Owner::local()), wanted).await;
        created.map(|created| created.is_new).map_err(|error| error.refusal().code())
    }

    async fn put_file(&self, id: &str, bytes: &'static [u8]) -> Result<Completed, EngineError> {
        let body = Box::pin(futures_util::stream::iter([Ok(Bytes::from_static(bytes))]));
        let wanted = wanted(id, bytes.len());
        self.house.engine.put_file(Grant::all(Owner::local()), wanted, bytes.len() as u64, body).await
    }

    async fn refused(&self, id: &str, bytes: &'static [u8]) -> &'static str {
        self.put_file(id, bytes).await.expect_err("a refusal").refusal().code()
    }

    /// An upload of two chunks, of which there is one, in the second of two
    /// multipart uploads: the answer to the first was lost.
    async fn begin_twice(&self, id: &str, key: &str) {
        self.chooses(key);
        self.create(id, 2).await.expect("an upload");
        self.house.faulty.fail_next(Operation::Begin, Fault::AnswerLost);
        assert_eq!(self.house.refused(id, 0).await, "store_unavailable");
        self.house.put_ok(id, 0).await;
    }

    async fn abort(&self, id: &str) {
        self.house.engine.abort(&Owner::local(), &file_id(id)).await.expect("aborted");
    }

    async fn sweep(&self) -> u64 {
        let swept = self.house.engine.sweep(&mut Sweeper::default()).await.expect("a sweep");
        swept.cleaned + swept.orphans
    }

    /// A sweep that hangs in its next call of this kind.
    async fn sweep_that_hangs(&self, operation: Operation) -> tokio::task::JoinHandle<()> {
        let (house, struck) = (self.house.clone(), self.house.faulty.struck());
        house.faulty.hang_next(operation);
        let sweep = tokio::spawn(async move {
            house.engine.sweep(&mut Sweeper::default()).await.expect("a sweep");
        });
        while self.house.faulty.struck() == struck {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sweep
    }

    async fn aborts(&self, calls: u64) {
        while self.house.memory.calls().abort.load(Ordering::SeqCst) < calls {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn object(&self, key: &str) -> Option<Bytes> {
        self.house.memory.object(&ObjectKey::parse(key).expect("a key"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweeper_with_a_stale_page_of_remains_deletes_nobodys_object() {
    for asking in Asking::both().await {
        asking.begin_twice("a", "one").await;
        asking.begin_twice("b", "two").await;
        asking.abort("a").await;
        asking.clock.advance(Duration::from_millis(1));
        asking.abort("b").await;
        asking.aborts(2).await;
        asking.clock.advance(11 * MINUTE);
        // It has read both, and hangs at the first. Another one goes on, and leaves that one alone.
        let slow = asking.sweep_that_hangs(Operation::Abort).await;
        assert_eq!(asking.sweep().await, 1);
        asking.chooses("one");
        assert_eq!(asking.create("c", 1).await, Err("key_taken"));
        asking.chooses("two");
        assert_eq!(asking.create("c", 1).await, Ok(true));
        asking.house.put_ok("c", 0).await;
        asking.house.faulty.release();
        slow.await.expect("no panic");
        assert_eq!(asking.house.content("c").await, vec![0; CHUNK]);
        assert_eq!(asking.house.memory.open_uploads(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweeper_with_a_stale_page_of_objects_deletes_nobodys_object() {
    for asking in Asking::both().await {
        for (id, key) in [("a", "one"), ("b", "two")] {
            asking.chooses(key);
            asking.house.faulty.fail_next(Operation::Put, Fault::AnswerLost);
            assert_eq!(asking.refused(id, b"lost").await, "store_unavailable");
        }
        asking.clock.advance(DAY + MINUTE);
        let slow = asking.sweep_that_hangs(Operation::Delete).await;
        assert_eq!(asking.sweep().await, 1);
        let free = if asking.object("one").is_none() { "one" } else { "two" };
        asking.chooses(free);
        asking.put_file("c", b"theirs").await.expect("a file");
        asking.house.faulty.release();
        slow.await.expect("no panic");
        assert_eq!(asking.house.content("c").await, b"theirs");
        assert_eq!(asking.house.memory.keys(), [free]);
    }
}

/// A chunk that was on its way when its upload was given up comes into the
/// store when the key is another's.
#[tokio::test(flavor = "multi_thread")]
async fn who_looks_for_a_late_chunk_leaves_the_keys_next_upload_alone() {
    for asking in Asking::both().await {
        asking.begin_twice("a", "one").await;
        let late = asking.house.engine.known(&Owner::local(), &file_id("a")).await.expect("an answer").expect("it");
        asking.abort("a").await;
        asking.aborts(1).await;
        asking.clock.advance(11 * MINUTE);
        assert_eq!(asking.sweep().await, 1);
        assert_eq!(asking.create("b", 2).await, Ok(true));
        asking.house.put_ok("b", 0).await;
        let look_again = async || {
            asking.house.engine.ledger().look_again(late.id, late.created_at).await.expect("an answer");
            assert_eq!(asking.sweep().await, 1);
        };
        look_again().await;
        assert!(asking.house.put_ok("b", 1).await.file.is_some());
        look_again().await;
        assert_eq!(asking.house.content("b").await.len(), 2 * CHUNK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_outlives_its_claim_is_not_put_over_the_next_one() {
    for asking in Asking::both().await {
        asking.chooses("one");
        let struck = asking.house.faulty.struck();
        asking.house.faulty.hang_next(Operation::Put);
        let asking = Arc::new(asking);
        let slow = tokio::spawn({
            let asking = asking.clone();
            async move { asking.refused("a", b"slow").await }
        });
        while asking.house.faulty.struck() == struck {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        asking.clock.advance(DAY + MINUTE);
        // Renewed every second here.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(asking.sweep().await, 0, "it is still being put");
        assert_eq!(slow.await.expect("no panic"), "store_unavailable");
        asking.house.engine.ledger().age_leases(MINUTE);
        assert_eq!(asking.sweep().await, 1);
        asking.put_file("b", b"next").await.expect("a file");
        asking.house.faulty.release();
        asking.clock.advance(DAY);
        asking.sweep().await;
        assert_eq!(asking.object("one").as_deref(), Some(&b"next"[..]));
        assert_eq!(asking.house.content("b").await, b"next");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_the_applications_own_is_neither_replaced_nor_removed() {
    for asking in Asking::both().await {
        let own = ObjectKey::parse("own").expect("a key");
        asking.house.memory.put(&own, None, 4, body_of("mine")).await.expect("put");
        asking.chooses("own");
        assert_eq!(asking.create("a", 2).await, Err("key_taken"));
        assert_eq!(asking.create("e", 0).await, Err("key_taken"));
        let refused = asking.put_file("f", b"file").await.expect_err("a refusal").refusal();
        assert_eq!(refused.code(), "key_taken");
        assert!(refused.detail().contains("none of our uploads"), "{refused}");
        // Nor by who begins anew.
        asking.chooses("free");
        assert_eq!(asking.create("a", 2).await, Ok(true));
        asking.chooses("own");
        let restart = |chunks: usize| CreateUpload { restart: true, ..wanted("a", chunks * CHUNK) };
        assert_eq!(asking.create_as(restart(1)).await, Err("key_taken"));
        assert_eq!(asking.create_as(restart(0)).await, Err("key_taken"));
        assert_eq!(asking.house.status("a").await, Status::Uploading);
        asking.clock.advance(2 * DAY);
        asking.sweep().await;
        assert_eq!(asking.object("own").as_deref(), Some(&b"mine"[..]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tries_again_after_a_failure_of_the_store_has_its_key() {
    for asking in Asking::both().await {
        asking.chooses("one");
        for fault in [Fault::AnswerLost, Fault::Unavailable, Fault::Refused, Fault::MidBody] {
            asking.house.faulty.fail_next(Operation::Put, fault);
            assert_eq!(asking.refused("a", b"file").await, "store_unavailable", "{fault:?}");
            assert_eq!(asking.refused("b", b"file").await, "key_taken");
        }
        asking.put_file("a", b"file").await.expect("a file");
        assert_eq!(asking.house.content("a").await, b"file");
        // In chunks this time: what was left is replaced, or goes with the upload.
        asking.chooses("two");
        asking.house.faulty.fail_next(Operation::Put, Fault::AnswerLost);
        assert_eq!(asking.refused("c", b"file").await, "store_unavailable");
        assert_eq!(asking.create("c", 2).await, Ok(true));
        asking.abort("c").await;
        asking.clock.advance(11 * MINUTE);
        assert_eq!(asking.sweep().await, 1);
        assert_eq!(asking.object("two"), None);
        // A body that is refused leaves nothing: neither a claim nor what an earlier try has left.
        asking.chooses("three");
        asking.house.faulty.fail_next(Operation::Put, Fault::AnswerLost);
        assert_eq!(asking.refused("d", b"file").await, "store_unavailable");
        let wrong = CreateUpload { checksum: Some(Checksum::Crc64(Crc64(1))), ..wanted("d", 4) };
        let body = Box::pin(futures_util::stream::iter([Ok(Bytes::from_static(b"file"))]));
        let refused = asking.house.engine.put_file(Grant::all(Owner::local()), wrong, 4, body).await;
        assert_eq!(refused.expect_err("a refusal").refusal().code(), "checksum_mismatch");
        assert_eq!(asking.object("three"), None);
        asking.put_file("other", b"file").await.expect("a file");
        // As does one for which its owner has no place: an upload in chunks has the fileId.
        asking.chooses("four");
        assert_eq!(asking.create("e", 2).await, Ok(true));
        asking.chooses("five");
        assert_eq!(asking.refused("e", b"file").await, "upload_conflict");
        asking.put_file("f", b"file").await.expect("a file");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_begins_anew_has_its_key() {
    for asking in Asking::both().await {
        let restart = |id: &str| CreateUpload { restart: true, ..wanted(id, CHUNK) };
        // While the store has parts of it, and a multipart upload that nobody knows.
        asking.begin_twice("a", "one").await;
        assert_eq!(asking.create_as(restart("a")).await, Ok(true));
        assert!(asking.house.put_ok("a", 0).await.file.is_some());
        // Given up by its client.
        asking.chooses("two");
        assert_eq!(asking.create("b", 2).await, Ok(true));
        asking.house.put_ok("b", 0).await;
        asking.abort("b").await;
        asking.aborts(1).await;
        assert_eq!(asking.create("b", 1).await, Ok(true));
        assert!(asking.house.put_ok("b", 0).await.file.is_some());
        // Failed, before anything was joined.
        asking.chooses("three");
        let wrong = CreateUpload { checksum: Some(Checksum::Sha256([7; 32])), ..wanted("c", CHUNK) };
        assert_eq!(asking.create_as(wrong).await, Ok(true));
        assert_eq!(asking.house.refused("c", 0).await, "integrity_failed");
        assert_eq!(asking.create("c", 1).await, Ok(true));
        assert!(asking.house.put_ok("c", 0).await.file.is_some());
        // Failed as it was joined: the key is free once nothing of that can come any more.
        asking.chooses("four");
        assert_eq!(asking.create("d", 2).await, Ok(true));
        asking.house.put_ok("d", 0).await;
        asking.house.faulty.fail_next(Operation::ListParts, Fault::NoSuchUpload);
        assert_eq!(asking.house.refused("d", 1).await, "upload_lost");
        assert_eq!(asking.create("d", 1).await, Err("key_taken"));
        asking.clock.advance(11 * MINUTE);
        asking.sweep().await;
        assert_eq!(asking.create("d", 1).await, Ok(true));
        assert!(asking.house.put_ok("d", 0).await.file.is_some());
        // What was kept for inspection stays.
        asking.chooses("five");
        assert_eq!(asking.create("e", 1).await, Ok(true));
        asking.house.faulty.fail_next(Operation::Complete, Fault::WrongProof);
        assert_eq!(asking.house.refused("e", 0).await, Refusal::UploadFailed.code());
        asking.clock.advance(11 * MINUTE);
        asking.sweep().await;
        assert_eq!(asking.create("e", 1).await, Err("key_taken"));
        assert!(asking.object("five").is_some());
        // Nothing is left of any of them, and each file is its own.
        asking.clock.advance(11 * MINUTE);
        asking.sweep().await;
        assert_eq!(asking.house.memory.open_uploads(), 0);
        for id in ["a", "b", "c", "d"] {
            assert_eq!(asking.house.content(id).await, vec![0; CHUNK], "{id}");
        }
    }
}

/// A file that is there comes again: nothing is put, and nothing is recorded
/// that the application was not asked about.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_comes_again_is_compared_and_dropped() {
    for asking in Asking::both().await {
        asking.chooses("files/{random}");
        asking.put_file("a", b"file").await.expect("a file");
        let again = asking.put_file("a", b"file").await.expect("the same file");
        assert!(!again.is_new);
        assert_eq!(asking.refused("a", b"life").await, "upload_conflict");
        assert_eq!(asking.refused("a", b"longer").await, "upload_conflict");
        // Its body comes slowly, and the file is deleted meanwhile.
        let (send, body) = tokio::sync::mpsc::channel(1);
        let body = Box::pin(futures_util::stream::unfold(body, |mut body| async move {
            let frame: Option<Bytes> = body.recv().await;
            frame.map(|frame| (Ok(frame), body))
        }));
        let engine = asking.house.engine.clone();
        let slow = tokio::spawn(async move {
            engine.put_file(Grant::all(Owner::local()), wanted("a", 4), 4, body).await.map(|completed| completed.is_new)
        });
        send.send(Bytes::from_static(b"fi")).await.expect("a reader");
        // Taken once the first frame is: it is known by then that the file is there.
        send.reserve().await.expect("a reader");
        tokio::time::sleep(Duration::from_millis(300)).await;
        asking.house.engine.delete_file(&Owner::local(), &file_id("a")).await.expect("deleted");
        send.send(Bytes::from_static(b"le")).await.expect("a reader");
        drop(send);
        assert!(!slow.await.expect("no panic").expect("it was there"));
        let file = asking.house.engine.file(&Owner::local(), &FileId::parse("a").expect("an id")).await;
        assert_eq!(file.expect_err("it is deleted").refusal(), Refusal::FileNotFound);
        assert_eq!(asking.house.memory.calls().put.load(Ordering::SeqCst), 1);
        assert_eq!(asking.application.asked().len(), 1);
    }
}

/// Two gateways ask at once about one upload: both have it.
#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_that_ask_at_once_have_the_same_upload() {
    let url = postgres::new_database().await;
    let (one, two) = (Asking::on(Some(url.clone())).await, Asking::on(Some(url)).await);
    for asking in [&one, &two] {
        asking.application.says_after(Duration::from_millis(300), 200, json!({"objectKey": "one"}));
    }
    let (first, second) = tokio::join!(one.create("a", 2), two.create("a", 2));
    let mut both = [first.expect("an upload"), second.expect("the upload")];
    both.sort_unstable();
    assert_eq!(both, [false, true]);
    assert_eq!(one.application.asked().len() + two.application.asked().len(), 2);
    for asking in [&one, &two] {
        asking.application.says_after(Duration::from_millis(300), 200, json!({"objectKey": "two"}));
    }
    // A file is there once its object is: meanwhile the other is told to come again.
    let (first, second) = tokio::join!(one.put_file("b", b"file"), two.put_file("b", b"file"));
    for (asking, put) in [(&one, first), (&two, second)] {
        if let Err(error) = put {
            assert_eq!(error.refusal().code(), "store_unavailable");
            asking.put_file("b", b"file").await.expect("the file");
        }
    }
}

/// Where many small files come at once, keys are intended before anybody wants
/// them. Each is used once, and whoever stops leaves none.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_intended_ahead_is_forgotten() {
    for url in [None, Some(postgres::new_database().await)] {
        let house = House::with(url, SweepConfig::default()).await;
        let ids: Vec<String> = (0..300).map(|n| format!("ahead-{n}")).collect();
        let puts = futures_util::stream::iter(&ids).map(|id| house.put_file(id)).buffer_unordered(16);
        let keys: BTreeSet<String> = puts
            .map(|put| put.expect("a file").file.key.as_str().to_owned())
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .collect();
        assert_eq!(keys.len(), ids.len());
        let underway = async || {
            let soon = SystemClock::new().now().plus(Duration::from_secs(1));
            house.engine.ledger().objects_underway(soon, 1000).await.expect("a page").len()
        };
        let ready = underway().await;
        assert!((1..=200).contains(&ready), "{ready} for those who come next");
        house.engine.drain().await;
        assert_eq!(underway().await, 0);
        assert_eq!(house.memory.keys().len(), ids.len());
    }
}
