//! A chunk that comes again: it is read, compared with what is known of it, and
//! dropped.

use std::sync::Arc;

use crate::domain::{Checksum, ChecksumAlgorithm, Chunk, Crc64, Progress, Refusal, State, Upload};
use crate::engine::intake::{self, Incoming, Verdict, Verified};
use crate::engine::put_chunk::{ChunkStored, PutChunk, admitted_index, with_crc64};
use crate::engine::reins::Reins;
use crate::engine::{Engine, EngineError};

impl Engine {
    /// A recorded chunk comes again: it is read, compared and dropped.
    pub(super) async fn compare(
        &self,
        put: PutChunk,
        upload: Upload,
        chunk: Chunk,
        reins: &Reins,
    ) -> Result<ChunkStored, EngineError> {
        let conflict = Refusal::ChunkConflict { index: chunk.index };
        let declared = put.checksums.iter().find(|c| c.algorithm() == ChecksumAlgorithm::Crc64).copied();
        let by_digest = chunk.crc64.is_some_and(|crc64| declared == Some(Checksum::Crc64(crc64)));
        let (mut checksums, mut crc64) = (Vec::new(), chunk.crc64);
        if !by_digest || put.bytes != Some(chunk.bytes) {
            checksums = put.checksums.clone();
            let verdict = self.read_all(put.body, chunk.bytes, put.checksums, chunk.crc64.is_none(), reins).await?;
            crc64 = verdict.crc64();
            let is_same = match chunk.crc64 {
                Some(known) => crc64 == Some(known),
                // It came straight to the store: its ETag is its MD5, or nobody can tell.
                None => verdict.md5().is_some_and(|md5| chunk.etag.eq_ignore_ascii_case(&hex::encode(md5))),
            };
            if !is_same {
                return Err(conflict.into());
            }
        }
        metrics::counter!("chunkgate_chunk_repeats_total").increment(1);
        let progress = self.shared.ledger.progress(upload.id).await?;
        let checksums = with_crc64(checksums, crc64);
        let (index, bytes) = (chunk.index, chunk.bytes);
        Ok(ChunkStored { upload, index, bytes, checksums, progress, file: None, app: None, missing: None })
    }

    /// A chunk of which only the length is known any more, or that is empty.
    pub(super) async fn compare_length(
        &self,
        put: PutChunk,
        upload: Upload,
        bytes: u64,
        reins: &Reins,
    ) -> Result<ChunkStored, EngineError> {
        let (index, checksums) = (admitted_index(&put), put.checksums.clone());
        let crc64 = self.read(put.body, bytes, put.checksums, reins).await?;
        // A file of one chunk is known by its own checksum for good.
        if let State::Completed { object } = &upload.state
            && upload.geometry.count() == 1
            && object.crc64.is_some_and(|known| known != crc64)
        {
            return Err(Refusal::ChunkConflict { index }.into());
        }
        let checksums = with_crc64(checksums, Some(crc64));
        let progress =
            Progress { chunks: upload.geometry.count(), bytes: upload.geometry.total_bytes().unwrap_or_default() };
        Ok(ChunkStored { upload, index, bytes, checksums, progress, file: None, app: None, missing: None })
    }

    /// Reads a body that goes nowhere, and verifies what was declared of it.
    pub(super) async fn read(
        &self,
        body: Incoming,
        bytes: u64,
        checksums: Vec<Checksum>,
        reins: &Reins,
    ) -> Result<Crc64, EngineError> {
        let verdict = self.read_all(body, bytes, checksums, false, reins).await?;
        verdict.crc64().ok_or_else(|| EngineError::Broken("a body ended without a verdict".to_owned()))
    }

    async fn read_all(
        &self,
        body: Incoming,
        bytes: u64,
        checksums: Vec<Checksum>,
        with_md5: bool,
        reins: &Reins,
    ) -> Result<Arc<Verdict>, EngineError> {
        let declared = intake::Declared { checksums, whole: None, with_md5 };
        let (body, verdict) = Verified::new(body, bytes, declared, reins.clone());
        if intake::drain(body.boxed()).await.is_err() {
            return Err(verdict.refused().cloned().unwrap_or(Refusal::Internal).into());
        }
        Ok(verdict)
    }
}
