//! The arrows between states. Each is a compare-and-set: of all who want to
//! move an upload at once, one does.

use std::collections::HashMap;

use futures_util::future::BoxFuture;
use serde_json::json;
use uuid::Uuid;

use crate::domain::{Failure, File, Lease, LeaseToken, Status, Timestamp, UploadId};
use crate::ledger::db::{Conn, Row, sql};
use crate::ledger::error::LedgerError;
use crate::ledger::outbox::{self, NewEvent};
use crate::ledger::owners::{self, Held};
use crate::ledger::rows::Reader;
use crate::ledger::writer::Alike;
use crate::ledger::{End, Ledger, Nature, size, written};

/// From where an upload fails.
#[derive(Clone, Copy, Debug)]
pub enum Failing {
    /// completing, under this lease.
    Merging(Lease),
    /// uploading.
    Open,
    /// uploading, and no chunk was acknowledged to anybody.
    Untouched,
}

impl Ledger {
    /// A lease that nobody has yet. Whoever asks for it once more, because the
    /// answer was lost, is given what is its own already.
    pub fn new_lease(&self) -> Lease {
        Lease { token: LeaseToken(self.inner.clock.uuid_v4()) }
    }

    /// uploading → completing. False when it is not uploading.
    pub async fn take_lease(&self, id: UploadId, lease: Lease) -> Result<bool, LedgerError> {
        let text = "UPDATE uploads SET state = 'completing', lease_token = r.token, lease_holder = r.holder, \
                    lease_until = r.until + {lease_clock}, updated_at = r.at \
                    FROM {rows 2 of:uuid token:uuid holder:uuid until:bigint at:bigint} \
                    WHERE id {any_id 1} AND id = r.of \
                    AND (state = 'uploading' OR (state = 'completing' AND lease_token = r.token)) RETURNING id";
        let row = json!({
            "token": lease.token.0.simple().to_string(),
            "holder": self.inner.boot.simple().to_string(),
            "until": self.lease_clock().saturating_add(self.lease_millis()),
            "at": self.now().millis(),
        });
        self.swap_alike(text, id, row).await
    }

    /// completing → completing, under another lease, if the last one has run
    /// out without being renewed.
    pub async fn take_over(&self, id: UploadId, lease: Lease) -> Result<bool, LedgerError> {
        let text = "UPDATE uploads SET lease_token = $2, lease_holder = $3, \
                    lease_until = $4 + $6 + {lease_clock}, updated_at = $5 \
                    WHERE id = $1 AND state = 'completing' \
                    AND (lease_token = $2 OR lease_until <= $4 + {lease_clock})";
        let swap = sql(text).bind(id.0).bind(lease.token.0).bind(self.inner.boot).bind(self.lease_clock());
        let swap = swap.bind(self.now().millis()).bind(self.lease_millis());
        self.swap(swap).await
    }

    /// Lets the lease last its full time from now. False when another has
    /// taken over, or the upload is no longer completing.
    pub async fn renew_lease(&self, id: UploadId, lease: Lease) -> Result<bool, LedgerError> {
        let until = self.lease_clock().saturating_add(self.lease_millis());
        let text = "UPDATE uploads SET lease_until = $3 + {lease_clock} \
                    WHERE id = $1 AND state = 'completing' AND lease_token = $2";
        let swap = sql(text).bind(id.0).bind(lease.token.0).bind(until);
        self.swap(swap).await
    }

    /// completing → uploading: the store lacks the chunks `forget`, whose rows
    /// go with the arrow. A chunk that was being recorded while the upload was
    /// completing may have been recorded since: whoever reopens looks at the
    /// progress once more.
    pub async fn reopen(&self, id: UploadId, lease: Lease, forget: &[u32]) -> Result<bool, LedgerError> {
        let (forget, now) = (forget.iter().copied().map(i64::from).collect::<Vec<_>>(), self.now());
        let text = "UPDATE uploads SET state = 'uploading', lease_token = NULL, updated_at = $3 \
                    WHERE id = $1 AND state = 'completing' AND lease_token = $2";
        let nature = Nature { forgets_of: Some(id), ..Nature::default() };
        self.transact(nature, move |conn| {
            Box::pin(async move {
                if !conn.swapped(sql(text).bind(id.0).bind(lease.token.0).bind(now.millis())).await? {
                    return Ok(End::Rollback(false));
                }
                if !forget.is_empty() {
                    let text = "DELETE FROM chunks WHERE upload_id = $1 AND chunk_index {any_int 2}";
                    conn.execute(sql(text).bind(id.0).bind(forget)).await?;
                }
                Ok(End::Commit(true))
            })
        })
        .await
    }

