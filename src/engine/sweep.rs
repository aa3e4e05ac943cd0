//! The sweeper: finishes what was left unfinished and cleans up what nobody
//! wants any more, a bounded piece at a time.

use std::time::Duration;

use tracing::{info, warn};

use crate::domain::event::{EventKind, Subject};
use crate::domain::{ObjectKey, Timestamp, Upload, UploadId};
use crate::engine::deliver::GIVE_UP_AFTER;
use crate::engine::finish::Entry;
use crate::engine::{Engine, EngineError, Settings, SweepConfig, UploadConfig, direct};
use crate::ledger::{Orphan, Remains};
use crate::store::{StoreError, Target};

/// Uploads of each kind that one turn looks at.
const ROWS_PER_TURN: u32 = 200;
/// The longest that a call to the store may still take effect after its upload
/// has ended: then what it left is looked for once more, and forgotten.
const CLEAN_GRACE: Duration = Duration::from_secs(600);
/// The pause before a store is asked again that did not let go of something.
const CLEAN_PAUSE: Duration = Duration::from_secs(60);
/// Rows that are forgotten in one statement, and statements of one turn.
const ROWS_PER_STATEMENT: u32 = 10_000;
const STATEMENTS_PER_TURN: u32 = 20;

/// The name of what one gateway does for all.
const JOB: &str = "sweep";
/// The same of looking for what nobody knows.
const STRANGERS: &str = "strangers";
/// How long what was given up is remembered, and what was announced.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// What one turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Merges taken over from a silent holder, or begun because nobody had.
    pub merges: u64,
    /// Uploads that expired.
    pub expired: u64,
    /// Ended uploads whose parts are gone from the store now.
    pub cleaned: u64,
    /// Objects without a file, and multipart uploads that nobody knows, removed.
    pub orphans: u64,
    /// Files that came by forms, and that nobody had told of.
    pub forms: u64,
    /// Deliveries to receivers that are no longer configured, given up.
    pub deliveries: u64,
    /// Rows that nobody needs any more: chunks, events, uploads.
    pub rows: u64,
}

impl Swept {
    /// Whether there was as much of something as one turn takes: there may be more.
    fn is_full(&self) -> bool {
        let Self { merges, expired, cleaned, orphans, forms, deliveries, rows: _ } = *self;
        [merges, expired, cleaned, orphans, forms, deliveries].into_iter().max() >= Some(u64::from(ROWS_PER_TURN))
    }
}

/// When nothing of an upload that has ended can come into the store any more.
fn settles_at(remains: &Remains) -> Timestamp {
    let used_until = if remains.is_direct { remains.ended_at.plus(direct::EXPIRES_IN) } else { remains.ended_at };
    used_until.plus(CLEAN_GRACE)
}

/// Where a sweeper stands.
#[derive(Debug, Default)]
pub struct Sweeper {
    /// Among the open uploads, the last one that was looked at.
    cursor: Option<UploadId>,
}

impl Engine {
    /// Sweeps at once and then at every interval, until the engine drains.
    pub async fn run_sweeper(&self) {
        let mut sweeper = Sweeper::default();
        while !self.shared.stopping.is_cancelled() {
            let more = match self.turn_of(&mut sweeper).await {
                Ok(swept) => {
                    if swept != Swept::default() {
                        info!(?swept, "swept");
                    }
                    swept.is_full()
                }
                Err(error) => {
                    warn!(%error, "the sweeper could not go on; it tries again at its next turn");
                    false
                }
            };
            if more {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(self.shared.settings.sweep.interval) => {}
                () = self.shared.stopping.cancelled() => {}
            }
        }
    }

    /// Of several gateways each finishes merges, which are leased one by one;
    /// one of them does the rest for all.
    async fn turn_of(&self, sweeper: &mut Sweeper) -> Result<Swept, EngineError> {
        self.forget_unused().await;
        let merges = self.finish_abandoned(sweeper).await?;
        let ledger = &self.shared.ledger;
        let Some(claim) = ledger.claim_job(JOB).await? else { return Ok(Swept { merges, ..Swept::default() }) };
        let swept = self.while_renewed(|| ledger.renew_job(claim), self.clean_up()).await;
        let swept = swept.unwrap_or_else(|| Ok(Swept::default()))?;
        // Due again a little before this gateway comes by again: whoever comes first has it.
        let pause = if swept.is_full() { Duration::ZERO } else { self.shared.settings.sweep.interval * 3 / 4 };
        ledger.end_job(claim, pause).await?;
        Ok(Swept { merges, ..swept })
    }

