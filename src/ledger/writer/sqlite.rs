//! Batches on SQLite: one transaction for writes of every kind, each in a
//! savepoint of its own where it may fail alone. Chunks alone are one
//! statement, which is a transaction by itself: every statement is a hop to
//! the connection's thread and back.

use std::collections::HashMap;

use uuid::Uuid;

use crate::domain::Progress;
use crate::ledger::connections::Connections;
use crate::ledger::db::{Conn, sql};
use crate::ledger::error::LedgerError;
use crate::ledger::files::{self, NewFile, Recording};
use crate::ledger::record::{self, Entry, RecordChunk, Recorded};
use crate::ledger::underway;
use crate::ledger::writer::group::{Group, answer, counted, settle_all, settle_files};
use crate::ledger::writer::tallies::Tallies;
use crate::ledger::writer::{Answer, Broken, Keep, Reply, Transaction, alone};

/// A group that ran, before the commit.
enum Ran {
    Chunks(Vec<RecordChunk>, Vec<Result<Entry, LedgerError>>, Vec<Reply<Recorded>>),
    Intents(Vec<Reply<()>>),
    Files(Vec<bool>, Vec<Reply<bool>>),
    Transaction(Box<dyn Transaction>),
}

impl Ran {
    /// `committed` is the commit's outcome.
    async fn settle(self, writer: &Connections, tallies: &mut Tallies, committed: Answer) {
        match self {
            Self::Chunks(records, entries, replies) => {
                let entries = match committed {
                    Ok(()) => entries,
                    Err(e) => vec![Err(e); replies.len()],
                };
                let known = count(writer, tallies, &records, &entries).await;
                if known.is_err() {
                    // What was committed has not been added to what is known.
                    records.iter().for_each(|record| tallies.forget(record.upload.0));
                }
                answer(&records, entries, replies, &known);
            }
            Self::Intents(replies) => settle_all(replies, committed),
            Self::Files(done, replies) => settle_files(replies, done, &committed),
            Self::Transaction(job) => {
                if let Some(upload) = job.nature().forgets_of {
                    tallies.forget(upload.0);
                }
                job.settle(committed);
            }
        }
    }
}

/// Counts what was committed: by adding to what is known, or by reading, after
/// the commit, what is there.
async fn count(
    writer: &Connections,
    tallies: &mut Tallies,
    records: &[RecordChunk],
    entries: &[Result<Entry, LedgerError>],
) -> Result<HashMap<Uuid, Progress>, LedgerError> {
    let uploads = counted(records, entries);
    let unknown = tallies.unknown(&uploads);
    let read = match unknown.is_empty() {
        true => HashMap::new(),
        false => record::tally(&mut Conn::from(writer.acquire().await?), unknown).await?,
    };
    tallies.learn(records, entries, read);
    Ok(tallies.of(&uploads))
}

/// Commits a batch, or answers all of it with why not.
pub(super) async fn batch(writer: &Connections, groups: Vec<Group>, tallies: &mut Tallies, broken: &Broken) {
    if let Some(e) = broken.get() {
        return groups.into_iter().for_each(|group| group.settle(Err(e.clone())));
    }
    let mut groups = groups.into_iter();
    let mut ran = Vec::new();
    let outcome = run(writer, &mut groups, &mut ran).await;
    if let Err(e @ (LedgerError::Broken(_) | LedgerError::Damaged(_))) = &outcome {
        tracing::error!(error = %e, "the ledger takes no more writes");
        let _ = broken.set(e.clone());
    }
    for group in ran {
        group.settle(writer, tallies, outcome.clone()).await;
    }
    // Those that were not reached before it failed.
    for group in groups {
        group.settle(outcome.clone());
    }
}

/// Runs all groups and commits them, in as few statements as they need.
async fn run(
    writer: &Connections,
    groups: &mut std::vec::IntoIter<Group>,
    ran: &mut Vec<Ran>,
) -> Result<(), LedgerError> {
    let mut conn = Conn::from(writer.acquire().await?);
    match groups.as_slice() {
        [Group::Chunks(records, _)] if record::is_plain(records) => {
            match record::record(&mut conn, records, false).await {
                Ok(entries) => {
                    if let Some(Group::Chunks(records, replies)) = groups.next() {
                        ran.push(Ran::Chunks(records, entries.into_iter().map(Ok).collect(), replies));
                    }
                    return Ok(());
                }
                // Tried once more, a sync that failed may seem to succeed.
                Err(e @ (LedgerError::Broken(_) | LedgerError::Damaged(_))) => return Err(e),
                // A transaction says of each what is wrong with it.
                Err(_) => {}
            }
        }
        [Group::Intents(intents, _)] => {
            let outcome = underway::intend_many(&mut conn, intents).await;
            if let Some(Group::Intents(_, replies)) = groups.next() {
                ran.push(Ran::Intents(replies));
            }
            return outcome;
        }
        [Group::Transaction(_)] => {
            if let Some(Group::Transaction(mut job)) = groups.next() {
                let outcome = alone(&mut conn, &mut *job).await;
                ran.push(Ran::Transaction(job));
                return outcome;
            }
        }
        _ => {}
    }
    transaction(&mut conn, groups, ran).await
}

