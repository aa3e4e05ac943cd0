//! What is counted while it goes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Counters that all clients share.
#[derive(Debug, Default)]
pub(super) struct Tally {
    bytes: AtomicU64,
    taken: Mutex<Taken>,
}

/// What each took, and what went wrong.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken {
    pub(super) chunks: Vec<Duration>,
    pub(super) files: Vec<Duration>,
    /// Answers after which the same was sent again, by code.
    pub(super) refusals: BTreeMap<String, u64>,
    /// What ended a file, by code.
    pub(super) errors: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn chunk(&self, bytes: u64, took: Duration) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.taken().chunks.push(took);
    }

    pub(super) fn file(&self, took: Duration) {
        self.taken().files.push(took);
    }

    pub(super) fn refusal(&self, code: &str) {
        *self.taken().refusals.entry(code.to_owned()).or_default() += 1;
    }

    pub(super) fn error(&self, code: &str) {
        *self.taken().errors.entry(code.to_owned()).or_default() += 1;
    }

    /// Bytes that were acknowledged.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
