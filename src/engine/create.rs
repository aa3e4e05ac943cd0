//! `POST /uploads`, and the creation of an upload by its first form.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::domain::event::{EventKind, Subject};
use crate::domain::rules::{self, Declared};
use crate::domain::{Checksum, FileId, Geometry, Grant, Plan, Refusal, State, Terms, Timestamp, Upload, UploadId};
use crate::engine::hooks::{Alone, Requester};
use crate::engine::keys::Shape;
use crate::engine::{Engine, EngineError};
use crate::ledger::{Creation, Intent, KeyOrigin, NewUpload};

/// What a client says of a file it wants to upload.
#[derive(Clone, Debug)]
pub struct CreateUpload {
    /// The client's id; none makes one.
    pub file_id: Option<FileId>,
    /// The user's file name.
    pub file_name: String,
    /// MIME type.
    pub content_type: Option<String>,
    /// Pairs to hand back.
    pub metadata: BTreeMap<String, String>,
    /// The checksum of the whole file.
    pub checksum: Option<Checksum>,
    /// Whether the last chunk starts the merge; none is the server's default.
    pub auto_complete: Option<bool>,
    /// Gives up what is there under this fileId.
    pub restart: bool,
    /// What is known of the file's cut.
    pub cut: Cut,
    /// Whose request it is.
    pub from: Requester,
}

/// What a client says of how its file is cut, in the API's terms: `fileSize`,
/// `chunkSize`, `totalChunks`.
#[expect(missing_docs, reason = "the fields are named for what they are")]
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// `POST /uploads`: the size is known, the rest is agreed on.
    Declared { total_bytes: u64, chunk_bytes: Option<u64>, count: Option<u64> },
    /// A form: the number of chunks is known, the rest may be learnt.
    Form { count: u64, chunk_bytes: Option<u64>, total_bytes: Option<u64> },
}

impl Cut {
    fn declared<'a>(&self, checksum: Option<&'a Checksum>) -> Declared<'a> {
        match *self {
            Self::Declared { total_bytes, chunk_bytes, count } => {
                Declared { total_bytes: Some(total_bytes), chunk_bytes, count, checksum }
            }
            Self::Form { count, chunk_bytes, total_bytes } => {
                Declared { total_bytes, chunk_bytes, count: Some(count), checksum }
            }
        }
    }
}

/// What came of a creation.
#[derive(Clone, Debug)]
pub struct CreatedUpload {
    /// The upload, new or known.
    pub upload: Upload,
    /// Whether this call made it.
    pub is_new: bool,
    /// What the application says of a file that is complete with that.
    pub app: Option<Value>,
}

impl CreatedUpload {
    fn new(upload: Upload) -> Self {
        Self { upload, is_new: true, app: None }
    }

    fn known(upload: Upload) -> Self {
        Self { upload, is_new: false, app: None }
    }
}

impl Engine {
    /// Creates the upload, or finds the one that this owner has under this
    /// fileId and that agrees with what is said of it.
    pub async fn create(&self, grant: &Grant, wanted: CreateUpload) -> Result<CreatedUpload, EngineError> {
        let wanted = wanted.granted(grant)?;
        // Until this upload has its row: the others then find it.
        let mut alone = self.alone(&grant.owner, wanted.file_id.as_ref()).await?;
        let known = match &wanted.file_id {
            Some(file_id) => self.shared.ledger.find_upload(&grant.owner, file_id).await?,
            None => None,
        };
        // An upload that is known is judged by what was agreed then, before
        // today's limits and an impossible chunk size can refuse it.
        if let Some(upload) = known.as_ref().filter(|u| rules::closed(&u.state).is_none()) {
            if wanted.restart {
                return self.restart(upload, grant, wanted, alone.as_mut()).await;
            }
            rules::agrees(upload, &wanted.cut.declared(wanted.checksum.as_ref()))?;
            let upload = self.declared_late(upload.clone(), wanted.checksum).await?;
            return Ok(CreatedUpload::known(upload));
        }
        let new = self.consented(self.new_upload(grant, &wanted)?, &wanted.from, alone.as_mut()).await?;
        if new.geometry.count() == 0 {
            let created = self.create_empty(new, None).await?;
            rules::agrees(&created.upload, &wanted.cut.declared(wanted.checksum.as_ref()))?;
            return Ok(created);
        }
        let new = self.look_at_key(new).await?;
        let creation = self.shared.ledger.create_upload(&new, self.shared.settings.allowance).await?;
        self.created(creation, &new, &wanted).await
    }

