//! Beginning an upload, and beginning it anew.

use std::collections::{BTreeMap, HashSet};

use futures_util::future::BoxFuture;
use serde_json::json;
use uuid::Uuid;

use crate::domain::{Checksum, FileId, Geometry, ObjectKey, Owner, State, Status, Timestamp, Upload, UploadId};
use crate::ledger::db::{Conn, sql};
use crate::ledger::error::LedgerError;
use crate::ledger::outbox::{self, NewEvent};
use crate::ledger::owners::{self, Allowance, Taken};
use crate::ledger::rows::Reader;
use crate::ledger::writer::Alike;
use crate::ledger::{End, Ledger, size, states, uploads, written};

/// An upload that does not exist yet.
#[derive(Clone, Debug)]
pub struct NewUpload {
    /// The ledger's own id for it.
    pub id: UploadId,
    /// Whose it is.
    pub owner: Owner,
    /// The client's id, unique within its owner.
    pub file_id: FileId,
    /// The user's file name: data, never a path.
    pub file_name: String,
    /// MIME type, if the client said one.
    pub content_type: Option<String>,
    /// The client's own pairs.
    pub metadata: BTreeMap<String, String>,
    /// How the file is cut.
    pub geometry: Geometry,
    /// The checksum of the whole file that the client declared.
    pub checksum: Option<Checksum>,
    /// Whether the last chunk starts the merge.
    pub auto_complete: bool,
    /// Where the object will lie.
    pub key: ObjectKey,
    /// Whether the application chose the key, which then may be another's.
    pub key_is_chosen: bool,
    /// What it takes of its owner's bytes, as far as that is known.
    pub reserved_bytes: u64,
    /// Now.
    pub at: Timestamp,
    /// When it is given up if no chunk comes.
    pub expires_at: Timestamp,
}

/// What became of the wish for an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Creation {
    /// It is there, new.
    Created(Upload),
    /// There is one already, which has not ended or is completed; whether it
    /// agrees with what was wished for is the caller's to see.
    Known(Upload),
    /// Its owner has as many open ones as are allowed.
    TooManyOpen,
    /// Its owner has not so many bytes left.
    NoRoom {
        /// What is taken.
        used_bytes: u64,
    },
    /// Another upload has the key that was chosen for it.
    KeyTaken,
}

impl Ledger {
    /// Begins an upload, unless its fileId means one that is open, completing
    /// or completed. One that was aborted, expired or failed is replaced. Of
    /// many at once, one is created and all others get to know it.
    pub async fn create_upload(&self, new: &NewUpload, allowance: Allowance) -> Result<Creation, LedgerError> {
        // Whose key is its own, and whose fileId mostly new.
        if !new.key_is_chosen && self.writer()?.together(Beginning { new: new.clone(), allowance }).await? {
            return Ok(Creation::Created(opened(new)));
        }
        let attempt = || {
            let new = new.clone();
            self.write(move |conn| Box::pin(async move { create(conn, &new, allowance).await }))
        };
        unless_contended(attempt).await
    }

    /// Gives up what this fileId means now, namely `old`, and begins anew, in
    /// one transaction. `events` announce the end of `old` and are recorded if
    /// it was open. `Known` if `old` is completing or completed, or if the
    /// fileId means another one by now.
    pub async fn restart_upload(
        &self,
        old: UploadId,
        new: &NewUpload,
        allowance: Allowance,
        events: &[NewEvent],
    ) -> Result<Creation, LedgerError> {
        let attempt = || {
            let (new, events) = (new.clone(), events.to_vec());
            self.write(move |conn| Box::pin(async move { restart(conn, old, &new, allowance, &events).await }))
        };
        unless_contended(attempt).await
    }
}

/// Tries again when another writer came in between, so often and no more.
pub(super) async fn unless_contended<T, A>(attempt: impl Fn() -> A) -> Result<T, LedgerError>
where
    A: Future<Output = Result<Option<T>, LedgerError>>,
{
    const RACES_MAX: u32 = 16;
    for _ in 0..RACES_MAX {
        if let Some(done) = attempt().await? {
            return Ok(done);
        }
    }
    Err(LedgerError::Unavailable("too many requests changed this upload at once".to_owned()))
}

