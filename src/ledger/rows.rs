//! Rows into what they mean. A row that means nothing was not written by this
//! program: the error says which table, column and row.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::domain::{
    Checksum, Chunk, Crc64, Failure, File, FileId, Geometry, Lease, LeaseToken, Object, ObjectKey, Owner, Progress,
    SessionId, State, Status, Timestamp, Upload, UploadId,
};
use crate::ledger::db::{Column, Row};
use crate::ledger::error::LedgerError;

/// The columns that `upload` reads, of a table called `u`.
macro_rules! upload_columns {
    () => {
        "u.id, u.owner, u.file_id, u.file_name, u.content_type, u.metadata, u.total_chunks, u.chunk_bytes, \
         u.last_bytes, u.file_bytes, u.checksum, u.auto_complete, u.object_key, u.state, u.session, u.failure, \
         u.lease_token, u.etag, u.crc64, u.completed_at, u.created_at, u.updated_at, u.expires_at, u.reserved_bytes, \
         u.is_direct"
    };
}

/// The columns that `chunk` reads, of a table called `c`.
macro_rules! chunk_columns {
    () => {
        "c.chunk_index AS c_index, c.bytes AS c_bytes, c.crc64 AS c_crc64, c.etag AS c_etag"
    };
}

/// The columns that `counted` reads, of the chunks of a table called `u`.
macro_rules! count_columns {
    () => {
        "(SELECT count(*) FROM chunks k WHERE k.upload_id = u.id) AS k_chunks, \
         (SELECT CAST(coalesce(sum(k.bytes), 0) AS BIGINT) FROM chunks k WHERE k.upload_id = u.id) AS k_bytes"
    };
}

/// The columns that `file` reads, of a table called `f`.
macro_rules! file_columns {
    () => {
        "f.id, f.owner, f.file_id, f.file_name, f.content_type, f.metadata, f.object_key, f.etag, f.bytes, f.crc64, \
         f.completed_at, f.declared, f.verified"
    };
}

/// Of an upload: whether the store may have something under its key that goes
/// by no name that is recorded: another multipart upload, or an object that was
/// joined or is on its way out.
macro_rules! leaves_something {
    () => {
        "(begins > CASE WHEN session IS NULL THEN 0 ELSE 1 END OR lease_holder IS NOT NULL OR completed_at IS NOT NULL)"
    };
}

pub(super) use {chunk_columns, count_columns, file_columns, leaves_something, upload_columns};

/// A row being read, with the names that an error needs.
pub(super) struct Reader<'r> {
    row: &'r Row,
    table: &'static str,
    /// The columns that are the row's key.
    key: &'static [&'static str],
}

impl<'r> Reader<'r> {
    pub(super) const fn new(row: &'r Row, table: &'static str, key: &'static [&'static str]) -> Self {
        Self { row, table, key }
    }

    pub(super) fn get<T: Column>(&self, column: &'static str) -> Result<T, LedgerError> {
        self.row.get(column).map_err(|_| self.corrupt(column))
    }

    /// Reads a column and then its text or number; `None` is corrupt.
    pub(super) fn parse<T: Column, U>(
        &self,
        column: &'static str,
        read: impl FnOnce(T) -> Option<U>,
    ) -> Result<U, LedgerError> {
        read(self.get(column)?).ok_or_else(|| self.corrupt(column))
    }

    /// As `parse`, where the column may be null.
    fn parse_opt<T: Column, U>(
        &self,
        column: &'static str,
        read: impl FnOnce(T) -> Option<U>,
    ) -> Result<Option<U>, LedgerError>
    where
        Option<T>: Column,
    {
        self.get::<Option<T>>(column)?.map(|v| read(v).ok_or_else(|| self.corrupt(column))).transpose()
    }

    pub(super) fn time(&self, column: &'static str) -> Result<Timestamp, LedgerError> {
        self.get(column).map(Timestamp::from_millis)
    }

    pub(super) fn size(&self, column: &'static str) -> Result<u64, LedgerError> {
        self.parse::<i64, _>(column, |v| u64::try_from(v).ok())
    }

    pub(super) fn count(&self, column: &'static str) -> Result<u32, LedgerError> {
        self.parse::<i64, _>(column, |v| u32::try_from(v).ok())
    }

    pub(super) fn crc64(&self, column: &'static str) -> Result<Option<Crc64>, LedgerError> {
        self.get::<Option<i64>>(column).map(|v| v.map(|bits| Crc64(bits.cast_unsigned())))
    }

    pub(super) fn corrupt(&self, column: &'static str) -> LedgerError {
        let mut row = Vec::new();
        for name in self.key {
            let text = self.row.get::<Uuid>(name).map(|id| id.simple().to_string());
            let text = text.or_else(|_| self.row.get::<i64>(name).map(|n| n.to_string()));
            let text = text.or_else(|_| self.row.get::<String>(name));
            row.push(format!("{name}={}", text.as_deref().unwrap_or("?")));
        }
        LedgerError::Corrupt { table: self.table, column, row: row.join(" ") }
    }
}

