//! Objects that are being put in one request, and whose a key is that the
//! application chose.
//!
//! Keys that are drawn by lot are nobody else's. One that was chosen may be
//! wanted by several: it is one upload's from its claim until nothing of it is
//! left in the store, and nobody but its holder puts, lists or deletes by it.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;
use uuid::Uuid;

use crate::domain::{KeyHolder, ObjectKey, Timestamp, UploadId};
use crate::ledger::db::{Conn, Row, sql};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{self, Reader, leaves_something};
use crate::ledger::wish::NewUpload;
use crate::ledger::writer::Alike;
use crate::ledger::{End, Ledger, millis};

/// A call to the store that removes something has had its effect by then.
const REMOVED_WITHIN: Duration = Duration::from_secs(600);

/// What came of the wish for a key that the application chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is the upload's.
    Made {
        /// Whether something of an earlier try may lie there, which nobody else knows of now.
        has_remains: bool,
    },
    /// Another request of the same fileId is putting a file there.
    BeingPut,
    /// It is not to be had.
    Taken(KeyHolder),
}

/// An object that was intended and became no file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Which upload's it was to be.
    pub id: UploadId,
    /// Where it lies, if it does.
    pub key: ObjectKey,
}

/// Until when a claim lasts, as the ledger's texts want it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    now: i64,
    millis: i64,
}

/// An object that is about to be put, under a key that was drawn by lot.
#[derive(Clone, Debug)]
pub struct Intent {
    /// Which upload's it will be.
    pub id: UploadId,
    /// Where it will lie.
    pub key: ObjectKey,
    /// Now.
    pub at: Timestamp,
}

struct Intents(Vec<Intent>);

impl Ledger {
    /// Says that an object is about to be put under this key, which was drawn
    /// by lot: before it is, so that the sweeper finds what a crash leaves.
    pub async fn intend_object(&self, id: UploadId, key: &ObjectKey, at: Timestamp) -> Result<(), LedgerError> {
        self.intend_objects(vec![Intent { id, key: key.clone(), at }]).await
    }

    /// The same of many.
    pub async fn intend_objects(&self, intents: Vec<Intent>) -> Result<(), LedgerError> {
        self.writer()?.together(Intents(intents)).await.map(drop)
    }

    /// The same for a key that the application chose. It lasts as a lease does.
    pub async fn claim_object(&self, new: &NewUpload) -> Result<Claim, LedgerError> {
        let (new, term) = (new.clone(), self.term());
        self.write(move |conn| {
            Box::pin(async move {
                Ok(match claim(conn, &new, None, term).await? {
                    made @ Claim::Made { .. } => End::Commit(made),
                    other @ (Claim::BeingPut | Claim::Taken(_)) => End::Rollback(other),
                })
            })
        })
        .await
    }

    /// Lets a claim last its full time from now. False when it was lost.
    pub async fn renew_claim(&self, id: UploadId, key: &ObjectKey) -> Result<bool, LedgerError> {
        let text = "UPDATE objects_underway SET lease_until = $3 + {lease_clock} \
                    WHERE object_key = $1 AND upload_id = $2 AND NOT condemned";
        self.swap(sql(text).bind(key.as_str()).bind(id.0).bind(self.lease_clock() + self.lease_millis())).await
    }

    /// Nobody is about it any more: who tries again need not wait.
    pub async fn leave_object(&self, id: UploadId, key: &ObjectKey) -> Result<(), LedgerError> {
        let text = "UPDATE objects_underway SET lease_until = 0 WHERE object_key = $1 AND upload_id = $2";
        self.run(sql(text).bind(key.as_str()).bind(id.0)).await.map(drop)
    }

    /// Nobody will put any of these.
    pub async fn forget_intents(&self, intents: &[Intent]) -> Result<(), LedgerError> {
        let text = "DELETE FROM objects_underway WHERE object_key {any_text 1} AND upload_id {any_id 2} \
                    AND owner IS NULL";
        let keys: Vec<String> = intents.iter().map(|intent| intent.key.as_str().to_owned()).collect();
        let ids: Vec<Uuid> = intents.iter().map(|intent| intent.id.0).collect();
        self.run(sql(text).bind(keys).bind(ids)).await.map(drop)
    }

    /// There is no object of this upload under this key that has no file.
    pub async fn forget_object(&self, id: UploadId, key: &ObjectKey) -> Result<(), LedgerError> {
        let text = "DELETE FROM objects_underway WHERE object_key = $1 AND upload_id = $2";
        self.run(sql(text).bind(key.as_str()).bind(id.0)).await.map(drop)
    }

    /// Objects that were intended by `before` and never became files.
    pub async fn objects_underway(&self, before: Timestamp, limit: u32) -> Result<Vec<Orphan>, LedgerError> {
        let text = "SELECT object_key, upload_id FROM objects_underway WHERE begun_at <= $1 ORDER BY begun_at LIMIT $2";
        orphans(&self.read().await?.rows(sql(text).bind(before.millis()).bind(limit)).await?)
    }

