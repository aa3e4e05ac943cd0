//! Questions: what is there, what is missing.

use crate::domain::{
    File, FileId, Owner, Progress, Received, Refusal, State, Status, Timestamp, Upload, UploadId, ranges,
};
use crate::engine::finish::Finished;
use crate::engine::{Engine, EngineError};

/// An upload with how much of it is recorded, and its file if it has one.
#[derive(Clone, Debug)]
pub struct UploadView {
    /// The upload.
    pub upload: Upload,
    /// How much is recorded.
    pub progress: Progress,
    /// The file it has become.
    pub file: Option<File>,
}

/// An upload with its chunks.
#[derive(Clone, Debug)]
pub struct ChunksView {
    /// The upload.
    pub view: UploadView,
    /// The recorded chunks, in order.
    pub chunks: Vec<Received>,
    /// The indexes that are not recorded.
    pub missing: Vec<[u32; 2]>,
}

impl Engine {
    /// The upload under this fileId, if there is one: open or ended.
    pub async fn known(&self, owner: &Owner, file_id: &FileId) -> Result<Option<Upload>, EngineError> {
        Ok(self.shared.ledger.find_upload(owner, file_id).await?)
    }

    /// The upload under this fileId.
    pub async fn upload(&self, owner: &Owner, file_id: &FileId) -> Result<UploadView, EngineError> {
        let found = self.shared.ledger.find_with_progress(owner, file_id).await?;
        let (upload, progress) = found.ok_or(Refusal::UploadNotFound)?;
        Ok(view(upload, progress))
    }

    /// How much of an upload that is at hand is recorded.
    pub async fn progress(&self, upload: Upload) -> Result<UploadView, EngineError> {
        let progress = self.shared.ledger.progress(upload.id).await?;
        Ok(view(upload, progress))
    }

    /// The uploads of an owner, or of all, newest first.
    pub async fn uploads(
        &self,
        owner: Option<&Owner>,
        status: Option<Status>,
        after: Option<(Timestamp, UploadId)>,
        limit: u32,
    ) -> Result<Vec<UploadView>, EngineError> {
        let listed = self.shared.ledger.list_uploads(owner, status, after, limit).await?;
        Ok(listed.into_iter().map(|(upload, progress)| view(upload, progress)).collect())
    }

    /// All that failed, or all of this owner's, also those that were begun anew since, newest first.
    pub async fn failed_uploads(
        &self,
        owner: Option<&Owner>,
        after: Option<(Timestamp, UploadId)>,
        limit: u32,
    ) -> Result<Vec<UploadView>, EngineError> {
        let listed = self.shared.ledger.list_failed(owner, after, limit).await?;
        Ok(listed.into_iter().map(|(upload, progress)| view(upload, progress)).collect())
    }

    /// The same list for somebody who may know of one fileId only.
    pub async fn upload_listed(
        &self,
        owner: &Owner,
        only: &FileId,
        status: Option<Status>,
    ) -> Result<Vec<UploadView>, EngineError> {
        let found = self.shared.ledger.find_with_progress(owner, only).await?;
        let listed = found.filter(|(upload, _)| status.is_none_or(|status| upload.state.status() == status));
        Ok(listed.into_iter().map(|(upload, progress)| view(upload, progress)).collect())
    }

    /// What has arrived: the question of a client that comes back. `None` when
    /// nothing is known under this fileId.
    pub async fn chunks(&self, owner: &Owner, file_id: &FileId) -> Result<Option<ChunksView>, EngineError> {
        let Some(upload) = self.shared.ledger.find_upload(owner, file_id).await? else { return Ok(None) };
        let upload = self.catch_up(upload, false).await?;
        let chunks = self.shared.ledger.received(upload.id).await?;
        // The rows of a completed upload are swept some day: it is complete all the same.
        let (progress, missing) = match &upload.state {
            State::Completed { object } => {
                (Progress { chunks: upload.geometry.count(), bytes: object.bytes }, Vec::new())
            }
            State::Open { .. } | State::Completing { .. } | State::Failed { .. } | State::Aborted | State::Expired => {
                let count = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
                let progress = Progress { chunks: count, bytes: chunks.iter().map(|chunk| chunk.bytes).sum() };
                (progress, ranges::missing(chunks.iter().map(|chunk| chunk.index), upload.geometry.count()))
            }
        };
        let view = view(upload, progress);
        Ok(Some(ChunksView { view, chunks, missing }))
    }

    /// `POST /chunks/complete`: merges if nothing is missing.
    pub async fn complete(&self, owner: &Owner, file_id: &FileId) -> Result<Finished, EngineError> {
        let upload = self.shared.ledger.find_upload(owner, file_id).await?.ok_or(Refusal::UploadNotFound)?;
        let upload = self.catch_up(upload, true).await?;
        match upload.state {
            State::Completed { .. } | State::Failed { .. } | State::Aborted | State::Expired => {
                self.settled(upload.id).await
            }
            State::Completing { .. } => Ok(self.finish(upload.id).await),
            State::Open { .. } => {
                let present = self.shared.ledger.chunk_indexes(upload.id).await?;
                let missing = ranges::missing(present, upload.geometry.count());
                if missing.is_empty() { Ok(self.finish(upload.id).await) } else { Ok(Finished::Missing(missing)) }
            }
        }
    }
}

/// An upload with its file, as answers show it.
fn view(upload: Upload, progress: Progress) -> UploadView {
    let file = upload.file();
    UploadView { upload, progress, file }
}
