//! What time has made due. Each question is bounded; the sweeper asks again.

use std::collections::HashSet;

use uuid::Uuid;

use crate::domain::{ObjectKey, SessionId, Status, Timestamp, Upload, UploadId};
use crate::ledger::db::{Conn, Row, Statement, sql};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{self, Reader, leaves_something, upload_columns};
use crate::ledger::{End, Ledger, size};

/// An upload that has ended and of which the store may hold parts that no
/// object needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// The ended upload.
    pub id: UploadId,
    /// Where its object would lie, or lies.
    pub key: ObjectKey,
    /// The multipart upload that the ledger knows of.
    pub session: Option<SessionId>,
    /// How many the store was asked to begin: beyond the known one, others may
    /// be listed under the key.
    pub begins: u32,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Whether it was given up or expired: then nothing may lie under its key.
    pub given_up: bool,
    /// Whether clients were given URLs of the store to put parts at.
    pub is_direct: bool,
    /// Whether to look under its key, which is its own alone, for what goes by
    /// no name that is recorded.
    pub by_key: bool,
    /// When it was due.
    due_at: Timestamp,
}

/// The right to clean up after an upload, until its lease runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemainsClaim {
    id: UploadId,
    due_at: Timestamp,
    token: Uuid,
}

impl Ledger {
    /// Uploads that expire by `now`, those first that expired first.
    pub async fn due_expired(&self, now: Timestamp, limit: u32) -> Result<Vec<Upload>, LedgerError> {
        let text = concat!(
            "SELECT ",
            upload_columns!(),
            " FROM uploads u WHERE u.state = 'uploading' AND u.expires_at <= $1 \
             ORDER BY u.expires_at LIMIT $2"
        );
        self.uploads_of(sql(text).bind(now.millis()).bind(limit)).await
    }

    /// Uploads whose merge was left by its holder: the lease has run out.
    pub async fn stale_completing(&self, limit: u32) -> Result<Vec<Upload>, LedgerError> {
        let text = concat!(
            "SELECT ",
            upload_columns!(),
            " FROM uploads u WHERE u.state = 'completing' \
             AND u.lease_until <= $1 + {lease_clock} ORDER BY u.lease_until LIMIT $2"
        );
        self.uploads_of(sql(text).bind(self.lease_clock()).bind(limit)).await
    }

    /// Uploads that have all their chunks and whose merge nobody has started,
    /// by id, beyond `after`.
    pub async fn ready_to_merge(&self, after: Option<UploadId>, limit: u32) -> Result<Vec<Upload>, LedgerError> {
        // Looking for the last chunk first, which CASE assures, spares counting those of uploads that lack it.
        // Not by EXISTS: for many uploads Postgres would make a hash of all chunks that there are.
        let text = concat!(
            "SELECT ",
            upload_columns!(),
            " FROM uploads u WHERE u.state = 'uploading' AND u.auto_complete \
             AND u.id > $1 \
             AND CASE WHEN (SELECT k.bytes FROM chunks k WHERE k.upload_id = u.id \
             AND k.chunk_index = u.total_chunks - 1) IS NOT NULL \
             THEN (SELECT count(*) FROM chunks k WHERE k.upload_id = u.id) = u.total_chunks ELSE FALSE END \
             ORDER BY u.id LIMIT $2"
        );
        let after = after.map_or(Uuid::nil(), |id| id.0);
        self.uploads_of(sql(text).bind(after).bind(limit)).await
    }

    async fn uploads_of(&self, query: Statement) -> Result<Vec<Upload>, LedgerError> {
        self.read().await?.rows(query).await?.iter().map(rows::upload).collect()
    }

    /// Ended uploads of which the store may hold parts and that are due by
    /// `now`, those first that were due first. One that has just ended is due at once.
    pub async fn remains(&self, now: Timestamp, limit: u32) -> Result<Vec<Remains>, LedgerError> {
        let text = concat!(
            "SELECT id, object_key, session, begins, ended_at, state, is_direct, clean_at, holds_key AND ",
            leaves_something!(),
            " AS by_key FROM uploads WHERE clean_at <= $1 ORDER BY clean_at LIMIT $2"
        );
        self.read().await?.rows(sql(text).bind(now.millis()).bind(limit)).await?.iter().map(remains).collect()
    }

    /// The right to clean up after it, as long as it is renewed. None when
    /// somebody else has it, or had: a page of remains is soon stale, and what
    /// lies under a key may be another's by then.
    pub async fn claim_remains(&self, remains: &Remains) -> Result<Option<RemainsClaim>, LedgerError> {
        let claim = RemainsClaim { id: remains.id, due_at: remains.due_at, token: self.inner.clock.uuid_v4() };
        let text = "UPDATE uploads SET lease_token = $3, lease_until = $4 + $5 + {lease_clock} \
                    WHERE id = $1 AND clean_at = $2 AND (lease_token IS NULL OR lease_until <= $4 + {lease_clock})";
        let swap = sql(text).bind(claim.id.0).bind(claim.due_at.millis()).bind(claim.token);
        let swap = swap.bind(self.lease_clock()).bind(self.lease_millis());
        Ok(self.swap(swap).await?.then_some(claim))
    }

    /// Lets the claim last its full time from now. False when it was lost.
    pub async fn renew_remains(&self, claim: RemainsClaim) -> Result<bool, LedgerError> {
        let text = "UPDATE uploads SET lease_until = $3 + {lease_clock} \
                    WHERE id = $1 AND lease_token = $2 AND clean_at IS NOT NULL";
        let until = self.lease_clock().saturating_add(self.lease_millis());
        self.swap(sql(text).bind(claim.id.0).bind(claim.token).bind(until)).await
    }

