//! Finding uploads, and the store's multipart upload of each.

use serde_json::json;

use crate::domain::{Checksum, Chunk, FileId, Owner, Progress, SessionId, Status, Timestamp, Upload, UploadId};
use crate::ledger::Ledger;
use crate::ledger::db::{Conn, sql};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{self, Reader, chunk_columns, count_columns, upload_columns};
use crate::ledger::value::Value;

/// What became of the wish to name the upload's multipart upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionSet {
    /// It is this one.
    Won,
    /// It is this other one, which was named before.
    Other(SessionId),
    /// The upload takes no chunks any more, or is not known.
    NotOpen,
}

impl Ledger {
    /// What this fileId means now.
    pub async fn find_upload(&self, owner: &Owner, file_id: &FileId) -> Result<Option<Upload>, LedgerError> {
        find(&mut self.read().await?, owner, file_id).await
    }

    /// What this fileId means now, and its chunk of this index if it is
    /// recorded: all that a chunk's request must know, in one statement.
    pub async fn find_for_chunk(
        &self,
        owner: &Owner,
        file_id: &FileId,
        index: u32,
    ) -> Result<Option<(Upload, Option<Chunk>)>, LedgerError> {
        let text = concat!(
            "SELECT ",
            upload_columns!(),
            ", ",
            chunk_columns!(),
            " FROM uploads u LEFT JOIN chunks c ON c.upload_id = u.id AND c.chunk_index = $3 \
             WHERE u.owner = $1 AND u.file_id = $2 AND u.is_current"
        );
        let query = sql(text).bind(owner.as_str()).bind(file_id.as_str()).bind(index);
        let row = self.read().await?.row(query).await?;
        row.map(|row| Ok((rows::upload(&row)?, rows::chunk(&row)?))).transpose()
    }

    /// What this fileId means now, and how much of it is recorded.
    pub async fn find_with_progress(
        &self,
        owner: &Owner,
        file_id: &FileId,
    ) -> Result<Option<(Upload, Progress)>, LedgerError> {
        let text = concat!(
            "SELECT ",
            upload_columns!(),
            ", ",
            count_columns!(),
            " FROM uploads u WHERE u.owner = $1 AND u.file_id = $2 AND u.is_current"
        );
        let query = sql(text).bind(owner.as_str()).bind(file_id.as_str());
        self.read().await?.row(query).await?.as_ref().map(rows::counted).transpose()
    }

    /// The upload of this internal id, also one that was replaced.
    pub async fn upload(&self, id: UploadId) -> Result<Option<Upload>, LedgerError> {
        let text = concat!("SELECT ", upload_columns!(), " FROM uploads u WHERE u.id = $1");
        self.read().await?.row(sql(text).bind(id.0)).await?.as_ref().map(rows::upload).transpose()
    }

    /// How much of this upload is recorded; nothing of one that is not known.
    pub async fn progress(&self, id: UploadId) -> Result<Progress, LedgerError> {
        let text = concat!("SELECT ", upload_columns!(), ", ", count_columns!(), " FROM uploads u WHERE u.id = $1");
        let row = self.read().await?.row(sql(text).bind(id.0)).await?;
        Ok(row.as_ref().map(rows::counted).transpose()?.map(|(_, progress)| progress).unwrap_or_default())
    }

    /// What fileIds mean now, newest first: of one owner or of all, in one
    /// state or in any. `after` is the last one of the page before.
    pub async fn list_uploads(
        &self,
        owner: Option<&Owner>,
        status: Option<Status>,
        after: Option<(Timestamp, UploadId)>,
        limit: u32,
    ) -> Result<Vec<(Upload, Progress)>, LedgerError> {
        // In the order of the texts' numbers.
        let mut values = Vec::new();
        values.extend(owner.map(|o| Value::from(o.as_str())));
        values.extend(after.map(|(at, _)| Value::from(at.millis())));
        values.extend(after.map(|(_, id)| Value::from(id.0)));
        values.extend(status.map(|s| Value::from(s.name())));
        values.push(limit.into());
        let query = sql(list_text(owner.is_some(), status, after.is_some())).bind_all(values);
        self.read().await?.rows(query).await?.iter().map(rows::counted).collect()
    }

    /// All that failed, also those whose fileIds mean another upload by now,
    /// newest first. `after` is the last one of the page before.
    pub async fn list_failed(
        &self,
        owner: Option<&Owner>,
        after: Option<(Timestamp, UploadId)>,
        limit: u32,
    ) -> Result<Vec<(Upload, Progress)>, LedgerError> {
        macro_rules! failed {
            ($conditions:literal) => {
                concat!(
                    "SELECT ",
                    upload_columns!(),
                    ", ",
                    count_columns!(),
                    " FROM uploads u WHERE u.state = 'failed'",
                    $conditions,
                    " ORDER BY u.created_at DESC, u.id DESC LIMIT $1"
                )
            };
        }
        let text = match (owner, after) {
            (None, None) => failed!(""),
            (None, Some(_)) => failed!(" AND (u.created_at, u.id) < ($2, $3)"),
            (Some(_), None) => failed!(" AND u.owner = $2"),
            (Some(_), Some(_)) => failed!(" AND u.owner = $4 AND (u.created_at, u.id) < ($2, $3)"),
        };
        let mut values = vec![Value::from(limit)];
        values.extend(after.into_iter().flat_map(|(at, id)| [at.millis().into(), id.0.into()]));
        values.extend(owner.map(|owner| Value::from(owner.as_str())));
        let query = sql(text).bind_all(values);
        self.read().await?.rows(query).await?.iter().map(rows::counted).collect()
    }

