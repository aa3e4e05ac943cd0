//! Forms that clients may send to the store without us: what the file will be
//! is written down before the form is given out, under the object's key, and
//! recorded as a file once the object is found there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::kind::Kinds;
use crate::domain::{FileId, ObjectKey, Owner, Timestamp, UploadId};
use crate::ledger::db::{Row, sql};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::Reader;
use crate::ledger::underway::{self, Claim};
use crate::ledger::wish::NewUpload;
use crate::ledger::{End, Ledger};

/// A file that a client was given a form for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwaitedFile {
    /// Where its object will lie.
    pub key: ObjectKey,
    /// The ledger's own id for it.
    pub id: UploadId,
    /// Whose it is.
    pub owner: Owner,
    /// The id by which its owner knows it.
    pub file_id: FileId,
    /// The user's file name.
    pub file_name: String,
    /// MIME type, if it was said.
    pub content_type: Option<String>,
    /// Pairs to hand back.
    pub metadata: BTreeMap<String, String>,
    /// The longest that it may be, in bytes.
    pub bytes_max: u64,
    /// Lists of kinds that it must be on, each of them.
    pub kinds: Vec<Kinds>,
    /// Whether the application chose its key.
    pub is_key_chosen: bool,
    /// When the form was given out.
    pub at: Timestamp,
    /// Until when it may be sent.
    pub expires_at: Timestamp,
}

/// As it is kept, beside its key.
#[derive(Deserialize, Serialize)]
struct Written {
    id: Uuid,
    owner: String,
    file_id: String,
    file_name: String,
    content_type: Option<String>,
    metadata: BTreeMap<String, String>,
    bytes_max: u64,
    #[serde(default)]
    kinds: Vec<Vec<String>>,
    #[serde(default)]
    is_key_chosen: bool,
    at: i64,
    expires_at: i64,
}

impl Ledger {
    /// Says that a form is about to be given out; its file is to be looked for
    /// from `look_at` on. What is not sent in time is condemned as what was put
    /// and not recorded in time.
    pub async fn await_file(&self, file: &AwaitedFile, look_at: Timestamp) -> Result<(), LedgerError> {
        let text = "INSERT INTO objects_underway (object_key, upload_id, owner, file_id, begun_at, form, look_at) \
                    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (object_key) DO NOTHING";
        let insert = sql(text).bind(file.key.as_str()).bind(file.id.0);
        let insert = insert.bind(file.owner.as_str()).bind(file.file_id.as_str()).bind(file.expires_at.millis());
        self.run(insert.bind(written(file)).bind(look_at.millis())).await.map(drop)
    }

    /// The same of a key that the application chose: it is the form's from now
    /// on, or is not to be had.
    pub async fn claim_form(
        &self,
        new: &NewUpload,
        file: &AwaitedFile,
        look_at: Timestamp,
    ) -> Result<Claim, LedgerError> {
        let text = "UPDATE objects_underway SET begun_at = $3, form = $4, look_at = $5 \
                    WHERE object_key = $1 AND upload_id = $2";
        let mark = sql(text).bind(file.key.as_str()).bind(file.id.0).bind(file.expires_at.millis());
        let mark = mark.bind(written(file)).bind(look_at.millis());
        let (new, term) = (new.clone(), self.term());
        self.write(move |conn| {
            Box::pin(async move {
                let claim = underway::claim(conn, &new, None, term).await?;
                if !matches!(claim, Claim::Made { .. }) {
                    return Ok(End::Rollback(claim));
                }
                conn.execute(mark).await?;
                Ok(End::Commit(claim))
            })
        })
        .await
    }

    /// The file that is awaited under this key, until it is recorded or
    /// condemned.
    pub async fn awaited_file(&self, key: &ObjectKey) -> Result<Option<AwaitedFile>, LedgerError> {
        let text = "SELECT object_key, form FROM objects_underway \
                    WHERE object_key = $1 AND form IS NOT NULL AND NOT condemned";
        self.read().await?.row(sql(text).bind(key.as_str())).await?.as_ref().map(read).transpose()
    }

    /// The file that this owner awaits under this fileId.
    pub async fn awaited_by(&self, owner: &Owner, file_id: &FileId) -> Result<Option<AwaitedFile>, LedgerError> {
        let text = "SELECT object_key, form FROM objects_underway \
                    WHERE owner = $1 AND file_id = $2 AND form IS NOT NULL AND NOT condemned LIMIT 1";
        let asked = sql(text).bind(owner.as_str()).bind(file_id.as_str());
        self.read().await?.row(asked).await?.as_ref().map(read).transpose()
    }

    /// Awaited files that are to be looked for by now.
    pub async fn awaited_files(&self, by: Timestamp, limit: u32) -> Result<Vec<AwaitedFile>, LedgerError> {
        let text = "SELECT object_key, form FROM objects_underway WHERE look_at <= $1 AND NOT condemned \
                    ORDER BY look_at LIMIT $2";
        self.read().await?.rows(sql(text).bind(by.millis()).bind(limit)).await?.iter().map(read).collect()
    }

    /// It has not come yet: to be looked for again then.
    pub async fn look_later(&self, key: &ObjectKey, look_at: Timestamp) -> Result<(), LedgerError> {
        let text = "UPDATE objects_underway SET look_at = $2 WHERE object_key = $1 AND look_at IS NOT NULL";
        self.run(sql(text).bind(key.as_str()).bind(look_at.millis())).await.map(drop)
    }
}

fn written(file: &AwaitedFile) -> String {
    let written = Written {
        id: file.id.0,
        owner: file.owner.as_str().to_owned(),
        file_id: file.file_id.as_str().to_owned(),
        file_name: file.file_name.clone(),
        content_type: file.content_type.clone(),
        metadata: file.metadata.clone(),
        bytes_max: file.bytes_max,
        kinds: file.kinds.iter().map(|kinds| kinds.as_slice().to_vec()).collect(),
        is_key_chosen: file.is_key_chosen,
        at: file.at.millis(),
        expires_at: file.expires_at.millis(),
    };
    // Texts and numbers: there is nothing that JSON does not have.
    serde_json::to_string(&written).unwrap_or_default()
}

fn read(row: &Row) -> Result<AwaitedFile, LedgerError> {
    let read = Reader::new(row, "objects_underway", &["object_key"]);
    let key = read.parse::<String, _>("object_key", |text| ObjectKey::parse(&text))?;
    read.parse::<String, _>("form", |text| {
        let written: Written = serde_json::from_str(&text).ok()?;
        Some(AwaitedFile {
            key,
            id: UploadId(written.id),
            owner: Owner::parse(&written.owner).ok()?,
            file_id: FileId::parse(&written.file_id).ok()?,
            file_name: written.file_name,
            content_type: written.content_type,
            metadata: written.metadata,
            bytes_max: written.bytes_max,
            kinds: written.kinds.iter().map(|kinds| Kinds::parse(kinds)).collect::<Result<_, _>>().ok()?,
            is_key_chosen: written.is_key_chosen,
            at: Timestamp::from_millis(written.at),
            expires_at: Timestamp::from_millis(written.expires_at),
        })
    })
}
