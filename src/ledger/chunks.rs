//! What is recorded of an upload.

use serde::de::DeserializeOwned;

use crate::domain::{Chunk, Crc64, Part, PartNumber, Received, UploadId};
use crate::ledger::Ledger;
use crate::ledger::db::{Statement, sql};
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
        let text = "SELECT {list listed.chunk_index, listed.bytes} AS list FROM \
                    (SELECT chunk_index, bytes FROM chunks WHERE upload_id = $1 ORDER BY chunk_index) AS listed";
        let listed: Vec<(i64, i64)> = self.list(sql(text).bind(id.0)).await?;
        let read = |(index, bytes)| {
            let at = ListedAt { table: "chunks", upload: id, key: "chunk_index", of: index };
            Ok(Received { index: at.count(index)?, bytes: at.size(bytes)? })
        };
        listed.into_iter().map(read).collect()
    }

    /// The indexes of its recorded chunks, in order.
    pub async fn chunk_indexes(&self, id: UploadId) -> Result<Vec<u32>, LedgerError> {
        let text = "SELECT {list listed.chunk_index} AS list FROM \
                    (SELECT chunk_index FROM chunks WHERE upload_id = $1 ORDER BY chunk_index) AS listed";
        let listed: Vec<(i64,)> = self.list(sql(text).bind(id.0)).await?;
        let read = |(index,)| ListedAt { table: "chunks", upload: id, key: "chunk_index", of: index }.count(index);
        listed.into_iter().map(read).collect()
    }

    /// The parts that its object will be made of, in order: chunks that are
    /// parts by themselves, and parts that are not one chunk.
    pub async fn parts(&self, id: UploadId) -> Result<Vec<Part>, LedgerError> {
        let text = "SELECT {list listed.part_number, listed.bytes, listed.crc64, listed.etag} AS list FROM \
                    (SELECT chunk_index + 1 AS part_number, bytes, crc64, etag FROM chunks \
                    WHERE upload_id = $1 AND etag IS NOT NULL \
                    UNION ALL \
                    SELECT part_number, bytes, crc64, etag FROM parts WHERE upload_id = $1 \
                    ORDER BY part_number) AS listed";
        let listed: Vec<(i64, i64, Option<i64>, String)> = self.list(sql(text).bind(id.0)).await?;
        let read = |(number, bytes, crc64, etag): (i64, i64, Option<i64>, String)| {
            let at = ListedAt { table: "parts", upload: id, key: "part_number", of: number };
            let part_number = PartNumber::new(at.count(number)?).ok_or_else(|| at.corrupt("part_number"))?;
            let crc64 = crc64.map(|bits| Crc64(bits.cast_unsigned()));
            Ok(Part { number: part_number, bytes: at.size(bytes)?, etag, crc64 })
        };
        listed.into_iter().map(read).collect()
    }

    /// The rows of `{list …}`, which come as one: taken one by one, each would
    /// cost more than all that is in it.
    async fn list<T: DeserializeOwned>(&self, statement: Statement) -> Result<Vec<T>, LedgerError> {
        let Some(row) = self.read().await?.row(statement).await? else { return Ok(Vec::new()) };
        Reader::new(&row, "chunks", &[]).parse::<String, _>("list", |json| serde_json::from_str(&json).ok())
    }
}

/// What an error says of a row that came in a list.
struct ListedAt {
    table: &'static str,
    upload: UploadId,
    key: &'static str,
    of: i64,
}

impl ListedAt {
    fn count(&self, n: i64) -> Result<u32, LedgerError> {
        u32::try_from(n).map_err(|_| self.corrupt(self.key))
    }

    fn size(&self, n: i64) -> Result<u64, LedgerError> {
        u64::try_from(n).map_err(|_| self.corrupt("bytes"))
    }

    fn corrupt(&self, column: &'static str) -> LedgerError {
        let row = format!("upload_id={} {}={}", self.upload, self.key, self.of);
        LedgerError::Corrupt { table: self.table, column, row }
    }
}
