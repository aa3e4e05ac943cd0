//! Forms by which browsers put a small file into the store without us. The
//! store says when one has come, or the sweeper asks it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use tracing::{info, warn};

use crate::domain::kind::{HEAD_BYTES, Kinds};
use crate::domain::rules;
use crate::domain::{File, FileId, Geometry, Grant, Object, ObjectKey, Owner, Plan, Refusal, Timestamp};
use crate::engine::create::{CreateUpload, Cut, being_put};
use crate::engine::hooks::Requester;
use crate::engine::{Engine, EngineError};
use crate::ledger::{AwaitedFile, Claim, KeyOrigin, NewUpload};
use crate::store::{FormAsk, SignedForm, StoredObject};

/// When a file is first looked for whose sending nobody has told of.
const LOOK_AFTER: Duration = Duration::from_secs(60);

/// What a client says of a file that it will send to the store.
#[derive(Clone, Debug)]
pub struct WantedForm {
    /// The user's file name.
    pub file_name: String,
    /// MIME type.
    pub content_type: Option<String>,
    /// The longest that it may be, in bytes.
    pub bytes_max: u64,
    /// For how long the form may be sent.
    pub expires_in: Duration,
    /// Whose request it is.
    pub from: Requester,
}

/// A form that was given out.
#[derive(Clone, Debug)]
pub struct GivenForm {
    /// What its file will be known by.
    pub file_id: FileId,
    /// The form.
    pub form: SignedForm,
    /// Until when it may be sent.
    pub expires_at: Timestamp,
}

impl Engine {
    /// A form for one file: what it will be is written down first, so that the
    /// sweeper knows of whatever comes.
    pub async fn sign_form(&self, grant: &Grant, wanted: WantedForm) -> Result<GivenForm, EngineError> {
        let bytes_max = self.file_bytes_max(&grant.terms).min(self.shared.store.limits().put_bytes_max);
        if wanted.bytes_max > bytes_max {
            return Err(Refusal::FileTooLarge { bytes: Some(wanted.bytes_max), bytes_max }.into());
        }
        self.refuse_early(&grant.owner, None, wanted.bytes_max).await?;
        let create = CreateUpload {
            file_id: None,
            file_name: wanted.file_name,
            content_type: wanted.content_type,
            metadata: BTreeMap::new(),
            checksum: None,
            auto_complete: None,
            restart: false,
            cut: Cut::Declared { total_bytes: 0, chunk_bytes: None, count: None },
            from: wanted.from,
        };
        let create = create.granted(grant)?;
        let largest = of_one_piece(wanted.bytes_max)?;
        let new = self.consented(self.describe(grant, &create, Geometry::Fixed(largest))?, &create.from, None).await?;
        let new = self.look_at_key(new).await?;
        let ask = FormAsk {
            key: &new.key,
            content_type: new.content_type.as_deref(),
            bytes_max: wanted.bytes_max,
            expires_in: wanted.expires_in,
        };
        let form = self.shared.store.sign_form(&ask).await?.ok_or_else(no_forms)?;
        if !form.is_for_once && self.kinds(&grant.terms).next().is_some() {
            let what = "what kind of file it is shows in its first bytes, and this store's forms may be sent again with \
                        others: send the file through the gateway, which looks at them";
            return Err(Refusal::NotSupported { what }.into());
        }
        if !form.is_for_once && new.key_origin.is_chosen() {
            let what = "the application chose the object's key, and this store's forms write over whatever lies there as \
                        long as they last: send the file through the gateway, or have the key drawn with {random}";
            return Err(Refusal::NotSupported { what }.into());
        }
        let expires_at = new.at.plus(form.expires_in);
        let awaited = AwaitedFile {
            key: new.key.clone(),
            id: new.id,
            owner: new.owner.clone(),
            file_id: new.file_id.clone(),
            file_name: new.file_name.clone(),
            content_type: new.content_type.clone(),
            metadata: new.metadata.clone(),
            bytes_max: wanted.bytes_max,
            kinds: self.kinds(&grant.terms).cloned().collect(),
            is_key_chosen: new.key_origin.is_chosen(),
            at: new.at,
            expires_at,
        };
        match self.expect(&new, &awaited, new.at.plus(LOOK_AFTER)).await? {
            Claim::Made { .. } => Ok(GivenForm { file_id: awaited.file_id, form, expires_at }),
            Claim::BeingPut => Err(being_put().into()),
            Claim::Taken(holder) => Err(Refusal::KeyTaken { holder }.into()),
        }
    }

