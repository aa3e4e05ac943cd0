//! The merge. Under a lease: compare what the ledger acknowledged with what the
//! store has, join the parts, verify the object, and only then say so. Runs in
//! a task of its own, so that nobody who leaves can cancel it.

use std::collections::HashMap;
use std::ops::ControlFlow::{Break, Continue};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tracing::{error, info, warn};

use crate::domain::event::{EventKind, Subject};
use crate::domain::merge::{self, End, Next, Step};
use crate::domain::{Checksum, Crc64, Failure, Lease, Object, Refusal, State, Upload, UploadId, ranges, rules};
use crate::engine::hooks::Completed;
use crate::engine::verify::Merge;
use crate::engine::{Engine, EngineError};
use crate::ledger::Failing;
use crate::store::{Joined, StoreError, Target, parts};

/// How long an answer waits for a merge before it says that it goes on.
pub const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// The pause before a merge is tried again whose store or ledger was away;
/// doubled from there.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Merges that work at once: each holds the list of its parts, twice.
const AT_ONCE: usize = 16;
/// A chunk may slip in between a merge's look and its reopening so often.
const LATE_CHUNKS_MAX: u32 = 4;

/// What came of a merge.
#[derive(Clone, Debug)]
pub enum Finished {
    /// The file is there.
    Completed(Box<Completed>),
    /// These chunks are missing, or were found not to be in the store.
    Missing(Vec<[u32; 2]>),
    /// The upload cannot become a file.
    Failed(Refusal),
    /// Somebody else is merging, or the store or the ledger is away: it goes
    /// on later by itself.
    Later,
}

/// The merges of this gateway: two answers that want the same one share it.
#[derive(Debug)]
pub struct Merges {
    underway: Mutex<HashMap<UploadId, watch::Receiver<Option<Finished>>>>,
    places: Semaphore,
}

impl Default for Merges {
    fn default() -> Self {
        Self { underway: Mutex::default(), places: Semaphore::new(AT_ONCE) }
    }
}

/// How the merge comes by its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// From `uploading`.
    Fresh,
    /// From a holder that is silent for longer than its lease.
    TakeOver,
}

impl Engine {
    /// Merges the upload, or joins the merge that is under way, and waits up to
    /// `ANSWER_WAIT` for what comes of it.
    pub async fn finish(&self, id: UploadId) -> Finished {
        let mut merge = self.merge(id, Entry::Fresh);
        let finished = tokio::time::timeout(ANSWER_WAIT, merge.wait_for(Option::is_some)).await;
        match finished {
            Ok(Ok(finished)) => finished.clone().unwrap_or(Finished::Later),
            // Still going on, or its task died: either way it will be finished later.
            Ok(Err(_)) | Err(_) => Finished::Later,
        }
    }

    /// Starts the merge if it is not under way on this gateway.
    pub(super) fn merge(&self, id: UploadId, entry: Entry) -> watch::Receiver<Option<Finished>> {
        let mut underway = self.shared.merges.underway.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(merge) = underway.get(&id) {
            return merge.clone();
        }
        let (tell, merge) = watch::channel(None);
        underway.insert(id, merge.clone());
        let engine = self.clone();
        self.spawn(async move {
            // Removed even if the merge panics: the next to ask must be able to try.
            let place = Underway { engine: engine.clone(), id };
            let finished = engine.run_merge(id, entry).await;
            // Removed before it is told: who comes now starts another, with what it knows.
            drop(place);
            tell.send_replace(Some(finished));
        });
        merge
    }

    /// Merges an upload that nobody waits for.
    pub(super) fn finish_later(&self, upload: &Upload, entry: Entry) {
        // The task goes on without its watcher.
        drop(self.merge(upload.id, entry));
    }

