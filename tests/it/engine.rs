//! The engine on a store that does what it is told to do wrong: what a merge
//! finds, and what it makes of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use chunkgate::clock::{Clock, SystemClock};
use chunkgate::domain::{Checksum, Crc64, FileId, Grant, ObjectKey, Owner, PartNumber, Refusal, SessionId, Status};
use chunkgate::engine::create::{CreateUpload, Cut};
use chunkgate::engine::finish::Finished;
use chunkgate::engine::hooks::{Completed, Requester};
use chunkgate::engine::put_chunk::{ChunkStored, PutChunk};
use chunkgate::engine::sweep::Sweeper;
use chunkgate::engine::{Engine, EngineError, Settings, SweepConfig, UploadConfig};
use chunkgate::ledger::{Allowance, DatabaseConfig, Ledger};
use chunkgate::notify::{Hooks, Subscription};
use chunkgate::store::faulty::{Fault, FaultyStore, Operation, Rates};
use chunkgate::store::memory::MemoryStore;
use chunkgate::store::{Begin, Store as _};
use futures_util::StreamExt as _;

use crate::postgres;

mod keys;
mod lost;
mod unlisted;

const CHUNK: usize = 1000;

struct House {
    engine: Engine,
    faulty: Arc<FaultyStore>,
    memory: Arc<MemoryStore>,
    _folder: tempfile::TempDir,
}

/// What a client wishes for that says no more than it must.
fn wanted(id: &str, bytes: usize) -> CreateUpload {
    CreateUpload {
        file_id: Some(file_id(id)),
        file_name: "a".to_owned(),
        content_type: None,
        metadata: BTreeMap::new(),
        checksum: None,
        auto_complete: None,
        restart: false,
        cut: Cut::Declared { total_bytes: bytes as u64, chunk_bytes: Some(CHUNK as u64), count: None },
        from: Requester::default(),
    }
}

impl House {
    async fn on(url: Option<String>) -> Self {
        Self::with(url, SweepConfig::default()).await
    }

    async fn with(url: Option<String>, sweep: SweepConfig) -> Self {
        Self::new(url, sweep, Hooks::default(), Arc::new(SystemClock::new()), MemoryStore::new()).await
    }

    async fn new(
        url: Option<String>,
        sweep: SweepConfig,
        hooks: Hooks,
        clock: Arc<dyn Clock>,
        memory: MemoryStore,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = url.unwrap_or_else(|| format!("sqlite://{}", folder.path().join("l.db").display()));
        let upload = UploadConfig { lease: Duration::from_secs(3), ..UploadConfig::default() };
        let ledger =
            Ledger::open(&DatabaseConfig::default(), &url, clock.clone(), upload.lease).await.expect("a ledger");
        let memory = Arc::new(memory);
        let faulty = Arc::new(FaultyStore::new(memory.clone(), 1));
        let settings = Settings {
            upload,
            sweep,
            file_bytes_max: 1 << 40,
            kinds: None,
            allowance: Allowance::of_uploads(100),
            chunks_in_flight_max: 16,
            owners_share: false,
            queue_wait: Duration::from_secs(5),
            subscriptions: vec![Subscription::to_all("http://receiver")],
            hooks,
        };
        let engine = Engine::new(ledger, faulty.clone(), clock, settings);
        Self { engine, faulty, memory, _folder: folder }
    }

    async fn both() -> [Self; 2] {
        [Self::on(None).await, Self::on(Some(postgres::new_database().await)).await]
    }

    async fn create(&self, id: &str, chunks: usize) {
        self.engine.create(&Grant::all(Owner::local()), wanted(id, chunks * CHUNK)).await.expect("an upload");
    }

    async fn put(&self, id: &str, index: usize) -> Result<ChunkStored, EngineError> {
        let bytes = Bytes::from(vec![index as u8; CHUNK]);
        let put = PutChunk {
            owner: Owner::local(),
            terms: Arc::default(),
            file_id: file_id(id),
            index: index as i128,
            bytes: Some(CHUNK as u64),
            checksums: Vec::new(),
            body: Box::pin(futures_util::stream::iter([Ok(bytes)])),
        };
        self.engine.put_chunk(put).await
    }

    async fn put_file(&self, id: &str) -> Result<Completed, EngineError> {
        let body = Box::pin(futures_util::stream::iter([Ok(Bytes::from_static(b"small"))]));
        self.engine.put_file(Grant::all(Owner::local()), wanted(id, 5), 5, body).await
    }

    async fn put_ok(&self, id: &str, index: usize) -> ChunkStored {
        self.put(id, index).await.unwrap_or_else(|error| panic!("chunk {index}: {error}"))
    }

