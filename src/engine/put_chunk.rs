//! One chunk, from its first byte to its acknowledgement:
//! its body is read and verified → the store has the part and its proof
//! matches → the row is committed. In that order, and only then 200.
//!
//! All of it runs in one task of its own that owns the body: when the client
//! vanishes, the body breaks off and the task ends; once the last byte is
//! read, nobody can stop it any more.

use std::sync::Arc;

use serde_json::Value;
use tracing::warn;

use crate::domain::rules::{self, Admission};
use crate::domain::{
    Checksum, ChecksumAlgorithm, Chunk, Crc64, Failure, File, FileId, Geometry, Owner, PartNumber, Progress, Refusal,
    State, Terms, Upload, UploadId, plan::Lesson,
};
use crate::engine::finish::{Entry, Finished};
use crate::engine::intake::{self, Incoming, Verdict, Verified};
use crate::engine::reins::Reins;
use crate::engine::turns::{Pace, Turn};
use crate::engine::{Engine, EngineError};
use crate::ledger::{Failing, RecordChunk, Recorded, Reservation};
use crate::store::{NewPart, StoreError, Target};

/// A chunk that a client sends.
pub struct PutChunk {
    /// Whose upload it is of.
    pub owner: Owner,
    /// What the sender's token has locked in.
    pub terms: Arc<Terms>,
    /// Which upload.
    pub file_id: FileId,
    /// Which chunk, as it was sent: it may be out of range.
    pub index: i128,
    /// How long the body is announced to be.
    pub bytes: Option<u64>,
    /// Checksums of the body, as declared.
    pub checksums: Vec<Checksum>,
    /// The body.
    pub body: Incoming,
}

/// What a client is told of a chunk that is safe.
#[derive(Clone, Debug)]
pub struct ChunkStored {
    /// The upload, as it was when the chunk came.
    pub upload: Upload,
    /// The chunk's index.
    pub index: u32,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its checksums: CRC-64 always, and those that were declared.
    pub checksums: Vec<Checksum>,
    /// How much is recorded by now.
    pub progress: Progress,
    /// The file, if it is there.
    pub file: Option<File>,
    /// What the application says of it, if this chunk has completed it.
    pub app: Option<Value>,
    /// Chunks that a merge found missing.
    pub missing: Option<Vec<[u32; 2]>>,
}

impl Engine {
    /// Takes a chunk. Dropping the future does not stop what is past its last byte.
    pub async fn put_chunk(&self, put: PutChunk) -> Result<ChunkStored, EngineError> {
        let engine = self.clone();
        let task = self.spawn(async move { engine.take_chunk(put).await });
        task.await.unwrap_or_else(|error| Err(EngineError::Broken(format!("the chunk's task died: {error}"))))
    }

    async fn take_chunk(&self, put: PutChunk) -> Result<ChunkStored, EngineError> {
        // The slot first: what the ledger says of this index holds until it is given back.
        let slot = self.shared.slots.take(&put.owner, &put.file_id, put.index).await;
        let (upload, admission) = self.admit(&put.owner, &put.file_id, put.index, put.bytes).await?;
        let stored = match admission {
            Admission::Store { bytes, lesson } => self.store_chunk(put, upload, bytes, lesson, slot.reins()).await,
            Admission::Compare(chunk) => self.compare(put, upload, chunk, slot.reins()).await,
            Admission::CompareLength { bytes } => self.compare_length(put, upload, bytes, slot.reins()).await,
            Admission::Empty => self.compare_length(put, upload, 0, slot.reins()).await,
        };
        // Given back once the row is committed, before any merge begins.
        drop(slot);
        self.conclude(stored?).await
    }

    async fn admit(
        &self,
        owner: &Owner,
        file_id: &FileId,
        index: i128,
        bytes: Option<u64>,
    ) -> Result<(Upload, Admission), EngineError> {
        // An index beyond all plans is refused by the plan; the ledger is asked for one it can hold.
        let row = u32::try_from(index).unwrap_or(u32::MAX >> 1);
        let found = self.shared.ledger.find_for_chunk(owner, file_id, row).await?;
        let (upload, recorded) = found.ok_or(Refusal::UploadNotFound)?;
        let admission = rules::admit_chunk(&upload, recorded.as_ref(), index, bytes, &self.bounds())?;
        Ok((upload, admission))
    }