    /// Writes down that a form's file may come. A key that was drawn by lot is nobody else's.
    async fn expect(&self, new: &NewUpload, awaited: &AwaitedFile, look_at: Timestamp) -> Result<Claim, EngineError> {
        let ledger = &self.shared.ledger;
        if new.key_origin.is_chosen() {
            return Ok(ledger.claim_form(new, awaited, look_at).await?);
        }
        ledger.await_file(awaited, look_at).await?;
        Ok(Claim::Made { has_remains: false })
    }

    /// Whether such a file may be sent through us in one request.
    pub fn admit_small(&self, grant: &Grant, wanted: &WantedForm) -> Result<(), Refusal> {
        let bytes_max = self.file_bytes_max(&grant.terms);
        if wanted.bytes_max > bytes_max {
            return Err(Refusal::FileTooLarge { bytes: Some(wanted.bytes_max), bytes_max });
        }
        let bytes_max = self.shared.settings.upload.simple_max_bytes.min(self.shared.store.limits().put_bytes_max);
        if wanted.bytes_max > bytes_max {
            return Err(Refusal::SimpleFileTooLarge { bytes_max });
        }
        rules::check_file_name(&wanted.file_name)?;
        wanted.content_type.as_deref().map_or(Ok(()), rules::check_content_type)?;
        let mut kinds = self.kinds(&grant.terms);
        kinds.try_for_each(|kinds| kinds.allow_name(&wanted.file_name, wanted.content_type.as_deref()))
    }

    /// The store says that an object was put by a form. Whoever says so may
    /// lie: the store is asked, and what it says is recorded. `None` when no
    /// form of ours has put it, or it is not there.
    pub async fn form_arrived(&self, key: &ObjectKey) -> Result<Option<File>, EngineError> {
        match self.shared.ledger.awaited_file(key).await? {
            Some(awaited) => self.take_in_surely(awaited).await,
            None => Ok(self.shared.ledger.file_of_key(key).await?),
        }
    }

    /// Somebody asks for a file that may have come by a form: not every store
    /// says so by itself.
    pub(super) async fn look_for_file(&self, owner: &Owner, file_id: &FileId) -> Result<Option<File>, EngineError> {
        match self.shared.ledger.awaited_by(owner, file_id).await? {
            Some(awaited) => self.take_in_surely(awaited).await,
            None => Ok(None),
        }
    }

    async fn take_in_surely(&self, awaited: AwaitedFile) -> Result<Option<File>, EngineError> {
        let engine = self.clone();
        // What is found is recorded, whoever may be gone.
        let task = self.spawn(async move { engine.take_in(awaited).await });
        task.await.unwrap_or_else(|error| Err(EngineError::Broken(format!("the file's task died: {error}"))))
    }

    /// Looks for a file; none if it has not come.
    async fn take_in(&self, awaited: AwaitedFile) -> Result<Option<File>, EngineError> {
        let Some(stored) = self.shared.store.head(&awaited.key).await? else { return Ok(None) };
        let again = awaited.clone();
        if stored.crc64.is_none() && self.shared.store.limits().proof.lists_crc64() {
            return Err(EngineError::Broken(format!("the store has no checksum of {}", awaited.key)));
        }
        let (completed_at, bytes_max) = (self.shared.clock.now(), awaited.bytes_max);
        let content_type = awaited.content_type.clone().or_else(|| stored.content_type.clone());
        let judged = self.judge(&awaited, &stored, content_type.as_deref()).await?;
        let object = Object { etag: stored.etag, bytes: stored.bytes, crc64: stored.crc64, completed_at };
        let new = NewUpload {
            geometry: Geometry::Fixed(of_one_piece(stored.bytes)?),
            id: awaited.id,
            owner: awaited.owner,
            file_id: awaited.file_id,
            file_name: awaited.file_name,
            content_type,
            metadata: awaited.metadata,
            checksum: None,
            auto_complete: true,
            key: awaited.key,
            key_origin: match awaited.is_key_chosen {
                true => KeyOrigin::Chosen { is_occupied: false },
                false => KeyOrigin::Drawn,
            },
            reserved_bytes: 0,
            at: awaited.at,
            expires_at: awaited.expires_at,
        };
        if new.geometry.total_bytes() > Some(bytes_max) {
            warn!(key = %new.key, bytes = object.bytes, bytes_max, "an object is larger than its form allowed; it is removed");
            self.drop_object(&new).await;
            self.await_again(&new, &again).await?;
            return Ok(None);
        }
        if let Err(refusal) = judged {
            warn!(key = %new.key, reason = refusal.detail(), "an object is of no kind that its form allowed; it is removed");
            self.drop_object(&new).await;
            self.await_again(&new, &again).await?;
            return Err(refusal.into());
        }
        match self.create_file(new.clone(), object).await {
            Ok((upload, is_new, _)) if upload.id == again.id => {
                if is_new {
                    info!(upload = %upload.id, file_id = %upload.file_id, owner = %upload.owner, key = %upload.key,
                        "a form's file is there");
                }
                Ok(upload.file())
            }
            // Its fileId means another upload by now, and the object was removed.
            Ok(_) => {
                self.await_again(&new, &again).await?;
                Ok(None)
            }
            Err(EngineError::Refused(refusal)) => {
                // Of a chosen key, the claim ends with the file that somebody else has just recorded.
                if let Some(file) = self.shared.ledger.upload(new.id).await?.and_then(|known| known.file()) {
                    return Ok(Some(file));
                }
                self.await_again(&new, &again).await?;
                Err(refusal.into())
            }
            Err(error) => Err(error),
        }
    }

