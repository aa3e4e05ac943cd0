//! Files: completed uploads, and small ones that came in one request.

use std::collections::HashSet;

use futures_util::future::BoxFuture;
use serde_json::json;
use uuid::Uuid;

use crate::domain::{File, FileId, ObjectKey, Owner, Upload};
use crate::ledger::create::{retire, unless_contended};
use crate::ledger::db::{Conn, sql};
use crate::ledger::error::LedgerError;
use crate::ledger::outbox::{self, NewEvent};
use crate::ledger::owners::{self, Allowance};
use crate::ledger::rows::{Reader, file_columns};
use crate::ledger::wish::NewUpload;
use crate::ledger::writer::Alike;
use crate::ledger::{End, Ledger, rows, underway, uploads, written};

/// What became of the wish to record a file that is in the store already.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "made once per request and taken apart at once")]
pub enum FileCreation {
    /// It is recorded.
    Created,
    /// Its fileId means this upload, which has not ended or is completed.
    Known(Upload),
    /// It took so long that the sweeper has condemned its object, or another
    /// has its key by now, or it was not intended.
    Condemned,
    /// Its owner has not so many bytes left.
    NoRoom {
        /// What is taken.
        used_bytes: u64,
    },
}

/// What became of files that were to be recorded together.
#[derive(Debug)]
enum Recording {
    /// Of each, whether it is recorded; else its fileId is taken.
    Done(Vec<bool>),
    /// One of them has no intent any more: none is to stay.
    Condemned,
    /// One of their owners has not so many bytes left: none is to stay.
    NoRoom,
}

impl Recording {
    /// What is as it mostly is; of all else, each is looked at alone.
    fn usual(self) -> Option<Vec<bool>> {
        match self {
            Self::Done(done) => Some(done),
            Self::Condemned | Self::NoRoom => None,
        }
    }
}

impl Ledger {
    /// Records a file that came in one request: a completed upload without
    /// chunk rows, the file's row and the events, in one transaction.
    pub async fn create_file(
        &self,
        new: &NewUpload,
        file: &File,
        allowance: Allowance,
        events: &[NewEvent],
    ) -> Result<FileCreation, LedgerError> {
        let whole = NewFile { new: new.clone(), file: file.clone(), allowance, events: events.to_vec() };
        // Among many it would lock its key, which others may want, after the rows of others.
        if !new.key_origin.is_chosen() && self.writer()?.together(whole.clone()).await? {
            return Ok(FileCreation::Created);
        }
        let attempt = || {
            let whole = whole.clone();
            self.write(move |conn| Box::pin(async move { create(conn, whole).await }))
        };
        unless_contended(attempt).await
    }

    /// Removes a file: its fileId is as unknown as before, its bytes are its
    /// owner's again, and the sweeper sees to it that its object goes. `None`
    /// when there is none, or it is another by now.
    pub async fn delete_file(&self, file: &File) -> Result<bool, LedgerError> {
        let (file, now) = (file.clone(), self.now());
        self.write(move |conn| {
            Box::pin(async move {
                // As an upload that was given up: nothing may lie under its key.
                let text = "UPDATE uploads SET state = 'aborted', is_current = FALSE, ended_at = $2, updated_at = $2, \
                            clean_at = $2 WHERE id = $1 AND state = 'completed' AND is_current";
                if !conn.swapped(sql(text).bind(file.id.0).bind(now.millis())).await? {
                    return Ok(End::Rollback(false));
                }
                conn.execute(sql("DELETE FROM files WHERE id = $1").bind(file.id.0)).await?;
                owners::remove_file(conn, &file.owner, file.object.bytes).await?;
                Ok(End::Commit(true))
            })
        })
        .await
    }

    /// The file of this id.
    pub async fn find_file(&self, owner: &Owner, file_id: &FileId) -> Result<Option<File>, LedgerError> {
        let text = concat!("SELECT ", file_columns!(), " FROM files f WHERE f.owner = $1 AND f.file_id = $2");
        let query = sql(text).bind(owner.as_str()).bind(file_id.as_str());
        self.read().await?.row(query).await?.as_ref().map(rows::file).transpose()
    }
}

impl Ledger {
    /// The file whose object lies under this key.
    pub async fn file_of_key(&self, key: &ObjectKey) -> Result<Option<File>, LedgerError> {
        let text = concat!(
            "SELECT ",
            file_columns!(),
            " FROM files f WHERE f.id IN (SELECT u.id FROM uploads u WHERE u.object_key = $1 AND u.holds_key)"
        );
        self.read().await?.row(sql(text).bind(key.as_str())).await?.as_ref().map(rows::file).transpose()
    }
}

/// A file that is to be recorded.
#[derive(Clone, Debug)]
struct NewFile {
    new: NewUpload,
    file: File,
    allowance: Allowance,
    events: Vec<NewEvent>,
}

impl Alike for NewFile {
    const IS_ONE_STATEMENT: bool = false;
    const SHARES_ON_POSTGRES: bool = true;
    const IS_TRIED_ALONE: bool = true;

    fn write<'c>(conn: &'c mut Conn, all: &'c [Self]) -> BoxFuture<'c, Result<Option<Vec<bool>>, LedgerError>> {
        Box::pin(async move { create_many(conn, all).await.map(Recording::usual) })
    }
}

