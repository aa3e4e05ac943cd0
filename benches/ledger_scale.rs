//! The ledger with millions of chunk rows: how long its questions take, and
//! how that grows.
//!
//! ```text
//! cargo bench --bench ledger_scale                                on SQLite
//! cargo bench --bench ledger_scale -- --postgres URL              on an empty Postgres database
//! cargo bench --bench ledger_scale -- --rows 1000000,10000000
//! ```

mod ground;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use chunkgate::clock::{Clock, SystemClock};
use chunkgate::domain::{Chunk, Crc64, FileId, Owner, Timestamp, UploadId};
use chunkgate::ledger::{DatabaseConfig, Ledger, RecordChunk};
use clap::Parser;
use ground::{Failure, Ground, Place};
use sqlx::{AssertSqlSafe, Connection as _};

/// Chunks of one upload.
const CHUNKS: u64 = 1000;
/// How often each question is asked, and how often the sweeper comes by.
const ASKED: u32 = 2000;
const SWEPT: u32 = 100;

#[derive(Parser)]
struct Arguments {
    /// Chunk rows, ascending
    #[arg(long, value_delimiter = ',', default_value = "1000000,10000000")]
    rows: Vec<u64>,
    #[command(flatten)]
    place: Place,
}

#[tokio::main]
async fn main() -> ExitCode {
    ground::exit(measure(&Arguments::parse()).await)
}

async fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let Ground { folder, url } = arguments.place.prepare()?;
    let mut columns = Vec::new();
    let mut uploads = 0;
    for &rows in &arguments.rows {
        fill(&url, folder.path(), uploads, rows / CHUNKS).await?;
        uploads = rows / CHUNKS;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let ledger = Ledger::open(&DatabaseConfig::default(), &url, clock.clone(), Duration::from_secs(30)).await?;
        eprintln!("{rows} rows: asking");
        columns.push(questions(&ledger, &*clock, uploads).await?);
        ledger.close().await;
    }
    print!("| {}, ms p50 · p99 |", arguments.place.database());
    arguments.rows.iter().for_each(|rows| print!(" {rows} rows |"));
    println!(" p50, last/first |\n|---|{}---|", "---|".repeat(arguments.rows.len()));
    let names: Vec<&str> = columns.first().into_iter().flatten().map(|(name, _)| *name).collect();
    for (at, name) in names.into_iter().enumerate() {
        let times: Vec<Times> = columns.iter().filter_map(|column| column.get(at).map(|(_, times)| *times)).collect();
        print!("| {name} |");
        times.iter().for_each(|times| print!(" {:.2} · {:.2} |", times.p50, times.p99));
        let growth = times.last().zip(times.first()).map_or(f64::NAN, |(last, first)| last.p50 / first.p50);
        println!(" {growth:.2} |");
    }
    Ok(())
}

/// Makes uploads `from..to` with all but their last chunk, in bulk.
async fn fill(url: &str, folder: &Path, from: u64, to: u64) -> Result<(), Failure> {
    eprintln!("making uploads {from} to {to}, {CHUNKS} chunks each");
    Ledger::migrate_only(&DatabaseConfig::default(), url).await?;
    let columns = "id, owner, file_id, is_current, file_name, metadata, total_chunks, chunk_bytes, last_bytes, \
                   file_bytes, auto_complete, object_key, state, session, begins, created_at, updated_at, expires_at";
    // Open, ten of each owner, begun one millisecond after the other.
    let values = |id: &str, text: fn(&str) -> String| {
        format!(
            "{id}, {}, {}, TRUE, 'a.bin', '{{}}', {CHUNKS} + 1, 8, 8, 8 * ({CHUNKS} + 1), TRUE, {}, 'uploading', 's', 1, \
             1700000000000 + n, 1700000000000 + n, 4000000000000 + n",
            text("'owner' || (n / 10)"),
            text("'f' || n"),
            text("'uploads/' || n"),
        )
    };
    let chunk = "8, (n * 1000 + i) * 7919, '7b2a4c6e8f0a1b2c3d4e5f6071829304', 1700000000000 + n";
    if url.starts_with("sqlite:") {
        let id = "unhex(printf('%016x', n) || '8000000000000000')";
        let mut connection = sqlx::SqliteConnection::connect(url).await?;
        let numbers =
            format!("WITH RECURSIVE ns(n) AS (SELECT {from} UNION ALL SELECT n + 1 FROM ns WHERE n + 1 < {to})");
        let values = values(id, str::to_owned);
        let text = format!("{numbers} INSERT INTO uploads ({columns}) SELECT {values} FROM ns");
        sqlx::query(AssertSqlSafe(text)).execute(&mut connection).await?;
        let text = format!(
            "{numbers}, ixs(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM ixs WHERE i + 1 < {CHUNKS}) \
             INSERT INTO chunks (upload_id, chunk_index, bytes, crc64, etag, recorded_at) \
             SELECT {id}, i, {chunk} FROM ns CROSS JOIN ixs"
        );
        sqlx::query(AssertSqlSafe(text)).execute(&mut connection).await?;
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await?;
        connection.close().await?;
        let bytes = std::fs::metadata(folder.join("ledger.db"))?.len();
        eprintln!("the file has {} MiB", bytes >> 20);
    } else {
        let id = "CAST(lpad(to_hex(n), 16, '0') || '8000000000000000' AS UUID)";
        let mut connection = sqlx::PgConnection::connect(url).await?;
        let values = values(id, |text| format!("CAST({text} AS TEXT)"));
        let text =
            format!("INSERT INTO uploads ({columns}) SELECT {values} FROM generate_series({from}, {to} - 1) AS n");
        sqlx::query(AssertSqlSafe(text)).execute(&mut connection).await?;
        let text = format!(
            "INSERT INTO chunks (upload_id, chunk_index, bytes, crc64, etag, recorded_at) SELECT {id}, i, {chunk} \
             FROM generate_series({from}::BIGINT, {to} - 1) AS n CROSS JOIN generate_series(0, {CHUNKS} - 1) AS i"
        );
        sqlx::query(AssertSqlSafe(text)).execute(&mut connection).await?;
        // As its own housekeeping would, some time later.
        sqlx::query("VACUUM (ANALYZE)").execute(&mut connection).await?;
        connection.close().await?;
    }
    Ok(())
}

