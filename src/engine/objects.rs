//! Objects that are put in one request: first it is said that one will be,
//! then it is put, then its file is recorded. Whatever breaks off in between is
//! known to the sweeper.
//!
//! Under a key that the application chose nothing is put, looked for or removed
//! but by whoever has claimed it.

use bytes::Bytes;
use serde_json::Value;
use tracing::warn;

use crate::domain::event::{EventKind, Subject};
use crate::domain::{Checksum, Crc64, Object, Refusal, State, Upload, rules};
use crate::engine::create::{CreatedUpload, being_put, not_given_up};
use crate::engine::{Engine, EngineError};
use crate::ledger::{Claim, FileCreation, KeyOrigin, NewUpload};
use crate::store::{Body, StoredObject, body_of};

const MD5_OF_NOTHING: &str = "d41d8cd98f00b204e9800998ecf8427e";
const SHA256_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What becomes of a file that lost its key, or its time, while it came.
const TOO_SLOW: Refusal = Refusal::StoreUnavailable { reason: "the file took longer than sweep.orphan_after allows" };

impl Engine {
    /// A file of no bytes is completed by its creation: first the object, then
    /// the row, so that the store being away creates nothing and gives nothing
    /// up. In a task of its own, for what is in the store wants its row.
    pub(super) async fn create_empty(
        &self,
        new: NewUpload,
        replaced: Option<&Upload>,
    ) -> Result<CreatedUpload, EngineError> {
        let verified = match &new.checksum {
            None => true,
            Some(Checksum::Crc64(crc)) => *crc == Crc64::EMPTY,
            Some(Checksum::Md5(digest)) => hex::encode(digest) == MD5_OF_NOTHING,
            Some(Checksum::Sha256(digest)) => hex::encode(digest) == SHA256_OF_NOTHING,
        };
        if !verified {
            let declared = new.checksum.map(|c| c.tagged()).unwrap_or_default();
            return Err(Refusal::IntegrityFailed { declared, computed: None }.into());
        }
        let (engine, replaced) = (self.clone(), replaced.cloned());
        let task = self.spawn(async move { engine.put_empty(new, replaced.as_ref()).await });
        task.await.unwrap_or_else(|error| Err(EngineError::Broken(format!("the file's task died: {error}"))))
    }

    async fn put_empty(&self, new: NewUpload, replaced: Option<&Upload>) -> Result<CreatedUpload, EngineError> {
        match (self.intend(&new).await?, replaced) {
            (Intended::Yes { .. }, _) => {}
            (Intended::No { known: Some(upload), .. }, None) => {
                return Ok(CreatedUpload { upload, is_new: false, app: None });
            }
            (Intended::No { refusal, .. }, _) => return Err(refusal.into()),
        }
        let stored = self.put_object(&new, 0, body_of(Bytes::new())).await?;
        if let Some(old) = replaced {
            let events = self.events(old, EventKind::Aborted, &Subject::Upload(old, None));
            if !self.shared.ledger.abort(old.id, &events).await? {
                self.drop_object(&new).await;
                let now = self.shared.ledger.upload(old.id).await?.ok_or(Refusal::UploadNotFound)?;
                return Err(not_given_up(&now.state).into());
            }
        }
        let object =
            Object { etag: stored.etag, bytes: 0, crc64: Some(Crc64::EMPTY), completed_at: self.shared.clock.now() };
        let (upload, is_new, app) = self.create_file(new, object).await?;
        Ok(CreatedUpload { upload, is_new, app })
    }

    /// Looks whether there is an object under a key that the application chose:
    /// before it is claimed, for then what is there is none of ours.
    pub(super) async fn look_at_key(&self, mut new: NewUpload) -> Result<NewUpload, EngineError> {
        if let KeyOrigin::Chosen { is_occupied } = &mut new.key_origin {
            *is_occupied = self.shared.store.head(&new.key).await?.is_some();
        }
        Ok(new)
    }

