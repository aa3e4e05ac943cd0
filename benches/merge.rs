//! How long a merge takes the gateway itself: of as many parts as there can
//! be, before a store in memory; and into a folder, by the file's size, in as
//! many parts whatever the size and in parts of one size.
//!
//! ```text
//! cargo bench --bench merge
//! cargo bench --bench merge -- --postgres URL --folder DIR --sizes 10MB,10GB
//! ```

mod ground;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chunkgate::clock::{Clock, SystemClock};
use chunkgate::domain::{FileId, Grant, Owner};
use chunkgate::engine::create::{CreateUpload, Cut};
use chunkgate::engine::finish::Finished;
use chunkgate::engine::hooks::Requester;
use chunkgate::engine::put_chunk::PutChunk;
use chunkgate::engine::{Engine, Settings, SweepConfig, UploadConfig};
use chunkgate::ledger::{Allowance, DatabaseConfig, Ledger};
use chunkgate::notify::Hooks;
use chunkgate::store::Store;
use chunkgate::store::file::FileStore;
use chunkgate::store::memory::MemoryStore;
use chunkgate::units::parse_bytes;
use clap::Parser;
use futures_util::StreamExt as _;
use ground::{Failure, Ground, Place};

/// The most parts that one upload can have.
const PARTS: u64 = 10_000;
/// Chunks at once while the file is made.
const AT_ONCE: usize = 8;
/// Of each kind; the middle one is shown.
const RUNS: u32 = 5;

#[derive(Parser)]
struct Arguments {
    /// Sizes of the files in the folder
    #[arg(long, value_delimiter = ',', default_value = "10MB,100MB,1GB,10GB", value_parser = parse_bytes)]
    sizes: Vec<u64>,
    /// Each of them in so many chunks
    #[arg(long, default_value_t = 20)]
    parts: u64,
    /// And in chunks of this size
    #[arg(long, default_value = "8MiB", value_parser = parse_bytes)]
    chunk_size: u64,
    #[command(flatten)]
    place: Place,
}

#[tokio::main]
async fn main() -> ExitCode {
    ground::exit(measure(&Arguments::parse()).await)
}

async fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let Ground { folder, url } = arguments.place.prepare()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    Ledger::migrate_only(&DatabaseConfig::default(), &url).await?;
    let lease = UploadConfig::default().lease;
    let ledger = Ledger::open(&DatabaseConfig::default(), &url, clock.clone(), lease).await?;
    println!("| merge, rows in {} | parts | ms, the median of {RUNS} |\n|---|---|---|", arguments.place.database());
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let memory = engine(&ledger, store.clone(), &clock);
    let took = merge(&memory, &*store, &*clock, PARTS, 1).await?;
    println!("| {PARTS} bytes, before a store in memory | {PARTS} | {} |", millis(took));
    let store: Arc<dyn Store> = Arc::new(FileStore::open(&folder.path().join("data"), clock.clone())?);
    let files = engine(&ledger, store.clone(), &clock);
    let by_count = arguments.sizes.iter().map(|&bytes| (bytes, bytes.div_ceil(arguments.parts.max(1))));
    let by_size = arguments.sizes.iter().map(|&bytes| (bytes, arguments.chunk_size));
    for (bytes, chunk_bytes) in by_count.chain(by_size) {
        let took = merge(&files, &*store, &*clock, bytes, chunk_bytes).await?;
        println!("| {bytes} bytes, into a folder | {} | {} |", bytes.div_ceil(chunk_bytes), millis(took));
    }
    memory.drain().await;
    files.drain().await;
    ledger.close().await;
    Ok(())
}

fn millis(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

fn engine(ledger: &Ledger, store: Arc<dyn Store>, clock: &Arc<dyn Clock>) -> Engine {
    let settings = Settings {
        upload: UploadConfig { auto_complete: false, ..UploadConfig::default() },
        sweep: SweepConfig::default(),
        file_bytes_max: 1 << 40,
        kinds: None,
        allowance: Allowance::of_uploads(100),
        chunks_in_flight_max: 64,
        owners_share: false,
        queue_wait: Duration::from_secs(30),
        subscriptions: Vec::new(),
        hooks: Hooks::default(),
    };
    Engine::new(ledger.clone(), store, clock.clone(), settings)
}

/// Uploads files of declared size and says how long their merge took.
async fn merge(
    engine: &Engine,
    store: &dyn Store,
    clock: &dyn Clock,
    bytes: u64,
    chunk_bytes: u64,
) -> Result<Duration, Failure> {
    let content = Bytes::from(vec![b'a'; usize::try_from(chunk_bytes)?]);
    let mut times = Vec::new();
    for nth in 0..RUNS {
        let file_id = FileId::parse(&format!("{bytes}-{chunk_bytes}-{nth}"))?;
        let wanted = CreateUpload {
            file_id: Some(file_id.clone()),
            file_name: "a".to_owned(),
            content_type: None,
            metadata: std::collections::BTreeMap::new(),
            checksum: None,
            auto_complete: None,
            restart: false,
            cut: Cut::Declared { total_bytes: bytes, chunk_bytes: Some(chunk_bytes), count: None },
            from: Requester::default(),
        };
        let created = engine.create(&Grant::all(Owner::local()), wanted).await.map_err(|error| format!("{error:?}"))?;
        let puts = futures_util::stream::iter(0..bytes.div_ceil(chunk_bytes)).map(|index| {
            let length = chunk_bytes.min(bytes - index * chunk_bytes);
            #[expect(clippy::cast_possible_truncation, reason = "no longer than its content")]
            let body = content.slice(..length as usize);
            engine.put_chunk(PutChunk {
                owner: Owner::local(),
                terms: Arc::default(),
                file_id: file_id.clone(),
                index: i128::from(index),
                bytes: Some(length),
                checksums: Vec::new(),
                body: Box::pin(futures_util::stream::iter([Ok(body)])),
            })
        });
        let mut puts = puts.buffer_unordered(AT_ONCE);
        while let Some(put) = puts.next().await {
            put.map_err(|error| format!("{error:?}"))?;
        }
        let began = clock.monotonic();
        match engine.finish(created.upload.id).await {
            Finished::Completed(completed) => {
                times.push(clock.monotonic() - began);
                // Space for the next.
                store.delete(&completed.file.key).await?;
            }
            other @ (Finished::Missing(_) | Finished::Failed(_) | Finished::Later) => {
                return Err(format!("{other:?}").into());
            }
        }
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}
