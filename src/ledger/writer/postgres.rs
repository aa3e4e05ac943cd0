//! Batches on Postgres: one statement for all chunks, and one transaction for
//! all of a kind that shares them. Other writes are transactions on connections
//! of their own.

use std::collections::HashMap;

use futures_util::future::join_all;
use sqlx::PgPool;

use crate::ledger::db::{Conn, acquire};
use crate::ledger::error::LedgerError;
use crate::ledger::record::{self, Entry, RecordChunk, Recorded};
use crate::ledger::writer::group::{Group, answer, counted};
use crate::ledger::writer::{Reply, Transaction, alone};

/// So many chunks are one statement; more are several (`Conn::rows_of`), which a
/// transaction holds together.
const TOGETHER_MAX: usize = 64;

/// Commits a batch, each kind of write beside the others, or answers all of it
/// with why not. `Err` when there was no connection in time: then whoever waits
/// behind this batch need not wait for another attempt.
pub(super) async fn batch(writer: &PgPool, groups: Vec<Group>) -> Result<(), LedgerError> {
    let all = groups.into_iter().map(async |group| match group {
        Group::Chunks(records, replies) => chunks(writer, records, replies).await,
        Group::Transaction(job) => shared(writer, job).await,
    });
    join_all(all).await.into_iter().collect()
}

/// All in one statement. A connection that was lost on the way is worth one
/// more attempt, for recording twice is recording once; if the statement fails
/// by one of them, each gets its own.
async fn chunks(writer: &PgPool, records: Vec<RecordChunk>, replies: Vec<Reply<Recorded>>) -> Result<(), LedgerError> {
    let mut attempt = try_chunks(writer, &records, false).await;
    if let Ok(Err(lost)) = &attempt
        && lost.is_transient()
    {
        tracing::warn!(error = %lost, chunks = records.len(), "a batch of chunks is recorded once more");
        attempt = try_chunks(writer, &records, true).await;
    }
    match attempt {
        Ok(Ok((conn, entries))) => {
            let entries = entries.into_iter().map(Ok).collect();
            // In a task of its own, so that the next batch need not wait.
            tokio::spawn(count_and_answer(conn, records, entries, replies));
            Ok(())
        }
        Ok(Err(e)) if e.is_transient() || records.len() == 1 => {
            Group::Chunks(records, replies).settle(Err(e));
            Ok(())
        }
        Ok(Err(_)) => {
            for (record, reply) in records.into_iter().zip(replies) {
                Box::pin(chunks(writer, vec![record], vec![reply])).await?;
            }
            Ok(())
        }
        Err(e) => {
            Group::Chunks(records, replies).settle(Err(e.clone()));
            Err(e)
        }
    }
}

/// The outer error is of a connection that could not be had, the inner one of
/// the attempt. Gives the connection back for the count.
async fn try_chunks(
    writer: &PgPool,
    records: &[RecordChunk],
    again: bool,
) -> Result<Result<(Conn, Vec<Entry>), LedgerError>, LedgerError> {
    let mut conn = acquire(writer).await?;
    let recorded = if records.len() <= TOGETHER_MAX && record::is_plain(records) {
        record::record(&mut conn, records, again).await
    } else {
        in_transaction(&mut conn, records, again).await
    };
    Ok(recorded.map(|entries| (conn, entries)))
}

async fn in_transaction(conn: &mut Conn, records: &[RecordChunk], again: bool) -> Result<Vec<Entry>, LedgerError> {
    conn.begin().await?;
    let entries = record::record(conn, records, again).await?;
    conn.commit().await?;
    Ok(entries)
}

/// A transaction of many who asked at the same time.
async fn shared(writer: &PgPool, mut job: Box<dyn Transaction>) -> Result<(), LedgerError> {
    match acquire(writer).await {
        Ok(mut conn) => {
            let committed = alone(&mut conn, &mut *job).await;
            job.settle(committed);
            Ok(())
        }
        Err(e) => {
            job.settle(Err(e.clone()));
            Err(e)
        }
    }
}

/// Counts in a snapshot begun after the commit, and answers.
async fn count_and_answer(
    mut conn: Conn,
    records: Vec<RecordChunk>,
    entries: Vec<Result<Entry, LedgerError>>,
    replies: Vec<Reply<Recorded>>,
) {
    let uploads = counted(&records, &entries);
    let tallies = if uploads.is_empty() { Ok(HashMap::new()) } else { record::tally(&mut conn, uploads).await };
    answer(&records, entries, replies, &tallies);
}

/// A transaction on a connection of its own.
pub(super) async fn transaction(pool: PgPool, mut job: Box<dyn Transaction>) {
    let committed = async { alone(&mut acquire(&pool).await?, &mut *job).await };
    let committed = committed.await;
    job.settle(committed);
}
