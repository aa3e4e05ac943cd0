//! What each owner has taken: uploads that are open, and bytes of files and of
//! uploads that are to become files. Its row is the last that a transaction
//! locks, so none waits for another in a circle.

use std::collections::BTreeMap;

use serde_json::json;

use crate::domain::{Owner, UploadId};
use crate::ledger::db::{Conn, Row, sql};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::Reader;
use crate::ledger::{End, Ledger, size};

/// How much one owner may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Uploads that are open.
    pub open_uploads_max: u32,
    /// Bytes; none is any number.
    pub bytes_max: Option<u64>,
}

impl Allowance {
    /// So many open uploads, of any size.
    pub const fn of_uploads(max: u32) -> Self {
        Self { open_uploads_max: max, bytes_max: None }
    }

    fn bytes(&self) -> i64 {
        self.bytes_max.map_or(i64::MAX, size)
    }
}

/// What became of the wish to take more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Yes,
    TooManyOpen,
    NoRoom { used_bytes: u64 },
}

/// What an upload that has ended had taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    owner: String,
    bytes: i64,
}

impl Held {
    /// Reads `id, owner, reserved_bytes` of an upload.
    pub(super) fn of(row: &Row) -> Result<Self, LedgerError> {
        let read = Reader::new(row, "uploads", &["id"]);
        Ok(Self { owner: read.get("owner")?, bytes: read.get("reserved_bytes")? })
    }
}

/// What came of reserving bytes for an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// They are the upload's.
    Made,
    /// The owner has not so many left.
    NoRoom {
        /// What is taken.
        used_bytes: u64,
    },
    /// The upload is not open any more.
    NotOpen,
}

impl Ledger {
    /// Reserves so many bytes in all for an upload whose size is being learnt.
    /// More may be reserved already, and then stay so.
    pub async fn reserve(&self, id: UploadId, bytes: u64, allowance: Allowance) -> Result<Reservation, LedgerError> {
        self.write(move |conn| Box::pin(async move { reserve(conn, id, size(bytes), allowance).await })).await
    }

    /// What an owner has taken, in bytes.
    pub async fn used_bytes(&self, owner: &Owner) -> Result<u64, LedgerError> {
        used_bytes(&mut self.read().await?, owner.as_str()).await
    }
}

async fn reserve(
    conn: &mut Conn,
    id: UploadId,
    bytes: i64,
    allowance: Allowance,
) -> Result<End<Reservation>, LedgerError> {
    // Read in the transaction and swapped on what was read: SQLite has no RETURNING of what was there.
    let text = "SELECT id, owner, reserved_bytes FROM uploads WHERE id = $1 AND state = 'uploading'";
    let Some(row) = conn.row(sql(text).bind(id.0)).await? else { return Ok(End::Rollback(Reservation::NotOpen)) };
    let held = Held::of(&row)?;
    if held.bytes >= bytes {
        return Ok(End::Rollback(Reservation::Made));
    }
    let text = "UPDATE uploads SET reserved_bytes = $2 \
                WHERE id = $1 AND state = 'uploading' AND reserved_bytes = $3";
    if !conn.swapped(sql(text).bind(id.0).bind(bytes).bind(held.bytes)).await? {
        return Err(LedgerError::Unavailable("another chunk reserved more for this upload at once".to_owned()));
    }
    let text = "UPDATE owners SET used_bytes = used_bytes + $2 WHERE owner = $1 AND used_bytes + $2 <= $3";
    let more = sql(text).bind(held.owner.as_str()).bind(bytes - held.bytes).bind(allowance.bytes());
    if conn.swapped(more).await? {
        return Ok(End::Commit(Reservation::Made));
    }
    let used_bytes = used_bytes(conn, &held.owner).await?;
    Ok(End::Rollback(Reservation::NoRoom { used_bytes }))
}