    async fn store_chunk(
        &self,
        put: PutChunk,
        upload: Upload,
        bytes: u64,
        lesson: Option<Lesson>,
        reins: &Reins,
    ) -> Result<ChunkStored, EngineError> {
        self.check_total(&upload, &put.terms, lesson).await?;
        let checksums = put.checksums.clone();
        let (put, _turn) = tokio::select! {
            turn = self.turn_for(put, &upload, bytes, reins) => turn?,
            () = reins.broken_off().cancelled() => return Err(reins.why().into()),
        };
        let chunk = self.forward(put, &upload, bytes, reins).await?;
        self.record(upload, chunk, lesson, checksums).await
    }

    /// Chunks that are learnt may add up to more than is allowed, or than the
    /// owner has left.
    async fn check_total(&self, upload: &Upload, terms: &Terms, lesson: Option<Lesson>) -> Result<(), EngineError> {
        let bytes_max = self.file_bytes_max(terms);
        let (Geometry::Learning(learning), Some(lesson)) = (&upload.geometry, lesson) else { return Ok(()) };
        let Some(learning) = learning.with(lesson) else { return Ok(()) };
        if learning.bytes_at_least() > bytes_max {
            return Err(Refusal::FileTooLarge { bytes: None, bytes_max }.into());
        }
        let bytes = learning.bytes_to_reserve();
        let allowance = self.shared.settings.allowance;
        // Without a quota it is enough to count what has become a file.
        let counts = allowance.bytes_max.is_some() || upload.reserved_bytes > 0;
        if !counts || bytes <= upload.reserved_bytes {
            return Ok(());
        }
        match self.shared.ledger.reserve(upload.id, bytes, allowance).await? {
            Reservation::Made => Ok(()),
            Reservation::NoRoom { used_bytes } => Err(self.no_room(bytes, used_bytes).into()),
            Reservation::NotOpen => Err(self.why_closed(upload.id).await?),
        }
    }

    /// A turn: at once if there are plenty, else once the client has begun to
    /// send, for one that does not is to hold up nobody; and never before the
    /// first bytes of a file are seen to be of a kind that is taken. Nor is the
    /// store to set aside space for a whole file that nobody sends.
    async fn turn_for(
        &self,
        mut put: PutChunk,
        upload: &Upload,
        bytes: u64,
        reins: &Reins,
    ) -> Result<(PutChunk, Turn), Refusal> {
        if put.index == 0 {
            put.body = self.judged(put.body, &put.terms, &upload.file_name, upload.content_type.as_deref()).await?;
        }
        if upload.session().is_some()
            && let Some(turn) = self.shared.turns.take_early(&put.owner, reins)
        {
            return Ok((put, turn));
        }
        let (body, pace) = intake::begun(put.body, bytes).await;
        put.body = body;
        let turn = self.turn(&put.owner, pace, reins).await?;
        Ok((put, turn))
    }

    /// A place among the bodies that are on their way into the store.
    pub(super) async fn turn(&self, owner: &Owner, pace: Pace, reins: &Reins) -> Result<Turn, Refusal> {
        self.shared.turns.take(owner, pace, reins, self.shared.settings.queue_wait).await
    }

    /// Streams the body into the store as one part, and checks the store's proof.
    async fn forward(&self, put: PutChunk, upload: &Upload, bytes: u64, reins: &Reins) -> Result<Chunk, EngineError> {
        let index = admitted_index(&put);
        let number = PartNumber::of_chunk(index)
            .ok_or_else(|| EngineError::Broken(format!("chunk {index} has no part number")))?;
        let session = self.session(upload).await?;
        let declared =
            intake::Declared { checksums: put.checksums, whole: whole_checksum(upload), ..intake::Declared::default() };
        let (body, verdict) = Verified::new(put.body, bytes, declared, reins.clone());
        let target = Target { key: &upload.key, session: &session };
        let stored = self.shared.store.put_part(target, NewPart { number, bytes, body: body.boxed() }).await;
        let stored = match stored {
            Ok(stored) => stored,
            Err(error) => return Err(Box::pin(self.not_stored(upload, index, &verdict, error)).await),
        };
        let Some(crc64) = verdict.crc64() else {
            return Err(EngineError::Broken("the store took a part whose body was not read to its end".to_owned()));
        };
        if !self.shared.store.limits().proof.is_given(stored.crc64, crc64) {
            metrics::counter!("chunkgate_store_proof_failures_total").increment(1);
            warn!(upload = %upload.id, index, ours = %crc64, theirs = ?stored.crc64, "the store's checksum of the part is not ours");
            return Err(Refusal::StoreUnavailable { reason: "the object store damaged the chunk on its way" }.into());
        }
        Ok(Chunk { index, bytes, crc64: Some(crc64), etag: stored.etag })
    }

