//! The gateway's own disk: full, failing, slow, damaged.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::stand::{Database, RawPut, Stand, has_received, is_retryable, is_whole};
use crate::bad_config::Start;
use crate::forms;
use crate::harness::{Answer, Gateway, KIB, MIB, On, content};
use crate::machine::{Failing, SmallDisk, threads_named};
use crate::oss_proxy::Operation;

/// A refusal that only space can mend.
fn is_full(answer: &Answer) {
    answer.is_refused(507, "storage_full");
    assert_eq!(answer.headers["retry-after"], "30");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_34_the_disk_of_the_database_is_full() {
    const CHUNK: usize = KIB;
    const CHUNKS: usize = 3000;
    let disk = SmallDisk::mount(6 * MIB);
    let url = format!("sqlite://{}", disk.path().join("a.db").display());
    let mut gateway = Gateway::start_with(On::FileAndSqlite, &[("DATABASE__URL", &url)]).await;
    let bytes = content(CHUNKS * CHUNK, 34);
    gateway.create("a", bytes.len(), CHUNK).await;
    let piece = |index: usize| &bytes[index * CHUNK..(index + 1) * CHUNK];
    assert_eq!(gateway.put("a", 0, piece(0)).await.status, 200);
    disk.fill();
    let mut acknowledged = vec![0];
    let refused = loop {
        let index = acknowledged.len();
        let answer = gateway.put("a", index, piece(index)).await;
        if answer.status != 200 {
            break answer;
        }
        acknowledged.push(index);
    };
    is_full(&refused);
    // What was acknowledged is read as ever, and refused is refused.
    let next = acknowledged.len();
    has_received(&gateway, "a", &acknowledged, &[[next, CHUNKS - 1]]).await;
    let another = gateway.post("/uploads", json!({"fileName": "b", "fileSize": 10 * MIB})).await;
    is_full(&another);
    assert_eq!(gateway.put("a", 0, piece(0)).await.status, 200, "a repeat needs no space");
    is_full(&gateway.put("a", next, piece(next)).await);
    // With space, also after a crash, it goes on.
    disk.empty();
    assert_eq!(gateway.put("a", next, piece(next)).await.status, 200);
    acknowledged.push(next);
    gateway.crash_and_restart().await;
    has_received(&gateway, "a", &acknowledged, &[[next + 1, CHUNKS - 1]]).await;
    let small = content(3 * MIB, 341);
    gateway.create("c", small.len(), MIB).await;
    gateway.put_all("c", &small, MIB).await;
    is_whole(&gateway, "c", &small).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_34_the_disk_of_the_file_store_is_full() {
    for database in Database::BOTH {
        let disk = SmallDisk::mount(12 * MIB);
        let folder = disk.path().display().to_string();
        let mut settings = vec![("STORE__FILE__DIR", folder.as_str())];
        let url = match database {
            Database::Sqlite => String::new(),
            Database::Postgres => crate::postgres::new_database().await,
        };
        if database == Database::Postgres {
            settings.push(("DATABASE__URL", &url));
        }
        let gateway = Gateway::start_with(On::FileAndSqlite, &settings).await;
        let bytes = content(2 * MIB, 342);
        gateway.create("promised", bytes.len(), MIB).await;
        assert_eq!(gateway.put("promised", 0, &bytes[..MIB]).await.status, 200);
        // Larger than what is left: refused with its first chunk, and leaves nothing behind.
        let large = content(16 * MIB, 343);
        gateway.create("large", large.len(), MIB).await;
        is_full(&gateway.put("large", 0, &large[..MIB]).await);
        has_received(&gateway, "large", &[], &[[0, 15]]).await;
        // A plan that is learnt has no space promised to it: chunks are refused one by one.
        let form = async |index: &'static str| {
            forms::post(&gateway, &forms::fields("learnt", index, "3"), &bytes[..MIB], usize::MAX).await
        };
        assert_eq!(form("0").await.status, 200);
        disk.fill();
        is_full(&form("1").await);
        has_received(&gateway, "learnt", &[0], &[[1, 2]]).await;
        // What was promised its space has it.
        assert_eq!(gateway.put("promised", 1, &bytes[MIB..]).await.status, 200);
        gateway.until("promised", "completed").await;
        disk.empty();
        is_whole(&gateway, "promised", &bytes).await;
        assert_eq!(form("1").await.status, 200);
        // Its parts are there, and there is no space to join them: that waits for space, too.
        disk.fill_but(MIB + 256 * KIB);
        let last = form("2").await;
        assert_eq!((last.status.as_u16(), &last.json["complete"]), (200, &json!(false)), "{last:?}");
        has_received(&gateway, "learnt", &[0, 1, 2], &[]).await;
        disk.empty();
        is_whole(&gateway, "learnt", &[&bytes[..MIB], &bytes[..MIB], &bytes[..MIB]].concat()).await;
        gateway.delete("/uploads/large").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_35_the_database_cannot_sync() {
    let mut stand = Stand::start(Database::Sqlite).await;
    let bytes = content(3 * MIB, 35);
    stand.gateway.create("a", bytes.len(), MIB).await;
    assert_eq!(stand.gateway.put("a", 0, &bytes[..MIB]).await.status, 200);
    let log = stand.gateway.folder.path().join("data/chunkgate.db-wal");
    let failing = Failing::calls(stand.gateway.pid(), "fdatasync,fsync", "EIO", Some(&log));
    let refused = stand.gateway.put("a", 1, &bytes[MIB..2 * MIB]).await;
    refused.is_refused(503, "database_unavailable");
    assert!(refused.headers.contains_key("retry-after"));
    assert!(!failing.struck().is_empty(), "a sync failed");
    // The kernel may call the next sync good although the bytes are gone: none is tried.
    drop(failing);
    let calls = stand.proxy.calls(Operation::UploadPart);
    for _ in 0..3 {
        stand.gateway.put("a", 2, &bytes[2 * MIB..]).await.is_refused(503, "database_unavailable");
        let created = stand.gateway.post("/uploads", json!({"fileName": "b", "fileSize": 7})).await;
        created.is_refused(503, "database_unavailable");
    }
    let sent = stand.proxy.calls(Operation::UploadPart) - calls;
    assert_eq!(sent, 3, "the store has what the ledger lacks; it is written over later");
    assert_eq!(stand.gateway.get("/livez").await.status, 200);
    assert_eq!(stand.gateway.get("/readyz").await.status, 503);
    assert_eq!(stand.gateway.received("a").await, [0], "what was acknowledged is read");
    stand.gateway.crash_and_restart().await;
    assert_eq!(stand.gateway.get("/readyz").await.status, 200);
    let received: BTreeSet<usize> = stand.gateway.received("a").await.into_iter().collect();
    assert!(received.contains(&0) && !received.contains(&2), "{received:?}");
    stand.gateway.put_all("a", &bytes, MIB).await;
    is_whole(&stand.gateway, "a", &bytes).await;
}

/// Files of this name below a folder.
fn find(folder: &Path, name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .flat_map(|path| match path.file_name().is_some_and(|own| own == name) {
            true => vec![path],
            false if path.is_dir() => find(&path, name),
            false => Vec::new(),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_35_the_file_store_cannot_sync() {
    for database in Database::BOTH {
        let url = crate::postgres::new_database().await;
        let settings = [("DATABASE__URL", url.as_str())];
        let settings = if database == Database::Postgres { &settings[..] } else { &[] };
        let gateway = Gateway::start_with(On::FileAndSqlite, settings).await;
        let bytes = content(4 * MIB, 36);
        gateway.create("a", bytes.len(), MIB).await;
        assert_eq!(gateway.put("a", 0, &bytes[..MIB]).await.status, 200);
        // Two chunks in one file, both written and neither synced.
        let mut puts = Vec::new();
        for index in [1, 2] {
            let mut put = RawPut::begin(gateway.address, "a", index, MIB).await;
            put.send(&bytes[index * MIB..][..MIB - 1]).await;
            puts.push((index, put));
        }
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let data = find(&gateway.folder.path().join("data/objects"), "data");
        assert_eq!(data.len(), 1, "{data:?}");
        let failing = Failing::calls(gateway.pid(), "fdatasync,fsync", "EIO", Some(&data[0]));
        for (index, put) in &mut puts {
            put.send(&bytes[*index * MIB..][MIB - 1..MIB]).await;
        }
        for (_, put) in puts {
            let answer = put.answer().await.to_ascii_lowercase();
            assert!(answer.starts_with("http/1.1 503") && answer.contains("store_unavailable"), "{answer}");
            assert!(answer.contains("retry-after: "), "{answer}");
        }
        // Each asked by a descriptor of its own, so the kernel has told each.
        let calls = failing.struck();
        let descriptor = |call: &String| call.split(['(', '<']).nth(1).map(ToOwned::to_owned);
        let descriptors: BTreeSet<_> = calls.iter().filter_map(descriptor).collect();
        assert!(descriptors.len() >= 2, "{calls:?}");
        has_received(&gateway, "a", &[0], &[[1, 3]]).await;
        is_retryable(&gateway.put("a", 3, &bytes[3 * MIB..]).await);
        drop(failing);
        // The disk is well again: nothing of the store has to be started anew.
        for index in 1..4 {
            assert_eq!(gateway.put("a", index, &bytes[index * MIB..][..MIB]).await.status, 200);
        }
        is_whole(&gateway, "a", &bytes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_begins_while_a_chunk_is_still_coming_if_it_takes_hints() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let bytes = content(16 * MIB, 37);
    gateway.create("a", bytes.len(), 8 * MIB).await;
    assert_eq!(gateway.put("a", 0, &bytes[..8 * MIB]).await.status, 200);
    let failing = Failing::calls(gateway.pid(), "fadvise64", "EIO", None);
    assert_eq!(gateway.put("a", 1, &bytes[8 * MIB..]).await.status, 200);
    let hints = failing.struck();
    assert!((4..=8).contains(&hints.len()), "one for each MiB, or a little more: {hints:?}");
    drop(failing);
    is_whole(&gateway, "a", &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_36_a_damaged_database_is_not_opened() {
    let mut gateway = Gateway::start(On::FileAndSqlite).await;
    let bytes = content(300 * KIB, 361);
    gateway.create("a", bytes.len(), KIB).await;
    for index in 0..200 {
        gateway.put("a", index, &bytes[index * KIB..][..KIB]).await;
    }
    assert!(gateway.stop().await.success());
    let file = gateway.folder.path().join("data/chunkgate.db");
    let whole = std::fs::read(&file).expect("a database");
    let half = whole.len() / 2 / 4096 * 4096;
    // Its head; a page in its middle; its second half.
    for (from, to) in [(0, 100), (half, half + 4096), (half, whole.len())] {
        let mut damaged = whole.clone();
        if to == whole.len() {
            damaged.truncate(from);
        } else {
            damaged[from..to].fill(0xA5);
        }
        std::fs::write(&file, damaged).expect("written");
        Start::new(gateway.folder.path(), &["serve"]).fails(1, &["data/chunkgate.db", "damaged", "backup"]);
    }
    std::fs::write(&file, whole).expect("written");
    gateway.boot().await;
    has_received(&gateway, "a", &(0..200).collect::<Vec<_>>(), &[[200, 299]]).await;
}

/// More chunks than there are threads for the disk, and a disk that takes its
/// time: they wait for one another, and each is there in the end.
#[tokio::test(flavor = "multi_thread")]
async fn many_chunks_on_a_slow_disk_share_few_threads() {
    const CHUNKS: usize = 200;
    let gateway = Arc::new(Gateway::start(On::FileAndSqlite).await);
    let bytes = content(256 * KIB, 38);
    for n in 0..CHUNKS {
        gateway.create(&format!("s{n}"), bytes.len(), bytes.len()).await;
    }
    let slow = Failing::inject(gateway.pid(), "fdatasync", "delay_exit=500ms", None);
    let puts = (0..CHUNKS).map(|n| {
        let (gateway, bytes) = (gateway.clone(), bytes.clone());
        async move { gateway.put(&format!("s{n}"), 0, &bytes).await }
    });
    for answer in puts.collect::<tokio::task::JoinSet<_>>().join_all().await {
        assert_eq!((answer.status.as_u16(), &answer.json["complete"]), (200, &true.into()), "{answer:?}");
    }
    let waited = slow.struck().len();
    assert!(waited >= CHUNKS, "each waits for its own sync: {waited}");
    // Idle ones stay for ten seconds.
    let threads = threads_named("tokio-rt-worker", gateway.pid());
    let workers = std::thread::available_parallelism().expect("a number").get();
    assert!((32..=64 + workers).contains(&threads), "{threads}");
    drop(slow);
    is_whole(&gateway, "s0", &bytes).await;
}