    /// completing → completed, with the file's row, the events and their
    /// deliveries. False when the lease is no longer ours.
    pub async fn complete(
        &self,
        id: UploadId,
        lease: Lease,
        file: &File,
        events: &[NewEvent],
    ) -> Result<bool, LedgerError> {
        let completion = Completion { id, lease, file: file.clone(), events: events.to_vec(), at: self.now() };
        self.writer()?.together(completion).await
    }

    /// completing → failed, or uploading → failed.
    pub async fn fail(
        &self,
        id: UploadId,
        failing: Failing,
        failure: Failure,
        events: &[NewEvent],
    ) -> Result<bool, LedgerError> {
        let (events, now) = (events.to_vec(), self.now());
        self.write(move |conn| {
            Box::pin(async move {
                let held = match failing {
                    Failing::Merging(lease) => fail_leased(conn, id, lease, failure, now).await?,
                    Failing::Open => end(conn, id, Status::Failed, Some(failure), now, None).await?,
                    Failing::Untouched if has_chunks(conn, id).await? => None,
                    Failing::Untouched => end(conn, id, Status::Failed, Some(failure), now, None).await?,
                };
                announce_end(conn, held, &events).await
            })
        })
        .await
    }

    /// uploading → aborted.
    pub async fn abort(&self, id: UploadId, events: &[NewEvent]) -> Result<bool, LedgerError> {
        let (events, now) = (events.to_vec(), self.now());
        self.write(move |conn| {
            Box::pin(async move {
                let held = abort(conn, id, now).await?;
                announce_end(conn, held, &events).await
            })
        })
        .await
    }

    /// uploading → expired, if `expires_at` is not after `now`: a chunk that
    /// was recorded meanwhile has moved it.
    pub async fn expire(&self, id: UploadId, now: Timestamp, events: &[NewEvent]) -> Result<bool, LedgerError> {
        let events = events.to_vec();
        self.write(move |conn| {
            Box::pin(async move {
                let held = end(conn, id, Status::Expired, None, now, Some(now)).await?;
                announce_end(conn, held, &events).await
            })
        })
        .await
    }
}

/// uploading → aborted; says what it had taken.
pub(super) async fn abort(conn: &mut Conn, id: UploadId, at: Timestamp) -> Result<Option<Held>, LedgerError> {
    end(conn, id, Status::Aborted, None, at, None).await
}

/// Out of uploading for good; says what it had taken. With `expired_by`, only if it
/// has expired by then.
async fn end(
    conn: &mut Conn,
    id: UploadId,
    status: Status,
    failure: Option<Failure>,
    at: Timestamp,
    expired_by: Option<Timestamp>,
) -> Result<Option<Held>, LedgerError> {
    let text = "UPDATE uploads SET state = $2, failure = $3, ended_at = $4, updated_at = $4, \
                clean_at = CASE WHEN session IS NOT NULL OR begins > 0 THEN $4 END, \
                holds_key = (holds_key AND begins > 0), chunks_kept = TRUE \
                WHERE id = $1 AND state = 'uploading' AND expires_at <= $5 RETURNING id, owner, reserved_bytes";
    let failure = failure.map(|f| f.code().to_owned());
    let swap = sql(text).bind(id.0).bind(status.name()).bind(failure).bind(at.millis());
    conn.rows(swap.bind(expired_by.map_or(i64::MAX, Timestamp::millis))).await?.first().map(Held::of).transpose()
}

async fn has_chunks(conn: &mut Conn, id: UploadId) -> Result<bool, LedgerError> {
    let text = "SELECT 1 AS one FROM chunks WHERE upload_id = $1 LIMIT 1";
    Ok(!conn.rows(sql(text).bind(id.0)).await?.is_empty())
}

