//! What time has made due. Each question is bounded; the sweeper asks again.

use std::collections::HashSet;

use crate::domain::{ObjectKey, SessionId, Status, Timestamp, Upload, UploadId};
use crate::ledger::db::{Conn, Row, Statement, sql};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{self, Reader, upload_columns};
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
        let after = after.map_or(uuid::Uuid::nil(), |id| id.0);
        self.uploads_of(sql(text).bind(after).bind(limit)).await
    }

    async fn uploads_of(&self, query: Statement) -> Result<Vec<Upload>, LedgerError> {
        self.read().await?.rows(query).await?.iter().map(rows::upload).collect()
    }

    /// Ended uploads of which the store may hold parts and that are due by
    /// `now`, those first that were due first. One that has just ended is due at once.
    pub async fn remains(&self, now: Timestamp, limit: u32) -> Result<Vec<Remains>, LedgerError> {
        let text = "SELECT id, object_key, session, begins, ended_at, state, is_direct FROM uploads \
                    WHERE clean_at <= $1 ORDER BY clean_at LIMIT $2";
        self.read().await?.rows(sql(text).bind(now.millis()).bind(limit)).await?.iter().map(remains).collect()
    }

    /// The store holds nothing of it any more.
    pub async fn clear_remains(&self, id: UploadId) -> Result<(), LedgerError> {
        let text = "UPDATE uploads SET clean_at = NULL WHERE id = $1";
        self.run(sql(text).bind(id.0)).await.map(drop)
    }

    /// Something of an upload that has ended came into the store after its end.
    pub async fn look_again(&self, id: UploadId, at: Timestamp) -> Result<(), LedgerError> {
        let text = "UPDATE uploads SET clean_at = $2 WHERE id = $1 \
                    AND state IN ('aborted', 'expired', 'failed') AND clean_at IS NULL";
        let swap = sql(text).bind(id.0).bind(at.millis());
        self.run(swap).await.map(drop)
    }

    /// The store may hold more of it, or does not let go of it: looked at again at `until`.
    pub async fn defer_remains(&self, id: UploadId, until: Timestamp) -> Result<(), LedgerError> {
        let text = "UPDATE uploads SET clean_at = $2 WHERE id = $1 AND clean_at IS NOT NULL";
        self.run(sql(text).bind(id.0).bind(until.millis())).await.map(drop)
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
                    WHERE state IN ('uploading', 'completing') AND object_key {any_text 1}";
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
        given_up: match read.parse::<String, _>("state", |name| Status::parse(&name))? {
            Status::Aborted | Status::Expired => true,
            Status::Uploading | Status::Completing | Status::Completed | Status::Failed => false,
        },
        is_direct: read.get("is_direct")?,
    })
}

async fn prune(conn: &mut Conn, before: Timestamp, limit: u32) -> Result<u64, LedgerError> {
    let mut left = u64::from(limit);
    while left > 0 {
        let text = "SELECT id FROM uploads WHERE chunks_kept AND ended_at <= $1 ORDER BY ended_at LIMIT 1";
        let Some(row) = conn.row(sql(text).bind(before.millis())).await? else { break };
        let id: uuid::Uuid = Reader::new(&row, "uploads", &["id"]).get("id")?;
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
