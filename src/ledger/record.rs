//! Recording chunks, many at once: the chunk path's only write. One statement
//! inserts all chunks of a batch; what they teach about their plans and how
//! they move their uploads' expiry is written beside it, where there is any.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::json;
use uuid::Uuid;

use crate::domain::plan::Lesson;
use crate::domain::{Chunk, Learning, Progress, Status, Timestamp, UploadId};
use crate::ledger::db::{Conn, sql};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{self, Reader, chunk_columns};
use crate::ledger::{Ledger, size};

/// A chunk that the store has taken and that is to be recorded.
#[derive(Clone, Debug)]
pub struct RecordChunk {
    /// Of which upload.
    pub upload: UploadId,
    /// The chunk, with the proof of its part.
    pub chunk: Chunk,
    /// What it teaches about a plan that is still being learnt.
    pub lesson: Option<Lesson>,
    /// Moves the upload's expiry to here, if that is later.
    pub expires_at: Option<Timestamp>,
    /// Now.
    pub at: Timestamp,
}

/// What became of a chunk that was to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is recorded; so much is recorded of the upload by now.
    New(Progress),
    /// Its index was recorded before, perhaps with other bytes.
    Known(Chunk, Progress),
    /// The plan was learnt otherwise meanwhile: nothing is recorded.
    PlanDiffers,
    /// The upload takes no chunks any more, or is not known: nothing is recorded.
    NotOpen,
}

/// As `Recorded`, before the count, which needs a snapshot begun after the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    New,
    Known(Chunk),
    PlanDiffers,
    NotOpen,
}

impl Entry {
    pub(super) fn with(self, progress: Progress) -> Recorded {
        match self {
            Self::New => Recorded::New(progress),
            Self::Known(chunk) => Recorded::Known(chunk, progress),
            Self::PlanDiffers => Recorded::PlanDiffers,
            Self::NotOpen => Recorded::NotOpen,
        }
    }
}

impl Ledger {
    /// Records a chunk, durably, together with all that others ask for at the
    /// same time. Of the answers to several chunks of one upload, the one that
    /// was committed last counts all of them.
    pub async fn record_chunk(&self, record: RecordChunk) -> Result<Recorded, LedgerError> {
        self.writer()?.record(record).await
    }
}

/// Whether these need a transaction, or are done with their one statement.
pub(super) fn is_plain(records: &[RecordChunk]) -> bool {
    records.iter().all(|r| r.lesson.is_none() && r.expires_at.is_none())
}

/// Records these, in their order. `again` says that an attempt before this
/// one may have been committed without our knowing.
pub(super) async fn record(conn: &mut Conn, records: &[RecordChunk], again: bool) -> Result<Vec<Entry>, LedgerError> {
    let refused = learn(conn, records).await?;
    let inserted = insert(conn, records, &refused).await?;
    slide(conn, records, &inserted).await?;
    let mut entries = Vec::with_capacity(records.len());
    let mut seen = BTreeSet::new();
    for (position, record) in records.iter().enumerate() {
        let key = (record.upload.0, record.chunk.index);
        entries.push(if let Some(refusal) = refused.get(&position) {
            refusal.clone()
        } else if inserted.contains(&key) && seen.insert(key) {
            // Of two with one key in one batch the first was inserted.
            Entry::New
        } else {
            read_back(conn, record, again).await?
        });
    }
    Ok(entries)
}

/// The statement. Only uploads that are open get rows, and only rows that are
/// not there yet; returns the keys of those.
async fn insert(
    conn: &mut Conn,
    records: &[RecordChunk],
    refused: &HashMap<usize, Entry>,
) -> Result<BTreeSet<(Uuid, u32)>, LedgerError> {
    let mut by_key = BTreeMap::new();
    for (position, record) in records.iter().enumerate() {
        if !refused.contains_key(&position) {
            let first = by_key.entry((record.upload.0, record.chunk.index)).or_insert(record);
            // What passed a gateway is known better than what the store lists of it.
            if first.chunk.crc64.is_none() && record.chunk.crc64.is_some() {
                *first = record;
            }
        }
    }
    if by_key.is_empty() {
        return Ok(BTreeSet::new());
    }
    // In the order of the keys, so that two gateways cannot wait for each other in a circle. Not a
    // join: Postgres would read all open uploads for it.
    let text = "INSERT INTO chunks (upload_id, chunk_index, bytes, crc64, etag, recorded_at) \
                SELECT r.upload_id, r.chunk_index, r.bytes, r.crc64, r.etag, r.recorded_at \
                FROM {rows 1 upload_id:uuid chunk_index:bigint bytes:bigint crc64:bigint etag:text recorded_at:bigint} \
                WHERE (SELECT u.state FROM uploads u WHERE u.id = r.upload_id) = 'uploading' \
                ORDER BY r.upload_id, r.chunk_index \
                ON CONFLICT (upload_id, chunk_index) DO NOTHING RETURNING upload_id, chunk_index";
    let rows = by_key.values().map(|record| row(record));
    let mut inserted = BTreeSet::new();
    for row in conn.rows_of(text, rows).await? {
        let read = Reader::new(&row, "chunks", &["upload_id", "chunk_index"]);
        inserted.insert((read.get("upload_id")?, read.count("chunk_index")?));
    }
    Ok(inserted)
}

