//! The merge. Under a lease: compare what the ledger acknowledged with what the
//! store has, join the parts, verify the object, and only then say so. Runs in
//! a task of its own, so that nobody who leaves can cancel it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::domain::checksum::Crc64Stream;
use crate::domain::event::{EventKind, Subject};
use crate::domain::{
    Checksum, Crc64, Failure, File, Lease, Object, Part, Refusal, SessionId, State, Upload, UploadId, ranges, rules,
};
use crate::engine::{Engine, EngineError};
use crate::store::{StoreError, StoredObject, Target};

/// How long an answer waits for a merge before it says that it goes on.
pub const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// How often Complete is tried within one merge.
const COMPLETE_ATTEMPTS: u32 = 3;
/// The pause before the second attempt; doubled from there.
const COMPLETE_PAUSE: Duration = Duration::from_millis(200);

/// What came of a merge.
#[derive(Clone, Debug)]
pub enum Finished {
    /// The file is there.
    Completed(File),
    /// These chunks are missing, or were found not to be in the store.
    Missing(Vec<[u32; 2]>),
    /// The upload cannot become a file.
    Failed(Refusal),
    /// Somebody else is merging, or the store or the ledger is away: it goes
    /// on later by itself.
    Later,
}

/// The merges of this gateway: two answers that want the same one share it.
#[derive(Debug, Default)]
pub struct Merges {
    underway: Mutex<HashMap<UploadId, watch::Receiver<Option<Finished>>>>,
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
            let _entry = Underway { engine: engine.clone(), id };
            let finished = engine.run_merge(id, entry).await;
            tell.send_replace(Some(finished));
        });
        merge
    }

    async fn run_merge(&self, id: UploadId, entry: Entry) -> Finished {
        let lease = match entry {
            Entry::Fresh => self.shared.ledger.take_lease(id).await,
            Entry::TakeOver => self.shared.ledger.take_over(id).await,
        };
        let outcome = match lease {
            Ok(Some(lease)) => self.with_lease(id, lease).await,
            Ok(None) => self.settled(id).await,
            Err(error) => Err(error.into()),
        };
        outcome.unwrap_or_else(|error| {
            warn!(upload = %id, %error, "the merge is put off");
            Finished::Later
        })
    }

    /// What an upload has come to that could not be leased.
    pub(super) async fn settled(&self, id: UploadId) -> Result<Finished, EngineError> {
        let Some(upload) = self.shared.ledger.upload(id).await? else { return Ok(Finished::Later) };
        Ok(match &upload.state {
            State::Completed { .. } => match self.shared.ledger.find_file(&upload.owner, &upload.file_id).await? {
                Some(file) if file.id == id => Finished::Completed(file),
                Some(_) | None => Finished::Later,
            },
            State::Open { .. } | State::Completing { .. } => Finished::Later,
            State::Failed { .. } | State::Aborted | State::Expired => {
                Finished::Failed(rules::closed(&upload.state).unwrap_or(Refusal::UploadFailed))
            }
        })
    }

    /// Merges while the lease is renewed every third of its life. A lease that
    /// was lost ends the merge: somebody else has it now.
    async fn with_lease(&self, id: UploadId, lease: Lease) -> Result<Finished, EngineError> {
        let work = self.join(id, lease);
        let renewals = async {
            loop {
                tokio::time::sleep(self.shared.settings.upload.lease / 3).await;
                match self.shared.ledger.renew_lease(id, lease).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    // The ledger may be back before the lease is over; writes under it are conditional anyway.
                    Err(error) => warn!(upload = %id, %error, "the lease could not be renewed"),
                }
            }
        };
        tokio::select! {
            finished = work => finished,
            () = renewals => {
                warn!(upload = %id, "the lease was lost: another gateway has taken the merge over");
                Ok(Finished::Later)
            }
        }
    }

    async fn join(&self, id: UploadId, lease: Lease) -> Result<Finished, EngineError> {
        let ledger = &self.shared.ledger;
        let upload = ledger.upload(id).await?.ok_or_else(|| EngineError::Broken(format!("upload {id} is gone")))?;
        let parts = ledger.parts(id).await?;
        let present = parts.iter().map(|part| part.number.chunk_index());
        let missing = ranges::missing(present, upload.geometry.count());
        if !missing.is_empty() {
            ledger.reopen(id, lease, &[]).await?;
            return self.missing_or_late(&upload, missing).await;
        }
        let merge = Merge { upload: &upload, lease, parts: &parts };
        let Some((bytes, crc64)) = rules::whole_of(&parts) else {
            return Err(EngineError::Broken(format!("a part of upload {id} has no checksum in the ledger")));
        };
        if let Some(Checksum::Crc64(declared)) = upload.checksum
            && declared != crc64
        {
            let refusal = integrity_failed(&upload, crc64);
            return self.fail(&merge, Failure::IntegrityFailed, refusal).await;
        }
        let Some(session) = upload.session() else {
            return Err(EngineError::Broken(format!("upload {id} has parts, but no multipart upload")));
        };
        let outcome = self.join_parts(&merge, session, (bytes, crc64)).await;
        match outcome {
            Err(EngineError::Store(error)) => {
                warn!(upload = %id, %error, "the store did not merge; the upload is open again");
                ledger.reopen(id, lease, &[]).await?;
                Ok(Finished::Later)
            }
            other => other,
        }
    }

    /// A chunk may have been committed between the reading of the rows and the
    /// reopening: its gateway saw a merge under way and started none.
    async fn missing_or_late(&self, upload: &Upload, missing: Vec<[u32; 2]>) -> Result<Finished, EngineError> {
        let progress = self.shared.ledger.progress(upload.id).await?;
        if rules::is_full(&upload.geometry, progress) {
            let Some(lease) = self.shared.ledger.take_lease(upload.id).await? else { return Ok(Finished::Later) };
            return Box::pin(self.with_lease(upload.id, lease)).await;
        }
        Ok(Finished::Missing(missing))
    }

    /// Compares, joins, verifies.
    async fn join_parts(
        &self,
        merge: &Merge<'_>,
        session: &SessionId,
        whole: (u64, Crc64),
    ) -> Result<Finished, EngineError> {
        let target = Target { key: &merge.upload.key, session };
        let listed = match self.shared.store.list_parts(target).await {
            Ok(listed) => listed,
            Err(StoreError::NoSuchUpload) => return self.vanished(merge, whole).await,
            Err(error) => return Err(error.into()),
        };
        let differing = rules::differing_parts(merge.parts, &listed);
        if !differing.is_empty() {
            let forget: Vec<u32> = differing.iter().map(|number| number.chunk_index()).collect();
            warn!(upload = %merge.upload.id, chunks = ?forget, "the store does not have these chunks as they were acknowledged: they are asked for again");
            self.shared.ledger.reopen(merge.upload.id, merge.lease, &forget).await?;
            let absent = (0..merge.upload.geometry.count()).filter(|index| !forget.contains(index));
            return Ok(Finished::Missing(ranges::missing(absent, merge.upload.geometry.count())));
        }
        let mut pause = COMPLETE_PAUSE;
        let mut attempt = 1;
        loop {
            let error = match self.shared.store.complete(target, merge.parts).await {
                Ok(object) => return self.verify(merge, object, whole).await,
                Err(StoreError::NoSuchUpload) => return self.vanished(merge, whole).await,
                Err(error) => error,
            };
            // The answer may be lost and the object there all the same.
            if let Ok(Some(object)) = self.shared.store.head(&merge.upload.key).await
                && self.is_whole(merge, &object, whole).await?
            {
                return self.verify(merge, object, whole).await;
            }
            if attempt == COMPLETE_ATTEMPTS || !error.is_transient() {
                return Err(error.into());
            }
            warn!(upload = %merge.upload.id, attempt, %error, "the store did not complete; trying again");
            tokio::time::sleep(pause).await;
            pause *= 2;
            attempt += 1;
        }
    }

    /// The store has no such multipart upload. That never means "finished": the
    /// object is asked for, and must be ours to the last bit.
    async fn vanished(&self, merge: &Merge<'_>, whole: (u64, Crc64)) -> Result<Finished, EngineError> {
        if let Some(object) = self.shared.store.head(&merge.upload.key).await?
            && self.is_whole(merge, &object, whole).await?
        {
            return self.verify(merge, object, whole).await;
        }
        self.fail(merge, Failure::UploadLost, Refusal::UploadLost).await
    }

    /// Whether an object that lies there is this upload's.
    async fn is_whole(
        &self,
        merge: &Merge<'_>,
        object: &StoredObject,
        whole: (u64, Crc64),
    ) -> Result<bool, EngineError> {
        if object.bytes != whole.0 {
            return Ok(false);
        }
        let crc64 = match object.crc64 {
            Some(crc64) => crc64,
            None => self.read_crc64(merge.upload).await?,
        };
        Ok(crc64 == whole.1)
    }

    async fn read_crc64(&self, upload: &Upload) -> Result<Crc64, EngineError> {
        let mut reading = self.shared.store.get(&upload.key, None).await?;
        let mut crc64 = Crc64Stream::new();
        while let Some(frame) = reading.stream.next().await {
            crc64.update(&frame?);
        }
        Ok(crc64.value())
    }

    /// The object exists. It is announced only if it is what was acknowledged.
    async fn verify(
        &self,
        merge: &Merge<'_>,
        object: StoredObject,
        whole: (u64, Crc64),
    ) -> Result<Finished, EngineError> {
        let upload = merge.upload;
        if object.bytes != whole.0 || object.crc64.is_some_and(|crc64| crc64 != whole.1) {
            error!(upload = %upload.id, key = %upload.key, bytes = object.bytes, crc64 = ?object.crc64, expected = ?whole,
                "the store's object is not what was acknowledged: it is kept for inspection");
            return self.fail(merge, Failure::IntegrityFailed, Refusal::UploadFailed).await;
        }
        let object =
            Object { etag: object.etag, bytes: whole.0, crc64: whole.1, completed_at: self.shared.clock.now() };
        let file = file_of(upload, object);
        let events = self.events(upload, EventKind::Completed, &Subject::File(&file));
        if !self.shared.ledger.complete(upload.id, merge.lease, &file, &events).await? {
            warn!(upload = %upload.id, "the merge was taken over before it could be recorded");
            return self.settled(upload.id).await;
        }
        self.shared.events.notify_one();
        metrics::counter!("chunkgate_uploads_completed_total").increment(1);
        info!(upload = %upload.id, file_id = %upload.file_id, owner = %upload.owner, bytes = whole.0, key = %upload.key, "upload completed");
        Ok(Finished::Completed(file))
    }

    async fn fail(&self, merge: &Merge<'_>, failure: Failure, refusal: Refusal) -> Result<Finished, EngineError> {
        self.fail_upload(merge.upload, Some(merge.lease), failure).await?;
        Ok(Finished::Failed(refusal))
    }

    /// Records that the upload cannot become a file, with its event.
    pub(super) async fn fail_upload(
        &self,
        upload: &Upload,
        lease: Option<Lease>,
        failure: Failure,
    ) -> Result<(), EngineError> {
        let events = self.events(upload, EventKind::Failed, &Subject::Upload(upload, Some(failure)));
        if self.shared.ledger.fail(upload.id, lease, failure, &events).await? {
            self.shared.events.notify_one();
            metrics::counter!("chunkgate_uploads_failed_total", "failure" => failure.code()).increment(1);
            warn!(upload = %upload.id, file_id = %upload.file_id, owner = %upload.owner, failure = failure.code(), "upload failed");
        }
        Ok(())
    }
}

/// One merge under its lease.
struct Merge<'a> {
    upload: &'a Upload,
    lease: Lease,
    parts: &'a [Part],
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

fn integrity_failed(upload: &Upload, crc64: Crc64) -> Refusal {
    let declared = upload.checksum.map(|checksum| checksum.tagged()).unwrap_or_default();
    Refusal::IntegrityFailed { declared, computed: Some(Checksum::Crc64(crc64).tagged()) }
}

/// The file that a merged upload is. A digest other than CRC-64 is verified
/// only where one chunk was all of it: chunks come in any order.
fn file_of(upload: &Upload, object: Object) -> File {
    let in_order = upload.geometry.count() <= 1;
    let declared = upload.checksum.map(|checksum| match checksum {
        Checksum::Crc64(_) => (checksum, true),
        Checksum::Md5(_) | Checksum::Sha256(_) => (checksum, in_order),
    });
    File {
        id: upload.id,
        owner: upload.owner.clone(),
        file_id: upload.file_id.clone(),
        file_name: upload.file_name.clone(),
        content_type: upload.content_type.clone(),
        metadata: upload.metadata.clone(),
        key: upload.key.clone(),
        object,
        declared,
    }
}