/// Reads `upload_columns!()`.
pub(super) fn upload(row: &Row) -> Result<Upload, LedgerError> {
    let read = Reader::new(row, "uploads", &["id", "owner", "file_id"]);
    let size = |v: i64| u64::try_from(v).ok();
    let geometry = Geometry::restore(
        read.count("total_chunks")?,
        read.parse_opt("chunk_bytes", size)?,
        read.parse_opt("last_bytes", size)?,
        read.parse_opt("file_bytes", size)?,
    );
    Ok(Upload {
        id: UploadId(read.get("id")?),
        owner: owner(&read)?,
        file_id: file_id(&read)?,
        file_name: read.get("file_name")?,
        content_type: read.get("content_type")?,
        metadata: metadata(&read)?,
        geometry: geometry.ok_or_else(|| read.corrupt("total_chunks"))?,
        checksum: checksum(&read, "checksum")?,
        auto_complete: read.get("auto_complete")?,
        key: key(&read)?,
        state: state(&read)?,
        created_at: read.time("created_at")?,
        updated_at: read.time("updated_at")?,
        expires_at: read.time("expires_at")?,
        reserved_bytes: read.size("reserved_bytes")?,
        is_direct: read.get("is_direct")?,
    })
}

fn state(read: &Reader<'_>) -> Result<State, LedgerError> {
    let session = || read.get::<Option<String>>("session").map(|s| s.map(SessionId::new));
    Ok(match status(read)? {
        Status::Uploading => State::Open { session: session()? },
        Status::Completing => {
            State::Completing { session: session()?, lease: Lease { token: LeaseToken(read.get("lease_token")?) } }
        }
        Status::Completed => State::Completed { object: object(read, "file_bytes")? },
        Status::Failed => State::Failed { failure: read.parse::<String, _>("failure", |code| Failure::parse(&code))? },
        Status::Aborted => State::Aborted,
        Status::Expired => State::Expired,
    })
}

/// Reads a column `state`.
pub(super) fn status(read: &Reader<'_>) -> Result<Status, LedgerError> {
    read.parse::<String, _>("state", |name| Status::parse(&name))
}

fn object(read: &Reader<'_>, bytes: &'static str) -> Result<Object, LedgerError> {
    Ok(Object {
        etag: read.get("etag")?,
        bytes: read.size(bytes)?,
        crc64: read.crc64("crc64")?,
        completed_at: read.time("completed_at")?,
    })
}

fn owner(read: &Reader<'_>) -> Result<Owner, LedgerError> {
    read.parse::<String, _>("owner", |text| Owner::parse(&text).ok())
}

fn file_id(read: &Reader<'_>) -> Result<FileId, LedgerError> {
    read.parse::<String, _>("file_id", |text| FileId::parse(&text).ok())
}

fn key(read: &Reader<'_>) -> Result<ObjectKey, LedgerError> {
    read.parse::<String, _>("object_key", |text| ObjectKey::parse(&text))
}

fn metadata(read: &Reader<'_>) -> Result<BTreeMap<String, String>, LedgerError> {
    read.parse::<String, _>("metadata", |json| serde_json::from_str(&json).ok())
}

fn checksum(read: &Reader<'_>, column: &'static str) -> Result<Option<Checksum>, LedgerError> {
    read.parse_opt::<String, _>(column, |text| Checksum::parse_tagged(&text).ok())
}

/// Reads `chunk_columns!()`; `None` where an outer join found no chunk.
pub(super) fn chunk(row: &Row) -> Result<Option<Chunk>, LedgerError> {
    let read = Reader::new(row, "chunks", &["id", "upload_id", "c_index"]);
    if read.get::<Option<i64>>("c_index")?.is_none() {
        return Ok(None);
    }
    Ok(Some(Chunk {
        index: read.count("c_index")?,
        bytes: read.size("c_bytes")?,
        crc64: read.crc64("c_crc64")?,
        // Null for a chunk that is not a part by itself.
        etag: read.get::<Option<String>>("c_etag")?.unwrap_or_default(),
    }))
}

/// Reads a file.
pub(super) fn file(row: &Row) -> Result<File, LedgerError> {
    let read = Reader::new(row, "files", &["id", "owner", "file_id"]);
    let verified: bool = read.get("verified")?;
    Ok(File {
        id: UploadId(read.get("id")?),
        owner: owner(&read)?,
        file_id: file_id(&read)?,
        file_name: read.get("file_name")?,
        content_type: read.get("content_type")?,
        metadata: metadata(&read)?,
        key: key(&read)?,
        object: object(&read, "bytes")?,
        declared: checksum(&read, "declared")?.map(|declared| (declared, verified)),
    })
}

/// Reads `upload_columns!()` and `count_columns!()`.
pub(super) fn counted(row: &Row) -> Result<(Upload, Progress), LedgerError> {
    let upload = upload(row)?;
    let read = Reader::new(row, "chunks", &["id"]);
    let recorded = Progress { chunks: read.count("k_chunks")?, bytes: read.size("k_bytes")? };
    let progress = match &upload.state {
        // Its rows may be pruned already, and a small file never had any.
        State::Completed { object } => Progress { chunks: upload.geometry.count(), bytes: object.bytes },
        State::Open { .. } | State::Completing { .. } | State::Failed { .. } | State::Aborted | State::Expired => {
            recorded
        }
    };
    Ok((upload, progress))
}