/// One attempt; `None` when another writer came in between. Tries the insert
/// first: mostly the fileId is new.
///
/// All transactions lock an upload's row before its owner's, so none waits for
/// another in a circle.
async fn create(conn: &mut Conn, new: &NewUpload, allowance: Allowance) -> Result<End<Option<Creation>>, LedgerError> {
    if new.key_is_chosen && !claim(conn, &new.key, new.at).await? {
        return Ok(End::Rollback(Some(Creation::KeyTaken)));
    }
    if !insert(conn, new).await? {
        match uploads::find(conn, &new.owner, &new.file_id).await? {
            Some(current) if !is_over(current.state.status()) => {
                return Ok(End::Rollback(Some(Creation::Known(current))));
            }
            Some(current) if retire(conn, current.id).await? && insert(conn, new).await? => {}
            Some(_) | None => return Ok(End::Rollback(None)),
        }
    }
    taken(conn, new, allowance).await
}

async fn restart(
    conn: &mut Conn,
    old: UploadId,
    new: &NewUpload,
    allowance: Allowance,
    events: &[NewEvent],
) -> Result<End<Option<Creation>>, LedgerError> {
    match uploads::find(conn, &new.owner, &new.file_id).await? {
        Some(current) if current.id != old || !may_restart(current.state.status()) => {
            return Ok(End::Rollback(Some(Creation::Known(current))));
        }
        Some(_) => {}
        None => return create(conn, new, allowance).await,
    }
    let aborted = states::abort(conn, old, new.at).await?;
    if aborted.is_some() {
        outbox::announce(conn, events).await?;
    }
    if !retire(conn, old).await? {
        return Ok(End::Rollback(None));
    }
    if new.key_is_chosen && !claim(conn, &new.key, new.at).await? {
        return Ok(End::Rollback(Some(Creation::KeyTaken)));
    }
    if !insert(conn, new).await? {
        return Ok(End::Rollback(None));
    }
    if let Some(held) = &aborted {
        owners::close(conn, held, 0).await?;
    }
    taken(conn, new, allowance).await
}

/// Whether the fileId is free again.
pub(super) const fn is_over(status: Status) -> bool {
    match status {
        Status::Failed | Status::Aborted | Status::Expired => true,
        Status::Uploading | Status::Completing | Status::Completed => false,
    }
}

const fn may_restart(status: Status) -> bool {
    match status {
        Status::Uploading | Status::Failed | Status::Aborted | Status::Expired => true,
        Status::Completing | Status::Completed => false,
    }
}

/// The fileId no longer means this one, which is over.
pub(super) async fn retire(conn: &mut Conn, id: UploadId) -> Result<bool, LedgerError> {
    let text = "UPDATE uploads SET is_current = FALSE \
                WHERE id = $1 AND is_current AND state IN ('failed', 'aborted', 'expired')";
    conn.swapped(sql(text).bind(id.0)).await
}

/// Whether an object may come to lie under a key that the application chose:
/// no upload has it, nor has left anything there that is still to be cleaned
/// up. Of several that want it at once, one gets past the first statement, and
/// holds the others until its transaction ends.
pub(super) async fn claim(conn: &mut Conn, key: &ObjectKey, at: Timestamp) -> Result<bool, LedgerError> {
    let text = "INSERT INTO objects_underway (object_key, begun_at) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    if !conn.swapped(sql(text).bind(key.as_str()).bind(at.millis())).await? {
        return Ok(false);
    }
    let text = "SELECT 1 AS one FROM uploads WHERE object_key = $1 \
                AND (state NOT IN ('aborted', 'expired') OR clean_at IS NOT NULL) LIMIT 1";
    Ok(conn.rows(sql(text).bind(key.as_str())).await?.is_empty())
}

/// The last step: whether its owner may have one more.
async fn taken(conn: &mut Conn, new: &NewUpload, allowance: Allowance) -> Result<End<Option<Creation>>, LedgerError> {
    if new.key_is_chosen {
        // From here on the upload's row says whose the key is.
        conn.execute(sql("DELETE FROM objects_underway WHERE object_key = $1").bind(new.key.as_str())).await?;
    }
    Ok(match owners::open(conn, &new.owner, new.reserved_bytes, allowance).await? {
        Taken::Yes => End::Commit(Some(Creation::Created(opened(new)))),
        Taken::TooManyOpen => End::Rollback(Some(Creation::TooManyOpen)),
        Taken::NoRoom { used_bytes } => End::Rollback(Some(Creation::NoRoom { used_bytes })),
    })
}