    /// Whether what came is of a kind that its form allowed, by its name, by what
    /// it says and by its first bytes.
    async fn judge(
        &self,
        awaited: &AwaitedFile,
        stored: &StoredObject,
        content_type: Option<&str>,
    ) -> Result<Result<(), Refusal>, EngineError> {
        if awaited.kinds.is_empty() {
            return Ok(Ok(()));
        }
        // Nobody said anything: so OSS says.
        let said = content_type.filter(|mime| *mime != "application/octet-stream");
        let end = stored.bytes.min(HEAD_BYTES as u64);
        let mut head = Vec::new();
        let mut stream = self.shared.store.get(&awaited.key, Some(0..end)).await?.stream;
        while let Some(piece) = stream.next().await {
            head.extend_from_slice(&piece?);
        }
        let one_of = |kinds: &Kinds| {
            kinds.allow_name(&awaited.file_name, said)?;
            kinds.allow_head(&head, &awaited.file_name, said)
        };
        Ok(awaited.kinds.iter().try_for_each(one_of))
    }

    /// What was not taken was removed, and may be sent again as long as the form
    /// lasts, and its key is nobody else's.
    async fn await_again(&self, new: &NewUpload, awaited: &AwaitedFile) -> Result<(), EngineError> {
        let look_at = self.shared.clock.now().plus(LOOK_AFTER);
        match self.expect(new, awaited, look_at).await? {
            Claim::Made { .. } => {}
            Claim::BeingPut | Claim::Taken(_) => {
                warn!(key = %new.key, "a form's key is not to be had again: what is sent by it now is no file");
            }
        }
        Ok(())
    }

    /// Files whose sending nobody has told of: the sweeper asks the store.
    pub(super) async fn look_for_files(&self, limit: u32) -> Result<u64, EngineError> {
        let mut found = 0;
        for awaited in self.shared.ledger.awaited_files(self.shared.clock.now(), limit).await? {
            let (key, at) = (awaited.key.clone(), awaited.at);
            match Box::pin(self.take_in(awaited)).await {
                Ok(Some(_)) => found += 1,
                Ok(None) => self.look_later(&key, at).await?,
                Err(error) => {
                    warn!(%key, %error, "a form's file could not be recorded; it is looked for again");
                    self.look_later(&key, at).await?;
                    if error.is_transient() {
                        // It would be so for all the others too, a time-out each.
                        break;
                    }
                }
            }
        }
        Ok(found)
    }

    /// Ever more rarely: half of what has passed since the form was given out.
    async fn look_later(&self, key: &ObjectKey, at: Timestamp) -> Result<(), EngineError> {
        let now = self.shared.clock.now();
        let pause = (now.since(at) / 2).max(LOOK_AFTER);
        Ok(self.shared.ledger.look_later(key, now.plus(pause)).await?)
    }
}

/// The plan of a file that is not cut.
fn of_one_piece(bytes: u64) -> Result<Plan, EngineError> {
    Plan::restore(bytes, u32::from(bytes > 0), bytes)
        .ok_or_else(|| EngineError::Broken("a file of one chunk has no plan".to_owned()))
}

fn no_forms() -> Refusal {
    Refusal::NotSupported { what: "this gateway's store takes no forms: send small files to POST /files" }
}