    /// Says that the store is about to be asked to begin a multipart upload:
    /// before it is asked, so that the sweeper looks for what may have come of
    /// it. False when the upload has one already, or takes no chunks any more.
    pub async fn intend_session(&self, id: UploadId) -> Result<bool, LedgerError> {
        let text = "UPDATE uploads SET begins = begins + 1 FROM {rows 2 of:uuid} WHERE id {any_id 1} AND id = r.of \
                    AND session IS NULL AND state = 'uploading' RETURNING id";
        self.swap_alike(text, id, json!({})).await
    }

    /// Says that a client is about to be given URLs of the store: before it is,
    /// so that every gateway asks the store what has come. Its expiry is moved
    /// to here. False when the upload takes no chunks any more.
    pub async fn go_direct(&self, id: UploadId, expires_at: Timestamp) -> Result<bool, LedgerError> {
        let text = "UPDATE uploads SET is_direct = TRUE, \
                    expires_at = CASE WHEN expires_at < $2 THEN $2 ELSE expires_at END \
                    WHERE id = $1 AND state = 'uploading'";
        self.swap(sql(text).bind(id.0).bind(expires_at.millis())).await
    }

    /// Adds the checksum of the whole file to an upload that has none. False
    /// when it has one, or takes no chunks any more.
    pub async fn declare_checksum(&self, id: UploadId, checksum: Checksum) -> Result<bool, LedgerError> {
        let text = "UPDATE uploads SET checksum = $2 WHERE id = $1 AND checksum IS NULL AND state = 'uploading'";
        let swap = sql(text).bind(id.0).bind(checksum.tagged());
        self.swap(swap).await
    }

    /// Names the multipart upload that all chunks go into, once and for all.
    pub async fn set_session(&self, id: UploadId, session: &SessionId) -> Result<SessionSet, LedgerError> {
        let text = "UPDATE uploads SET session = r.named, updated_at = r.at \
                    FROM {rows 2 of:uuid named:text at:bigint} WHERE id {any_id 1} AND id = r.of \
                    AND session IS NULL AND state = 'uploading' RETURNING id";
        let row = json!({"named": session.as_str(), "at": self.now().millis()});
        if self.swap_alike(text, id, row).await? {
            return Ok(SessionSet::Won);
        }
        let text = "SELECT id, session FROM uploads WHERE id = $1 AND state = 'uploading' AND session IS NOT NULL";
        let Some(row) = self.read().await?.row(sql(text).bind(id.0)).await? else { return Ok(SessionSet::NotOpen) };
        let named: String = Reader::new(&row, "uploads", &["id"]).get("session")?;
        Ok(if named == session.as_str() { SessionSet::Won } else { SessionSet::Other(SessionId::new(named)) })
    }
}

/// What this fileId means now.
pub(super) async fn find(conn: &mut Conn, owner: &Owner, file_id: &FileId) -> Result<Option<Upload>, LedgerError> {
    let text =
        concat!("SELECT ", upload_columns!(), " FROM uploads u WHERE u.owner = $1 AND u.file_id = $2 AND u.is_current");
    let row = conn.row(sql(text).bind(owner.as_str()).bind(file_id.as_str())).await?;
    row.as_ref().map(rows::upload).transpose()
}

/// A text for each question, so that each has a plan that uses its index.
const fn list_text(owner: bool, status: Option<Status>, after: bool) -> &'static str {
    macro_rules! list {
        ($conditions:expr, $limit:literal) => {
            concat!(
                "SELECT ",
                upload_columns!(),
                ", ",
                count_columns!(),
                " FROM uploads u WHERE u.is_current",
                $conditions,
                " ORDER BY u.created_at DESC, u.id DESC LIMIT ",
                $limit
            )
        };
    }
    // What is not completed is rare, and found by an index that has nothing else.
    macro_rules! list_of_state {
        ($conditions:literal, $state:literal, $limit:literal) => {
            match status {
                Some(Status::Completed) => list!(concat!($conditions, " AND u.state = ", $state), $limit),
                _ => list!(concat!($conditions, " AND u.state <> 'completed' AND u.state = ", $state), $limit),
            }
        };
    }
    match (owner, after, status.is_some()) {
        (false, false, false) => list!("", "$1"),
        (false, false, true) => list_of_state!("", "$1", "$2"),
        (false, true, false) => list!(" AND (u.created_at, u.id) < ($1, $2)", "$3"),
        (false, true, true) => list_of_state!(" AND (u.created_at, u.id) < ($1, $2)", "$3", "$4"),
        (true, false, false) => list!(" AND u.owner = $1", "$2"),
        (true, false, true) => list_of_state!(" AND u.owner = $1", "$2", "$3"),
        (true, true, false) => list!(" AND u.owner = $1 AND (u.created_at, u.id) < ($2, $3)", "$4"),
        (true, true, true) => list_of_state!(" AND u.owner = $1 AND (u.created_at, u.id) < ($2, $3)", "$4", "$5"),
    }
}
