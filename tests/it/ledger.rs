//! The ledger, on both databases: every story is told once and runs twice.

#![expect(clippy::unwrap_used, reason = "a story that cannot go on ends here")]

mod creating;
mod keys;
mod listing;
mod merging;
mod opening;
mod outbox;
mod plans;
mod questions;
mod recording;
mod speed;
mod sweeping;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chunkgate::clock::{Clock, TestClock};
use chunkgate::domain::PartBounds;
use chunkgate::domain::event::{EventKind, event_id};
use chunkgate::domain::plan::{Lesson, Plan};
use chunkgate::domain::{
    Chunk, Crc64, File, FileId, Geometry, Learning, Lease, Object, ObjectKey, Owner, Progress, Timestamp, Upload,
    UploadId,
};
use chunkgate::ledger::{
    Allowance, Creation, DatabaseConfig, KeyOrigin, Ledger, NewEvent, NewUpload, OpenError, RecordChunk, Recorded,
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

use crate::postgres;

/// Runs each story on a fresh SQLite file and on a fresh Postgres database.
macro_rules! on_both {
    ($($story:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                super::$story(crate::ledger::Gate::on_sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                super::$story(crate::ledger::Gate::on_postgres().await).await;
            })*
        }
    };
}
pub(crate) use on_both;

const LEASE: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(24 * 3600);
const MIB: u64 = 1 << 20;
const HOOK: &str = "https://app.example/hook";

/// Opens a ledger that was open in this process a moment ago. A process that
/// another test starts has all our files, and their locks, for the moment
/// between its fork and its exec.
pub(crate) async fn open_once_free(
    config: &DatabaseConfig,
    url: &str,
    clock: Arc<dyn Clock>,
    lease: Duration,
) -> Ledger {
    for _ in 0..5000 {
        match Ledger::open(config, url, clock.clone(), lease).await {
            Err(OpenError::Locked { .. }) => std::thread::sleep(Duration::from_millis(1)),
            opened => return opened.expect("the ledger opens"),
        }
    }
    panic!("the ledger stays locked")
}

/// The right to merge the upload, if it may be merged.
async fn take_lease(ledger: &Ledger, id: UploadId) -> Option<Lease> {
    let lease = ledger.new_lease();
    ledger.take_lease(id, lease).await.unwrap().then_some(lease)
}

/// The same in place of a holder that is silent for too long.
async fn take_over(ledger: &Ledger, id: UploadId) -> Option<Lease> {
    let lease = ledger.new_lease();
    ledger.take_over(id, lease).await.unwrap().then_some(lease)
}

/// One gateway's ledger, and what it stands on.
struct Gate {
    ledger: Ledger,
    clock: Arc<TestClock>,
    url: String,
    /// Removed when the story is over.
    _folder: Option<tempfile::TempDir>,
}

