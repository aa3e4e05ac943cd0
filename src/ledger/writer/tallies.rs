//! How much is recorded of each upload that chunks come for, kept beside the
//! one connection that records them: counting the rows anew for each chunk
//! would read as many rows as there are chunks already.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use crate::domain::Progress;
use crate::ledger::error::LedgerError;
use crate::ledger::record::{Entry, RecordChunk};

/// So many uploads are remembered at most; all are forgotten beyond that.
const UPLOADS_MAX: usize = 4096;

/// What is committed, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    known: HashMap<Uuid, Progress>,
}

impl Tallies {
    /// Of these uploads, those that must be counted.
    pub(super) fn unknown(&self, uploads: &BTreeSet<Uuid>) -> BTreeSet<Uuid> {
        uploads.iter().filter(|id| !self.known.contains_key(id)).copied().collect()
    }

    /// Takes in what was committed, and what was counted after that.
    pub(super) fn learn(
        &mut self,
        records: &[RecordChunk],
        entries: &[Result<Entry, LedgerError>],
        counted: HashMap<Uuid, Progress>,
    ) {
        for (record, entry) in records.iter().zip(entries) {
            if matches!(entry, Ok(Entry::New))
                && let Some(progress) = self.known.get_mut(&record.upload.0)
            {
                progress.chunks += 1;
                progress.bytes += record.chunk.bytes;
            }
        }
        if self.known.len() + counted.len() > UPLOADS_MAX {
            self.known.clear();
        }
        self.known.extend(counted);
    }

    /// What is known of these uploads.
    pub(super) fn of(&self, uploads: &BTreeSet<Uuid>) -> HashMap<Uuid, Progress> {
        uploads.iter().filter_map(|id| Some((*id, *self.known.get(id)?))).collect()
    }

    /// What is known of this upload may not be so any more.
    pub(super) fn forget(&mut self, upload: Uuid) {
        self.known.remove(&upload);
    }
}