    /// Why a part was not stored, as the client is told.
    async fn not_stored(&self, upload: &Upload, index: u32, verdict: &Verdict, error: StoreError) -> EngineError {
        match (verdict.refused(), error) {
            (Some(refusal @ Refusal::IntegrityFailed { .. }), _) => {
                // One chunk is the whole file, and it is not what was declared.
                match self.fail_upload(upload, Failing::Untouched, Failure::IntegrityFailed).await {
                    Ok(true) => refusal.clone().into(),
                    Ok(false) => self.not_the_first(upload.id, index).await.unwrap_or_else(|error| error),
                    Err(error) => error,
                }
            }
            (Some(refusal), _) => refusal.clone().into(),
            (None, StoreError::NoSuchUpload) => self.lost(upload).await.unwrap_or_else(|error| error),
            (None, error) => error.into(),
        }
    }

    /// What is not what was declared came beside a chunk that another gateway
    /// has acknowledged meanwhile, or after the upload's end.
    async fn not_the_first(&self, id: UploadId, index: u32) -> Result<EngineError, EngineError> {
        let upload = self.shared.ledger.upload(id).await?.ok_or(Refusal::UploadNotFound)?;
        Ok(rules::closed(&upload.state).unwrap_or(Refusal::ChunkConflict { index }).into())
    }

    /// The store has no such multipart upload while one is being written to:
    /// completed or ended meanwhile, or lost.
    pub(super) async fn lost(&self, upload: &Upload) -> Result<EngineError, EngineError> {
        let now = self.shared.ledger.upload(upload.id).await?.ok_or(Refusal::UploadNotFound)?;
        let again = Refusal::StoreUnavailable { reason: "the upload was being merged meanwhile" };
        if let State::Open { .. } = now.state {
            let progress = self.shared.ledger.progress(now.id).await?;
            if rules::is_full(&now.geometry, progress) {
                // Somebody else sent the rest: a merge asks whether the object is there.
                self.finish_later(&now, Entry::Fresh);
                return Ok(again.into());
            }
            // Not all chunks are recorded, so it cannot have been completed: it is gone.
            if self.fail_upload(&now, Failing::Open, Failure::UploadLost).await? {
                return Ok(Refusal::UploadLost.into());
            }
        }
        Ok(rules::closed(&now.state).unwrap_or(again).into())
    }

    /// Commits the row. From here on the chunk is acknowledged.
    async fn record(
        &self,
        upload: Upload,
        chunk: Chunk,
        lesson: Option<Lesson>,
        declared: Vec<Checksum>,
    ) -> Result<ChunkStored, EngineError> {
        let at = self.shared.clock.now();
        let span = self.shared.settings.upload.expires_after;
        // Sliding by every chunk would write one hot row per upload.
        let slides = at.plus(span).since(upload.expires_at) > span / 10;
        let record = RecordChunk {
            upload: upload.id,
            chunk: chunk.clone(),
            lesson,
            expires_at: slides.then(|| at.plus(span)),
            at,
        };
        let sent = chunk.crc64;
        let (known, progress) = match self.shared.ledger.record_chunk(record).await? {
            Recorded::New(progress) => (chunk, progress),
            Recorded::Known(known, progress) => {
                if !known.is_same(&chunk) {
                    return Err(Refusal::ChunkConflict { index: chunk.index }.into());
                }
                (known, progress)
            }
            Recorded::PlanDiffers => {
                return Err(Refusal::conflict("another chunk was recorded with another size meanwhile").into());
            }
            Recorded::NotOpen => return Box::pin(self.recorded_late(upload, chunk, declared)).await,
        };
        let upload = match lesson {
            Some(lesson) => learnt(upload, lesson),
            None => upload,
        };
        metrics::counter!("chunkgate_chunks_total").increment(1);
        metrics::counter!("chunkgate_chunk_bytes_total").increment(known.bytes);
        Ok(ChunkStored {
            index: known.index,
            bytes: known.bytes,
            checksums: with_crc64(declared, known.crc64.or(sent)),
            progress,
            upload,
            file: None,
            app: None,
            missing: None,
        })
    }