    /// Says that an object is about to be put, which a key that the
    /// application chose may not allow.
    pub(super) async fn intend(&self, new: &NewUpload) -> Result<Intended, EngineError> {
        let ledger = &self.shared.ledger;
        if !new.key_origin.is_chosen() {
            ledger.intend_object(new.id, &new.key, new.at).await?;
            return Ok(Intended::Yes { has_remains: false });
        }
        let refusal = match ledger.claim_object(&self.look_at_key(new.clone()).await?).await? {
            Claim::Made { has_remains } => return Ok(Intended::Yes { has_remains }),
            Claim::BeingPut => being_put(),
            Claim::Taken(holder) => Refusal::KeyTaken { holder },
        };
        let current = ledger.find_upload(&new.owner, &new.file_id).await?;
        let known = current.filter(|current| rules::closed(&current.state).is_none());
        Ok(Intended::No { refusal, known })
    }

    /// Puts the object. Under a key that the application chose it does so alone:
    /// who tries again waits until this has come to its end, or fallen silent.
    pub(super) async fn put_object(
        &self,
        new: &NewUpload,
        bytes: u64,
        body: Body,
    ) -> Result<StoredObject, EngineError> {
        let ledger = &self.shared.ledger;
        let put = self.shared.store.put(&new.key, new.content_type.as_deref(), bytes, body);
        if !new.key_origin.is_chosen() {
            return Ok(put.await?);
        }
        let put = self.while_renewed(|| ledger.renew_claim(new.id, &new.key), put).await;
        let put = put.ok_or(TOO_SLOW)?;
        if put.is_err()
            && let Err(error) = ledger.leave_object(new.id, &new.key).await
        {
            warn!(key = %new.key, %error, "who tries again waits until the claim of the key has run out");
        }
        Ok(put?)
    }

    /// Removes an object that got no row.
    pub(super) async fn drop_object(&self, new: &NewUpload) {
        if let Err(error) = self.remove_object(new).await {
            warn!(key = %new.key, %error, "an object that belongs to nothing is left to the sweeper");
        }
    }

    async fn remove_object(&self, new: &NewUpload) -> Result<(), EngineError> {
        let ledger = &self.shared.ledger;
        if new.key_origin.is_chosen() && !ledger.condemn_object(new.id, &new.key).await? {
            // It is another's by now, or the sweeper's.
            return Ok(());
        }
        self.shared.store.delete(&new.key).await?;
        Ok(ledger.forget_object(new.id, &new.key).await?)
    }

    /// Records a file whose object is in the store already. When the fileId is
    /// taken meanwhile, the object is removed again. Says whether it is new and,
    /// if so, what the application says of it.
    pub(super) async fn create_file(
        &self,
        new: NewUpload,
        object: Object,
    ) -> Result<(Upload, bool, Option<Value>), EngineError> {
        let upload = new.upload(State::Completed { object: object.clone() });
        let file = upload.file_with(object);
        let events = self.events(&upload, EventKind::Completed, &Subject::File(&file));
        match self.shared.ledger.create_file(&new, &file, self.shared.settings.allowance, &events).await? {
            FileCreation::Created => {
                self.deliver_soon();
                let app = self.app(&file).await;
                Ok((upload, true, app))
            }
            // Recorded meanwhile by whoever found the same object.
            FileCreation::Known(known) if known.id == new.id => Ok((known, false, None)),
            FileCreation::Known(known) => {
                self.drop_object(&new).await;
                Ok((known, false, None))
            }
            FileCreation::NoRoom { used_bytes } => {
                self.drop_object(&new).await;
                Err(self.no_room(file.object.bytes, used_bytes).into())
            }
            FileCreation::Condemned => {
                self.drop_object(&new).await;
                Err(TOO_SLOW.into())
            }
        }
    }
}

/// Whether an object may be put.
#[expect(clippy::large_enum_variant, reason = "made once per request and taken apart at once")]
pub(super) enum Intended {
    /// It may.
    Yes {
        /// Whether one of an earlier try may lie there.
        has_remains: bool,
    },
    /// Its key is not to be had.
    No {
        /// Why.
        refusal: Refusal,
        /// What its fileId means, if it is not over.
        known: Option<Upload>,
    },
}
