//! Writes that wait at the same time, sorted by kind: what is asked for alike
//! is done in one. And their answers.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use crate::domain::Progress;
use crate::ledger::error::LedgerError;
use crate::ledger::files::NewFile;
use crate::ledger::record::{Entry, RecordChunk, Recorded};
use crate::ledger::underway::Intent;
use crate::ledger::writer::{Answer, Reply, Transaction, Write, closed};

/// Of what was asked for at the same time, nothing waits for anything else of it.
pub(super) enum Group {
    Chunks(Vec<RecordChunk>, Vec<Reply<Recorded>>),
    Intents(Vec<Intent>, Vec<Reply<()>>),
    Files(Vec<NewFile>, Vec<Reply<bool>>),
    Transaction(Box<dyn Transaction>),
}

pub(super) fn group(batch: impl Iterator<Item = Write>) -> Vec<Group> {
    let (mut chunks, mut intents, mut files) = ((vec![], vec![]), (vec![], vec![]), (vec![], vec![]));
    let mut transactions = Vec::new();
    for write in batch {
        match write {
            Write::Chunk(record, reply) => {
                chunks.0.push(record);
                chunks.1.push(reply);
            }
            Write::Intent(intent, reply) => {
                intents.0.push(intent);
                intents.1.push(reply);
            }
            Write::File(file, reply) => {
                files.0.push(*file);
                files.1.push(reply);
            }
            Write::Transaction(job) => transactions.push(Group::Transaction(job)),
            Write::Close => {}
        }
    }
    let mut groups = Vec::new();
    groups.extend((!chunks.0.is_empty()).then_some(Group::Chunks(chunks.0, chunks.1)));
    groups.extend((!intents.0.is_empty()).then_some(Group::Intents(intents.0, intents.1)));
    groups.extend((!files.0.is_empty()).then_some(Group::Files(files.0, files.1)));
    groups.extend(transactions);
    groups
}

impl Group {
    /// The same answer to all of it, when it did not come to its own.
    pub(super) fn settle(self, answer: Answer) {
        match self {
            Self::Chunks(_, replies) => settle_all(replies, answer.and(Err(closed()))),
            Self::Intents(_, replies) => settle_all(replies, answer.and(Err(closed()))),
            Self::Files(_, replies) => settle_all(replies, answer.and(Err(closed()))),
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

/// What became of files that were recorded together; a commit that failed
/// undid it.
pub(super) fn settle_files(replies: Vec<Reply<bool>>, done: Vec<bool>, committed: &Answer) {
    for (reply, done) in replies.into_iter().zip(done) {
        let _ = reply.send(committed.clone().map(|()| done));
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