    /// Condemns up to `limit` of them: from then on none becomes a file, and
    /// whoever still puts one stops.
    pub async fn condemn_objects(&self, before: Timestamp, limit: u32) -> Result<Vec<Orphan>, LedgerError> {
        let text = "UPDATE objects_underway SET condemned = TRUE WHERE object_key IN \
                    (SELECT object_key FROM objects_underway WHERE begun_at <= $1 ORDER BY begun_at LIMIT $2) \
                    RETURNING object_key, upload_id";
        let condemn = sql(text).bind(before.millis()).bind(limit);
        self.write(move |conn| Box::pin(async move { orphans(&conn.rows(condemn).await?).map(End::Commit) })).await
    }

    /// Condemns this one, which its own upload gives up. False when the key is
    /// not this upload's any more: then nothing is to be removed by it.
    pub async fn condemn_object(&self, id: UploadId, key: &ObjectKey) -> Result<bool, LedgerError> {
        let text = "UPDATE objects_underway SET condemned = TRUE, begun_at = 0, lease_until = $3 + {lease_clock} \
                    WHERE object_key = $1 AND upload_id = $2 AND NOT condemned";
        self.swap(sql(text).bind(key.as_str()).bind(id.0).bind(self.removed_by())).await
    }

    /// The right to remove an object that was condemned, for longer than the
    /// store takes for it. False when somebody else has it, or it is gone.
    pub async fn claim_orphan(&self, orphan: &Orphan) -> Result<bool, LedgerError> {
        let text = "UPDATE objects_underway SET lease_until = $3 + {lease_clock} WHERE object_key = $1 \
                    AND upload_id = $2 AND condemned AND lease_until <= $4 + {lease_clock}";
        let claim = sql(text).bind(orphan.key.as_str()).bind(orphan.id.0).bind(self.removed_by());
        self.swap(claim.bind(self.lease_clock())).await
    }

    fn removed_by(&self) -> i64 {
        self.lease_clock().saturating_add(millis(REMOVED_WITHIN))
    }

    pub(super) fn term(&self) -> Term {
        Term { now: self.lease_clock(), millis: self.lease_millis() }
    }
}

impl Alike for Intents {
    const IS_ONE_STATEMENT: bool = true;
    const SHARES_ON_POSTGRES: bool = true;
    const IS_TRIED_ALONE: bool = false;

    fn write<'c>(conn: &'c mut Conn, all: &'c [Self]) -> BoxFuture<'c, Result<Option<Vec<bool>>, LedgerError>> {
        Box::pin(async move {
            intend_many(conn, all.iter().flat_map(|some| &some.0)).await.map(|()| Some(vec![true; all.len()]))
        })
    }
}

/// Records many intents. Each is one for itself, whatever becomes of the others.
async fn intend_many(conn: &mut Conn, intents: impl Iterator<Item = &Intent>) -> Result<(), LedgerError> {
    let text = "INSERT INTO objects_underway (object_key, upload_id, begun_at) \
                SELECT r.object_key, r.upload_id, r.begun_at \
                FROM {rows 1 object_key:text upload_id:uuid begun_at:bigint} \
                WHERE TRUE ORDER BY r.object_key ON CONFLICT DO NOTHING";
    let row = |intent: &Intent| {
        let id = intent.id.0.simple().to_string();
        json!({"object_key": intent.key.as_str(), "upload_id": id, "begun_at": intent.at.millis()})
    };
    conn.rows_of(text, intents.map(row)).await.map(drop)
}

/// Claims the key that the application chose for an upload. Of several that
/// want it at once, one gets past the first statement, and holds the others
/// until its transaction ends: so it is a transaction's first lock.
///
/// `replaced` is an open upload that this transaction gives up.
pub(super) async fn claim(
    conn: &mut Conn,
    new: &NewUpload,
    replaced: Option<UploadId>,
    term: Term,
) -> Result<Claim, LedgerError> {
    let text = "INSERT INTO objects_underway (object_key, upload_id, owner, file_id, begun_at, lease_until) \
                VALUES ($1, $2, $3, $4, $5, $6 + {lease_clock}) ON CONFLICT DO NOTHING";
    let insert = sql(text).bind(new.key.as_str()).bind(new.id.0).bind(new.owner.as_str()).bind(new.file_id.as_str());
    let is_fresh = conn.swapped(insert.bind(new.at.millis()).bind(term.until())).await?;
    if !is_fresh && !take_over(conn, new, term).await? {
        return being_put(conn, new).await;
    }
    let inherited = inherit(conn, new, replaced).await?;
    let has_remains = !is_fresh || inherited.unwrap_or(false);
    if let Some(holder) = holder(conn, new).await? {
        return Ok(Claim::Taken(holder));
    }
    // What lies there is ours only where something of ours may lie there.
    Ok(if new.is_occupied() && !has_remains { Claim::Taken(KeyHolder::Stranger) } else { Claim::Made { has_remains } })
}