    /// The upload was no longer open when the chunk was to be recorded: another
    /// gateway may have recorded the same chunk and merged.
    async fn recorded_late(
        &self,
        upload: Upload,
        chunk: Chunk,
        declared: Vec<Checksum>,
    ) -> Result<ChunkStored, EngineError> {
        let found = self.shared.ledger.find_for_chunk(&upload.owner, &upload.file_id, chunk.index).await?;
        let Some((now, recorded)) = found.filter(|(now, _)| now.id == upload.id) else {
            // Begun anew under the same fileId: this chunk is of the one before.
            return Err(self.why_closed(upload.id).await?);
        };
        if let Some(refusal) = rules::closed(&now.state) {
            // Its part came into the store after the upload's end, maybe after the sweeper was there.
            self.shared.ledger.look_again(now.id, self.shared.clock.now()).await?;
            return Err(refusal.into());
        }
        match recorded {
            Some(known) if known.is_same(&chunk) => {}
            Some(_) => return Err(Refusal::ChunkConflict { index: chunk.index }.into()),
            None => return Err(Refusal::StoreUnavailable { reason: "the upload was being merged meanwhile" }.into()),
        }
        let progress = self.shared.ledger.progress(now.id).await?;
        let checksums = with_crc64(declared, chunk.crc64);
        let (index, bytes) = (chunk.index, chunk.bytes);
        Ok(ChunkStored { upload: now, index, bytes, checksums, progress, file: None, app: None, missing: None })
    }

    /// Starts the merge if nothing is missing any more, and says what came of it.
    async fn conclude(&self, mut stored: ChunkStored) -> Result<ChunkStored, EngineError> {
        let finished = match &stored.upload.state {
            State::Completed { .. } => Some(self.settled(stored.upload.id).await?),
            State::Open { .. }
                if stored.upload.auto_complete && rules::is_full(&stored.upload.geometry, stored.progress) =>
            {
                Some(self.finish(stored.upload.id).await)
            }
            State::Open { .. } | State::Completing { .. } | State::Failed { .. } | State::Aborted | State::Expired => {
                None
            }
        };
        match finished {
            None | Some(Finished::Later) => {}
            Some(Finished::Completed(completed)) => {
                stored.file = Some(completed.file);
                stored.app = completed.app;
            }
            Some(Finished::Failed(refusal)) => return Err(refusal.into()),
            Some(Finished::Missing(missing)) => {
                if missing.iter().any(|&[first, last]| (first..=last).contains(&stored.index)) {
                    let reason = "the object store no longer had this chunk when the file was merged";
                    return Err(Refusal::StoreUnavailable { reason }.into());
                }
                stored.missing = Some(missing);
            }
        }
        Ok(stored)
    }
}

/// The digest of the whole file, where one chunk is the whole file.
fn whole_checksum(upload: &Upload) -> Option<Checksum> {
    upload.checksum.filter(|_| upload.geometry.count() == 1)
}

/// The index of a chunk that was admitted: the plan has it, so it is small.
pub(super) fn admitted_index(put: &PutChunk) -> u32 {
    u32::try_from(put.index).unwrap_or(u32::MAX)
}

pub(super) fn with_crc64(declared: Vec<Checksum>, crc64: Option<Crc64>) -> Vec<Checksum> {
    let others = declared.into_iter().filter(|c| c.algorithm() != ChecksumAlgorithm::Crc64);
    crc64.map(Checksum::Crc64).into_iter().chain(others).collect()
}

/// The upload with what its chunk has taught.
fn learnt(mut upload: Upload, lesson: Lesson) -> Upload {
    if let Geometry::Learning(mut learning) = upload.geometry {
        match lesson {
            Lesson::ChunkBytes(bytes) => learning.chunk_bytes = Some(bytes),
            Lesson::LastBytes(bytes) => learning.last_bytes = Some(bytes),
        }
        upload.geometry = learning.settled().map_or(Geometry::Learning(learning), Geometry::Fixed);
    }
    upload
}