/// One more open upload with so many bytes, if its owner may have them.
pub(super) async fn open(
    conn: &mut Conn,
    owner: &Owner,
    bytes: u64,
    allowance: Allowance,
) -> Result<Taken, LedgerError> {
    let text = "INSERT INTO owners (owner, open_uploads, used_bytes) SELECT $1, 1, $3 WHERE $2 > 0 AND $3 <= $4 \
                ON CONFLICT (owner) DO UPDATE SET open_uploads = owners.open_uploads + 1, \
                used_bytes = owners.used_bytes + excluded.used_bytes \
                WHERE owners.open_uploads < $2 AND owners.used_bytes + excluded.used_bytes <= $4";
    let open_max = allowance.open_uploads_max;
    let more = sql(text).bind(owner.as_str()).bind(open_max).bind(size(bytes)).bind(allowance.bytes());
    if conn.swapped(more).await? {
        return Ok(Taken::Yes);
    }
    let text = "SELECT owner, open_uploads FROM owners WHERE owner = $1";
    let row = conn.row(sql(text).bind(owner.as_str())).await?;
    let open = row.map(|row| Reader::new(&row, "owners", &["owner"]).count("open_uploads")).transpose()?;
    if open.unwrap_or(0) >= open_max {
        return Ok(Taken::TooManyOpen);
    }
    Ok(Taken::NoRoom { used_bytes: used_bytes(conn, owner.as_str()).await? })
}

/// An upload is over: one that is open less, and of the bytes it had reserved
/// only those stay taken that became a file.
pub(super) async fn close(conn: &mut Conn, held: &Held, file_bytes: u64) -> Result<(), LedgerError> {
    let text = "UPDATE owners SET open_uploads = open_uploads - 1, used_bytes = used_bytes + $2 \
                WHERE owner = $1 AND open_uploads > 0";
    let more = size(file_bytes).saturating_sub(held.bytes);
    conn.execute(sql(text).bind(held.owner.as_str()).bind(more)).await.map(drop)
}

/// Files that came whole. None of them is counted when one of their owners has
/// not so many bytes left.
pub(super) async fn add_files<'a>(
    conn: &mut Conn,
    files: impl Iterator<Item = (&'a Owner, u64)>,
    allowance: Allowance,
) -> Result<bool, LedgerError> {
    let mut by_owner = BTreeMap::<&str, i64>::new();
    for (owner, bytes) in files {
        let all = by_owner.entry(owner.as_str()).or_default();
        *all = all.saturating_add(size(bytes));
    }
    if by_owner.is_empty() {
        return Ok(true);
    }
    let text = "INSERT INTO owners (owner, open_uploads, used_bytes) \
                SELECT r.owner, 0, r.bytes FROM {rows 1 owner:text bytes:bigint} WHERE r.bytes <= $2 \
                ORDER BY r.owner ON CONFLICT (owner) DO UPDATE \
                SET used_bytes = owners.used_bytes + excluded.used_bytes \
                WHERE owners.used_bytes + excluded.used_bytes <= $2";
    let rows = by_owner.iter().map(|(owner, bytes)| json!({"owner": owner, "bytes": bytes}));
    let added = conn.execute(sql(text).bind_rows(rows).bind(allowance.bytes())).await?;
    Ok(added >= by_owner.len() as u64)
}

/// A file is gone.
pub(super) async fn remove_file(conn: &mut Conn, owner: &Owner, bytes: u64) -> Result<(), LedgerError> {
    let text = "UPDATE owners SET used_bytes = used_bytes - $2 WHERE owner = $1";
    conn.execute(sql(text).bind(owner.as_str()).bind(size(bytes))).await.map(drop)
}

pub(super) async fn used_bytes(conn: &mut Conn, owner: &str) -> Result<u64, LedgerError> {
    let text = "SELECT owner, used_bytes FROM owners WHERE owner = $1";
    let row = conn.row(sql(text).bind(owner)).await?;
    let used = row.map(|row| Reader::new(&row, "owners", &["owner"]).get::<i64>("used_bytes")).transpose()?;
    Ok(used.and_then(|used| u64::try_from(used).ok()).unwrap_or(0))
}