/// Takes the place of an earlier try to put the same file, which is over.
async fn take_over(conn: &mut Conn, new: &NewUpload, term: Term) -> Result<bool, LedgerError> {
    let text = "UPDATE objects_underway SET upload_id = $2, begun_at = $5, lease_until = $6 + {lease_clock} \
                WHERE object_key = $1 AND owner = $3 AND file_id = $4 AND form IS NULL AND NOT condemned \
                AND lease_until <= $7 + {lease_clock}";
    let swap = sql(text).bind(new.key.as_str()).bind(new.id.0).bind(new.owner.as_str()).bind(new.file_id.as_str());
    conn.swapped(swap.bind(new.at.millis()).bind(term.until()).bind(term.now)).await
}

/// Who is at a key that could not be claimed.
async fn being_put(conn: &mut Conn, new: &NewUpload) -> Result<Claim, LedgerError> {
    let text = "SELECT object_key, owner, file_id, condemned FROM objects_underway WHERE object_key = $1";
    let Some(row) = conn.row(sql(text).bind(new.key.as_str())).await? else { return Ok(Claim::BeingPut) };
    let read = Reader::new(&row, "objects_underway", &["object_key"]);
    let is = |column, own: &str| Ok::<_, LedgerError>(read.get::<Option<String>>(column)?.as_deref() == Some(own));
    Ok(if read.get("condemned")? {
        Claim::Taken(KeyHolder::Remains)
    } else if is("owner", new.owner.as_str())? && is("file_id", new.file_id.as_str())? {
        Claim::BeingPut
    } else {
        Claim::Taken(KeyHolder::Upload)
    })
}

/// Lets the key go over from an upload of the same fileId by which nobody acts
/// in the store, or will: its parts go by its multipart upload's own name. Says
/// whether something else of it may be there; none when nothing went over.
async fn inherit(conn: &mut Conn, new: &NewUpload, replaced: Option<UploadId>) -> Result<Option<bool>, LedgerError> {
    let text = concat!(
        "UPDATE uploads SET holds_key = FALSE WHERE object_key = $1 AND holds_key AND owner = $2 AND file_id = $3 \
         AND ((id = $4 AND state = 'uploading' AND lease_holder IS NULL) \
         OR (state IN ('failed', 'aborted', 'expired') AND NOT ",
        leaves_something!(),
        ")) RETURNING id, ",
        leaves_something!(),
        " AS leaves_something"
    );
    let swap = sql(text).bind(new.key.as_str()).bind(new.owner.as_str()).bind(new.file_id.as_str());
    let rows = conn.rows(swap.bind(replaced.map_or(Uuid::nil(), |id| id.0))).await?;
    rows.first().map(|row| Reader::new(row, "uploads", &["id"]).get("leaves_something")).transpose()
}

async fn holder(conn: &mut Conn, new: &NewUpload) -> Result<Option<KeyHolder>, LedgerError> {
    let text = "SELECT id, state FROM uploads WHERE object_key = $1 AND holds_key LIMIT 1";
    let row = conn.row(sql(text).bind(new.key.as_str())).await?;
    let of = |row: Row| {
        let status = rows::status(&Reader::new(&row, "uploads", &["id"]))?;
        Ok(if status.is_over() { KeyHolder::Remains } else { KeyHolder::Upload })
    };
    row.map(of).transpose()
}

/// From here on the upload's row says whose the key is. False when it is not
/// this upload's any more.
pub(super) async fn release(conn: &mut Conn, new: &NewUpload) -> Result<bool, LedgerError> {
    let text = "DELETE FROM objects_underway WHERE object_key = $1 AND upload_id = $2 AND NOT condemned";
    conn.swapped(sql(text).bind(new.key.as_str()).bind(new.id.0)).await
}

/// Locks the claim before the rows that go with it, in the order in which all
/// lock them. False when it was lost.
pub(super) async fn hold(conn: &mut Conn, new: &NewUpload) -> Result<bool, LedgerError> {
    let text = "UPDATE objects_underway SET begun_at = begun_at \
                WHERE object_key = $1 AND upload_id = $2 AND NOT condemned";
    conn.swapped(sql(text).bind(new.key.as_str()).bind(new.id.0)).await
}

impl Term {
    const fn until(self) -> i64 {
        self.now.saturating_add(self.millis)
    }
}

fn orphans(rows: &[Row]) -> Result<Vec<Orphan>, LedgerError> {
    rows.iter()
        .map(|row| {
            let read = Reader::new(row, "objects_underway", &["object_key"]);
            let key = read.parse::<String, _>("object_key", |text| ObjectKey::parse(&text))?;
            Ok(Orphan { id: UploadId(read.get("upload_id")?), key })
        })
        .collect()
}
