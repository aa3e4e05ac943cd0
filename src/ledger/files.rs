//! Files: completed uploads, and small ones that came in one request.

use crate::domain::{File, FileId, ObjectKey, Owner, Timestamp, Upload};
use crate::ledger::create::{self, NewUpload, is_over, retire, unless_contended};
use crate::ledger::db::{Conn, Row, Value, sql};
use crate::ledger::error::LedgerError;
use crate::ledger::outbox::{self, NewEvent};
use crate::ledger::rows::Reader;
use crate::ledger::{End, Ledger, rows, uploads, written};

/// What became of the wish to record a file that is in the store already.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "made once per request and taken apart at once")]
pub enum FileCreation {
    /// It is recorded.
    Created,
    /// Its fileId means this upload, which has not ended or is completed.
    Known(Upload),
    /// It took so long that the sweeper has condemned its object, or it was
    /// not intended.
    Condemned,
}

impl Ledger {
    /// Says that an object is about to be put under this key: before it is,
    /// so that the sweeper finds what a crash leaves.
    pub async fn intend_object(&self, key: &ObjectKey, at: Timestamp) -> Result<(), LedgerError> {
        let text = "INSERT INTO objects_underway (object_key, begun_at) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        let row = sql(text).bind(key.as_str()).bind(at.millis());
        self.run(row).await.map(drop)
    }

    /// There is no object under this key that was intended and has no file.
    pub async fn forget_object(&self, key: &ObjectKey) -> Result<(), LedgerError> {
        let delete = sql("DELETE FROM objects_underway WHERE object_key = $1").bind(key.as_str());
        self.run(delete).await.map(drop)
    }

    /// Objects that were intended by `before` and never became files.
    pub async fn objects_underway(&self, before: Timestamp, limit: u32) -> Result<Vec<ObjectKey>, LedgerError> {
        let text = "SELECT object_key FROM objects_underway WHERE begun_at <= $1 ORDER BY begun_at LIMIT $2";
        object_keys(&self.read().await?.rows(sql(text).bind(before.millis()).bind(limit)).await?)
    }

    /// Condemns up to `limit` of them: from then on none becomes a file, and
    /// what is in the store under their keys can be removed.
    pub async fn condemn_objects(&self, before: Timestamp, limit: u32) -> Result<Vec<ObjectKey>, LedgerError> {
        let text = "UPDATE objects_underway SET condemned = TRUE WHERE object_key IN \
                    (SELECT object_key FROM objects_underway WHERE begun_at <= $1 ORDER BY begun_at LIMIT $2) \
                    RETURNING object_key";
        let condemn = sql(text).bind(before.millis()).bind(limit);
        self.write(move |conn| Box::pin(async move { object_keys(&conn.rows(condemn).await?).map(End::Commit) })).await
    }

    /// Records a file that came in one request: a completed upload without
    /// chunk rows, the file's row and the events, in one transaction.
    pub async fn create_file(
        &self,
        new: &NewUpload,
        file: &File,
        events: &[NewEvent],
    ) -> Result<FileCreation, LedgerError> {
        let attempt = || {
            let (new, file, events) = (new.clone(), file.clone(), events.to_vec());
            self.write(move |conn| Box::pin(async move { create(conn, &new, &file, &events).await }))
        };
        unless_contended(attempt).await
    }

    /// The file of this id.
    pub async fn find_file(&self, owner: &Owner, file_id: &FileId) -> Result<Option<File>, LedgerError> {
        let text = "SELECT id, owner, file_id, file_name, content_type, metadata, object_key, etag, bytes, crc64, \
                    completed_at, declared, verified FROM files WHERE owner = $1 AND file_id = $2";
        let query = sql(text).bind(owner.as_str()).bind(file_id.as_str());
        self.read().await?.row(query).await?.as_ref().map(rows::file).transpose()
    }
}

/// One attempt; `None` when another writer came in between. Tries the insert
/// first: a file that came in one request mostly has a fileId of its own.
async fn create(
    conn: &mut Conn,
    new: &NewUpload,
    file: &File,
    events: &[NewEvent],
) -> Result<End<Option<FileCreation>>, LedgerError> {
    if !insert_completed(conn, new, file).await? {
        return match uploads::find(conn, &new.owner, &new.file_id).await? {
            Some(current) if !is_over(current.state.status()) => Ok(End::Rollback(Some(FileCreation::Known(current)))),
            // Replaced first, then tried again: two short transactions for what is rare.
            Some(current) if retire(conn, current.id).await? => Ok(End::Commit(None)),
            Some(_) | None => Ok(End::Rollback(None)),
        };
    }
    let text = "DELETE FROM objects_underway WHERE object_key = $1 AND NOT condemned";
    if !conn.swapped(sql(text).bind(file.key.as_str())).await? {
        return Ok(End::Rollback(Some(FileCreation::Condemned)));
    }
    written::insert_file(conn, file).await?;
    outbox::announce(conn, events).await?;
    Ok(End::Commit(Some(FileCreation::Created)))
}

fn object_keys(rows: &[Row]) -> Result<Vec<ObjectKey>, LedgerError> {
    let read = |row| Reader::new(row, "objects_underway", &["object_key"]);
    rows.iter().map(|row| read(row).parse::<String, _>("object_key", |text| ObjectKey::parse(&text))).collect()
}

async fn insert_completed(conn: &mut Conn, new: &NewUpload, file: &File) -> Result<bool, LedgerError> {
    let text = "INSERT INTO uploads (id, owner, file_id, is_current, file_name, content_type, metadata, total_chunks, \
                chunk_bytes, last_bytes, file_bytes, checksum, auto_complete, object_key, state, created_at, \
                updated_at, expires_at, completed_at, ended_at, etag, crc64) \
                VALUES ($1, $2, $3, TRUE, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 'completed', $14, $14, $15, \
                $16, $16, $17, $18) ON CONFLICT (owner, file_id) WHERE is_current DO NOTHING";
    let rest = vec![
        Value::from(new.at.millis()),
        Value::from(new.expires_at.millis()),
        Value::from(file.object.completed_at.millis()),
        Value::from(file.object.etag.as_str()),
        Value::from(file.object.crc64.0.cast_signed()),
    ];
    conn.swapped(sql(text).bind_all(create::columns(new)).bind_all(rest)).await
}
