//! The writer: commits what many ask for at once in one batch, so that they
//! share one fsync. While a batch is being committed, the next one gathers.
//!
//! On SQLite everything that writes goes through it, in one transaction per
//! batch. On Postgres only chunks do, in one statement per batch; other
//! writes are transactions on connections of their own. Whoever asked may go
//! away meanwhile: what was asked for is done all the same.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use sqlx::SqlitePool;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::ledger::db::{Conn, sql};
use crate::ledger::error::LedgerError;
use crate::ledger::record::{self, Entry, RecordChunk, Recorded};
use crate::ledger::{End, Pools};

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
    Transaction(Box<dyn Transaction>),
    Close,
}

/// A write of any kind, as the writer sees it: it runs, and later its outcome
/// is settled by that of the commit.
trait Transaction: Send {
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
    job: Option<F>,
    outcome: Option<Result<T, LedgerError>>,
    reply: Reply<T>,
}

impl<F, T> Transaction for Job<F, T>
where
    T: Send,
    F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<End<T>, LedgerError>> + Send,
{
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
        self.broken.get().map_or(Ok(()), |e| Err(e.clone()))
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
        self.sound()?;
        let (reply, answer) = oneshot::channel();
        self.queue.send(Write::Chunk(record, reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Runs a transaction.
    pub(super) async fn transact<T, F>(&self, job: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<End<T>, LedgerError>> + Send + 'static,
    {
        self.sound()?;
        let (reply, answer) = oneshot::channel();
        let job: Box<dyn Transaction> = Box::new(Job { job: Some(job), outcome: None, reply });
        match &self.pools {
            Pools::Sqlite { .. } => self.queue.send(Write::Transaction(job)).await.map_err(|_| closed())?,
            Pools::Postgres(pool) => {
                // A task of its own: a caller that goes away must not leave it half done.
                tokio::spawn(alone(pool.clone(), job));
            }
        }
        answer.await.map_err(|_| closed())?
    }
}

fn closed() -> LedgerError {
    LedgerError::Unavailable("the ledger is closed".to_owned())
}

/// The task.
async fn run(pools: Pools, mut waiting: mpsc::Receiver<Write>, broken: Broken) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
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
        match &pools {
            Pools::Sqlite { writer: Some(writer), .. } => sqlite_batch(&pools, writer, groups, &broken).await,
            Pools::Sqlite { writer: None, .. } => groups.into_iter().for_each(|g| g.settle(Err(LedgerError::ReadOnly))),
            Pools::Postgres(_) => postgres_batch(&pools, groups).await,
        }
    }
}

/// Chunks that follow each other are one statement.
enum Group {
    Chunks(Vec<RecordChunk>, Vec<Reply<Recorded>>),
    Transaction(Box<dyn Transaction>),
}

fn group(batch: impl Iterator<Item = Write>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for write in batch {
        match (write, groups.last_mut()) {
            (Write::Chunk(record, reply), Some(Group::Chunks(records, replies))) => {
                records.push(record);
                replies.push(reply);
            }
            (Write::Chunk(record, reply), Some(Group::Transaction(_)) | None) => {
                groups.push(Group::Chunks(vec![record], vec![reply]));
            }
            (Write::Transaction(job), _) => groups.push(Group::Transaction(job)),
            (Write::Close, _) => {}
        }
    }
    groups
}

impl Group {
    /// The same answer to all of it, when it did not come to its own.
    fn settle(self, answer: Answer) {
        match self {
            Self::Chunks(_, replies) => {
                for reply in replies {
                    let _ = reply.send(answer.clone().and(Err(closed())));
                }
            }
            Self::Transaction(job) => job.settle(answer),
        }
    }
}

/// A group that ran, before the commit.
enum Ran {
    Chunks(Vec<RecordChunk>, Vec<Result<Entry, LedgerError>>, Vec<Reply<Recorded>>),
    Transaction(Box<dyn Transaction>),
}

impl Ran {
    /// `committed` is the commit's outcome.
    fn settle(self, pools: &Pools, committed: Answer) {
        match self {
            Self::Chunks(records, entries, replies) => {
                let entries = match committed {
                    Ok(()) => entries,
                    Err(e) => vec![Err(e); replies.len()],
                };
                answer_chunks(pools.clone(), None, &records, entries, replies);
            }
            Self::Transaction(job) => job.settle(committed),
        }
    }
}

async fn sqlite_batch(pools: &Pools, writer: &SqlitePool, groups: Vec<Group>, broken: &Broken) {
    if let Some(e) = broken.get() {
        return groups.into_iter().for_each(|group| group.settle(Err(e.clone())));
    }
    let mut groups = groups.into_iter();
    let mut ran = Vec::new();
    let outcome = sqlite_transaction(writer, &mut groups, &mut ran).await;
    if let Err(e @ (LedgerError::Broken(_) | LedgerError::Damaged(_))) = &outcome {
        tracing::error!(error = %e, "the ledger takes no more writes");
        let _ = broken.set(e.clone());
    }
    for group in ran {
        group.settle(pools, outcome.clone());
    }
    // Those that were not reached before it failed.
    for group in groups {
        group.settle(outcome.clone());
    }
}

/// One transaction for all groups. What fails alone is rolled back alone and
/// keeps its own outcome; `Err` is for all.
async fn sqlite_transaction(
    writer: &SqlitePool,
    groups: &mut std::vec::IntoIter<Group>,
    ran: &mut Vec<Ran>,
) -> Result<(), LedgerError> {
    let mut conn = Conn::Sqlite(writer.acquire().await?);
    conn.execute(sql("BEGIN IMMEDIATE")).await?;
    let mut outcome = Ok(());
    for group in groups {
        let (done, result) = sqlite_group(&mut conn, group).await;
        ran.push(done);
        outcome = result;
        if outcome.is_err() {
            break;
        }
    }
    if outcome.is_ok() {
        outcome = conn.execute(sql("COMMIT")).await.map(|_| ());
    }
    if outcome.is_err() {
        // SQLite may have rolled back by itself; then this fails, and that is well.
        let _ = conn.execute(sql("ROLLBACK")).await;
    }
    outcome
}

async fn sqlite_group(conn: &mut Conn, group: Group) -> (Ran, Result<(), LedgerError>) {
    match group {
        Group::Transaction(mut job) => {
            let result = sqlite_job(conn, &mut *job).await;
            (Ran::Transaction(job), result)
        }
        Group::Chunks(records, replies) => {
            let result = sqlite_chunks(conn, &records).await;
            let outcome = result.as_ref().map(|_| ()).map_err(Clone::clone);
            let entries = result.unwrap_or_else(|e| vec![Err(e); replies.len()]);
            (Ran::Chunks(records, entries, replies), outcome)
        }
    }
}

async fn sqlite_job(conn: &mut Conn, job: &mut dyn Transaction) -> Result<(), LedgerError> {
    conn.execute(sql("SAVEPOINT one")).await?;
    let result = job.run(conn).await;
    // Its own error is its outcome already.
    end_savepoint(conn, result.map(|keep| keep == Keep::Yes)).await.map(|_| ())
}

/// All in one statement; if that fails by one of them, each in its own.
async fn sqlite_chunks(
    conn: &mut Conn,
    records: &[RecordChunk],
) -> Result<Vec<Result<Entry, LedgerError>>, LedgerError> {
    match sqlite_record(conn, records).await? {
        Ok(entries) => Ok(entries.into_iter().map(Ok).collect()),
        Err(e) if records.len() == 1 => Ok(vec![Err(e)]),
        Err(_) => {
            let mut entries = Vec::with_capacity(records.len());
            for record in records.chunks(1) {
                match sqlite_record(conn, record).await? {
                    Ok(entry) => entries.extend(entry.into_iter().map(Ok)),
                    Err(e) => entries.push(Err(e)),
                }
            }
            Ok(entries)
        }
    }
}

/// The inner error is of these records alone, the outer one of the whole transaction.
async fn sqlite_record(
    conn: &mut Conn,
    records: &[RecordChunk],
) -> Result<Result<Vec<Entry>, LedgerError>, LedgerError> {
    conn.execute(sql("SAVEPOINT one")).await?;
    let (result, entries) = match record::record(conn, records, false).await {
        Ok(entries) => (Ok(true), entries),
        Err(e) => (Err(e), Vec::new()),
    };
    Ok(end_savepoint(conn, result).await?.map_or(Ok(entries), Err))
}

/// Keeps what was written since the savepoint, or not. An error that is its
/// own is handed back as `Ok(Some(_))`; `Err` is one of the whole transaction.
async fn end_savepoint(conn: &mut Conn, result: Result<bool, LedgerError>) -> Result<Option<LedgerError>, LedgerError> {
    if let Err(e @ (LedgerError::Full(_) | LedgerError::Broken(_) | LedgerError::Damaged(_))) = result {
        return Err(e);
    }
    if !matches!(result, Ok(true)) {
        conn.execute(sql("ROLLBACK TO one")).await?;
    }
    conn.execute(sql("RELEASE one")).await?;
    Ok(result.err())
}

async fn postgres_batch(pools: &Pools, groups: Vec<Group>) {
    for group in groups {
        match group {
            Group::Chunks(records, replies) => postgres_chunks(pools, records, replies).await,
            Group::Transaction(job) => job.settle(Err(closed())),
        }
    }
}

/// All in one statement. A lost connection is worth one more attempt, for
/// recording twice is recording once; if the statement fails by one of them,
/// each gets its own.
async fn postgres_chunks(pools: &Pools, records: Vec<RecordChunk>, replies: Vec<Reply<Recorded>>) {
    let mut outcome = postgres_record(pools, &records, false).await;
    if outcome.as_ref().is_err_and(LedgerError::is_transient) {
        outcome = postgres_record(pools, &records, true).await;
    }
    match outcome {
        Ok((conn, entries)) => {
            answer_chunks(pools.clone(), Some(conn), &records, entries.into_iter().map(Ok).collect(), replies);
        }
        Err(e) if e.is_transient() || records.len() == 1 => {
            replies.into_iter().for_each(|reply| drop(reply.send(Err(e.clone()))));
        }
        Err(_) => {
            for (record, reply) in records.into_iter().zip(replies) {
                Box::pin(postgres_chunks(pools, vec![record], vec![reply])).await;
            }
        }
    }
}

/// Records them and gives the connection back, for the count.
async fn postgres_record(
    pools: &Pools,
    records: &[RecordChunk],
    again: bool,
) -> Result<(Conn, Vec<Entry>), LedgerError> {
    let Pools::Postgres(pool) = pools else { return Err(closed()) };
    if record::is_plain(records) {
        let mut conn = Conn::Postgres(pool.acquire().await?);
        let entries = record::record(&mut conn, records, again).await?;
        return Ok((conn, entries));
    }
    let mut conn = Conn::PostgresTransaction(pool.begin().await?);
    let entries = record::record(&mut conn, records, again).await?;
    if let Conn::PostgresTransaction(transaction) = conn {
        transaction.commit().await?;
    }
    Ok((pools.reader().await?, entries))
}

/// Counts in a snapshot begun after the commit, and answers. In a task of its
/// own, so that the next batch need not wait.
fn answer_chunks(
    pools: Pools,
    conn: Option<Conn>,
    records: &[RecordChunk],
    entries: Vec<Result<Entry, LedgerError>>,
    replies: Vec<Reply<Recorded>>,
) {
    let uploads: Vec<_> = records.iter().map(|r| r.upload.0).collect();
    tokio::spawn(async move {
        let counted = |entry: &Result<Entry, LedgerError>| matches!(entry, Ok(Entry::New | Entry::Known(_)));
        let ids: BTreeSet<_> =
            uploads.iter().zip(&entries).filter(|(_, entry)| counted(entry)).map(|(id, _)| *id).collect();
        let tallies = if ids.is_empty() { Ok(Default::default()) } else { tally(&pools, conn, ids).await };
        for ((id, entry), reply) in uploads.into_iter().zip(entries).zip(replies) {
            let answer = match &tallies {
                Ok(tallies) => entry.map(|entry| entry.with(tallies.get(&id).copied().unwrap_or_default())),
                Err(e) => entry.and(Err(e.clone())),
            };
            let _ = reply.send(answer);
        }
    });
}

async fn tally(
    pools: &Pools,
    conn: Option<Conn>,
    ids: BTreeSet<uuid::Uuid>,
) -> Result<std::collections::HashMap<uuid::Uuid, crate::domain::Progress>, LedgerError> {
    let mut conn = match conn {
        Some(conn) => conn,
        None => pools.reader().await?,
    };
    record::tally(&mut conn, ids).await
}

/// A transaction on a connection of its own.
async fn alone(pool: sqlx::PgPool, mut job: Box<dyn Transaction>) {
    let committed = async {
        let mut conn = Conn::PostgresTransaction(pool.begin().await?);
        let keep = job.run(&mut conn).await;
        let Conn::PostgresTransaction(transaction) = conn else { return Err(closed()) };
        match keep {
            Ok(Keep::Yes) => transaction.commit().await?,
            Ok(Keep::No) => transaction.rollback().await?,
            // Its own error is its outcome; that of the rollback says no more.
            Err(_) => drop(transaction.rollback().await),
        }
        Ok(())
    }
    .await;
    job.settle(committed);
}
