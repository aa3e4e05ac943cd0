//! The writer: commits what many ask for at once in one batch, so that they
//! share one fsync. While a batch is being committed, the next one gathers.
//!
//! On SQLite everything that writes goes through it, in one transaction per
//! batch, and what is asked for alike in as few statements as if it were one.
//! On Postgres only chunks and small files do, each kind beside the others;
//! other writes are transactions on connections of their own. Whoever asked may
//! go away meanwhile: what was asked for is done all the same.

mod group;
mod postgres;
mod sqlite;
mod tallies;
mod together;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::ledger::db::Conn;
use crate::ledger::error::LedgerError;
use crate::ledger::record::{RecordChunk, Recorded};
use crate::ledger::{End, Nature, Pools};
use group::{Group, group};
use tallies::Tallies;
use together::Together;

pub(super) use together::Alike;

/// The most writes in one batch.
const BATCH_MAX: usize = 256;
/// Writes that may wait; beyond them, those who ask wait in line.
const QUEUE_MAX: usize = 4 * BATCH_MAX;

type Reply<T> = oneshot::Sender<Result<T, LedgerError>>;
type Answer = Result<(), LedgerError>;

/// The way to the writer's task.
pub(super) struct Writer {
    pools: Pools,
    queue: mpsc::Sender<Write>,
    task: Mutex<Option<JoinHandle<()>>>,
    broken: Broken,
}

/// Set once a write could not be made durable; nothing is written after that.
type Broken = Arc<OnceLock<LedgerError>>;

enum Write {
    Chunk(RecordChunk, Reply<Recorded>),
    Alike(Box<dyn Transaction>),
    Transaction(Box<dyn Transaction>),
    Close,
}

/// A write of any kind, as the writer sees it: it runs, and later its outcome
/// is settled by that of the commit.
trait Transaction: Any + Send {
    fn nature(&self) -> Nature;
    /// Does what the other one is to do together with this. Hands it back if
    /// they are not alike.
    fn join(&mut self, other: Box<dyn Transaction>) -> Result<(), Box<dyn Transaction>> {
        Err(other)
    }
    fn run<'c>(&'c mut self, conn: &'c mut Conn) -> BoxFuture<'c, Result<Keep, LedgerError>>;
    fn settle(self: Box<Self>, committed: Answer);
}

/// Whether what a transaction wrote is to stay.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

struct Job<F, T> {
    nature: Nature,
    job: Option<F>,
    outcome: Option<Result<T, LedgerError>>,
    reply: Reply<T>,
}

impl<F, T> Transaction for Job<F, T>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<End<T>, LedgerError>> + Send + 'static,
{
    fn nature(&self) -> Nature {
        self.nature
    }

    fn run<'c>(&'c mut self, conn: &'c mut Conn) -> BoxFuture<'c, Result<Keep, LedgerError>> {
        let Some(job) = self.job.take() else { return Box::pin(async { Ok(Keep::No) }) };
        Box::pin(async move {
            let (outcome, keep) = match job(conn).await {
                Ok(End::Commit(value)) => (Ok(value), Ok(Keep::Yes)),
                Ok(End::Rollback(value)) => (Ok(value), Ok(Keep::No)),
                Err(e) => (Err(e.clone()), Err(e)),
            };
            self.outcome = Some(outcome);
            keep
        })
    }

    fn settle(self: Box<Self>, committed: Answer) {
        let outcome = self.outcome.unwrap_or_else(|| Err(closed()));
        // Nobody may be waiting any more.
        let _ = self.reply.send(committed.and(outcome));
    }
}

