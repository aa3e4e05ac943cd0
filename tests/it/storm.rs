//! A store that limits its requests: what gets through, and what is repeated.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use futures_util::future::join_all;

use crate::faults::stand::{Database, Stand};
use crate::harness::{KIB, content};

const CLIENTS: usize = 64;
const CHUNK: usize = 100 * KIB;
const CHUNKS: usize = 4;

/// What clients saw.
#[derive(Default)]
struct Seen {
    acknowledged: AtomicU64,
    told_to_come_again: AtomicU64,
}

/// Uploads one file as a good client does: what is a 503 is sent again a little later.
async fn upload(stand: &Stand, seen: &Seen, client: usize, file: usize) {
    let (file_id, bytes) = (format!("f-{client}-{file}"), content(CHUNK * CHUNKS, (client * 100 + file) as u64));
    stand.gateway.create(&file_id, bytes.len(), CHUNK).await;
    for (n, chunk) in bytes.chunks(CHUNK).enumerate() {
        let mut pause = Duration::from_millis(100 + (client as u64 * 7) % 50);
        loop {
            let answer = stand.gateway.put(&file_id, n, chunk).await;
            if answer.status == 200 {
                break;
            }
            answer.is_refused(503, "store_unavailable");
            seen.told_to_come_again.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        seen.acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    stand.gateway.until(&file_id, "completed").await;
}

async fn all(stand: &Stand, seen: &Seen, files: std::ops::Range<usize>) -> Duration {
    let began = Instant::now();
    let each = (0..CLIENTS).map(|client| {
        let files = files.clone();
        async move {
            for file in files {
                upload(stand, seen, client, file).await;
            }
        }
    });
    join_all(each).await;
    began.elapsed()
}

/// 64 clients, and every fifth request is refused: work goes on, and the store is
/// asked little more often than it has to be.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_limits_requests_gets_no_storm() {
    const FILES: usize = 4;
    let settings = [("LIMITS__MAX_CONCURRENT_CHUNKS", "64"), ("STORE__BREAKER__OPEN_FOR", "1s")];
    let stand = Stand::start_with(Database::Sqlite, &settings).await;
    let mut rates = Vec::new();
    for (round, percent) in [0, 20].into_iter().enumerate() {
        stand.proxy.be_busy(percent);
        let (seen, before) = (Seen::default(), stand.proxy.load());
        let retries_before = stand.gateway.metric("chunkgate_store_retries_total").await;
        let took = all(&stand, &seen, round * FILES..(round + 1) * FILES).await;
        stand.proxy.be_busy(0);
        let (requests, busy) = (stand.proxy.load().0 - before.0, stand.proxy.load().1 - before.1);
        let retries = stand.gateway.metric("chunkgate_store_retries_total").await - retries_before;
        let (chunks, told) = (seen.acknowledged.into_inner(), seen.told_to_come_again.into_inner());
        let rate = chunks as f64 / took.as_secs_f64();
        println!(
            "{percent} % refused: {chunks} chunks, {rate:.0} a second; the store was asked {requests} times, {busy} in \
             vain, {retries} of them repeated by the gateway; clients came again {told} times"
        );
        assert_eq!(chunks, (CLIENTS * CHUNKS * FILES) as u64);
        // Every refusal is followed by one request more, the gateway's or the client's, and by no other.
        let needed = requests - busy;
        assert!(requests as f64 <= 1.45 * needed as f64, "{requests} requests for {needed}");
        assert!(retries <= 100.0 + requests as f64 / 10.0, "{retries} repetitions are more than the budget has");
        rates.push(rate);
    }
    // Clients wait before they come again, for as long as all of it takes on a fast machine.
    assert!(rates[1] > rates[0].min(200.0) / 4.0, "{rates:?} chunks a second");
}

/// It refuses everything for a while: it is left alone, tried one call at a time,
/// and used again as soon as it answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_everything_is_left_alone() {
    let settings = [("LIMITS__MAX_CONCURRENT_CHUNKS", "64"), ("STORE__BREAKER__OPEN_FOR", "1s")];
    let stand = Stand::start_with(Database::Sqlite, &settings).await;
    let seen = Seen::default();
    all(&stand, &seen, 0..1).await;
    stand.proxy.be_busy(100);
    let before = stand.proxy.load().0;
    let outage = async {
        tokio::time::sleep(Duration::from_secs(6)).await;
        let asked = stand.proxy.load().0 - before;
        let told = seen.told_to_come_again.load(Ordering::Relaxed);
        println!("six seconds of refusals: clients came {told} times, the store was asked {asked} times");
        // 20 failures and what was under way with them, the budget's reserve, then one probe and its
        // repetitions a second.
        assert!(asked <= 64 + 100 + 64 + 6 * 4, "the store was asked {asked} times");
        stand.proxy.be_busy(0);
        Instant::now()
    };
    let (_, back) = tokio::join!(all(&stand, &seen, 1..2), outage);
    let took = back.elapsed();
    println!("all was uploaded {took:.1?} after the store was back");
    assert!(took < Duration::from_secs(30));
    assert_eq!(stand.gateway.metric("chunkgate_store_breaker_open").await, 0.0);
}
