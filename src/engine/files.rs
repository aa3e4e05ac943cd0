//! Files: one small file in one request, and reading what is there.

use std::ops::Range;

use tracing::{error, info, warn};

use crate::domain::{Checksum, File, FileId, Geometry, Grant, Object, Owner, Plan, Refusal, State, rules};
use crate::engine::create::CreateUpload;
use crate::engine::hooks::Completed;
use crate::engine::intake::{self, Incoming, Verified};
use crate::engine::objects::Intended;
use crate::engine::reins::Reins;
use crate::engine::{Engine, EngineError};
use crate::ledger::{FileFilter, NewUpload, PageStart};
use crate::store::{Reading, StoreError, StoredObject};

/// A body of up to so many bytes is read before the ledger is asked whether there is a place for it.
const ASK_FIRST_BYTES: u64 = 256 << 10;

impl Engine {
    /// Takes a small file whole: one PutObject, one row, one event. Like a
    /// chunk, it runs in a task that owns the body.
    pub async fn put_file(
        &self,
        grant: Grant,
        wanted: CreateUpload,
        bytes: u64,
        body: Incoming,
    ) -> Result<Completed, EngineError> {
        let engine = self.clone();
        let task = self.spawn(async move { engine.take_file(&grant, wanted, bytes, body).await });
        task.await.unwrap_or_else(|error| Err(EngineError::Broken(format!("the file's task died: {error}"))))
    }

    async fn take_file(
        &self,
        grant: &Grant,
        wanted: CreateUpload,
        bytes: u64,
        body: Incoming,
    ) -> Result<Completed, EngineError> {
        let owner = &grant.owner;
        // In chunks it would be too large as well.
        let file_bytes_max = self.file_bytes_max(&grant.terms);
        if bytes > file_bytes_max {
            return Err(Refusal::FileTooLarge { bytes: Some(bytes), bytes_max: file_bytes_max }.into());
        }
        let bytes_max = self.shared.settings.upload.simple_max_bytes.min(self.shared.store.limits().put_bytes_max);
        if bytes > bytes_max {
            return Err(Refusal::SimpleFileTooLarge { bytes_max }.into());
        }
        let plan = Plan::restore(bytes, u32::from(bytes > 0), bytes)
            .ok_or_else(|| EngineError::Broken("a file of one chunk has no plan".to_owned()))?;
        let wanted = wanted.granted(grant)?;
        let mut lot = self.lot(grant, &wanted)?;
        let new = self.describe_as(grant, &wanted, Geometry::Fixed(plan), lot.intent().clone())?;
        // Of a small one it is cheaper to find out at the end.
        if bytes > ASK_FIRST_BYTES {
            self.refuse_early(owner, wanted.file_id.as_ref(), bytes).await?;
        }
        let body = self.judged(body, &grant.terms, &new.file_name, new.content_type.as_deref()).await?;
        let checksums: Vec<Checksum> = wanted.checksum.into_iter().collect();
        let new = match self.file_consented(new, &wanted).await? {
            Asked::New(new) => new,
            Asked::Known(file) => return self.compare_file(file, bytes, checksums, body).await,
        };
        let reins = Reins::default();
        let (body, turn) = match self.shared.turns.take_early(owner, &reins) {
            Some(turn) => (body, turn),
            None => {
                let (body, pace) = intake::begun(body, bytes).await;
                (body, self.turn(owner, pace, &reins).await?)
            }
        };
        let intended =
            if lot.spend(&new.key) { Intended::Yes { has_remains: false } } else { self.intend(&new).await? };
        let has_remains = match intended {
            Intended::Yes { has_remains } => has_remains,
            Intended::No { known: Some(known), .. } => {
                drop(turn);
                let file = known.file().ok_or_else(another)?;
                return self.compare_file(file, bytes, checksums, body).await;
            }
            Intended::No { known: None, refusal } => return Err(refusal.into()),
        };
        let declared = intake::Declared { checksums, ..intake::Declared::default() };
        let (verified, verdict) = Verified::new(body, bytes, declared, reins);
        let stored = self.put_object(&new, bytes, verified.boxed()).await;
        // Another body may come while the row is written and the application is asked.
        drop(turn);
        let stored = match (verdict.refused(), stored) {
            (Some(refusal), _) => {
                // Nothing became an object: a body that is refused breaks off.
                if has_remains {
                    self.drop_object(&new).await;
                } else {
                    self.shared.ledger.forget_object(new.id, &new.key).await?;
                }
                return Err(refusal.clone().into());
            }
            (None, stored) => stored?,
        };
        let crc64 = verdict.crc64().ok_or_else(|| EngineError::Broken("a body ended without a verdict".to_owned()))?;
        let is_proven = self.shared.store.limits().proof.is_given(stored.crc64, crc64);
        if !is_proven || stored.bytes != bytes {
            metrics::counter!("chunkgate_store_proof_failures_total").increment(1);
            self.drop_object(&new).await;
            return Err(Refusal::StoreUnavailable { reason: "the object store damaged the file on its way" }.into());
        }
        let object = Object { etag: stored.etag, bytes, crc64: Some(crc64), completed_at: self.shared.clock.now() };
        let (upload, is_new, app) = self.create_file(new, object).await?;
        // Known already: the same file again is fine, another one is not.
        match &upload.state {
            State::Completed { object } if object.crc64 == Some(crc64) && object.bytes == bytes => {
                Ok(Completed { file: upload.file().ok_or(Refusal::FileNotFound)?, is_new, app })
            }
            State::Completed { .. }
            | State::Open { .. }
            | State::Completing { .. }
            | State::Failed { .. }
            | State::Aborted
            | State::Expired => Err(another().into()),
        }
    }