    async fn refused(&self, id: &str, index: usize) -> &'static str {
        self.put(id, index).await.expect_err("a refusal").refusal().code()
    }

    async fn status(&self, id: &str) -> Status {
        self.engine.upload(&Owner::local(), &file_id(id)).await.expect("an upload").upload.state.status()
    }

    async fn missing(&self, id: &str) -> Vec<[u32; 2]> {
        self.engine.chunks(&Owner::local(), &file_id(id)).await.expect("chunks").expect("an upload").missing
    }

    async fn content(&self, id: &str) -> Vec<u8> {
        let file = self.engine.file(&Owner::local(), &file_id(id)).await.expect("a file");
        let mut reading = self.engine.read_file(&file, None).await.expect("its bytes");
        let mut content = Vec::new();
        while let Some(frame) = reading.stream.next().await {
            content.extend_from_slice(&frame.expect("a frame"));
        }
        content
    }

    async fn is_whole(&self, id: &str, chunks: usize) {
        let expected: Vec<u8> = (0..chunks).flat_map(|index| vec![index as u8; CHUNK]).collect();
        assert_eq!(self.content(id).await, expected);
        assert_eq!(self.engine.ledger().outbox_counts().await.expect("counts").pending, 1, "one event");
    }
}

fn file_id(text: &str) -> FileId {
    FileId::parse(text).expect("an id")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_whose_answer_was_lost_is_found() {
    for house in House::both().await {
        house.create("a", 2).await;
        house.put_ok("a", 0).await;
        house.faulty.fail_next(Operation::Complete, Fault::AnswerLost);
        assert!(house.put_ok("a", 1).await.file.is_some());
        house.is_whole("a", 2).await;
        assert_eq!(house.memory.calls().complete.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_stays_lost_is_found_by_the_next_merge() {
    for house in House::both().await {
        house.create("b", 2).await;
        house.put_ok("b", 0).await;
        house.faulty.fail_next(Operation::Complete, Fault::AnswerLost);
        // HEAD fails too, twice: the upload stays in doubt, under its lease.
        for _ in 0..2 {
            house.faulty.fail_next(Operation::Head, Fault::Unavailable);
        }
        // The store no longer knows the multipart upload. That is not "finished": the object is asked for.
        assert!(house.put_ok("b", 1).await.file.is_some());
        house.is_whole("b", 2).await;
        assert_eq!(house.memory.calls().complete.load(Ordering::SeqCst), 1);
    }
}

/// A refusal while the object may be there (credentials that rotate, say) opens
/// nothing: the upload could be given up, and its object would stay.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_object_may_be_there_is_not_opened_again() {
    for house in House::both().await {
        house.create("d", 2).await;
        house.put_ok("d", 0).await;
        house.faulty.fail_next(Operation::Complete, Fault::AnswerLost);
        house.faulty.fail_next(Operation::Head, Fault::Refused);
        assert!(house.put_ok("d", 1).await.file.is_some());
        house.is_whole("d", 2).await;
        assert_eq!(house.memory.calls().complete.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_the_store_lost_is_failed_and_never_taken_for_finished() {
    for house in House::both().await {
        house.create("c", 2).await;
        house.put_ok("c", 0).await;
        house.faulty.fail_next(Operation::ListParts, Fault::NoSuchUpload);
        assert_eq!(house.refused("c", 1).await, "upload_lost");
        assert_eq!(house.status("c").await, Status::Failed);
        assert_eq!(house.refused("c", 1).await, "upload_lost");
        assert_eq!(house.engine.ledger().outbox_counts().await.expect("counts").pending, 1, "upload.failed");
        // A lifecycle rule took it while chunks were still coming.
        house.create("d", 3).await;
        house.put_ok("d", 0).await;
        house.faulty.fail_next(Operation::PutPart, Fault::NoSuchUpload);
        assert_eq!(house.refused("d", 1).await, "upload_lost");
        assert_eq!(house.status("d").await, Status::Failed);
    }
}

async fn session(house: &House, id: &str) -> SessionId {
    let view = house.engine.upload(&Owner::local(), &file_id(id)).await.expect("an upload");
    view.upload.session().cloned().expect("a multipart upload")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_somebody_overwrote_is_asked_for_again() {
    for house in House::both().await {
        house.create("e", 3).await;
        house.put_ok("e", 0).await;
        house.put_ok("e", 1).await;
        let first = session(&house, "e").await;
        let second = PartNumber::new(2).expect("a number");
        assert!(house.memory.overwrite_part(&first, second, vec![9; CHUNK]));
        let stored = house.put_ok("e", 2).await;
        assert_eq!((stored.file.is_none(), stored.missing), (true, Some(vec![[1, 1]])));
        assert_eq!(house.missing("e").await, vec![[1, 1]]);
        assert!(house.put_ok("e", 1).await.file.is_some());
        house.is_whole("e", 3).await;
        // The very chunk that completes the upload was overwritten: it is not acknowledged.
        house.create("f", 1).await;
        house.faulty.fail_next(Operation::ListParts, Fault::Refused);
        house.put_ok("f", 0).await;
        let session = session(&house, "f").await;
        house.memory.overwrite_part(&session, PartNumber::new(1).expect("a number"), vec![9; CHUNK]);
        assert_eq!(house.refused("f", 0).await, "store_unavailable");
        assert!(house.put_ok("f", 0).await.file.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_whose_proof_is_wrong_is_not_acknowledged() {
    for house in House::both().await {
        house.create("g", 1).await;
        house.faulty.fail_next(Operation::PutPart, Fault::WrongProof);
        assert_eq!(house.refused("g", 0).await, "store_unavailable");
        assert_eq!(house.missing("g").await, vec![[0, 0]]);
        for fault in [Fault::Unavailable, Fault::MidBody, Fault::AnswerLost, Fault::Refused] {
            house.faulty.fail_next(Operation::PutPart, fault);
            assert_eq!(house.refused("g", 0).await, "store_unavailable", "{fault:?}");
            assert_eq!(house.missing("g").await, vec![[0, 0]]);
        }
        house.faulty.fail_next(Operation::PutPart, Fault::Full);
        assert_eq!(house.refused("g", 0).await, "storage_full");
        assert!(house.put_ok("g", 0).await.file.is_some());
        house.is_whole("g", 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_not_what_was_acknowledged_is_kept_and_not_announced() {
    for house in House::both().await {
        house.create("h", 1).await;
        house.faulty.fail_next(Operation::Complete, Fault::WrongProof);
        assert_eq!(house.refused("h", 0).await, Refusal::UploadFailed.code());
        assert_eq!(house.status("h").await, Status::Failed);
        assert_eq!(house.memory.keys().len(), 1, "kept for inspection");
        house.engine.file(&Owner::local(), &file_id("h")).await.expect_err("no file");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_multipart_upload_is_begun_once_and_only_when_needed() {
    for house in House::both().await {
        house.create("i", 16).await;
        assert_eq!(house.memory.open_uploads(), 0);
        let house = Arc::new(house);
        let mut tasks = tokio::task::JoinSet::new();
        for index in 0..15 {
            let house = house.clone();
            tasks.spawn(async move { house.put_ok("i", index).await });
        }
        tasks.join_all().await;
        assert_eq!(house.memory.calls().begin.load(Ordering::SeqCst), 1);
        house.engine.abort(&Owner::local(), &file_id("i")).await.expect("aborted");
        house.engine.sweep(&mut Sweeper::default()).await.expect("a sweep");
        house.engine.sweep(&mut Sweeper::default()).await.expect("a sweep");
        assert_eq!(house.memory.open_uploads(), 0);
        // An initiate whose answer was lost leaves an orphan under a key of our own.
        house.create("j", 2).await;
        house.faulty.fail_next(Operation::Begin, Fault::AnswerLost);
        assert_eq!(house.refused("j", 0).await, "store_unavailable");
        house.put_ok("j", 0).await;
        assert_eq!(house.memory.open_uploads(), 2);
        assert!(house.put_ok("j", 1).await.file.is_some());
        house.engine.sweep(&mut Sweeper::default()).await.expect("a sweep");
        assert_eq!(house.memory.open_uploads(), 0, "the orphan is gone, the object is not");
        assert_eq!(house.content("j").await.len(), 2 * CHUNK);
    }
}

/// Whoever waited for a store that does not begin is told with the one who
/// asked: none of them waits for another attempt.
#[tokio::test(flavor = "multi_thread")]
async fn a_begin_that_fails_fails_for_all_who_wait_for_it() {
    let house = Arc::new(House::on(None).await);
    house.create("b", 16).await;
    let slow_no = Rates {
        unavailable_per_mille: 1000,
        delayed_per_mille: 1000,
        delay: Duration::from_millis(500),
        ..Rates::default()
    };
    house.faulty.set_rates(Operation::Begin, slow_no);
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..15 {
        let house = house.clone();
        tasks.spawn(async move { house.refused("b", index).await });
    }
    for code in tasks.join_all().await {
        assert_eq!(code, "store_unavailable");
    }
    assert_eq!(house.faulty.struck(), 1, "the store is asked once");
    house.faulty.set_rates(Operation::Begin, Rates::default());
    house.put_ok("b", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checksum_may_be_declared_by_who_resumes() {
    for house in House::both().await {
        house.create("c", 2).await;
        house.put_ok("c", 0).await;
        let declared = |value| CreateUpload { checksum: Some(Checksum::Crc64(Crc64(value))), ..wanted("c", 2 * CHUNK) };
        house.engine.create(&Grant::all(Owner::local()), declared(1)).await.expect("resumed");
        let differs = house.engine.create(&Grant::all(Owner::local()), declared(2)).await.expect_err("a refusal");
        assert_eq!(differs.refusal().code(), "upload_conflict");
        assert_eq!(house.refused("c", 1).await, "integrity_failed");
        assert_eq!(house.status("c").await, Status::Failed);
    }
}

/// A digest other than CRC-64 is compared while the bytes pass: declared after
/// them, nothing says that it is theirs.
#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_comes_after_its_only_chunk_is_not_certified() {
    for house in House::both().await {
        let by_hand = CreateUpload { auto_complete: Some(false), ..wanted("d", CHUNK) };
        house.engine.create(&Grant::all(Owner::local()), by_hand).await.expect("an upload");
        house.put_ok("d", 0).await;
        let late = CreateUpload { checksum: Some(Checksum::Sha256([7; 32])), ..wanted("d", CHUNK) };
        house.engine.create(&Grant::all(Owner::local()), late).await.expect("resumed");
        let finished = house.engine.complete(&Owner::local(), &file_id("d")).await.expect("an answer");
        let Finished::Completed(completed) = finished else { panic!("{finished:?}") };
        assert_eq!(completed.file.declared, None);
    }
}

/// A gateway that dies between an object and its row leaves an object that no
/// file has: the intent tells the sweeper, once it is old enough.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_without_a_file_is_removed() {
    let sweep = SweepConfig { orphan_after: Duration::from_millis(500), ..SweepConfig::default() };
    for url in [None, Some(postgres::new_database().await)] {
        let house = House::with(url, sweep.clone()).await;
        house.faulty.fail_next(Operation::Put, Fault::AnswerLost);
        let lost = house.put_file("o").await.expect_err("a refusal");
        assert_eq!(lost.refusal().code(), "store_unavailable");
        assert_eq!(house.memory.keys().len(), 1);
        house.engine.sweep(&mut Sweeper::default()).await.expect("a sweep");
        assert_eq!(house.memory.keys().len(), 1, "it is young: it may become a file yet");
        house.put_file("o").await.expect("a file");
        tokio::time::sleep(sweep.orphan_after).await;
        // Not at once: what is not in the store's power to remove stays known.
        house.faulty.fail_next(Operation::Delete, Fault::Unavailable);
        assert_eq!(house.engine.sweep(&mut Sweeper::default()).await.expect("a sweep").orphans, 0);
        assert_eq!(house.engine.sweep(&mut Sweeper::default()).await.expect("a sweep").orphans, 1);
        assert_eq!(house.memory.keys().len(), 1, "the file's own is there");
        assert_eq!(house.content("o").await, b"small");
    }
}

/// Only where the operator says that nobody else uses the bucket.
#[tokio::test(flavor = "multi_thread")]
async fn multipart_uploads_of_strangers_are_left_alone_unless_told() {
    for whole_prefix in [false, true] {
        let sweep = SweepConfig { orphan_after: Duration::ZERO, whole_prefix, ..SweepConfig::default() };
        let house = House::with(None, sweep).await;
        house.create("s", 2).await;
        house.put_ok("s", 0).await;
        let begin = |key: &'static str| {
            let store = house.memory.clone();
            async move {
                let key = ObjectKey::parse(key).expect("a key");
                store.begin(Begin { key: &key, content_type: None, plan: None, direct: false }).await.expect("begun");
            }
        };
        begin("uploads/somebody/else").await;
        begin("elsewhere/a").await;
        house.engine.sweep(&mut Sweeper::default()).await.expect("a sweep");
        assert_eq!(house.memory.open_uploads(), if whole_prefix { 2 } else { 3 });
        assert!(house.put_ok("s", 1).await.file.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_is_not_created_while_the_store_is_away() {
    let house = House::on(None).await;
    house.faulty.fail_next(Operation::Put, Fault::Unavailable);
    let wanted = |restart| CreateUpload { auto_complete: Some(false), restart, ..wanted("k", 0) };
    let refused = house.engine.create(&Grant::all(Owner::local()), wanted(false)).await.expect_err("a refusal");
    assert_eq!(refused.refusal().code(), "store_unavailable");
    assert!(house.engine.known(&Owner::local(), &file_id("k")).await.expect("an answer").is_none());
    let created = house.engine.create(&Grant::all(Owner::local()), wanted(false)).await.expect("created");
    assert!(created.is_new && created.upload.state.status() == Status::Completed);
    let again = house.engine.create(&Grant::all(Owner::local()), wanted(true)).await.expect_err("a refusal");
    assert_eq!(again.refusal().code(), "upload_completed");
}
