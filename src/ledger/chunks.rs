//! What is recorded of an upload.

use crate::domain::{Chunk, Part, Received, UploadId};
use crate::ledger::Ledger;
use crate::ledger::db::sql;
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{self, Reader, chunk_columns};

impl Ledger {
    /// Its recorded chunks with their proofs, in order.
    pub async fn chunks(&self, id: UploadId) -> Result<Vec<Chunk>, LedgerError> {
        let text = concat!(
            "SELECT c.upload_id, ",
            chunk_columns!(),
            " FROM chunks c WHERE c.upload_id = $1 ORDER BY c.chunk_index"
        );
        let rows = self.read().await?.rows(sql(text).bind(id.0)).await?;
        rows.iter().filter_map(|row| rows::chunk(row).transpose()).collect()
    }

    /// Index and length of its recorded chunks, in order: what a client that
    /// comes back must know.
    pub async fn received(&self, id: UploadId) -> Result<Vec<Received>, LedgerError> {
        let text = "SELECT upload_id, chunk_index, bytes FROM chunks WHERE upload_id = $1 ORDER BY chunk_index";
        let rows = self.read().await?.rows(sql(text).bind(id.0)).await?;
        let read = |row| {
            let read = Reader::new(row, "chunks", &["upload_id"]);
            Ok(Received { index: read.count("chunk_index")?, bytes: read.size("bytes")? })
        };
        rows.iter().map(read).collect()
    }

    /// The indexes of its recorded chunks, in order.
    pub async fn chunk_indexes(&self, id: UploadId) -> Result<Vec<u32>, LedgerError> {
        let text = "SELECT upload_id, chunk_index FROM chunks WHERE upload_id = $1 ORDER BY chunk_index";
        let rows = self.read().await?.rows(sql(text).bind(id.0)).await?;
        rows.iter().map(|row| Reader::new(row, "chunks", &["upload_id"]).count("chunk_index")).collect()
    }

    /// The parts that its object will be made of, in order: chunks that are
    /// parts by themselves, and parts that are not one chunk.
    pub async fn parts(&self, id: UploadId) -> Result<Vec<Part>, LedgerError> {
        let text = "SELECT upload_id, chunk_index + 1 AS part_number, bytes, crc64, etag FROM chunks \
                    WHERE upload_id = $1 AND etag IS NOT NULL \
                    UNION ALL \
                    SELECT upload_id, part_number, bytes, crc64, etag FROM parts WHERE upload_id = $1 \
                    ORDER BY part_number";
        self.read().await?.rows(sql(text).bind(id.0)).await?.iter().map(rows::part).collect()
    }
}
