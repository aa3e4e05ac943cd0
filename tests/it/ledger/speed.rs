//! How fast: printed, and asserted only where it is the design that makes it so.

use std::io::Write as _;
use std::time::{Duration, Instant};

use super::{Gate, on_both, plan, take_lease};

on_both!(many_at_once_share_a_commit, completing_ten_thousand_parts);

/// Run with `--nocapture` to see the rates.
async fn many_at_once_share_a_commit(gate: Gate) {
    let upload = gate.upload("a", 10_000).await;
    let began = now();
    for index in 0..200 {
        gate.record(&upload, index).await;
    }
    let alone = rate(200, began);
    let other = gate.upload("b", 10_000).await;
    let began = now();
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..64u32 {
        let (ledger, record) = (gate.ledger.clone(), gate.chunk_of(&other, 0));
        tasks.spawn(async move {
            for n in 0..100 {
                let mut record = record.clone();
                record.chunk.index = client * 100 + n;
                ledger.record_chunk(record).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let together = rate(6400, began);
    let (backend, fsync) = (gate.ledger.backend(), fsync_time());
    println!(
        "{backend}: {alone:.0} rows/s one by one, {together:.0} rows/s with 64 at once; one fsync takes {fsync:?} here"
    );
    assert!(together > alone, "batches are worth it");
}

/// performance.md: 50 ms of our own for 10 000 parts, in a release build.
async fn completing_ten_thousand_parts(gate: Gate) {
    let upload = gate.upload("a", 10_000).await;
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..10_000 {
        let (ledger, record) = (gate.ledger.clone(), gate.chunk_of(&upload, index));
        tasks.spawn(async move { ledger.record_chunk(record).await.unwrap() });
    }
    tasks.join_all().await;
    let began = now();
    let lease = take_lease(&gate.ledger, upload.id).await.unwrap();
    let leased = began.elapsed();
    let parts = gate.ledger.parts(upload.id).await.unwrap();
    let listed = began.elapsed();
    assert!(gate.ledger.complete(upload.id, lease, &gate.file(&upload), &[]).await.unwrap());
    assert_eq!((parts.len(), upload.geometry), (10_000, plan(10_000)));
    let name = gate.ledger.backend();
    println!("{name}: lease {leased:?}, parts {:?}, complete {:?}", listed - leased, began.elapsed() - listed);
    let began = now();
    assert_eq!(gate.ledger.chunk_indexes(upload.id).await.unwrap().len(), 10_000);
    println!("{name}: indexes {:?}", began.elapsed());
}

/// The median of fifty: what a commit costs on this disk at the least.
fn fsync_time() -> Duration {
    let mut file = tempfile::tempfile().unwrap();
    let mut times: Vec<Duration> = (0..50)
        .map(|_| {
            file.write_all(&[0; 4096]).unwrap();
            let began = now();
            file.sync_data().unwrap();
            began.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch is what a measurement is")]
fn now() -> Instant {
    Instant::now()
}

fn rate(rows: u32, began: Instant) -> f64 {
    f64::from(rows) / began.elapsed().max(Duration::from_micros(1)).as_secs_f64()
}
