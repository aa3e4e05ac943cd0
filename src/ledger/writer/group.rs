//! Writes that wait at the same time, sorted by kind: what is asked for alike
//! is done in one. And their answers.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use crate::domain::Progress;
use crate::ledger::error::LedgerError;
use crate::ledger::record::{Entry, RecordChunk, Recorded};
use crate::ledger::writer::{Answer, Reply, Transaction, Write, closed};

/// Of what was asked for at the same time, nothing waits for anything else of it.
pub(super) enum Group {
    Chunks(Vec<RecordChunk>, Vec<Reply<Recorded>>),
    Transaction(Box<dyn Transaction>),
}

type Jobs = Vec<Box<dyn Transaction>>;

pub(super) fn group(batch: impl Iterator<Item = Write>) -> Vec<Group> {
    let (mut records, mut replies) = (Vec::new(), Vec::new());
    let (mut alike, mut others) = (Jobs::new(), Jobs::new());
    for write in batch {
        match write {
            Write::Chunk(record, reply) => {
                records.push(record);
                replies.push(reply);
            }
            Write::Alike(job) => {
                let joined = alike.iter_mut().try_fold(job, |job, first| match first.join(job) {
                    Ok(()) => Err(()),
                    Err(job) => Ok(job),
                });
                alike.extend(joined.ok());
            }
            Write::Transaction(job) => others.push(job),
            Write::Close => {}
        }
    }
    let chunks = (!records.is_empty()).then_some(Group::Chunks(records, replies));
    chunks.into_iter().chain(alike.into_iter().chain(others).map(Group::Transaction)).collect()
}

impl Group {
    /// The same answer to all of it, when it did not come to its own.
    pub(super) fn settle(self, answer: Answer) {
        match self {
            Self::Chunks(_, replies) => settle_all(replies, answer.and(Err(closed()))),
            Self::Transaction(job) => job.settle(answer),
        }
    }
}

pub(super) fn settle_all<T: Clone>(replies: Vec<Reply<T>>, answer: Result<T, LedgerError>) {
    for reply in replies {
        // Nobody may be waiting any more.
        let _ = reply.send(answer.clone());
    }
}

/// The uploads whose progress the answers tell.
pub(super) fn counted(records: &[RecordChunk], entries: &[Result<Entry, LedgerError>]) -> BTreeSet<Uuid> {
    let is_counted = |entry: &Result<Entry, LedgerError>| matches!(entry, Ok(Entry::New | Entry::Known(_)));
    records.iter().zip(entries).filter(|(_, entry)| is_counted(entry)).map(|(record, _)| record.upload.0).collect()
}

/// Answers with what was counted, or why it was not.
pub(super) fn answer(
    records: &[RecordChunk],
    entries: Vec<Result<Entry, LedgerError>>,
    replies: Vec<Reply<Recorded>>,
    tallies: &Result<HashMap<Uuid, Progress>, LedgerError>,
) {
    for ((record, entry), reply) in records.iter().zip(entries).zip(replies) {
        let answer = match tallies {
            Ok(tallies) => entry.map(|entry| entry.with(tallies.get(&record.upload.0).copied().unwrap_or_default())),
            Err(e) => entry.and(Err(e.clone())),
        };
        // Nobody may be waiting any more.
        let _ = reply.send(answer);
    }
}