impl Gate {
    async fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("data/chunkgate.db").display());
        Self::open(url, Some(folder)).await
    }

    async fn on_postgres() -> Self {
        Self::open(postgres::new_database().await, None).await
    }

    async fn open(url: String, folder: Option<tempfile::TempDir>) -> Self {
        let clock = Arc::new(TestClock::at(Timestamp::from_millis(1_795_000_000_000)));
        let ledger = Ledger::open(&config(), &url, clock.clone(), LEASE).await.unwrap();
        Self { ledger, clock, url, _folder: folder }
    }

    /// Something that no ledger does.
    async fn run(&self, text: String) {
        let text = AssertSqlSafe(text);
        if self.ledger.backend() == "postgres" {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        } else {
            let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    }

    /// The process ends and another one begins.
    async fn restart(mut self) -> Self {
        self.ledger.close().await;
        drop(self.ledger);
        self.ledger = open_once_free(&config(), &self.url, self.clock.clone(), LEASE).await;
        self
    }

    fn wish(&self, file_id: &str, geometry: Geometry) -> NewUpload {
        let at = self.clock.now();
        NewUpload {
            id: UploadId(self.clock.uuid_v7()),
            owner: Owner::local(),
            file_id: FileId::parse(file_id).unwrap(),
            file_name: "报告 v2.pdf".to_owned(),
            content_type: Some("application/pdf".to_owned()),
            metadata: BTreeMap::from([("project".to_owned(), "a \"b\" \u{1F4C4}".to_owned())]),
            geometry,
            checksum: None,
            auto_complete: true,
            key: ObjectKey::parse(&format!("uploads/local/{file_id}")).unwrap(),
            key_origin: KeyOrigin::Drawn,
            reserved_bytes: geometry.bytes_to_reserve(),
            at,
            expires_at: at.plus(7 * DAY),
        }
    }

    /// An open upload of so many chunks.
    async fn upload(&self, file_id: &str, chunks: u32) -> Upload {
        match self.ledger.create_upload(&self.wish(file_id, plan(chunks)), Allowance::of_uploads(1000)).await.unwrap() {
            Creation::Created(upload) => upload,
            other @ (Creation::Known(_)
            | Creation::TooManyOpen
            | Creation::NoRoom { .. }
            | Creation::KeyTaken(_)
            | Creation::BeingPut) => panic!("{other:?}"),
        }
    }

    /// Many at once.
    async fn create_all(&self, wishes: Vec<NewUpload>, open_max: u32) -> Vec<Creation> {
        let mut tasks = tokio::task::JoinSet::new();
        for wish in wishes {
            let ledger = self.ledger.clone();
            tasks.spawn(async move { ledger.create_upload(&wish, Allowance::of_uploads(open_max)).await.unwrap() });
        }
        tasks.join_all().await
    }

    async fn record(&self, upload: &Upload, index: u32) -> Recorded {
        self.ledger.record_chunk(self.chunk_of(upload, index)).await.unwrap()
    }

    fn chunk_of(&self, upload: &Upload, index: u32) -> RecordChunk {
        RecordChunk { upload: upload.id, chunk: chunk(index), lesson: None, expires_at: None, at: self.clock.now() }
    }

    /// An upload with all its chunks, and the right to merge it.
    async fn full(&self, file_id: &str, chunks: u32) -> (Upload, Lease) {
        let upload = self.upload(file_id, chunks).await;
        self.ledger.intend_session(upload.id).await.unwrap();
        for index in 0..chunks {
            self.record(&upload, index).await;
        }
        let lease = take_lease(&self.ledger, upload.id).await.unwrap();
        (upload, lease)
    }

    /// Nothing of it is left in the store.
    async fn clear(&self, id: UploadId) {
        let now = self.clock.now();
        let remains = self.ledger.remains(now, 100).await.unwrap();
        let remains = remains.iter().find(|remains| remains.id == id).unwrap();
        let claim = self.ledger.claim_remains(remains).await.unwrap().unwrap();
        assert!(self.ledger.clear_remains(claim).await.unwrap());
    }

    fn file(&self, upload: &Upload) -> File {
        File {
            id: upload.id,
            owner: upload.owner.clone(),
            file_id: upload.file_id.clone(),
            file_name: upload.file_name.clone(),
            content_type: upload.content_type.clone(),
            metadata: upload.metadata.clone(),
            key: upload.key.clone(),
            object: Object {
                etag: "0123-3".to_owned(),
                bytes: upload.geometry.total_bytes().unwrap_or(0),
                crc64: Some(Crc64(u64::MAX - 1)),
                completed_at: self.clock.now(),
            },
            declared: None,
        }
    }

    fn event(&self, upload: &Upload, kind: EventKind) -> NewEvent {
        NewEvent {
            id: event_id(upload.id, kind),
            kind,
            upload: upload.id,
            owner: upload.owner.clone(),
            body: format!("{{\"type\":\"{}\"}}", kind.name()),
            at: self.clock.now(),
            endpoints: vec![HOOK.to_owned()],
        }
    }
}

fn config() -> DatabaseConfig {
    DatabaseConfig::default()
}

const BOUNDS: PartBounds = PartBounds { part_bytes_min: 1, part_bytes_max: 5 << 30, parts_max: 10_000 };

/// So many chunks of one MiB.
fn plan(chunks: u32) -> Geometry {
    Geometry::Fixed(Plan::declare(u64::from(chunks) * MIB, Some(MIB), None, &BOUNDS).unwrap())
}

const fn unknown(count: u32) -> Geometry {
    Geometry::Learning(Learning { count, chunk_bytes: None, last_bytes: None, total_bytes: None })
}

fn chunk(index: u32) -> Chunk {
    Chunk { index, bytes: MIB, crc64: Some(Crc64(u64::MAX - u64::from(index))), etag: format!("\"{index:x}é'") }
}

const fn progress(chunks: u32) -> Progress {
    Progress { chunks, bytes: chunks as u64 * MIB }
}

fn lesson(record: RecordChunk, lesson: Lesson) -> RecordChunk {
    let bytes = match lesson {
        Lesson::ChunkBytes(bytes) | Lesson::LastBytes(bytes) => bytes,
    };
    RecordChunk { chunk: Chunk { bytes, ..record.chunk.clone() }, lesson: Some(lesson), ..record }
}