    /// A checksum that a resuming client declares and the first call did not:
    /// it is one more thing to verify at the end.
    async fn declared_late(&self, upload: Upload, checksum: Option<Checksum>) -> Result<Upload, EngineError> {
        let (Some(checksum), None, State::Open { .. }) = (checksum, upload.checksum, &upload.state) else {
            return Ok(upload);
        };
        // Of one chunk a digest is verified while it passes, and it may have passed already.
        if upload.geometry.count() <= 1 && !matches!(checksum, Checksum::Crc64(_)) {
            return Ok(upload);
        }
        if self.shared.ledger.declare_checksum(upload.id, checksum).await? {
            return Ok(Upload { checksum: Some(checksum), ..upload });
        }
        Ok(upload)
    }

    async fn created(
        &self,
        creation: Creation,
        new: &NewUpload,
        wanted: &CreateUpload,
    ) -> Result<CreatedUpload, EngineError> {
        match creation {
            Creation::Created(upload) => Ok(CreatedUpload::new(upload)),
            Creation::Known(upload) => {
                rules::agrees(&upload, &wanted.cut.declared(wanted.checksum.as_ref()))?;
                let upload = self.declared_late(upload, wanted.checksum).await?;
                Ok(CreatedUpload::known(upload))
            }
            other @ (Creation::TooManyOpen | Creation::NoRoom { .. } | Creation::KeyTaken(_) | Creation::BeingPut) => {
                Err(self.not_created(new, &other).into())
            }
        }
    }

    fn not_created(&self, new: &NewUpload, creation: &Creation) -> Refusal {
        match creation {
            Creation::TooManyOpen => Refusal::TooManyUploads { max: self.shared.settings.allowance.open_uploads_max },
            Creation::NoRoom { used_bytes } => self.no_room(new.reserved_bytes, *used_bytes),
            Creation::KeyTaken(holder) => Refusal::KeyTaken { holder: *holder },
            Creation::BeingPut => being_put(),
            Creation::Created(_) | Creation::Known(_) => Refusal::Internal,
        }
    }

    /// There is no room for so many bytes beside those that are used.
    pub(super) fn no_room(&self, bytes: u64, used: u64) -> Refusal {
        Refusal::QuotaExceeded { bytes, used, quota: self.shared.settings.allowance.bytes_max.unwrap_or(u64::MAX) }
    }

    async fn restart(
        &self,
        old: &Upload,
        grant: &Grant,
        wanted: CreateUpload,
        alone: Option<&mut Alone<'_>>,
    ) -> Result<CreatedUpload, EngineError> {
        if let State::Completed { .. } | State::Completing { .. } = old.state {
            return Err(not_given_up(&old.state).into());
        }
        let new = self.consented(self.new_upload(grant, &wanted)?, &wanted.from, alone).await?;
        if new.geometry.count() == 0 {
            return self.create_empty(new, Some(old)).await;
        }
        let new = self.look_at_key(new).await?;
        let events = self.events(old, EventKind::Aborted, &Subject::Upload(old, None));
        let creation = self.shared.ledger.restart_upload(old.id, &new, self.shared.settings.allowance, &events).await?;
        self.deliver_soon();
        match creation {
            Creation::Created(upload) => Ok(CreatedUpload::new(upload)),
            Creation::Known(upload) => Err(not_given_up(&upload.state).into()),
            other @ (Creation::TooManyOpen | Creation::NoRoom { .. } | Creation::KeyTaken(_) | Creation::BeingPut) => {
                Err(self.not_created(&new, &other).into())
            }
        }
    }

    /// The largest file on these terms, in bytes.
    pub(super) fn file_bytes_max(&self, terms: &Terms) -> u64 {
        let bytes_max = self.shared.settings.file_bytes_max;
        terms.file_bytes_max.map_or(bytes_max, |locked_in| locked_in.min(bytes_max))
    }

