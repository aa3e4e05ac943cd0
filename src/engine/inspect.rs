//! Questions: what is there, what is missing.

use crate::domain::{
    Chunk, File, FileId, Owner, Progress, Refusal, State, Status, Timestamp, Upload, UploadId, ranges,
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
    pub chunks: Vec<Chunk>,
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
        self.view(upload, progress).await
    }

    /// An upload with its file, as answers show it.
    pub async fn view(&self, upload: Upload, progress: Progress) -> Result<UploadView, EngineError> {
        let file = match &upload.state {
            State::Completed { .. } => self.shared.ledger.find_file(&upload.owner, &upload.file_id).await?,
            State::Open { .. } | State::Completing { .. } | State::Failed { .. } | State::Aborted | State::Expired => {
                None
            }
        };
        let progress = settled_progress(&upload, progress);
        Ok(UploadView { upload, progress, file })
    }

    /// How much of an upload that is at hand is recorded.
    pub async fn progress(&self, upload: Upload) -> Result<UploadView, EngineError> {
        let progress = self.shared.ledger.progress(upload.id).await?;
        self.view(upload, progress).await
    }

    /// The uploads of an owner, or of all, newest first.
    pub async fn uploads(
        &self,
        owner: Option<&Owner>,
        status: Option<Status>,
        after: Option<(Timestamp, UploadId)>,
        limit: u32,
    ) -> Result<Vec<(Upload, Progress)>, EngineError> {
        let listed = self.shared.ledger.list_uploads(owner, status, after, limit).await?;
        Ok(listed
            .into_iter()
            .map(|(upload, progress)| {
                let progress = settled_progress(&upload, progress);
                (upload, progress)
            })
            .collect())
    }

    /// What has arrived: the question of a client that comes back. `None` when
    /// nothing is known under this fileId.
    pub async fn chunks(&self, owner: &Owner, file_id: &FileId) -> Result<Option<ChunksView>, EngineError> {
        let Some(upload) = self.shared.ledger.find_upload(owner, file_id).await? else { return Ok(None) };
        let chunks = self.shared.ledger.chunks(upload.id).await?;
        let progress = Progress {
            chunks: u32::try_from(chunks.len()).unwrap_or(u32::MAX),
            bytes: chunks.iter().map(|chunk| chunk.bytes).sum(),
        };
        let missing = match upload.state {
            State::Completed { .. } => Vec::new(),
            State::Open { .. } | State::Completing { .. } | State::Failed { .. } | State::Aborted | State::Expired => {
                ranges::missing(chunks.iter().map(|chunk| chunk.index), upload.geometry.count())
            }
        };
        let view = self.view(upload, progress).await?;
        Ok(Some(ChunksView { view, chunks, missing }))
    }

    /// `POST /chunks/complete`: merges if nothing is missing.
    pub async fn complete(&self, owner: &Owner, file_id: &FileId) -> Result<Finished, EngineError> {
        let upload = self.shared.ledger.find_upload(owner, file_id).await?.ok_or(Refusal::UploadNotFound)?;
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

/// The rows of a completed upload are swept some day: it is complete all the same.
fn settled_progress(upload: &Upload, counted: Progress) -> Progress {
    match &upload.state {
        State::Completed { object } => Progress { chunks: upload.geometry.count(), bytes: object.bytes },
        State::Open { .. } | State::Completing { .. } | State::Failed { .. } | State::Aborted | State::Expired => {
            counted
        }
    }
}