/// One transaction for all groups. What fails alone is rolled back alone and
/// keeps its own outcome; `Err` is for all.
async fn transaction(
    conn: &mut Conn,
    groups: &mut std::vec::IntoIter<Group>,
    ran: &mut Vec<Ran>,
) -> Result<(), LedgerError> {
    conn.begin().await?;
    let mut outcome = Ok(());
    for group in groups {
        let (done, result) = run_group(conn, group).await;
        ran.push(done);
        outcome = result;
        if outcome.is_err() {
            break;
        }
    }
    if outcome.is_ok() {
        outcome = conn.commit().await;
    }
    if outcome.is_err() {
        // SQLite may have rolled back by itself; then this fails, and the connection is a new one next time.
        drop(conn.rollback().await);
    }
    outcome
}

async fn run_group(conn: &mut Conn, group: Group) -> (Ran, Result<(), LedgerError>) {
    match group {
        Group::Transaction(mut job) => {
            let result = run_job(conn, &mut *job).await;
            (Ran::Transaction(job), result)
        }
        Group::Intents(intents, replies) => {
            let outcome = underway::intend_many(conn, &intents).await;
            (Ran::Intents(replies), outcome)
        }
        Group::Files(new, replies) => match run_files(conn, &new).await {
            Ok(done) => (Ran::Files(done, replies), Ok(())),
            Err(e) => (Ran::Files(vec![false; new.len()], replies), Err(e)),
        },
        Group::Chunks(records, replies) => {
            let result = run_chunks(conn, &records).await;
            let outcome = result.as_ref().map(|_| ()).map_err(Clone::clone);
            let entries = result.unwrap_or_else(|e| vec![Err(e); replies.len()]);
            (Ran::Chunks(records, entries, replies), outcome)
        }
    }
}

async fn run_job(conn: &mut Conn, job: &mut dyn Transaction) -> Result<(), LedgerError> {
    if job.nature().is_one_statement {
        // Undone by itself if it fails.
        return match job.run(conn).await {
            Err(e) if is_of_all(&e) => Err(e),
            Ok(_) | Err(_) => Ok(()),
        };
    }
    conn.execute(sql("SAVEPOINT one")).await?;
    let result = job.run(conn).await;
    // Its own error is its outcome already.
    end_savepoint(conn, result.map(|keep| keep == Keep::Yes)).await.map(|_| ())
}

/// All at once, or none of them: then each is looked at alone.
async fn run_files(conn: &mut Conn, new: &[NewFile]) -> Result<Vec<bool>, LedgerError> {
    conn.execute(sql("SAVEPOINT one")).await?;
    let (result, done) = match files::create_many(conn, new).await.map(Recording::usual) {
        Ok(Some(done)) => (Ok(true), done),
        Ok(None) => (Ok(false), vec![false; new.len()]),
        Err(e) => (Err(e), vec![false; new.len()]),
    };
    end_savepoint(conn, result).await.map(|_| done)
}

/// All in one statement; if that fails by one of them, each in its own.
async fn run_chunks(conn: &mut Conn, records: &[RecordChunk]) -> Result<Vec<Result<Entry, LedgerError>>, LedgerError> {
    match try_chunks(conn, records).await? {
        Ok(entries) => Ok(entries.into_iter().map(Ok).collect()),
        Err(e) if records.len() == 1 => Ok(vec![Err(e)]),
        Err(_) => {
            let mut entries = Vec::with_capacity(records.len());
            for record in records.chunks(1) {
                match try_chunks(conn, record).await? {
                    Ok(entry) => entries.extend(entry.into_iter().map(Ok)),
                    Err(e) => entries.push(Err(e)),
                }
            }
            Ok(entries)
        }
    }
}

/// The inner error is of these records alone, the outer one of the whole transaction.
async fn try_chunks(conn: &mut Conn, records: &[RecordChunk]) -> Result<Result<Vec<Entry>, LedgerError>, LedgerError> {
    conn.execute(sql("SAVEPOINT one")).await?;
    let (result, entries) = match record::record(conn, records, false).await {
        Ok(entries) => (Ok(true), entries),
        Err(e) => (Err(e), Vec::new()),
    };
    Ok(end_savepoint(conn, result).await?.map_or(Ok(entries), Err))
}

/// Whether an error is one of the whole transaction.
const fn is_of_all(error: &LedgerError) -> bool {
    matches!(error, LedgerError::Full(_) | LedgerError::Broken(_) | LedgerError::Damaged(_))
}

/// Keeps what was written since the savepoint, or not. An error that is its
/// own is handed back as `Ok(Some(_))`; `Err` is one of the whole transaction.
async fn end_savepoint(conn: &mut Conn, result: Result<bool, LedgerError>) -> Result<Option<LedgerError>, LedgerError> {
    if let Err(e) = &result
        && is_of_all(e)
    {
        return Err(e.clone());
    }
    if !matches!(result, Ok(true)) {
        conn.execute(sql("ROLLBACK TO one")).await?;
    }
    conn.execute(sql("RELEASE one")).await?;
    Ok(result.err())
}