    fn new_upload(&self, grant: &Grant, wanted: &CreateUpload) -> Result<NewUpload, EngineError> {
        let (bounds, bytes_max) = (self.bounds(), self.file_bytes_max(&grant.terms));
        let geometry = match wanted.cut {
            Cut::Declared { total_bytes, .. } | Cut::Form { total_bytes: Some(total_bytes), .. }
                if total_bytes > bytes_max =>
            {
                return Err(Refusal::FileTooLarge { bytes: Some(total_bytes), bytes_max }.into());
            }
            Cut::Declared { total_bytes, chunk_bytes, count } => {
                Geometry::Fixed(Plan::declare(total_bytes, chunk_bytes, count, &bounds)?)
            }
            Cut::Form { count, chunk_bytes, total_bytes } => {
                Geometry::from_form(count, chunk_bytes, total_bytes, &bounds)?
            }
        };
        self.describe(grant, wanted, geometry)
    }

    /// The row of a new upload: its id, its key, its times.
    pub(super) fn describe(
        &self,
        grant: &Grant,
        wanted: &CreateUpload,
        geometry: Geometry,
    ) -> Result<NewUpload, EngineError> {
        let at = self.shared.clock.now();
        let lot = self.draw(&self.shape(grant, wanted, at), at).ok_or_else(|| self.no_key())?;
        self.describe_as(grant, wanted, geometry, lot)
    }

    /// What its key will look like.
    pub(super) fn shape(&self, grant: &Grant, wanted: &CreateUpload, at: Timestamp) -> Shape {
        let template = &self.shared.settings.upload.key_template;
        Shape::new(template, grant.terms.key_prefix.as_ref(), &grant.owner, &wanted.file_name, at)
    }

    /// An id, and a key by lot: another key is another object, with an id of its
    /// own. `None` when the shape makes no key.
    pub(super) fn draw(&self, shape: &Shape, at: Timestamp) -> Option<Intent> {
        let clock = &self.shared.clock;
        Some(Intent { key: shape.key(clock.random())?, id: UploadId(clock.uuid_v7()), at })
    }

    pub(super) fn no_key(&self) -> EngineError {
        EngineError::Broken(format!("upload.key_template makes no key: {}", self.shared.settings.upload.key_template))
    }

    /// The same row with this id and key.
    pub(super) fn describe_as(
        &self,
        grant: &Grant,
        wanted: &CreateUpload,
        geometry: Geometry,
        Intent { id, key, .. }: Intent,
    ) -> Result<NewUpload, EngineError> {
        for kinds in self.kinds(&grant.terms) {
            kinds.allow_name(&wanted.file_name, wanted.content_type.as_deref())?;
        }
        let clock = &self.shared.clock;
        let (at, upload) = (clock.now(), &self.shared.settings.upload);
        Ok(NewUpload {
            id,
            owner: grant.owner.clone(),
            file_id: wanted.file_id.clone().unwrap_or_else(|| FileId::from_random(clock.random())),
            file_name: wanted.file_name.clone(),
            content_type: wanted.content_type.clone(),
            metadata: wanted.metadata.clone(),
            geometry,
            checksum: wanted.checksum,
            auto_complete: wanted.auto_complete.unwrap_or(upload.auto_complete),
            key,
            key_origin: KeyOrigin::Drawn,
            reserved_bytes: geometry.bytes_to_reserve(),
            at,
            expires_at: at.plus(upload.expires_after),
        })
    }
}

impl CreateUpload {
    /// What is wished for, checked, with what the token has locked in standing
    /// over what the client says.
    pub(super) fn granted(mut self, grant: &Grant) -> Result<Self, Refusal> {
        self.metadata.extend(grant.terms.metadata.iter().map(|(key, value)| (key.clone(), value.clone())));
        self.file_id = grant.file_id_for(self.file_id)?;
        rules::check_file_name(&self.file_name)?;
        rules::check_metadata(&self.metadata)?;
        self.content_type.as_deref().map_or(Ok(()), rules::check_content_type)?;
        Ok(self)
    }
}

/// Somebody else is about the same file.
pub(super) fn being_put() -> Refusal {
    Refusal::StoreUnavailable { reason: "another request is just putting a file of this fileId" }
}

/// Why an upload in this state is not begun anew.
pub(super) fn not_given_up(state: &State) -> Refusal {
    match state {
        State::Completed { .. } => Refusal::UploadCompleted,
        State::Completing { .. } => Refusal::UploadCompleting,
        State::Open { .. } | State::Failed { .. } | State::Aborted | State::Expired => {
            Refusal::conflict("somebody else began it anew at the same time")
        }
    }
}
