//! The sweeper: finishes what was left unfinished and cleans up what nobody
//! wants any more, a bounded piece at a time.

use std::time::Duration;

use tracing::{info, warn};

use crate::domain::event::{EventKind, Subject};
use crate::domain::{Upload, UploadId};
use crate::engine::deliver::GIVE_UP_AFTER;
use crate::engine::finish::Entry;
use crate::engine::{Engine, EngineError};

/// Uploads of each kind that one turn looks at.
const ROWS_PER_TURN: u32 = 200;
/// The longest that a call to the store may still take effect after its upload
/// has ended: then what it left is looked for once more, and forgotten.
const CLEAN_GRACE: Duration = Duration::from_secs(600);
/// The pause before a store is asked again that did not let go of something.
const CLEAN_PAUSE: Duration = Duration::from_secs(60);
/// Chunk rows that go in one statement, and statements of one turn.
const CHUNKS_PER_STATEMENT: u32 = 10_000;
const STATEMENTS_PER_TURN: u32 = 20;

/// What one turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Uploads that expired.
    pub expired: u64,
    /// Merges taken over from a silent holder, or begun because nobody had.
    pub merges: u64,
    /// Ended uploads whose parts are gone from the store now.
    pub cleaned: u64,
    /// Chunk rows of long completed uploads that were dropped.
    pub chunks: u64,
    /// Deliveries to receivers that are no longer configured, given up.
    pub deliveries: u64,
}

impl Swept {
    /// Whether there was as much of something as one turn takes: there may be more.
    fn is_full(&self) -> bool {
        let rows = u64::from(ROWS_PER_TURN);
        self.expired >= rows || self.cleaned >= rows || self.merges >= rows
    }
}

impl Engine {
    /// Sweeps at once and then at every interval, until the engine drains.
    pub async fn run_sweeper(&self) {
        let mut cursor = None;
        while !self.shared.stopping.is_cancelled() {
            match self.sweep(&mut cursor).await {
                Ok(swept) if swept == Swept::default() => {}
                Ok(swept) => {
                    info!(?swept, "swept");
                    if swept.is_full() {
                        continue;
                    }
                }
                Err(error) => warn!(%error, "the sweeper could not go on; it tries again at its next turn"),
            }
            tokio::select! {
                () = tokio::time::sleep(self.shared.settings.sweep.interval) => {}
                () = self.shared.stopping.cancelled() => {}
            }
        }
    }

    /// One turn. `cursor` remembers where among the open uploads the last one ended.
    pub async fn sweep(&self, cursor: &mut Option<UploadId>) -> Result<Swept, EngineError> {
        Ok(Swept {
            merges: self.finish_abandoned(cursor).await?,
            expired: self.expire().await?,
            cleaned: self.clean_remains().await?,
            chunks: self.forget_chunks().await?,
            deliveries: self.forget_deliveries().await?,
        })
    }

    /// Merges whose holder died, and uploads that have all their chunks but
    /// were never merged: their last gateway died between row and merge.
    async fn finish_abandoned(&self, cursor: &mut Option<UploadId>) -> Result<u64, EngineError> {
        let ledger = &self.shared.ledger;
        let abandoned = ledger.stale_completing(ROWS_PER_TURN).await?;
        let full = ledger.ready_to_merge(*cursor, ROWS_PER_TURN).await?;
        *cursor = full.last().map(|upload| upload.id);
        for upload in &abandoned {
            self.finish_later(upload, Entry::TakeOver);
        }
        for upload in &full {
            self.finish_later(upload, Entry::Fresh);
        }
        Ok((abandoned.len() + full.len()) as u64)
    }

    async fn expire(&self) -> Result<u64, EngineError> {
        let now = self.shared.clock.now();
        let mut expired = 0;
        for upload in self.shared.ledger.due_expired(now, ROWS_PER_TURN).await? {
            expired += u64::from(self.expire_one(&upload).await?);
        }
        Ok(expired)
    }

    async fn expire_one(&self, upload: &Upload) -> Result<bool, EngineError> {
        let events = self.events(upload, EventKind::Expired, &Subject::Upload(upload, None));
        let done = self.shared.ledger.expire(upload.id, self.shared.clock.now(), &events).await?;
        if done {
            self.deliver_soon();
            info!(upload = %upload.id, file_id = %upload.file_id, owner = %upload.owner, "upload expired");
        }
        Ok(done)
    }

    async fn clean_remains(&self) -> Result<u64, EngineError> {
        let (ledger, mut cleaned) = (&self.shared.ledger, 0);
        for remains in ledger.remains(self.shared.clock.now(), ROWS_PER_TURN).await? {
            let now = self.shared.clock.now();
            let settles_at = remains.ended_at.plus(CLEAN_GRACE);
            match self.clean(&remains).await {
                Ok(true) if now >= settles_at => {
                    ledger.clear_remains(remains.id).await?;
                    cleaned += 1;
                }
                // Something may still be on its way into the store.
                Ok(true) => ledger.defer_remains(remains.id, settles_at).await?,
                Ok(false) => ledger.defer_remains(remains.id, now.plus(CLEAN_PAUSE)).await?,
                Err(error) => {
                    warn!(upload = %remains.id, key = %remains.key, %error, "parts are still in the store");
                    ledger.defer_remains(remains.id, now.plus(CLEAN_PAUSE)).await?;
                    if error.is_unavailable() {
                        // It would be so for all the others too, a time-out each.
                        break;
                    }
                }
            }
        }
        Ok(cleaned)
    }

    /// What is due for longer than anything is tried, nobody tries.
    async fn forget_deliveries(&self) -> Result<u64, EngineError> {
        let before = self.shared.clock.now().minus(GIVE_UP_AFTER);
        Ok(self.shared.ledger.bury_forgotten(before, ROWS_PER_TURN).await?)
    }

    async fn forget_chunks(&self) -> Result<u64, EngineError> {
        let before = self.shared.clock.now().minus(self.shared.settings.sweep.keep_chunks);
        let mut forgotten = 0;
        for _ in 0..STATEMENTS_PER_TURN {
            let rows = self.shared.ledger.prune_chunks(before, CHUNKS_PER_STATEMENT).await?;
            forgotten += rows;
            if rows < u64::from(CHUNKS_PER_STATEMENT) {
                break;
            }
        }
        Ok(forgotten)
    }
}
