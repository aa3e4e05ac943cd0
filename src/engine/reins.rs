//! What others hold of a body that is being read: to see how it gets on, and
//! to break it off.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use crate::domain::Refusal;

/// The reins of one body. Clones are the same reins.
#[derive(Clone, Debug, Default)]
pub struct Reins {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    broken_off: CancellationToken,
    why: OnceLock<Refusal>,
    bytes: AtomicU64,
    waits: AtomicBool,
}

impl Reins {
    /// Breaks the body off while it is being read; later it changes nothing.
    /// Of several reasons the first counts.
    pub fn break_off(&self, why: Refusal) {
        let _ = self.shared.why.set(why);
        self.shared.broken_off.cancel();
    }

    /// Resolves once it is broken off.
    pub fn broken_off(&self) -> &CancellationToken {
        &self.shared.broken_off
    }

    /// Why it was broken off.
    pub fn why(&self) -> Refusal {
        self.shared.why.get().cloned().unwrap_or(Refusal::Internal)
    }

    /// So many bytes more have come.
    pub(super) fn moved(&self, bytes: usize) {
        self.shared.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.shared.waits.load(Ordering::Relaxed) {
            self.shared.waits.store(false, Ordering::Relaxed);
        }
    }

    /// The store waits for the client.
    pub(super) fn waits(&self) {
        self.shared.waits.store(true, Ordering::Relaxed);
    }

    /// How many bytes have come, and whether more are being waited for. When
    /// they are not, it is the store that takes its time.
    pub fn progress(&self) -> (u64, bool) {
        (self.shared.bytes.load(Ordering::Relaxed), self.shared.waits.load(Ordering::Relaxed))
    }
}
