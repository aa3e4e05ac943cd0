//! The real engine, with a SQLite file and a store in memory that fails when it
//! is told to; in a runtime of its own, which is thrown away to let it crash.
//! Time is the test's: what waits in the engine waits a twentieth as long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chunkgate::clock::{Clock as _, TestClock};
use chunkgate::domain::{
    Checksum, Crc64, FileId, Grant, ObjectKey, Owner, PartNumber, State, Status, Timestamp, Upload, UploadId,
};
use chunkgate::engine::create::{self, CreateUpload};
use chunkgate::engine::finish::Finished;
use chunkgate::engine::hooks::Requester;
use chunkgate::engine::put_chunk::PutChunk;
use chunkgate::engine::sweep::Sweeper;
use chunkgate::engine::{Engine, EngineError, Settings, SweepConfig, UploadConfig};
use chunkgate::ledger::{Allowance, DatabaseConfig};
use chunkgate::notify::{Hooks, Subscription};
use chunkgate::store::faulty::FaultyStore;
use chunkgate::store::memory::MemoryStore;
use chunkgate::store::{Store as _, Target};
use tokio::runtime::Runtime;

use super::command::{Act, Answer, Create, Cut, Put, Twist, Words};
use super::model::{FILES, SPAN_MILLIS};
use crate::ledger::open_once_free;

const TICK: Duration = Duration::from_micros(500);
const TICK_INSIDE: Duration = Duration::from_millis(10);
/// A call that hangs does so for this many ticks.
const HANG_TICKS: u32 = 40;
const RECEIVER: &str = "http://receiver";

pub(super) struct House {
    pub(super) clock: Arc<TestClock>,
    pub(super) memory: Arc<MemoryStore>,
    pub(super) faulty: Arc<FaultyStore>,
    running: Option<(Runtime, Engine)>,
    /// Every upload that was ever seen, and where its object lies.
    pub(super) known: BTreeMap<uuid::Uuid, ObjectKey>,
    /// The ids of the events that were delivered.
    pub(super) delivered: BTreeSet<String>,
    folder: tempfile::TempDir,
}

/// An upload as the gateway shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) id: uuid::Uuid,
    pub(super) status: Status,
    pub(super) failure: Option<&'static str>,
    pub(super) shape: (u32, Option<u64>, Option<u64>, Option<u64>),
    /// Length and CRC-64 of each chunk.
    pub(super) chunks: BTreeMap<u32, (u64, u64)>,
    pub(super) missing: Vec<[u32; 2]>,
    pub(super) auto: bool,
    /// The CRC-64 that was declared of the whole.
    pub(super) checksum: Option<String>,
    /// Whether it has a multipart upload, where that is still told.
    pub(super) begun: Option<bool>,
    pub(super) expires_at: i64,
}

impl House {
    pub(super) fn new(seed: u64) -> Self {
        // Durability is tried elsewhere; here, memory is fast.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        let memory = Arc::new(MemoryStore::new());
        let faulty = Arc::new(FaultyStore::new(memory.clone(), seed));
        let clock = Arc::new(TestClock::at(Timestamp::from_millis(1_795_255_740_000)));
        let mut house =
            Self { clock, memory, faulty, running: None, known: BTreeMap::new(), delivered: BTreeSet::new(), folder };
        house.start();
        house
    }

    fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let engine = runtime.block_on(with_time(self.engine(), || {}));
        self.running = Some((runtime, engine));
    }

    async fn engine(&self) -> Engine {
        let upload =
            UploadConfig { expires_after: Duration::from_millis(SPAN_MILLIS as u64), ..UploadConfig::default() };
        let sweep = SweepConfig { keep_chunks: Duration::from_secs(1000 * 24 * 3600), ..SweepConfig::default() };
        let url = format!("sqlite://{}", self.folder.path().join("l.db").display());
        let database = DatabaseConfig { acquire_timeout: Duration::from_secs(3600), ..DatabaseConfig::default() };
        let ledger = open_once_free(&database, &url, self.clock.clone(), upload.lease).await;
        let settings = Settings {
            upload,
            sweep,
            file_bytes_max: 1 << 40,
            kinds: None,
            allowance: Allowance::of_uploads(100),
            chunks_in_flight_max: 16,
            owners_share: false,
            queue_wait: Duration::from_secs(3600),
            subscriptions: vec![Subscription::to_all(RECEIVER)],
            hooks: Hooks::default(),
        };
        Engine::new(ledger, self.faulty.clone(), self.clock.clone(), settings)
    }

    /// Runs to the end of it, while time passes.
    pub(super) fn run<T>(&self, work: impl AsyncFnOnce(Engine) -> T) -> T {
        let (runtime, engine) = self.running.as_ref().expect("it runs");
        let mut ticks = 0u32;
        runtime.block_on(with_time(work(engine.clone()), || {
            ticks += 1;
            if ticks.is_multiple_of(HANG_TICKS) {
                self.faulty.release();
            }
        }))
    }

    /// Runs for so long, or until the store hangs, and dies there.
    pub(super) fn crash(&mut self, act: &Act, hangs: bool, ticks: u8) {
        let (runtime, engine) = self.running.take().expect("it runs");
        let struck = self.faulty.struck();
        runtime.block_on(async {
            let death = async {
                for _ in 0..if hangs { 200 } else { ticks } {
                    if hangs && self.faulty.struck() > struck {
                        break;
                    }
                    tick().await;
                }
            };
            tokio::select! {
                _ = perform(&engine, act) => {}
                () = death => {}
            }
        });
        drop(engine);
        drop(runtime);
        self.start();
    }

    /// Stops in good order and starts again, with a store that fails no more.
    pub(super) fn heal(&mut self) {
        self.run(async |engine| {
            engine.drain().await;
            engine.ledger().close().await;
        });
        self.running = None;
        self.faulty = Arc::new(FaultyStore::new(self.memory.clone(), 0));
        self.start();
    }

    pub(super) fn perform(&mut self, act: &Act) -> Answer {
        self.together(std::slice::from_ref(act)).remove(0)
    }

    pub(super) fn together(&mut self, acts: &[Act]) -> Vec<Answer> {
        let answers =
            self.run(async |engine| futures_util::future::join_all(acts.iter().map(|act| perform(&engine, act))).await);
        let remember = |(answer, upload): (Answer, Option<Upload>)| {
            self.known.extend(upload.map(|upload| (upload.id.0, upload.key)));
            answer
        };
        answers.into_iter().map(remember).collect()
    }

    /// The uploads as they are, once no merge is under way any more; after a
    /// crash, nobody merges until somebody sweeps.
    pub(super) fn look(&mut self, settled: impl Fn(&[Option<Seen>]) -> bool) -> Vec<Option<Seen>> {
        let (seen, known) = self.run(async |engine| {
            let mut patience = 3000;
            loop {
                let (seen, known): (Vec<_>, Vec<_>) = look(&engine).await.into_iter().unzip();
                if settled(&seen) || patience == 0 {
                    return (seen, known);
                }
                patience -= 1;
                tokio::time::sleep(TICK_INSIDE).await;
            }
        });
        self.known.extend(known.into_iter().flatten());
        seen
    }

    fn upload(&self, file: usize) -> Option<Upload> {
        self.run(async |engine| engine.known(&Owner::local(), &file_id(file)).await.expect("the ledger answers"))
    }

    /// Somebody writes over a part. False if there is none.
    pub(super) fn spoil(&self, file: usize, index: u32) -> bool {
        let upload = self.upload(file);
        let session = upload.as_ref().and_then(Upload::session);
        let number = PartNumber::of_chunk(index).expect("a number");
        session.is_some_and(|session| self.memory.overwrite_part(session, number, Bytes::from_static(b"spoiled")))
    }

    /// Somebody removes the multipart upload. False if there is none.
    pub(super) fn lose(&self, file: usize) -> bool {
        let Some(upload) = self.upload(file) else { return false };
        let Some(session) = upload.session() else { return false };
        self.run(async |_| self.memory.abort(Target { key: &upload.key, session }).await.expect("removed"));
        true
    }

    /// Delivers what is to be delivered: none may come that came before.
    pub(super) fn deliver(&mut self) {
        let events = self.run(async |engine| {
            let ledger = engine.ledger();
            let claimed = ledger.claim_deliveries(RECEIVER, 10_000, Duration::from_secs(1)).await.expect("events");
            for delivery in &claimed {
                assert!(ledger.delivered(delivery, 200).await.expect("the ledger answers"));
            }
            claimed
        });
        for delivery in events {
            let event = delivery.event.as_str().to_owned();
            assert!(self.delivered.insert(event), "twice: {delivery:?}");
        }
    }

    pub(super) fn status_of(&self, id: uuid::Uuid) -> Status {
        let upload = self.run(async |engine| engine.ledger().upload(UploadId(id)).await.expect("the ledger answers"));
        upload.expect("an upload that was seen").state.status()
    }

    /// How those have ended that no fileId means any more, in order.
    pub(super) fn past(&self, seen: &[Option<Seen>]) -> Vec<&'static str> {
        let is_current = |id: &uuid::Uuid| seen.iter().flatten().any(|seen| seen.id == *id);
        let replaced = self.known.keys().filter(|id| !is_current(id));
        let mut past: Vec<_> = replaced.map(|&id| self.status_of(id).name()).collect();
        past.sort_unstable();
        past
    }

    pub(super) fn now(&self) -> i64 {
        self.clock.now().millis()
    }
}

