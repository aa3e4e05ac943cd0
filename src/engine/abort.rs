//! `DELETE /uploads/{fileId}`: the client gives its upload up.

use tracing::warn;

use crate::domain::event::{EventKind, Subject};
use crate::domain::{FileId, Owner, Refusal, State, Upload};
use crate::engine::{Engine, EngineError};
use crate::ledger::Remains;
use crate::store::{StoreError, Target};

impl Engine {
    /// Gives the upload up. Its parts are aborted in the store at once, or by
    /// the sweeper until none is left. Doing so again is fine.
    pub async fn abort(&self, owner: &Owner, file_id: &FileId) -> Result<(), EngineError> {
        let upload = self.shared.ledger.find_upload(owner, file_id).await?.ok_or(Refusal::UploadNotFound)?;
        if let State::Open { .. } = upload.state {
            let events = self.events(&upload, EventKind::Aborted, &Subject::Upload(&upload, None));
            if self.shared.ledger.abort(upload.id, &events).await? {
                self.deliver_soon();
                self.clean_soon(&upload);
                return Ok(());
            }
        }
        // Not open, or no longer: what it has become meanwhile decides.
        let now = self.shared.ledger.upload(upload.id).await?.ok_or(Refusal::UploadNotFound)?;
        match now.state {
            State::Completing { .. } => Err(Refusal::UploadCompleting.into()),
            State::Completed { .. } => Err(Refusal::UploadCompleted.into()),
            State::Aborted | State::Expired | State::Failed { .. } => Ok(()),
            State::Open { .. } => Err(Refusal::UploadCompleting.into()),
        }
    }

    fn clean_soon(&self, upload: &Upload) {
        let Some(session) = upload.session().cloned() else { return };
        let (engine, key) = (self.clone(), upload.key.clone());
        self.spawn(async move {
            // Parts in flight may survive this abort, so the sweeper looks again.
            if let Err(error) = engine.shared.store.abort(Target { key: &key, session: &session }).await {
                warn!(%key, %session, %error, "the parts are left to the sweeper");
            }
        });
    }

    /// Removes what an ended upload left in the store. True when nothing is
    /// left; parts that were in flight may need another turn.
    pub(super) async fn clean(&self, remains: &Remains) -> Result<bool, StoreError> {
        let mut sessions = Vec::new();
        sessions.extend(remains.session.clone());
        // Begun more often than recorded: the store is asked what it has under this very key.
        if remains.by_key && remains.begins > u32::from(remains.session.is_some()) {
            let listed = self.shared.store.list_uploads(remains.key.as_str()).await?;
            sessions.extend(listed.into_iter().filter(|u| u.key == remains.key.as_str()).map(|u| u.session));
        }
        let mut clean = true;
        for session in &sessions {
            let target = Target { key: &remains.key, session };
            self.shared.store.abort(target).await?;
            match self.shared.store.list_parts(target).await {
                Err(StoreError::NoSuchUpload) => {}
                Ok(parts) => clean &= parts.is_empty(),
                Err(error) => return Err(error),
            }
        }
        Ok(clean)
    }
}