    async fn run_merge(&self, id: UploadId, entry: Entry) -> Finished {
        let mut outcome = self.leased_merge(id, entry).await;
        for _ in 0..LATE_CHUNKS_MAX {
            // A chunk may have been committed between the look at the rows and
            // the reopening: its gateway saw a merge under way and started none.
            let Ok(Finished::Missing(_)) = &outcome else { break };
            match self.is_full(id).await {
                Ok(true) => outcome = self.leased_merge(id, Entry::Fresh).await,
                Ok(false) | Err(_) => break,
            }
        }
        // Asked here, where no lease and no place among the merges is held.
        if let Ok(Finished::Completed(completed)) = &mut outcome
            && completed.is_new
        {
            completed.app = self.app(&completed.file).await;
        }
        outcome.unwrap_or_else(|error| {
            warn!(upload = %id, %error, "the merge is put off");
            Finished::Later
        })
    }

    async fn leased_merge(&self, id: UploadId, entry: Entry) -> Result<Finished, EngineError> {
        let ledger = &self.shared.ledger;
        let lease = ledger.new_lease();
        if !self.take_lease(id, lease, entry).await? {
            return self.settled(id).await;
        }
        let work = self.persist(id, lease, entry);
        let Some(finished) = self.while_renewed(|| ledger.renew_lease(id, lease), work).await else {
            // To another gateway, or because this merge has just come to its end.
            return self.settled(id).await;
        };
        finished
    }

    /// Asks for one lease until there is a definite answer: if only the answer
    /// was lost, it is held already, and nobody else could merge before it
    /// runs out.
    async fn take_lease(&self, id: UploadId, lease: Lease, entry: Entry) -> Result<bool, EngineError> {
        let (ledger, mut pause) = (&self.shared.ledger, PAUSE);
        loop {
            let taken = match entry {
                Entry::Fresh => ledger.take_lease(id, lease).await,
                Entry::TakeOver => ledger.take_over(id, lease).await,
            };
            match taken.map_err(EngineError::from) {
                Err(error) if error.is_transient() => self.pause(id, error, &mut pause).await?,
                definite => return definite,
            }
        }
    }

    async fn is_full(&self, id: UploadId) -> Result<bool, EngineError> {
        let Some(upload) = self.shared.ledger.upload(id).await? else { return Ok(false) };
        let progress = self.shared.ledger.progress(id).await?;
        Ok(matches!(upload.state, State::Open { .. }) && rules::is_full(&upload.geometry, progress))
    }

    /// What an upload has come to that could not be leased.
    pub(super) async fn settled(&self, id: UploadId) -> Result<Finished, EngineError> {
        let Some(upload) = self.shared.ledger.upload(id).await? else { return Ok(Finished::Later) };
        Ok(match &upload.state {
            State::Completed { .. } => {
                upload.file().map_or(Finished::Later, |file| Finished::Completed(Box::new(Completed::found(file))))
            }
            State::Open { .. } | State::Completing { .. } => Finished::Later,
            State::Failed { .. } | State::Aborted | State::Expired => {
                Finished::Failed(rules::closed(&upload.state).unwrap_or(Refusal::UploadFailed))
            }
        })
    }

    /// Tries until the store and the ledger have given a definite answer. An
    /// upload whose completion is in doubt stays `completing` under its lease:
    /// opened again, it could be given up while its object appears.
    async fn persist(&self, id: UploadId, lease: Lease, entry: Entry) -> Result<Finished, EngineError> {
        let mut pause = PAUSE;
        // What a holder before us has done, nobody has told us.
        let mut in_doubt = entry == Entry::TakeOver;
        loop {
            let place = self.shared.merges.places.acquire().await;
            let error = match self.join(id, lease, &mut in_doubt).await {
                Err(error) if error.is_transient() => error,
                Err(error @ EngineError::Store(_)) if in_doubt => error,
                definite => return definite,
            };
            drop(place);
            self.pause(id, error, &mut pause).await?;
        }
    }

    /// Waits before the next attempt, longer each time. Gives the error back
    /// when the gateway stops: the lease runs out, and another gateway, or the
    /// next start, goes on.
    async fn pause(&self, id: UploadId, error: EngineError, pause: &mut Duration) -> Result<(), EngineError> {
        warn!(upload = %id, %error, "the merge did not get through; trying again");
        tokio::select! {
            () = tokio::time::sleep(*pause) => {}
            () = self.shared.stopping.cancelled() => return Err(error),
        }
        *pause = (*pause * 2).min(PAUSE_MAX);
        Ok(())
    }