/// Lets a little time pass. A thread sleeps, so that tokio's clock, which
/// stands still, is not moved on by itself while SQLite's threads work.
async fn tick() {
    tokio::task::spawn_blocking(|| std::thread::sleep(TICK)).await.expect("a sleep");
    tokio::time::advance(TICK_INSIDE).await;
}

async fn with_time<T>(work: impl Future<Output = T>, mut each: impl FnMut()) -> T {
    let time = async {
        loop {
            tick().await;
            each();
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        () = time => unreachable!("time has no end"),
    }
}

fn file_id(file: usize) -> FileId {
    FileId::parse(&format!("file-{file}")).expect("an id")
}

async fn look(engine: &Engine) -> Vec<(Option<Seen>, Option<(uuid::Uuid, ObjectKey)>)> {
    let mut all = Vec::new();
    for file in 0..FILES {
        let (view, recorded) = loop {
            let view = engine.chunks(&Owner::local(), &file_id(file)).await.expect("the ledger answers");
            let Some(view) = view else { break (None, Vec::new()) };
            let recorded = engine.ledger().chunks(view.view.upload.id).await.expect("the ledger answers");
            let again = engine.ledger().received(view.view.upload.id).await.expect("the ledger answers");
            // A chunk whose client has gone may be recorded between two looks.
            if view.chunks == again {
                assert!(view.chunks.iter().map(|chunk| chunk.index).eq(recorded.iter().map(|chunk| chunk.index)));
                break (Some(view), recorded);
            }
        };
        let Some(view) = view else {
            all.push((None, None));
            continue;
        };
        let upload = &view.view.upload;
        let geometry = &upload.geometry;
        let is_open = matches!(upload.state.status(), Status::Uploading | Status::Completing);
        let seen = Seen {
            id: upload.id.0,
            status: upload.state.status(),
            failure: match &upload.state {
                State::Failed { failure } => Some(failure.code()),
                State::Open { .. } | State::Completing { .. } | State::Completed { .. } => None,
                State::Aborted | State::Expired => None,
            },
            shape: (geometry.count(), geometry.chunk_bytes(), geometry.last_bytes(), geometry.total_bytes()),
            chunks: recorded
                .iter()
                .map(|chunk| (chunk.index, (chunk.bytes, chunk.crc64.expect("a checksum").0)))
                .collect(),
            missing: view.missing,
            auto: upload.auto_complete,
            checksum: upload.checksum.map(|checksum| checksum.value()),
            begun: is_open.then(|| upload.session().is_some()),
            expires_at: upload.expires_at.millis(),
        };
        all.push((Some(seen), Some((upload.id.0, upload.key.clone()))));
    }
    all
}

async fn perform(engine: &Engine, act: &Act) -> (Answer, Option<Upload>) {
    match act {
        Act::Create(create) => match engine.create(&Grant::all(Owner::local()), wanted(create)).await {
            Ok(created) => (Answer::Created(created.is_new), Some(created.upload)),
            Err(error) => (refused(&error), None),
        },
        Act::Put(put) => (put_chunk(engine, put).await, None),
        Act::Complete(file) => (complete(engine, *file).await, None),
        Act::Abort(file) => match engine.abort(&Owner::local(), &file_id(*file)).await {
            Ok(()) => (Answer::Done, None),
            Err(error) => (refused(&error), None),
        },
        Act::Sweep => (sweep(engine).await, None),
    }
}

/// A turn of the sweeper, and the merges that it begins.
async fn sweep(engine: &Engine) -> Answer {
    let before = look(engine).await;
    if let Err(error) = engine.sweep(&mut Sweeper::default()).await {
        return refused(&error);
    }
    for (file, (seen, _)) in before.iter().enumerate() {
        let merges = |seen: &Seen| match seen.status {
            Status::Completing => true,
            Status::Uploading => seen.auto && seen.missing.is_empty(),
            Status::Completed | Status::Failed | Status::Aborted | Status::Expired => false,
        };
        if seen.as_ref().is_some_and(merges) {
            complete(engine, file).await;
        }
    }
    Answer::Done
}

fn refused(error: &EngineError) -> Answer {
    Answer::Refused(error.refusal().code())
}

fn wanted(create: &Create) -> CreateUpload {
    let Create { file, cut, auto, restart, checksum } = *create;
    CreateUpload {
        file_id: Some(file_id(file)),
        file_name: "a".to_owned(),
        content_type: None,
        metadata: BTreeMap::new(),
        checksum: checksum.map(|crc64| Checksum::Crc64(Crc64(crc64))),
        auto_complete: Some(auto),
        restart,
        cut: spoken(cut),
        from: Requester::default(),
    }
}

fn spoken(cut: Cut) -> create::Cut {
    let (count, chunk_bytes, total_bytes) = cut.said();
    match cut.words {
        Words::All | Words::WithoutCount => {
            create::Cut::Declared { total_bytes: total_bytes.expect("it is said"), chunk_bytes, count }
        }
        Words::FormCount | Words::FormChunk | Words::FormTotal | Words::FormAll => {
            create::Cut::Form { count: count.expect("it is said"), chunk_bytes, total_bytes }
        }
    }
}

async fn put_chunk(engine: &Engine, put: &Put) -> Answer {
    let bytes = put.bytes();
    let frames = bytes.chunks(3).map(|frame| Ok(Bytes::copy_from_slice(frame))).collect::<Vec<_>>();
    let put = PutChunk {
        owner: Owner::local(),
        terms: Arc::default(),
        file_id: file_id(put.file),
        index: i128::from(put.index),
        bytes: (put.twist != Twist::NoLength).then_some(put.announced()),
        checksums: put.checksum().map(|crc64| Checksum::Crc64(Crc64(crc64))).into_iter().collect(),
        body: Box::pin(futures_util::stream::iter(frames)),
    };
    match engine.put_chunk(put).await {
        Ok(stored) => Answer::Stored { completed: stored.file.is_some(), missing: stored.missing },
        Err(error) => refused(&error),
    }
}

async fn complete(engine: &Engine, file: usize) -> Answer {
    match engine.complete(&Owner::local(), &file_id(file)).await {
        Ok(Finished::Completed(_)) => Answer::Completed,
        Ok(Finished::Missing(missing)) => Answer::Missing(missing),
        Ok(Finished::Failed(refusal)) => Answer::Refused(refusal.code()),
        Ok(Finished::Later) => Answer::Later,
        Err(error) => refused(&error),
    }
}