/// The row, unless the fileId is taken.
async fn insert(conn: &mut Conn, new: &NewUpload) -> Result<bool, LedgerError> {
    Ok(!insert_many(conn, std::iter::once(new)).await?.is_empty())
}

/// The rows of those whose fileIds are not taken; returns their ids.
async fn insert_many(conn: &mut Conn, new: impl Iterator<Item = &NewUpload>) -> Result<HashSet<Uuid>, LedgerError> {
    let text = "INSERT INTO uploads (id, owner, file_id, is_current, file_name, content_type, metadata, total_chunks, \
                chunk_bytes, last_bytes, file_bytes, checksum, auto_complete, object_key, reserved_bytes, state, \
                created_at, updated_at, expires_at) \
                SELECT r.id, r.owner, r.file_id, TRUE, r.file_name, r.content_type, r.metadata, r.total_chunks, \
                r.chunk_bytes, r.last_bytes, r.file_bytes, r.checksum, r.auto_complete, r.object_key, \
                r.reserved_bytes, 'uploading', r.created_at, r.created_at, r.expires_at \
                FROM {rows 1 id:uuid owner:text file_id:text file_name:text content_type:text metadata:text \
                total_chunks:bigint chunk_bytes:bigint last_bytes:bigint file_bytes:bigint checksum:text \
                auto_complete:boolean object_key:text reserved_bytes:bigint created_at:bigint expires_at:bigint} \
                WHERE TRUE ORDER BY r.owner, r.file_id ON CONFLICT (owner, file_id) WHERE is_current DO NOTHING \
                RETURNING id";
    let mut inserted = HashSet::new();
    for row in conn.rows(sql(text).bind_rows(new.map(NewUpload::row))).await? {
        inserted.insert(Reader::new(&row, "uploads", &["id"]).get("id")?);
    }
    Ok(inserted)
}

impl NewUpload {
    /// What every new row says, by the names of its columns.
    pub(super) fn row(&self) -> serde_json::Value {
        json!({
            "id": self.id.0.simple().to_string(),
            "owner": self.owner.as_str(),
            "file_id": self.file_id.as_str(),
            "file_name": self.file_name,
            "content_type": self.content_type,
            "metadata": written::metadata_json(&self.metadata),
            "total_chunks": self.geometry.count(),
            "chunk_bytes": self.geometry.chunk_bytes().map(size),
            "last_bytes": self.geometry.last_bytes().map(size),
            "file_bytes": self.geometry.total_bytes().map(size),
            "checksum": self.checksum.map(|checksum| checksum.tagged()),
            "auto_complete": self.auto_complete,
            "object_key": self.key.as_str(),
            "reserved_bytes": size(self.reserved_bytes),
            "created_at": self.at.millis(),
            "expires_at": self.expires_at.millis(),
        })
    }
}

/// An upload that is to begin, as most do.
struct Beginning {
    new: NewUpload,
    allowance: Allowance,
}

impl Alike for Beginning {
    const IS_ONE_STATEMENT: bool = false;
    const SHARES_ON_POSTGRES: bool = false;
    const IS_TRIED_ALONE: bool = true;

    fn write<'c>(conn: &'c mut Conn, all: &'c [Self]) -> BoxFuture<'c, Result<Option<Vec<bool>>, LedgerError>> {
        Box::pin(async move {
            let inserted = insert_many(conn, all.iter().map(|one| &one.new)).await?;
            let begun = || all.iter().filter(|one| inserted.contains(&one.new.id.0));
            // The same for all: it is configured.
            let Some(Self { allowance, .. }) = all.first() else { return Ok(Some(Vec::new())) };
            let has_room = owners::open_many(conn, begun().map(|one| &one.new), *allowance).await?;
            Ok(has_room.then(|| all.iter().map(|one| inserted.contains(&one.new.id.0)).collect()))
        })
    }
}

/// The upload that was just inserted.
fn opened(new: &NewUpload) -> Upload {
    Upload {
        id: new.id,
        owner: new.owner.clone(),
        file_id: new.file_id.clone(),
        file_name: new.file_name.clone(),
        content_type: new.content_type.clone(),
        metadata: new.metadata.clone(),
        geometry: new.geometry,
        checksum: new.checksum,
        auto_complete: new.auto_complete,
        key: new.key.clone(),
        state: State::Open { session: None },
        created_at: new.at,
        updated_at: new.at,
        expires_at: new.expires_at,
        reserved_bytes: new.reserved_bytes,
        is_direct: false,
    }
}
