//! The store's multipart upload is begun lazily, by the first chunk, and once:
//! the intent is recorded before the store is asked, so that the sweeper knows
//! where an orphan may lie if the answer is lost.

use tracing::warn;

use crate::domain::{Refusal, SessionId, State, Upload, UploadId, rules};
use crate::engine::{Engine, EngineError};
use crate::ledger::SessionSet;
use crate::store::{Begin, Target};

impl Engine {
    /// The multipart upload that this upload's chunks go into, begun if need be.
    pub(super) async fn session(&self, upload: &Upload) -> Result<SessionId, EngineError> {
        if let Some(session) = upload.session() {
            return Ok(session.clone());
        }
        let mut alone = self.shared.beginnings.pass(upload.id).await?;
        let begun = self.begin(upload).await;
        if let Err(error) = &begun {
            alone.fail(error.refusal());
        }
        begun
    }

    async fn begin(&self, upload: &Upload) -> Result<SessionId, EngineError> {
        let ledger = &self.shared.ledger;
        if !ledger.intend_session(upload.id).await? {
            // Begun by somebody else since it was read, or over.
            let now = ledger.upload(upload.id).await?.ok_or(Refusal::UploadNotFound)?;
            return match (&now.state, now.session()) {
                (State::Open { .. }, Some(session)) => Ok(session.clone()),
                _ => Err(self.why_closed(upload.id).await?),
            };
        }
        let begin = Begin {
            key: &upload.key,
            content_type: upload.content_type.as_deref(),
            plan: upload.geometry.plan(),
            direct: upload.is_direct,
        };
        let session = self.shared.store.begin(begin).await?;
        match ledger.set_session(upload.id, &session).await? {
            SessionSet::Won => Ok(session),
            SessionSet::Other(winner) => {
                // Another gateway was faster: ours holds no part yet.
                self.drop_session(upload, &session).await;
                Ok(winner)
            }
            SessionSet::NotOpen => {
                self.drop_session(upload, &session).await;
                Err(self.why_closed(upload.id).await?)
            }
        }
    }

    async fn drop_session(&self, upload: &Upload, session: &SessionId) {
        let target = Target { key: &upload.key, session };
        if let Err(error) = self.shared.store.abort(target).await {
            // The upload was begun twice, which the ledger counted: the sweeper will find it.
            warn!(upload = %upload.id, %session, %error, "a surplus multipart upload is left to the sweeper");
        }
    }

    /// Why an upload that was open a moment ago takes no chunk any more.
    pub(super) async fn why_closed(&self, id: UploadId) -> Result<EngineError, EngineError> {
        let upload = self.shared.ledger.upload(id).await?.ok_or(Refusal::UploadNotFound)?;
        let merging = Refusal::StoreUnavailable { reason: "the upload is being merged" };
        Ok(rules::closed(&upload.state).unwrap_or(merging).into())
    }
}
