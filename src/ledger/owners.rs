//! What each owner has taken: uploads that are open, and bytes of files and of
//! uploads that are to become files. Its row is the last that a transaction
//! locks, so none waits for another in a circle.

use std::collections::BTreeMap;

use serde_json::json;

use crate::domain::{Owner, UploadId};
use crate::ledger::db::{Conn, Row, sql};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::Reader;
use crate::ledger::wish::NewUpload;
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
    let open_max = allowance.open_uploads_max;
    let more = BTreeMap::from([(owner.as_str(), More { uploads: 1, bytes: size(bytes) })]);
    if take(conn, more, i64::from(open_max), allowance.bytes()).await? {
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

/// The same for many. None of them is counted when one of their owners may not
/// have so many.
pub(super) async fn open_many<'a>(
    conn: &mut Conn,
    new: impl Iterator<Item = &'a NewUpload>,
    allowance: Allowance,
) -> Result<bool, LedgerError> {
    let mut by_owner = BTreeMap::<&str, More>::new();
    for new in new {
        by_owner.entry(new.owner.as_str()).or_default().add(1, size(new.reserved_bytes));
    }
    take(conn, by_owner, i64::from(allowance.open_uploads_max), allowance.bytes()).await
}

/// Files that came whole. None of them is counted when one of their owners has
/// not so many bytes left.
pub(super) async fn add_files<'a>(
    conn: &mut Conn,
    files: impl Iterator<Item = (&'a Owner, u64)>,
    allowance: Allowance,
) -> Result<bool, LedgerError> {
    let mut by_owner = BTreeMap::<&str, More>::new();
    for (owner, bytes) in files {
        by_owner.entry(owner.as_str()).or_default().add(0, size(bytes));
    }
    take(conn, by_owner, i64::MAX, allowance.bytes()).await
}

/// What an owner takes more, or gives back.
#[derive(Clone, Copy, Debug, Default)]
struct More {
    uploads: i64,
    bytes: i64,
}

impl More {
    fn add(&mut self, uploads: i64, bytes: i64) {
        self.uploads = self.uploads.saturating_add(uploads);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// All owners get theirs, or none does: then what was written is to be undone.
async fn take(
    conn: &mut Conn,
    by_owner: BTreeMap<&str, More>,
    uploads_max: i64,
    bytes_max: i64,
) -> Result<bool, LedgerError> {
    if by_owner.is_empty() {
        return Ok(true);
    }
    let text = "INSERT INTO owners (owner, open_uploads, used_bytes) \
                SELECT r.owner, r.uploads, r.bytes FROM {rows 1 owner:text uploads:bigint bytes:bigint} \
                WHERE r.uploads <= $2 AND r.bytes <= $3 ORDER BY r.owner ON CONFLICT (owner) DO UPDATE \
                SET open_uploads = owners.open_uploads + excluded.open_uploads, \
                used_bytes = owners.used_bytes + excluded.used_bytes \
                WHERE owners.open_uploads + excluded.open_uploads <= $2 \
                AND owners.used_bytes + excluded.used_bytes <= $3";
    let row = |(owner, more): (&&str, &More)| json!({"owner": owner, "uploads": more.uploads, "bytes": more.bytes});
    let added = conn.execute(sql(text).bind_rows(by_owner.iter().map(row)).bind(uploads_max).bind(bytes_max)).await?;
    Ok(added >= by_owner.len() as u64)
}

/// An upload is over: one that is open less, and of the bytes it had reserved
/// only those stay taken that became a file.
pub(super) async fn close(conn: &mut Conn, held: &Held, file_bytes: u64) -> Result<(), LedgerError> {
    close_many(conn, std::iter::once((held, file_bytes))).await
}

/// The same for many.
pub(super) async fn close_many<'a>(
    conn: &mut Conn,
    over: impl Iterator<Item = (&'a Held, u64)>,
) -> Result<(), LedgerError> {
    let mut by_owner = BTreeMap::<&str, More>::new();
    for (held, file_bytes) in over {
        by_owner.entry(&held.owner).or_default().add(1, size(file_bytes).saturating_sub(held.bytes));
    }
    for (owner, more) in by_owner {
        let text = "UPDATE owners SET open_uploads = open_uploads - $2, used_bytes = used_bytes + $3 \
                    WHERE owner = $1 AND open_uploads >= $2";
        conn.execute(sql(text).bind(owner).bind(more.uploads).bind(more.bytes)).await?;
    }
    Ok(())
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