    /// The store holds nothing of it any more, and its key is free unless a
    /// file lies there. False when the claim was lost, or more has come.
    pub async fn clear_remains(&self, claim: RemainsClaim) -> Result<bool, LedgerError> {
        let text = "UPDATE uploads SET clean_at = NULL, lease_token = NULL, \
                    holds_key = (holds_key AND state = 'completed') \
                    WHERE id = $1 AND clean_at = $2 AND lease_token = $3";
        self.swap(sql(text).bind(claim.id.0).bind(claim.due_at.millis()).bind(claim.token)).await
    }

    /// The store may hold more of it, or does not let go of it: looked at again at `until`.
    pub async fn defer_remains(&self, claim: RemainsClaim, until: Timestamp) -> Result<(), LedgerError> {
        let text = "UPDATE uploads SET clean_at = $4, lease_token = NULL \
                    WHERE id = $1 AND clean_at = $2 AND lease_token = $3";
        let swap = sql(text).bind(claim.id.0).bind(claim.due_at.millis()).bind(claim.token);
        self.run(swap.bind(until.millis())).await.map(drop)
    }

    /// Something of an upload that has ended came into the store after its end,
    /// and maybe after somebody looked: who is looking looks once more.
    pub async fn look_again(&self, id: UploadId, at: Timestamp) -> Result<(), LedgerError> {
        let text = "UPDATE uploads SET clean_at = $2, lease_token = NULL \
                    WHERE id = $1 AND state IN ('aborted', 'expired', 'failed')";
        self.run(sql(text).bind(id.0).bind(at.millis())).await.map(drop)
    }

    /// Removes up to `limit` events that happened by `before` and that nobody
    /// is to hear any more, with their deliveries, and says how many.
    pub async fn prune_events(&self, before: Timestamp, limit: u32) -> Result<u64, LedgerError> {
        let text = "DELETE FROM events WHERE id IN (SELECT e.id FROM events e WHERE e.created_at <= $1 \
                    AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event_id = e.id AND d.state = 'pending') \
                    ORDER BY e.created_at LIMIT $2)";
        self.run(sql(text).bind(before.millis()).bind(limit)).await
    }

    /// Removes up to `limit` uploads that were given up or expired by `before`
    /// and left nothing, and says how many. Their fileIds are as unknown as
    /// before then.
    pub async fn prune_uploads(&self, before: Timestamp, limit: u32) -> Result<u64, LedgerError> {
        let text = "DELETE FROM uploads WHERE id IN (SELECT id FROM uploads \
                    WHERE state IN ('aborted', 'expired') AND ended_at <= $1 \
                    AND clean_at IS NULL AND NOT chunks_kept ORDER BY ended_at LIMIT $2)";
        self.run(sql(text).bind(before.millis()).bind(limit)).await
    }

    /// Those of the keys that an open upload of this ledger has.
    pub async fn keys_in_use(&self, keys: Vec<String>) -> Result<HashSet<String>, LedgerError> {
        let text = "SELECT object_key FROM uploads \
                    WHERE state IN ('uploading', 'completing') AND holds_key AND object_key {any_text 1}";
        let rows = self.read().await?.rows(sql(text).bind(keys)).await?;
        rows.iter().map(|row| Reader::new(row, "uploads", &["object_key"]).get("object_key")).collect()
    }

    /// Removes up to `limit` chunk and part rows of uploads that ended by
    /// `ended_before`, and says how many; an upload that has none counts as one.
    pub async fn prune_chunks(&self, ended_before: Timestamp, limit: u32) -> Result<u64, LedgerError> {
        self.write(move |conn| Box::pin(async move { prune(conn, ended_before, limit).await.map(End::Commit) })).await
    }
}

fn remains(row: &Row) -> Result<Remains, LedgerError> {
    let read = Reader::new(row, "uploads", &["id"]);
    Ok(Remains {
        id: UploadId(read.get("id")?),
        key: read.parse::<String, _>("object_key", |text| ObjectKey::parse(&text))?,
        session: read.get::<Option<String>>("session")?.map(SessionId::new),
        begins: read.count("begins")?,
        ended_at: read.time("ended_at")?,
        given_up: match rows::status(&read)? {
            Status::Aborted | Status::Expired => true,
            Status::Uploading | Status::Completing | Status::Completed | Status::Failed => false,
        },
        is_direct: read.get("is_direct")?,
        by_key: read.get("by_key")?,
        due_at: read.time("clean_at")?,
    })
}

async fn prune(conn: &mut Conn, before: Timestamp, limit: u32) -> Result<u64, LedgerError> {
    let mut left = u64::from(limit);
    while left > 0 {
        let text = "SELECT id FROM uploads WHERE chunks_kept AND ended_at <= $1 ORDER BY ended_at LIMIT 1";
        let Some(row) = conn.row(sql(text).bind(before.millis())).await? else { break };
        let id: Uuid = Reader::new(&row, "uploads", &["id"]).get("id")?;
        let text = "DELETE FROM chunks WHERE upload_id = $1 AND chunk_index IN \
                    (SELECT chunk_index FROM chunks WHERE upload_id = $1 ORDER BY chunk_index LIMIT $2)";
        let gone = conn.execute(sql(text).bind(id).bind(size(left))).await?;
        if gone < left {
            conn.execute(sql("DELETE FROM parts WHERE upload_id = $1").bind(id)).await?;
            conn.execute(sql("UPDATE uploads SET chunks_kept = FALSE WHERE id = $1").bind(id)).await?;
        }
        left -= gone.clamp(1, left);
    }
    Ok(u64::from(limit) - left)
}