    async fn join(&self, id: UploadId, lease: Lease, in_doubt: &mut bool) -> Result<Finished, EngineError> {
        let ledger = &self.shared.ledger;
        let upload = ledger.upload(id).await?.ok_or_else(|| EngineError::Broken(format!("upload {id} is gone")))?;
        // Who slept past its lease joins nothing: somebody else may have opened the upload again.
        if !matches!(&upload.state, State::Completing { lease: now, .. } if *now == lease) {
            return self.settled(id).await;
        }
        let parts = ledger.parts(id).await?;
        let present = parts.iter().map(|part| part.number.chunk_index());
        let missing = ranges::missing(present, upload.geometry.count());
        if !missing.is_empty() {
            ledger.reopen(id, lease, &[]).await?;
            return Ok(Finished::Missing(missing));
        }
        let must_be_known = self.shared.store.limits().proof.lists_crc64();
        let Some(whole) = rules::whole_of(&parts).filter(|(_, crc64)| crc64.is_some() || !must_be_known) else {
            return Err(EngineError::Broken(format!("a part of upload {id} has no checksum in the ledger")));
        };
        let Some(session) = upload.session() else {
            return Err(EngineError::Broken(format!("upload {id} has parts, but no multipart upload")));
        };
        let target = Target { key: &upload.key, session };
        let merge = Merge { upload: &upload, target, lease, parts: &parts, whole };
        if let Some(crc64) = whole.1.filter(|crc64| merge.is_not_declared(*crc64)) {
            return self.fail(&merge, Failure::IntegrityFailed, integrity_failed(&upload, crc64)).await;
        }
        self.join_parts(&merge, in_doubt).await
    }

    /// Compares, joins, verifies: step by step, as `domain::merge` decides.
    async fn join_parts(&self, merge: &Merge<'_>, in_doubt: &mut bool) -> Result<Finished, EngineError> {
        let (mut step, mut joined) = (Step::List, None);
        loop {
            match self.ask_store(step, merge, &mut joined).await {
                Ok(Continue(next)) => step = next,
                Ok(Break(End::Record)) => return self.announce(merge, joined).await,
                Ok(Break(End::Reopen(forget))) => return self.ask_again(merge, forget).await,
                Ok(Break(End::Fail(failure))) => {
                    let refusal = rules::closed(&State::Failed { failure }).unwrap_or(Refusal::UploadFailed);
                    return self.fail(merge, failure, refusal).await;
                }
                Err(error) => {
                    *in_doubt = merge::may_be_joined(step, *in_doubt, error.is_unavailable());
                    if *in_doubt || error.is_unavailable() {
                        return Err(error.into());
                    }
                    warn!(upload = %merge.upload.id, %error, "the store refused to merge; the upload is open again");
                    self.shared.ledger.reopen(merge.upload.id, merge.lease, &[]).await?;
                    return Ok(Finished::Later);
                }
            }
        }
    }

    /// Asks the store what this step wants to know.
    async fn ask_store(&self, step: Step, merge: &Merge<'_>, joined: &mut Option<Joined>) -> Result<Next, StoreError> {
        let (store, target) = (&self.shared.store, merge.target);
        Ok(match step {
            Step::List => merge::after_listing(merge.parts, found(store.list_parts(target).await)?.as_deref()),
            Step::Join => {
                *joined = found(store.complete(target, merge.parts).await)?;
                merge::after_joining(joined.is_some())
            }
            Step::Ask => {
                *joined = store.head(target.key).await?.map(|object| parts::found(object, merge.parts));
                merge::after_asking(joined.is_some())
            }
            Step::Verify { joined: by_us } => {
                let joined = joined.as_mut().ok_or(StoreError::NoSuchObject)?;
                let is_same = self.is_acknowledged(merge, joined).await?;
                if !is_same {
                    error!(upload = %merge.upload.id, key = %target.key, ?joined, expected = ?merge.whole,
                        "the store's object is not what was acknowledged: it is kept for inspection");
                }
                merge::after_verifying(is_same, by_us)
            }
        })
    }