fn row(record: &RecordChunk) -> serde_json::Value {
    json!({
        "upload_id": record.upload.0.simple().to_string(),
        "chunk_index": record.chunk.index,
        "bytes": size(record.chunk.bytes),
        "crc64": record.chunk.crc64.map(|crc64| crc64.0.cast_signed()),
        "etag": record.chunk.etag,
        "recorded_at": record.at.millis(),
    })
}

/// What stands for a record that was not inserted.
async fn read_back(conn: &mut Conn, record: &RecordChunk, again: bool) -> Result<Entry, LedgerError> {
    let text = concat!(
        "SELECT u.id, u.state, ",
        chunk_columns!(),
        " FROM uploads u LEFT JOIN chunks c ON c.upload_id = u.id AND c.chunk_index = $2 WHERE u.id = $1"
    );
    let Some(row) = conn.row(sql(text).bind(record.upload.0).bind(record.chunk.index)).await? else {
        return Ok(Entry::NotOpen);
    };
    if let Some(chunk) = rows::chunk(&row)? {
        // The attempt before was committed after all: same bytes, same part.
        let is_ours = again && chunk == record.chunk;
        return Ok(if is_ours { Entry::New } else { Entry::Known(proven(conn, record, chunk).await?) });
    }
    match Reader::new(&row, "uploads", &["id"]).parse::<String, _>("state", |name| Status::parse(&name))? {
        // It was not open when the statement looked, or its row was there and was
        // forgotten since; the client sends the chunk once more.
        Status::Uploading => Err(LedgerError::Unavailable("the upload was reopened meanwhile".to_owned())),
        Status::Completing | Status::Completed | Status::Failed | Status::Aborted | Status::Expired => {
            Ok(Entry::NotOpen)
        }
    }
}

/// A chunk whose part was found in the store before its gateway came to record
/// it: from now on with its checksum.
async fn proven(conn: &mut Conn, record: &RecordChunk, known: Chunk) -> Result<Chunk, LedgerError> {
    let crc64 = record.chunk.crc64.filter(|_| known.crc64.is_none() && known.is_same(&record.chunk));
    let Some(crc64) = crc64 else { return Ok(known) };
    let text = "UPDATE chunks SET crc64 = $3 \
                WHERE upload_id = $1 AND chunk_index = $2 AND crc64 IS NULL AND etag = $4";
    let update = sql(text).bind(record.upload.0).bind(known.index).bind(crc64.0.cast_signed());
    conn.execute(update.bind(known.etag.as_str())).await?;
    Ok(Chunk { crc64: Some(crc64), ..known })
}

/// Moves the expiry of uploads that got a chunk.
async fn slide(conn: &mut Conn, records: &[RecordChunk], inserted: &BTreeSet<(Uuid, u32)>) -> Result<(), LedgerError> {
    let mut latest = BTreeMap::new();
    for record in records.iter().filter(|r| inserted.contains(&(r.upload.0, r.chunk.index))) {
        if let Some(at) = record.expires_at {
            let known = latest.entry(record.upload.0).or_insert(at);
            *known = at.max(*known);
        }
    }
    for (id, at) in latest {
        let text = "UPDATE uploads SET expires_at = $2 WHERE id = $1 AND state = 'uploading' AND expires_at < $2";
        conn.execute(sql(text).bind(id).bind(at.millis())).await?;
    }
    Ok(())
}

