//! Beginning an upload, and beginning it anew.

use std::collections::HashSet;

use futures_util::future::BoxFuture;
use serde_json::Value;
use uuid::Uuid;

use crate::domain::{KeyHolder, State, Status, Upload, UploadId};
use crate::ledger::db::{Conn, sql};
use crate::ledger::error::LedgerError;
use crate::ledger::outbox::{self, NewEvent};
use crate::ledger::owners::{self, Allowance, Taken};
use crate::ledger::rows::Reader;
use crate::ledger::underway::{self, Claim, Term};
use crate::ledger::wish::NewUpload;
use crate::ledger::writer::Alike;
use crate::ledger::{End, Ledger, states, uploads};

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
    /// The key that was chosen for it is not to be had.
    KeyTaken(KeyHolder),
    /// Another request is putting a file of the same fileId under that key.
    BeingPut,
}

impl Ledger {
    /// Begins an upload, unless its fileId means one that is open, completing
    /// or completed. One that was aborted, expired or failed is replaced. Of
    /// many at once, one is created and all others get to know it.
    pub async fn create_upload(&self, new: &NewUpload, allowance: Allowance) -> Result<Creation, LedgerError> {
        // Whose key is its own, and whose fileId mostly new.
        if !new.key_origin.is_chosen() && self.writer()?.together(Beginning { new: new.clone(), allowance }).await? {
            return Ok(Creation::Created(new.upload(State::Open { session: None })));
        }
        let attempt = || {
            let (new, term) = (new.clone(), self.term());
            self.write(move |conn| Box::pin(async move { create(conn, &new, allowance, term).await }))
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
            let (new, events, term) = (new.clone(), events.to_vec(), self.term());
            self.write(move |conn| Box::pin(async move { restart(conn, old, &new, allowance, &events, term).await }))
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
/// All transactions lock a key before an upload's row, and that before its
/// owner's, so none waits for another in a circle.
async fn create(
    conn: &mut Conn,
    new: &NewUpload,
    allowance: Allowance,
    term: Term,
) -> Result<End<Option<Creation>>, LedgerError> {
    let has_remains = match claim(conn, new, None, term).await? {
        Ok(has_remains) => has_remains,
        Err(refused) => {
            // Whoever has it may have it for this very upload.
            let current = uploads::find(conn, &new.owner, &new.file_id).await?;
            let known = current.filter(|current| !current.state.status().is_over());
            return Ok(End::Rollback(Some(known.map_or(refused, Creation::Known))));
        }
    };
    if !insert(conn, new, has_remains).await? {
        match uploads::find(conn, &new.owner, &new.file_id).await? {
            Some(current) if !current.state.status().is_over() => {
                return Ok(End::Rollback(Some(Creation::Known(current))));
            }
            Some(current) if retire(conn, current.id).await? && insert(conn, new, has_remains).await? => {}
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
    term: Term,
) -> Result<End<Option<Creation>>, LedgerError> {
    match uploads::find(conn, &new.owner, &new.file_id).await? {
        Some(current) if current.id != old || !may_restart(current.state.status()) => {
            return Ok(End::Rollback(Some(Creation::Known(current))));
        }
        Some(_) => {}
        None => return create(conn, new, allowance, term).await,
    }
    let has_remains = match claim(conn, new, Some(old), term).await? {
        Ok(has_remains) => has_remains,
        Err(refused) => return Ok(End::Rollback(Some(refused))),
    };
    let aborted = states::abort(conn, old, new.at).await?;
    if aborted.is_some() {
        outbox::announce(conn, events).await?;
    }
    if !retire(conn, old).await? {
        return Ok(End::Rollback(None));
    }
    if !insert(conn, new, has_remains).await? {
        return Ok(End::Rollback(None));
    }
    if let Some(held) = &aborted {
        owners::close(conn, held, 0).await?;
    }
    taken(conn, new, allowance).await
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

/// The upload's key, if it is to be had: it says whether something of an earlier
/// upload may lie there.
async fn claim(
    conn: &mut Conn,
    new: &NewUpload,
    replaced: Option<UploadId>,
    term: Term,
) -> Result<Result<bool, Creation>, LedgerError> {
    if !new.key_origin.is_chosen() {
        return Ok(Ok(false));
    }
    Ok(match underway::claim(conn, new, replaced, term).await? {
        Claim::Made { has_remains } => Ok(has_remains),
        Claim::BeingPut => Err(Creation::BeingPut),
        Claim::Taken(holder) => Err(Creation::KeyTaken(holder)),
    })
}

/// The last step: whether its owner may have one more.
async fn taken(conn: &mut Conn, new: &NewUpload, allowance: Allowance) -> Result<End<Option<Creation>>, LedgerError> {
    if new.key_origin.is_chosen() {
        underway::release(conn, new).await?;
    }
    Ok(match owners::open(conn, &new.owner, new.reserved_bytes, allowance).await? {
        Taken::Yes => End::Commit(Some(Creation::Created(new.upload(State::Open { session: None })))),
        Taken::TooManyOpen => End::Rollback(Some(Creation::TooManyOpen)),
        Taken::NoRoom { used_bytes } => End::Rollback(Some(Creation::NoRoom { used_bytes })),
    })
}

/// The row, unless the fileId is taken. What may lie under its key already is
/// looked for at its end, like what the store was asked to begin.
async fn insert(conn: &mut Conn, new: &NewUpload, has_remains: bool) -> Result<bool, LedgerError> {
    let mut row = new.row();
    row["begins"] = i64::from(has_remains).into();
    Ok(!insert_many(conn, std::iter::once(row)).await?.is_empty())
}

/// The rows of those whose fileIds are not taken; returns their ids.
async fn insert_many(conn: &mut Conn, rows: impl Iterator<Item = Value>) -> Result<HashSet<Uuid>, LedgerError> {
    let text = "INSERT INTO uploads (id, owner, file_id, is_current, file_name, content_type, metadata, total_chunks, \
                chunk_bytes, last_bytes, file_bytes, checksum, auto_complete, object_key, reserved_bytes, state, \
                created_at, updated_at, expires_at, begins) \
                SELECT r.id, r.owner, r.file_id, TRUE, r.file_name, r.content_type, r.metadata, r.total_chunks, \
                r.chunk_bytes, r.last_bytes, r.file_bytes, r.checksum, r.auto_complete, r.object_key, \
                r.reserved_bytes, 'uploading', r.created_at, r.created_at, r.expires_at, coalesce(r.begins, 0) \
                FROM {rows 1 id:uuid owner:text file_id:text file_name:text content_type:text metadata:text \
                total_chunks:bigint chunk_bytes:bigint last_bytes:bigint file_bytes:bigint checksum:text \
                auto_complete:boolean object_key:text reserved_bytes:bigint created_at:bigint expires_at:bigint \
                begins:bigint} WHERE TRUE ORDER BY r.owner, r.file_id ON CONFLICT (owner, file_id) WHERE is_current DO NOTHING \
                RETURNING id";
    let mut inserted = HashSet::new();
    for row in conn.rows_of(text, rows).await? {
        inserted.insert(Reader::new(&row, "uploads", &["id"]).get("id")?);
    }
    Ok(inserted)
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
            let inserted = insert_many(conn, all.iter().map(|one| one.new.row())).await?;
            let begun = || all.iter().filter(|one| inserted.contains(&one.new.id.0));
            // The same for all: it is configured.
            let Some(Self { allowance, .. }) = all.first() else { return Ok(Some(Vec::new())) };
            let has_room = owners::open_many(conn, begun().map(|one| &one.new), *allowance).await?;
            Ok(has_room.then(|| all.iter().map(|one| inserted.contains(&one.new.id.0)).collect()))
        })
    }
}