/// Records many files in as few statements as one takes, in a transaction of
/// the caller's.
async fn create_many(conn: &mut Conn, files: &[NewFile]) -> Result<Recording, LedgerError> {
    let text = "INSERT INTO uploads (id, owner, file_id, is_current, file_name, content_type, metadata, total_chunks, \
                chunk_bytes, last_bytes, file_bytes, checksum, auto_complete, object_key, state, created_at, \
                updated_at, expires_at, completed_at, ended_at, etag, crc64) \
                SELECT r.id, r.owner, r.file_id, TRUE, r.file_name, r.content_type, r.metadata, r.total_chunks, \
                r.chunk_bytes, r.last_bytes, r.file_bytes, r.checksum, r.auto_complete, r.object_key, 'completed', \
                r.created_at, r.created_at, r.expires_at, r.completed_at, r.completed_at, r.etag, r.crc64 \
                FROM {rows 1 id:uuid owner:text file_id:text file_name:text content_type:text metadata:text \
                total_chunks:bigint chunk_bytes:bigint last_bytes:bigint file_bytes:bigint checksum:text \
                auto_complete:boolean object_key:text created_at:bigint expires_at:bigint completed_at:bigint etag:text crc64:bigint} \
                WHERE TRUE ORDER BY r.owner {bytewise}, r.file_id {bytewise} \
                ON CONFLICT (owner, file_id) WHERE is_current DO NOTHING RETURNING id";
    // In the order of the keys, so that two gateways cannot wait for each other in a circle.
    let mut sorted: Vec<&NewFile> = files.iter().collect();
    sorted.sort_unstable_by(|a, b| a.place().cmp(&b.place()));
    let mut inserted = HashSet::new();
    for row in conn.rows_of(text, sorted.into_iter().map(NewFile::row)).await? {
        inserted.insert(Reader::new(&row, "uploads", &["id"]).get::<Uuid>("id")?);
    }
    let done: Vec<bool> = files.iter().map(|file| inserted.contains(&file.new.id.0)).collect();
    let recorded = || files.iter().zip(&done).filter(|(_, done)| **done).map(|(file, _)| file);
    let keys: Vec<String> = recorded().map(|file| file.file.key.as_str().to_owned()).collect();
    if keys.is_empty() {
        return Ok(Recording::Done(done));
    }
    let ids: Vec<Uuid> = recorded().map(|file| file.new.id.0).collect();
    let text = "DELETE FROM objects_underway WHERE object_key {any_text 1} AND upload_id {any_id 2} AND NOT condemned";
    if conn.execute(sql(text).bind(keys).bind(ids)).await? < inserted.len() as u64 {
        return Ok(Recording::Condemned);
    }
    written::insert_files(conn, recorded().map(|file| &file.file)).await?;
    let events: Vec<NewEvent> = recorded().flat_map(|file| file.events.iter().cloned()).collect();
    outbox::announce(conn, &events).await?;
    // The same for all: it is configured.
    let Some(NewFile { allowance, .. }) = files.first() else { return Ok(Recording::Done(done)) };
    let taken = recorded().map(|file| (&file.new.owner, file.file.object.bytes));
    let has_room = owners::add_files(conn, taken, *allowance).await?;
    Ok(if has_room { Recording::Done(done) } else { Recording::NoRoom })
}

impl NewFile {
    /// What no two of them may have.
    fn place(&self) -> (&str, &str) {
        (self.new.owner.as_str(), self.new.file_id.as_str())
    }

    /// Its upload, completed.
    fn row(&self) -> serde_json::Value {
        let object = &self.file.object;
        let mut row = self.new.row();
        row["completed_at"] = json!(object.completed_at.millis());
        row["etag"] = json!(object.etag);
        row["crc64"] = json!(object.crc64.map(|crc64| crc64.0.cast_signed()));
        row
    }
}

/// One attempt for one that could not be recorded among many; `None` when
/// another writer came in between.
async fn create(conn: &mut Conn, file: NewFile) -> Result<End<Option<FileCreation>>, LedgerError> {
    if file.new.key_origin.is_chosen() && !underway::hold(conn, &file.new).await? {
        return Ok(End::Rollback(Some(FileCreation::Condemned)));
    }
    match create_many(conn, std::slice::from_ref(&file)).await? {
        Recording::Condemned => return Ok(End::Rollback(Some(FileCreation::Condemned))),
        Recording::NoRoom => {
            let used_bytes = owners::used_bytes(conn, file.new.owner.as_str()).await?;
            return Ok(End::Rollback(Some(FileCreation::NoRoom { used_bytes })));
        }
        Recording::Done(done) if done == [true] => return Ok(End::Commit(Some(FileCreation::Created))),
        Recording::Done(_) => {}
    }
    match uploads::find(conn, &file.new.owner, &file.new.file_id).await? {
        Some(current) if !current.state.status().is_over() => Ok(End::Rollback(Some(FileCreation::Known(current)))),
        // Replaced first, then tried again: two short transactions for what is rare.
        Some(current) if retire(conn, current.id).await? => Ok(End::Commit(None)),
        Some(_) | None => Ok(End::Rollback(None)),
    }
}