    /// The application is asked about a file once: of one that comes again
    /// nothing is recorded, whatever becomes of the first meanwhile.
    async fn file_consented(&self, new: NewUpload, wanted: &CreateUpload) -> Result<Asked, EngineError> {
        let mut alone = self.alone(&new.owner, wanted.file_id.as_ref()).await?;
        if alone.is_some()
            && let Some(known) = self.shared.ledger.find_upload(&new.owner, &new.file_id).await?
            && rules::closed(&known.state).is_none()
        {
            return Ok(Asked::Known(known.file().ok_or_else(another)?));
        }
        self.consented(new, &wanted.from, alone.as_mut()).await.map(Asked::New)
    }

    /// A file that is there comes again: it is read, compared and dropped.
    async fn compare_file(
        &self,
        file: File,
        bytes: u64,
        checksums: Vec<Checksum>,
        body: Incoming,
    ) -> Result<Completed, EngineError> {
        if file.object.bytes != bytes
            || Some(self.read(body, bytes, checksums, &Reins::default()).await?) != file.object.crc64
        {
            return Err(another().into());
        }
        Ok(Completed::found(file))
    }

    /// What can be refused before the body is read is refused then.
    pub(super) async fn refuse_early(
        &self,
        owner: &Owner,
        file_id: Option<&FileId>,
        bytes: u64,
    ) -> Result<(), EngineError> {
        if let Some(bytes_max) = self.shared.settings.allowance.bytes_max {
            let used = self.shared.ledger.used_bytes(owner).await?;
            if used.saturating_add(bytes) > bytes_max {
                return Err(self.no_room(bytes, used).into());
            }
        }
        let Some(file_id) = file_id else { return Ok(()) };
        let Some(known) = self.shared.ledger.find_upload(owner, file_id).await? else { return Ok(()) };
        match &known.state {
            State::Completed { object } if object.bytes == bytes => Ok(()),
            State::Failed { .. } | State::Aborted | State::Expired => Ok(()),
            State::Completed { .. } | State::Open { .. } | State::Completing { .. } => {
                Err(Refusal::conflict("another upload has this fileId").into())
            }
        }
    }

    /// The file under this fileId. One that was to come by a form is looked for
    /// in the store.
    pub async fn file(&self, owner: &Owner, file_id: &FileId) -> Result<File, EngineError> {
        if let Some(file) = self.shared.ledger.find_file(owner, file_id).await? {
            return Ok(file);
        }
        Ok(self.look_for_file(owner, file_id).await?.ok_or(Refusal::FileNotFound)?)
    }

    /// A page of files, the newest first.
    pub async fn files(&self, filter: &FileFilter, start: PageStart, limit: u32) -> Result<Vec<File>, EngineError> {
        Ok(self.shared.ledger.list_files(filter, start, limit).await?)
    }

    /// How many files there are.
    pub async fn count_files(&self, filter: &FileFilter) -> Result<u64, EngineError> {
        Ok(self.shared.ledger.count_files(filter).await?)
    }

    /// Removes a file. From here on nobody gets at it by us; its object goes at
    /// once, or with the sweeper if the store is away.
    pub async fn delete_file(&self, owner: &Owner, file_id: &FileId) -> Result<(), EngineError> {
        let file = self.file(owner, file_id).await?;
        if !self.shared.ledger.delete_file(&file).await? {
            // Somebody else was first; what has this fileId by now is not what was meant.
            return Err(Refusal::FileNotFound.into());
        }
        info!(file = %file.id, key = %file.key, owner = %file.owner, "file deleted");
        let engine = self.clone();
        let removal = self.spawn(async move {
            if let Err(error) = engine.shared.store.delete(&file.key).await {
                warn!(key = %file.key, %error, "the object of a deleted file is left to the sweeper");
            }
        });
        // Whether it is gone already is of no matter to whoever gave it up.
        drop(removal.await);
        Ok(())
    }

    /// The file's bytes, or a range of them that lies within it.
    pub async fn read_file(&self, file: &File, range: Option<Range<u64>>) -> Result<Reading, EngineError> {
        match self.shared.store.get(&file.key, range).await {
            Ok(reading) => {
                let object = &reading.object;
                if is_unchanged(object, &file.object) {
                    return Ok(reading);
                }
                // Somebody wrote over it: under this name and this ETag it would be a wrong file.
                error!(file = %file.id, key = %file.key, bytes = object.bytes, crc64 = ?object.crc64, expected = ?file.object,
                    "the object of a file is not what was uploaded");
                Err(StoreError::NoSuchObject.into())
            }
            // The row says that it is there: somebody removed it, or the gateway was given another store.
            Err(error @ StoreError::NoSuchObject) => {
                error!(file = %file.id, key = %file.key, store = self.shared.store.kind(), bucket = self.shared.store.bucket(),
                    "the object of a file is not in the store; is this the store that it was put into?");
                Err(error.into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether an object is the one that was recorded: by its checksum or, where the
/// store or the ledger knows none, by its ETag.
fn is_unchanged(now: &StoredObject, recorded: &Object) -> bool {
    let by_checksum = now.crc64.zip(recorded.crc64).map(|(now, recorded)| now == recorded);
    now.bytes == recorded.bytes && by_checksum.unwrap_or_else(|| now.etag.eq_ignore_ascii_case(&recorded.etag))
}

/// What came of asking the application about a file.
enum Asked {
    /// It may begin, so.
    New(NewUpload),
    /// It was not asked: the file is there.
    Known(File),
}

fn another() -> Refusal {
    Refusal::conflict("another file has this fileId")
}