async fn fail_leased(
    conn: &mut Conn,
    id: UploadId,
    lease: Lease,
    failure: Failure,
    at: Timestamp,
) -> Result<Option<Held>, LedgerError> {
    let text = "UPDATE uploads SET state = 'failed', failure = $3, ended_at = $4, updated_at = $4, \
                lease_token = NULL, clean_at = CASE WHEN session IS NOT NULL OR begins > 0 THEN $4 END, \
                chunks_kept = TRUE \
                WHERE id = $1 AND state = 'completing' AND lease_token = $2 RETURNING id, owner, reserved_bytes";
    let swap = sql(text).bind(id.0).bind(lease.token.0).bind(failure.code()).bind(at.millis());
    conn.rows(swap).await?.first().map(Held::of).transpose()
}

/// completing → completed.
struct Completion {
    id: UploadId,
    lease: Lease,
    file: File,
    events: Vec<NewEvent>,
    at: Timestamp,
}

impl Alike for Completion {
    const IS_ONE_STATEMENT: bool = false;
    const SHARES_ON_POSTGRES: bool = false;
    const IS_TRIED_ALONE: bool = false;

    fn write<'c>(conn: &'c mut Conn, all: &'c [Self]) -> BoxFuture<'c, Result<Option<Vec<bool>>, LedgerError>> {
        Box::pin(async move {
            let held = complete(conn, all).await?;
            let done = || all.iter().filter_map(|one| Some((one, held.get(&one.id.0)?)));
            if !held.is_empty() {
                written::insert_files(conn, done().map(|(one, _)| &one.file)).await?;
                let events: Vec<NewEvent> = done().flat_map(|(one, _)| one.events.iter().cloned()).collect();
                outbox::announce(conn, &events).await?;
                owners::close_many(conn, done().map(|(one, held)| (held, one.file.object.bytes))).await?;
            }
            Ok(Some(all.iter().map(|one| held.contains_key(&one.id.0)).collect()))
        })
    }

    fn goes_with(&self, others: &[Self]) -> bool {
        others.iter().all(|other| other.id != self.id)
    }
}

/// Says of those whose lease is still theirs what they had taken.
async fn complete(conn: &mut Conn, all: &[Completion]) -> Result<HashMap<Uuid, Held>, LedgerError> {
    // More than one multipart upload was asked for: the others may be there still.
    let text = "UPDATE uploads SET state = 'completed', etag = r.etag_is, crc64 = r.crc64_is, file_bytes = r.bytes, \
                completed_at = r.done_at, ended_at = r.done_at, updated_at = r.at, lease_token = NULL, \
                clean_at = CASE WHEN begins > 1 THEN r.done_at END, chunks_kept = TRUE \
                FROM {rows 2 of:uuid token:uuid etag_is:text crc64_is:bigint bytes:bigint done_at:bigint at:bigint} \
                WHERE id {any_id 1} AND id = r.of AND state = 'completing' AND lease_token = r.token \
                RETURNING id, owner, reserved_bytes";
    let row = |one: &Completion| {
        let object = &one.file.object;
        json!({
            "of": one.id.0.simple().to_string(),
            "token": one.lease.token.0.simple().to_string(),
            "etag_is": object.etag,
            "crc64_is": object.crc64.map(|crc64| crc64.0.cast_signed()),
            "bytes": size(object.bytes),
            "done_at": object.completed_at.millis(),
            "at": one.at.millis(),
        })
    };
    let ids: Vec<Uuid> = all.iter().map(|one| one.id.0).collect();
    let rows = conn.rows(sql(text).bind(ids).bind_rows(all.iter().map(row))).await?;
    let held = |row: &Row| Ok((Reader::new(row, "uploads", &["id"]).get("id")?, Held::of(row)?));
    rows.iter().map(held).collect()
}

/// What follows from an end, if it took place.
async fn announce_end(conn: &mut Conn, held: Option<Held>, events: &[NewEvent]) -> Result<End<bool>, LedgerError> {
    let Some(held) = held else { return Ok(End::Rollback(false)) };
    outbox::announce(conn, events).await?;
    owners::close(conn, &held, 0).await?;
    Ok(End::Commit(true))
}