/// In milliseconds.
#[derive(Clone, Copy, Debug)]
struct Times {
    p50: f64,
    p99: f64,
}

impl Times {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let at = |share: usize| all.get(all.len() * share / 100).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
        Self { p50: at(50), p99: at(99) }
    }
}

/// Asks one question about many uploads, one after the other.
async fn asked<A: Future<Output = Result<(), Failure>>>(
    clock: &dyn Clock,
    uploads: u64,
    times: u32,
    question: impl Fn(u64, u32) -> A,
) -> Result<Times, Failure> {
    let mut took = Vec::new();
    for nth in 0..times {
        #[expect(clippy::cast_possible_truncation, reason = "64 random bits")]
        let upload = clock.random() as u64 % uploads;
        let began = clock.monotonic();
        question(upload, nth).await?;
        took.push(clock.monotonic() - began);
    }
    Ok(Times::of(took))
}

async fn questions(ledger: &Ledger, clock: &dyn Clock, uploads: u64) -> Result<Vec<(&'static str, Times)>, Failure> {
    let owner = |n: u64| Owner::parse(&format!("owner{}", n / 10));
    let file_id = |n: u64| FileId::parse(&format!("f{n}"));
    let id = |n: u64| UploadId(uuid::Uuid::from_u64_pair(n, 0x8000_0000_0000_0000));
    let mut answers = Vec::new();
    let resume = asked(clock, uploads, ASKED, async |n, _| {
        let upload = ledger.find_upload(&owner(n)?, &file_id(n)?).await?.ok_or("no such upload")?;
        let received = ledger.received(upload.id).await?;
        if received.len() as u64 >= CHUNKS { Ok(()) } else { Err("chunks are missing".into()) }
    });
    answers.push(("resume: an upload and its 1 000 chunks", resume.await?));
    let look = asked(clock, uploads, ASKED, async |n, nth| {
        ledger.find_for_chunk(&owner(n)?, &file_id(n)?, nth % 1000).await?.ok_or("no such upload")?;
        Ok(())
    });
    answers.push(("a chunk's upload, and whether it is there", look.await?));
    let record = asked(clock, uploads, ASKED, async |n, nth| {
        let chunk = Chunk { index: 1001 + nth, bytes: 8, crc64: Some(Crc64(1)), etag: "e".to_owned() };
        let record = RecordChunk { upload: id(n), chunk, lesson: None, expires_at: None, at: clock.now() };
        ledger.record_chunk(record).await?;
        Ok(())
    });
    answers.push(("a chunk recorded, synced and counted", record.await?));
    let list = asked(clock, uploads, ASKED, async |n, _| {
        let after = (Timestamp::from_millis(1_700_000_000_000 + i64::try_from(n)?), id(n));
        ledger.list_uploads(None, None, Some(after), 20).await?;
        Ok(())
    });
    answers.push(("a page of 20 uploads, anywhere", list.await?));
    let of_owner = asked(clock, uploads, ASKED, async |n, _| {
        ledger.list_uploads(Some(&owner(n)?), None, None, 20).await?;
        Ok(())
    });
    answers.push(("an owner's 10 uploads", of_owner.await?));
    let sweep = asked(clock, uploads, SWEPT, async |n, _| {
        ledger.stale_completing(200).await?;
        ledger.ready_to_merge(Some(id(n)), 200).await?;
        ledger.due_expired(clock.now(), 200).await?;
        ledger.remains(clock.now(), 200).await?;
        ledger.prune_chunks(clock.now(), 10_000).await?;
        Ok(())
    });
    answers.push(("a sweep, from anywhere", sweep.await?));
    Ok(answers)
}