impl Writer {
    /// Starts the task.
    pub(super) fn start(pools: Pools) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let broken = Broken::default();
        let task = tokio::spawn(run(pools.clone(), waiting, Arc::clone(&broken)));
        Self { pools, queue, task: Mutex::new(Some(task)), broken }
    }

    /// Whether writes can still be made durable.
    pub(super) fn sound(&self) -> Result<(), LedgerError> {
        match self.broken.get() {
            Some(e) => Err(e.clone()),
            None if self.queue.is_closed() => Err(closed()),
            None => Ok(()),
        }
    }

    /// Commits what is queued and ends the task.
    pub(super) async fn close(&self) {
        let Some(task) = self.task.lock().await.take() else { return };
        // A task that has ended already takes no word.
        let _ = self.queue.send(Write::Close).await;
        if let Err(e) = task.await {
            tracing::error!(error = %e, "the ledger's writer ended by a panic");
        }
    }

    /// Records a chunk in the next batch.
    pub(super) async fn record(&self, record: RecordChunk) -> Result<Recorded, LedgerError> {
        self.ask(|reply| Write::Chunk(record, reply)).await
    }

    /// Does this together with all that is asked for alike at the same time.
    /// Says whether it is done.
    pub(super) async fn together<K: Alike>(&self, write: K) -> Result<bool, LedgerError> {
        let is_shared = K::SHARES_ON_POSTGRES || matches!(self.pools, Pools::Sqlite { .. });
        let kind = if is_shared { Write::Alike } else { Write::Transaction };
        self.ask(|reply| kind(Together::one(write, reply))).await
    }

    async fn ask<T>(&self, write: impl FnOnce(Reply<T>) -> Write) -> Result<T, LedgerError> {
        self.sound()?;
        let (reply, answer) = oneshot::channel();
        match (&self.pools, write(reply)) {
            (Pools::Postgres { shared, .. }, Write::Transaction(job)) => {
                // A task of its own: a caller that goes away must not leave it half done.
                tokio::spawn(postgres::transaction(shared.clone(), job));
            }
            (_, write) => self.queue.send(write).await.map_err(|_| closed())?,
        }
        answer.await.map_err(|_| closed())?
    }

    /// Runs a transaction.
    pub(super) async fn transact<T, F>(&self, nature: Nature, job: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<End<T>, LedgerError>> + Send + 'static,
    {
        let job = |reply| Job { nature, job: Some(job), outcome: None, reply };
        self.ask(|reply| Write::Transaction(Box::new(job(reply)))).await
    }
}

/// A transaction with nothing beside it, from its beginning to its end.
async fn alone(conn: &mut Conn, job: &mut dyn Transaction) -> Answer {
    if job.nature().is_one_statement {
        return job.run(conn).await.map(|_| ());
    }
    conn.begin().await?;
    match job.run(conn).await {
        Ok(Keep::Yes) => conn.commit().await,
        Ok(Keep::No) => conn.rollback().await,
        Err(e) => {
            // That of the rollback would say no more; a connection that cannot is closed.
            drop(conn.rollback().await);
            Err(e)
        }
    }
}

fn closed() -> LedgerError {
    LedgerError::Unavailable("the ledger is closed".to_owned())
}

/// The task.
async fn run(pools: Pools, mut waiting: mpsc::Receiver<Write>, broken: Broken) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut tallies = Tallies::default();
    let mut open = true;
    while open && waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let before = batch.len();
        batch.retain(|write| !matches!(write, Write::Close));
        if batch.len() < before {
            open = false;
            // What came in before the word, or just beside it, is still done.
            waiting.close();
            while let Ok(write) = waiting.try_recv() {
                batch.push(write);
            }
            batch.retain(|write| !matches!(write, Write::Close));
        }
        let groups = group(batch.drain(..));
        // Whoever asked for something in a batch that panics hears that there is no answer; the next batch is another.
        match AssertUnwindSafe(commit(&pools, groups, &mut tallies, &broken)).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => refuse_waiting(&mut waiting, &mut open, &e),
            Err(_) => {
                tracing::error!("a batch of the ledger panicked");
                tallies = Tallies::default();
            }
        }
    }
}

/// `Err` when there was no connection.
async fn commit(pools: &Pools, groups: Vec<Group>, tallies: &mut Tallies, broken: &Broken) -> Result<(), LedgerError> {
    match pools {
        Pools::Sqlite { writer: Some(writer), .. } => sqlite::batch(writer, groups, tallies, broken).await,
        Pools::Sqlite { writer: None, .. } => groups.into_iter().for_each(|g| g.settle(Err(LedgerError::ReadOnly))),
        Pools::Postgres { writer, .. } => postgres::batch(writer, groups).await?,
    }
    Ok(())
}