/// Applies what the records teach, each lesson once, and returns the records
/// (by position) that are refused for it.
async fn learn(conn: &mut Conn, records: &[RecordChunk]) -> Result<HashMap<usize, Entry>, LedgerError> {
    let mut lessons: BTreeMap<Uuid, Vec<(usize, Lesson)>> = BTreeMap::new();
    for (position, record) in records.iter().enumerate() {
        if let Some(lesson) = record.lesson {
            lessons.entry(record.upload.0).or_default().push((position, lesson));
        }
    }
    let mut refused = HashMap::new();
    // Uploads in the order of their ids, as everywhere where several are locked.
    for (id, lessons) in lessons {
        let mut taken = Vec::new();
        for (position, lesson) in lessons {
            if taken.contains(&lesson) {
                continue;
            }
            match teach(conn, id, lesson).await? {
                None => taken.push(lesson),
                Some(refusal) => {
                    refused.insert(position, refusal);
                }
            }
        }
    }
    Ok(refused)
}

/// None when the plan says what the lesson says, now or since before.
async fn teach(conn: &mut Conn, id: Uuid, lesson: Lesson) -> Result<Option<Entry>, LedgerError> {
    /// Each number is set once, so there is little to lose against.
    const ATTEMPTS: u32 = 4;
    for _ in 0..ATTEMPTS {
        let text = "SELECT id, state, total_chunks, chunk_bytes, last_bytes, file_bytes, reserved_bytes \
                    FROM uploads WHERE id = $1";
        let Some(row) = conn.row(sql(text).bind(id)).await? else { return Ok(Some(Entry::NotOpen)) };
        let read = Reader::new(&row, "uploads", &["id"]);
        let size_of = |column| read.get::<Option<i64>>(column).map(|v| v.map(i64::cast_unsigned));
        let known = Learning {
            count: read.count("total_chunks")?.max(1),
            chunk_bytes: size_of("chunk_bytes")?,
            last_bytes: size_of("last_bytes")?,
            total_bytes: size_of("file_bytes")?,
        };
        let taught = match known.with(lesson) {
            None => return Ok(Some(Entry::PlanDiffers)),
            Some(taught) if taught == known => return Ok(None),
            Some(taught) => taught,
        };
        // Of two lessons at once neither has reserved what both make together: the chunk comes again and does.
        let reserved = read.size("reserved_bytes")?;
        if reserved > 0 && taught.bytes_to_reserve() > reserved {
            return Err(LedgerError::Unavailable(
                "the upload's size was being learnt by two chunks at once".to_owned(),
            ));
        }
        // On what was judged, so that of two lessons that contradict each other one is refused.
        let text = "UPDATE uploads SET chunk_bytes = $2, last_bytes = $3 WHERE id = $1 AND state = 'uploading' \
                    AND chunk_bytes IS NOT DISTINCT FROM $4 AND last_bytes IS NOT DISTINCT FROM $5";
        let swap = sql(text).bind(id).bind(taught.chunk_bytes.map(size)).bind(taught.last_bytes.map(size));
        if conn.swapped(swap.bind(known.chunk_bytes.map(size)).bind(known.last_bytes.map(size))).await? {
            return Ok(None);
        }
        let state = read.parse::<String, _>("state", |name| Status::parse(&name))?;
        if state != Status::Uploading {
            // Nothing to learn any more; whether the chunk is known decides the insert.
            return Ok(None);
        }
    }
    Err(LedgerError::Unavailable("the upload's plan was changed by too many at once".to_owned()))
}

/// How much is recorded of each of these uploads, in a snapshot of its own.
pub(super) async fn tally(conn: &mut Conn, ids: BTreeSet<Uuid>) -> Result<HashMap<Uuid, Progress>, LedgerError> {
    let text = "SELECT upload_id, count(*) AS chunks, CAST(sum(bytes) AS BIGINT) AS bytes FROM chunks \
                WHERE upload_id {any_id 1} GROUP BY upload_id";
    let mut tallies = HashMap::new();
    for row in conn.rows(sql(text).bind(ids.into_iter().collect::<Vec<_>>())).await? {
        let read = Reader::new(&row, "chunks", &["upload_id"]);
        let progress = Progress { chunks: read.count("chunks")?, bytes: read.size("bytes")? };
        tallies.insert(read.get("upload_id")?, progress);
    }
    Ok(tallies)
}