    /// One turn of all there is to do, whoever else may be at it.
    pub async fn sweep(&self, sweeper: &mut Sweeper) -> Result<Swept, EngineError> {
        let merges = self.finish_abandoned(sweeper).await?;
        Ok(Swept { merges, ..self.clean_up().await? })
    }

    async fn clean_up(&self) -> Result<Swept, EngineError> {
        Ok(Swept {
            merges: 0,
            expired: self.expire().await?,
            cleaned: self.clean_remains().await?,
            // Found before it is condemned, a file is one.
            forms: self.look_for_files(ROWS_PER_TURN).await?,
            orphans: self.remove_objects().await? + self.abort_strangers().await?,
            deliveries: self.forget_deliveries().await?,
            rows: self.forget_rows().await?,
        })
    }

    /// Merges whose holder died, and uploads that have all their chunks but
    /// were never merged: their last gateway died between row and merge.
    async fn finish_abandoned(&self, sweeper: &mut Sweeper) -> Result<u64, EngineError> {
        let ledger = &self.shared.ledger;
        let abandoned = ledger.stale_completing(ROWS_PER_TURN).await?;
        let full = ledger.ready_to_merge(sweeper.cursor, ROWS_PER_TURN).await?;
        // A page that is not full was the last: on a busy gateway there is always somebody after the cursor.
        sweeper.cursor = full.last().filter(|_| full.len() == ROWS_PER_TURN as usize).map(|upload| upload.id);
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
            let Some(claim) = ledger.claim_remains(&remains).await? else { continue };
            let settles_at = settles_at(&remains);
            let cleaning = self.while_renewed(|| ledger.renew_remains(claim), self.clean_one(&remains)).await;
            let Some(clean) = cleaning else { continue };
            match clean {
                Ok(true) if now >= settles_at => cleaned += u64::from(ledger.clear_remains(claim).await?),
                // Something may still be on its way into the store.
                Ok(true) => ledger.defer_remains(claim, settles_at).await?,
                Ok(false) => ledger.defer_remains(claim, now.plus(CLEAN_PAUSE)).await?,
                Err(error) => {
                    warn!(upload = %remains.id, key = %remains.key, %error, "parts are still in the store");
                    ledger.defer_remains(claim, now.plus(CLEAN_PAUSE)).await?;
                    if error.is_unavailable() {
                        // It would be so for all the others too, a time-out each.
                        break;
                    }
                }
            }
        }
        Ok(cleaned)
    }

    async fn clean_one(&self, remains: &Remains) -> Result<bool, StoreError> {
        let is_clean = self.clean(remains).await?;
        if is_clean {
            self.remove_late_object(remains).await?;
        }
        Ok(is_clean)
    }

    /// A call to join the parts that was on its way when its upload was given
    /// up may have made an object since.
    async fn remove_late_object(&self, remains: &Remains) -> Result<(), StoreError> {
        if remains.given_up && remains.by_key && self.shared.store.head(&remains.key).await?.is_some() {
            warn!(upload = %remains.id, key = %remains.key, "an object was left of an upload that was given up, or of a file that was deleted; it is removed");
            self.shared.store.delete(&remains.key).await?;
        }
        Ok(())
    }

    /// Objects that were put in one request by a gateway that died before it
    /// could record their files.
    async fn remove_objects(&self) -> Result<u64, EngineError> {
        let before = self.shared.clock.now().minus(self.shared.settings.sweep.orphan_after);
        let mut removed = 0;
        for orphan in self.shared.ledger.condemn_objects(before, ROWS_PER_TURN).await? {
            match self.remove_orphan(&orphan).await {
                Ok(is_gone) => removed += u64::from(is_gone),
                Err(error) => {
                    warn!(key = %orphan.key, %error, "an object that belongs to nothing is still in the store");
                    if error.is_transient() {
                        break;
                    }
                }
            }
        }
        Ok(removed)
    }

    /// False when somebody else is at it, or was: what lies there now may be another's.
    async fn remove_orphan(&self, orphan: &Orphan) -> Result<bool, EngineError> {
        let ledger = &self.shared.ledger;
        if !ledger.claim_orphan(orphan).await? {
            return Ok(false);
        }
        if let Err(error) = self.shared.store.delete(&orphan.key).await {
            ledger.leave_object(orphan.id, &orphan.key).await?;
            return Err(error.into());
        }
        ledger.forget_object(orphan.id, &orphan.key).await?;
        Ok(true)
    }

    /// Multipart uploads under our prefix that no upload of this ledger has:
    /// only where the operator says that nobody else uses the bucket.
    async fn abort_strangers(&self) -> Result<u64, EngineError> {
        let Settings { sweep, upload, .. } = &self.shared.settings;
        if !sweep.whole_prefix {
            return Ok(0);
        }
        // All of a large bucket is not listed every minute.
        let Some(claim) = self.shared.ledger.claim_job(STRANGERS).await? else { return Ok(0) };
        let aborted = self.abort_listed(sweep, upload).await.or_else(|error| {
            // Refused once is refused each time, and the rest of the sweeping does not wait for it.
            warn!(%error, "multipart uploads that nobody knows are still in the store");
            if error.is_transient() { Err(error) } else { Ok(0) }
        })?;
        self.shared.ledger.end_job(claim, sweep.orphan_after / 24).await?;
        Ok(aborted)
    }

    async fn abort_listed(&self, sweep: &SweepConfig, upload: &UploadConfig) -> Result<u64, EngineError> {
        let prefix = upload.key_template.split('{').next().unwrap_or_default();
        let before = self.shared.clock.now().minus(sweep.orphan_after);
        let mut listed = self.shared.store.list_uploads(prefix).await?;
        listed.retain(|upload| upload.begun_at.is_some_and(|at| at <= before));
        let keys = listed.iter().map(|upload| upload.key.clone()).collect();
        let in_use = self.shared.ledger.keys_in_use(keys).await?;
        let mut aborted = 0;
        for stranger in listed.iter().filter(|upload| !in_use.contains(&upload.key)).take(ROWS_PER_TURN as usize) {
            // A key that is none of ours in form was not made by any gateway.
            let Some(key) = ObjectKey::parse(&stranger.key) else { continue };
            info!(%key, session = %stranger.session, "a multipart upload that nobody knows is aborted");
            self.shared.store.abort(Target { key: &key, session: &stranger.session }).await?;
            aborted += 1;
        }
        Ok(aborted)
    }

    /// What is due for longer than anything is tried, to a receiver that is none
    /// of ours, nobody tries.
    async fn forget_deliveries(&self) -> Result<u64, EngineError> {
        let before = self.shared.clock.now().minus(GIVE_UP_AFTER);
        let endpoints = self.shared.settings.subscriptions.iter().map(|to| to.url.clone()).collect();
        Ok(self.shared.ledger.bury_forgotten(before, endpoints, ROWS_PER_TURN).await?)
    }

    async fn forget_rows(&self) -> Result<u64, EngineError> {
        let (ledger, now) = (&self.shared.ledger, self.shared.clock.now());
        let mut rows = 0;
        for _ in 0..STATEMENTS_PER_TURN {
            let before = now.minus(self.shared.settings.sweep.keep_chunks);
            let forgotten = ledger.prune_chunks(before, ROWS_PER_STATEMENT).await?;
            rows += forgotten;
            if forgotten < u64::from(ROWS_PER_STATEMENT) {
                break;
            }
        }
        rows += ledger.prune_events(now.minus(KEPT), ROWS_PER_STATEMENT).await?;
        rows += ledger.prune_uploads(now.minus(KEPT), ROWS_PER_STATEMENT).await?;
        rows += ledger.prune_families(now.minus(KEPT), ROWS_PER_STATEMENT).await?;
        Ok(rows)
    }
}