/// There is no connection, and another wait would be another `acquire_timeout`.
fn refuse_waiting(waiting: &mut mpsc::Receiver<Write>, open: &mut bool, e: &LedgerError) {
    while let Ok(write) = waiting.try_recv() {
        *open &= !matches!(write, Write::Close);
        group(std::iter::once(write)).into_iter().for_each(|group| group.settle(Err(e.clone())));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::clock::TestClock;
    use crate::domain::{Chunk, Crc64, Timestamp, UploadId};
    use crate::ledger::db::sql;
    use crate::ledger::{DatabaseConfig, Ledger};

    const UPLOAD: Uuid = Uuid::from_u128(7);

    /// A ledger with one open upload, whose row is made as short as can be.
    async fn ledger(folder: &tempfile::TempDir) -> Ledger {
        let url = format!("sqlite://{}", folder.path().join("a.db").display());
        let clock = Arc::new(TestClock::at(Timestamp::from_millis(0)));
        let ledger = Ledger::open(&DatabaseConfig::default(), &url, clock, Duration::from_secs(30)).await.unwrap();
        let text = "INSERT INTO uploads (id, owner, file_id, is_current, file_name, metadata, total_chunks, \
                    auto_complete, object_key, state, created_at, updated_at, expires_at) \
                    VALUES ($1, 'local', 'a', TRUE, 'a', '{}', 10000, TRUE, 'a', 'uploading', 0, 0, 0)";
        let row = sql(text).bind(UPLOAD);
        ledger.write(move |conn| Box::pin(async move { conn.swapped(row).await.map(End::Commit) })).await.unwrap();
        ledger
    }

    fn chunk(index: u32, etag: &str) -> RecordChunk {
        let chunk = Chunk { index, bytes: 1, crc64: Some(Crc64(1)), etag: etag.to_owned() };
        let at = Timestamp::from_millis(0);
        RecordChunk { upload: UploadId(UPLOAD), chunk, lesson: None, expires_at: None, at }
    }

    async fn limit_pages(ledger: &Ledger, statement: &'static str) {
        let Pools::Sqlite { writer: Some(writer), .. } = &ledger.inner.pools else { panic!() };
        let mut conn = Conn::from(writer.acquire().await.unwrap());
        conn.row(sql(statement)).await.unwrap();
    }

    /// faults.md 34: no row is lost, and with space it goes on.
    #[tokio::test]
    async fn a_full_disk_refuses_and_recovers() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = ledger(&folder).await;
        limit_pages(&ledger, "PRAGMA max_page_count = 1").await;
        let etag = "e".repeat(1000);
        let mut acknowledged = 0;
        let refused = loop {
            match ledger.record_chunk(chunk(acknowledged, &etag)).await {
                Ok(_) => acknowledged += 1,
                Err(e) => break e,
            }
        };
        assert!(matches!(refused, LedgerError::Full(_)), "{refused}");
        let rows = ledger.chunk_indexes(UploadId(UPLOAD)).await.unwrap();
        assert_eq!(rows, (0..acknowledged).collect::<Vec<_>>());
        limit_pages(&ledger, "PRAGMA max_page_count = 1000000").await;
        ledger.record_chunk(chunk(acknowledged, &etag)).await.unwrap();
        ledger.ping().await.unwrap();
    }

    /// faults.md 35: what the disk holds is not known any more.
    #[tokio::test]
    async fn after_a_failed_fsync_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = ledger(&folder).await;
        ledger.record_chunk(chunk(0, "e")).await.unwrap();
        let broken = LedgerError::Broken("disk I/O error".to_owned());
        ledger.inner.writer.as_ref().unwrap().broken.set(broken.clone()).unwrap();
        assert_eq!(ledger.record_chunk(chunk(1, "e")).await, Err(broken.clone()));
        assert_eq!(ledger.abort(UploadId(UPLOAD), &[]).await, Err(broken.clone()));
        assert_eq!(ledger.ping().await, Err(broken));
        assert_eq!(ledger.chunk_indexes(UploadId(UPLOAD)).await.unwrap(), [0]);
    }

    /// What it wrote is rolled back with its batch, and the writer lives on.
    #[tokio::test]
    async fn a_write_that_panics_ends_alone() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = ledger(&folder).await;
        let panics = ledger.write(|conn| {
            Box::pin(async move {
                assert!(
                    !conn.swapped(sql("UPDATE uploads SET begins = 7 WHERE id = $1").bind(UPLOAD)).await?,
                    "it panics here"
                );
                Ok(End::Commit(()))
            })
        });
        assert_eq!(panics.await, Err(closed()));
        ledger.ping().await.unwrap();
        assert!(matches!(ledger.record_chunk(chunk(0, "e")).await, Ok(Recorded::New(_))));
        assert_eq!(begins(&ledger).await, 0);
    }

    async fn begins(ledger: &Ledger) -> i64 {
        let text = "SELECT begins FROM uploads WHERE id = $1";
        let row = ledger.read().await.unwrap().row(sql(text).bind(UPLOAD)).await.unwrap();
        row.unwrap().get("begins").unwrap()
    }

    /// What fails alone is rolled back alone, in one transaction with others.
    #[tokio::test]
    async fn one_refused_write_spoils_no_other_of_its_batch() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = ledger(&folder).await;
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..50 {
            let ledger = ledger.clone();
            tasks.spawn(async move {
                let text = if n % 5 == 0 {
                    "UPDATE owners SET nonsense = $1"
                } else {
                    "UPDATE uploads SET begins = begins + 1 WHERE id = $1"
                };
                let one = sql(text).bind(UPLOAD);
                let run = ledger.write(move |conn| Box::pin(async move { conn.swapped(one).await.map(End::Commit) }));
                (n, run.await, ledger.record_chunk(chunk(n, "e")).await)
            });
        }
        for (n, written, recorded) in tasks.join_all().await {
            assert_eq!(written.is_err(), n % 5 == 0, "{written:?}");
            assert!(matches!(recorded, Ok(Recorded::New(_))));
        }
        assert_eq!(begins(&ledger).await, 40);
    }
}