    async fn ask_again(&self, merge: &Merge<'_>, forget: Vec<u32>) -> Result<Finished, EngineError> {
        warn!(upload = %merge.upload.id, chunks = ?forget, "the store does not have these chunks as they were acknowledged: they are asked for again");
        self.shared.ledger.reopen(merge.upload.id, merge.lease, &forget).await?;
        let count = merge.upload.geometry.count();
        Ok(Finished::Missing(ranges::missing((0..count).filter(|index| !forget.contains(index)), count)))
    }

    /// The object is what was acknowledged: recorded and announced in one.
    async fn announce(&self, merge: &Merge<'_>, joined: Option<Joined>) -> Result<Finished, EngineError> {
        let Merge { upload, whole: (bytes, crc64), .. } = *merge;
        let Joined { object, .. } = joined.ok_or(StoreError::NoSuchObject)?;
        let (etag, crc64) = (object.etag, crc64.or(object.crc64));
        if let Some(crc64) = crc64.filter(|crc64| merge.is_not_declared(*crc64)) {
            // Gone first: a gateway that dies here leaves nothing behind.
            match self.shared.store.delete(&upload.key).await {
                Ok(()) => {}
                Err(error) if error.is_unavailable() => return Err(error.into()),
                Err(error) => {
                    warn!(upload = %upload.id, key = %upload.key, %error, "a wrong object stays in the store")
                }
            }
            return self.fail(merge, Failure::IntegrityFailed, integrity_failed(upload, crc64)).await;
        }
        let file = upload.file_with(Object { etag, bytes, crc64, completed_at: self.shared.clock.now() });
        let events = self.events(upload, EventKind::Completed, &Subject::File(&file));
        if !self.shared.ledger.complete(upload.id, merge.lease, &file, &events).await? {
            warn!(upload = %upload.id, "the merge was taken over before it could be recorded");
            return self.settled(upload.id).await;
        }
        self.deliver_soon();
        metrics::counter!("chunkgate_uploads_completed_total").increment(1);
        info!(upload = %upload.id, file_id = %upload.file_id, owner = %upload.owner, bytes, key = %upload.key, "upload completed");
        Ok(Finished::Completed(Box::new(Completed { file, is_new: true, app: None })))
    }

    async fn fail(&self, merge: &Merge<'_>, failure: Failure, refusal: Refusal) -> Result<Finished, EngineError> {
        if self.fail_upload(merge.upload, Failing::Merging(merge.lease), failure).await? {
            Ok(Finished::Failed(refusal))
        } else {
            // Taken over meanwhile: what the other made of it counts.
            self.settled(merge.upload.id).await
        }
    }

    /// Records that the upload cannot become a file, with its event. False
    /// when it has become something else meanwhile.
    pub(super) async fn fail_upload(
        &self,
        upload: &Upload,
        failing: Failing,
        failure: Failure,
    ) -> Result<bool, EngineError> {
        let events = self.events(upload, EventKind::Failed, &Subject::Upload(upload, Some(failure)));
        let failed = self.shared.ledger.fail(upload.id, failing, failure, &events).await?;
        if failed {
            self.deliver_soon();
            metrics::counter!("chunkgate_uploads_failed_total", "failure" => failure.code()).increment(1);
            warn!(upload = %upload.id, file_id = %upload.file_id, owner = %upload.owner, failure = failure.code(), "upload failed");
        }
        Ok(failed)
    }
}

struct Underway {
    engine: Engine,
    id: UploadId,
}

impl Drop for Underway {
    fn drop(&mut self) {
        let merges = &self.engine.shared.merges.underway;
        merges.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// What the store has; none where it has no such multipart upload.
fn found<T>(answer: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(StoreError::NoSuchUpload) => Ok(None),
        Err(error) => Err(error),
    }
}

fn integrity_failed(upload: &Upload, crc64: Crc64) -> Refusal {
    let declared = upload.checksum.map(|checksum| checksum.tagged()).unwrap_or_default();
    Refusal::IntegrityFailed { declared, computed: Some(Checksum::Crc64(crc64).tagged()) }
}
