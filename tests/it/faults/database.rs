//! The database: busy, restarted, replaced, and silent about what it did.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

use super::pg_cable::{COMMITTED, Cable, INSERTED};
use super::stand::{RawPut, announced, has_received, is_whole};
use crate::harness::{Answer, Gateway, KIB, MIB, On, content};
use crate::postgres::{Cluster, Stop, new_database};

/// The database is away for a moment.
fn is_away(answer: &Answer) {
    answer.is_refused(503, "database_unavailable");
    assert_eq!(answer.headers["retry-after"], "2");
}

async fn execute(sql: &mut PgConnection, statements: &'static str) {
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(sql).await.expect("done");
}

/// Chunks whose bodies are half sent, as many as these.
async fn half_sent(gateway: &Gateway, bytes: &[u8], chunks: usize) -> Vec<RawPut> {
    let mut puts = Vec::new();
    for index in 0..chunks {
        let mut put = RawPut::begin(gateway.address, "slow", index, MIB).await;
        put.send(&bytes[index * MIB..][..MIB / 2]).await;
        puts.push(put);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    puts
}

/// Eight requests at once that the pool of two cannot serve: those that get no
/// connection are told so in time.
async fn eight_at_once(gateway: &Gateway) -> Vec<Answer> {
    let get = || gateway.request(Method::GET, "/uploads/slow").timeout(Duration::from_secs(8)).send();
    let all = futures_util::future::join_all((0..8).map(|_| get())).await;
    let mut answers = Vec::new();
    for answer in all.into_iter().flatten() {
        answers.extend(Answer::read(answer).await);
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_31_the_pool_of_postgres_is_exhausted() {
    const CHUNKS: usize = 16;
    let url = new_database().await;
    let settings = [
        ("DATABASE__URL", url.as_str()),
        ("DATABASE__MAX_CONNECTIONS", "2"),
        ("DATABASE__MIN_CONNECTIONS", "2"),
        ("DATABASE__ACQUIRE_TIMEOUT", "1s"),
        ("SWEEP__INTERVAL", "1h"),
    ];
    let gateway = Gateway::start_with(On::OssAndPostgres, &settings).await;
    let bytes = content(CHUNKS * MIB, 31);
    gateway.create("slow", bytes.len(), MIB).await;
    // Sixteen bodies on their way hold none of the two connections.
    let mut puts = half_sent(&gateway, &bytes, CHUNKS).await;
    assert!(eight_at_once(&gateway).await.iter().all(|answer| answer.status == 200));
    // Now nobody gets an answer from the database.
    let mut sql = PgConnection::connect(&url).await.expect("the test server answers");
    execute(&mut sql, "BEGIN; LOCK TABLE uploads, chunks, deliveries IN ACCESS EXCLUSIVE MODE").await;
    let first = eight_at_once(&gateway);
    let unlock = async {
        // Longer than the pool is waited for, shorter than the clients wait.
        tokio::time::sleep(Duration::from_secs(4)).await;
        execute(&mut sql, "ROLLBACK").await;
    };
    let (answers, ()) = tokio::join!(first, unlock);
    let (away, well): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 503);
    assert!(away.len() >= 6 && away.len() + well.len() == 8, "{away:?} {well:?}");
    away.iter().for_each(is_away);
    assert!(well.iter().all(|answer| answer.status == 200), "who had a connection was served in the end: {well:?}");
    // Bodies that came in the middle of it are recorded as ever.
    for (index, put) in puts.iter_mut().enumerate() {
        put.send(&bytes[index * MIB + MIB / 2..][..MIB / 2]).await;
    }
    for put in puts {
        let answer = put.answer().await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}\n{}", gateway.log());
    }
    is_whole(&gateway, "slow", &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_31_somebody_else_writes_to_the_sqlite_file() {
    let settings =
        [("DATABASE__MAX_CONNECTIONS", "2"), ("DATABASE__MIN_CONNECTIONS", "1"), ("DATABASE__ACQUIRE_TIMEOUT", "1s")];
    let gateway = Gateway::start_with(On::FileAndSqlite, &settings).await;
    let bytes = content(2 * MIB, 311);
    gateway.create("slow", bytes.len(), MIB).await;
    let mut puts = half_sent(&gateway, &bytes, 1).await;
    assert!(eight_at_once(&gateway).await.iter().all(|answer| answer.status == 200), "of one reader");
    let file = format!("sqlite://{}", gateway.folder.path().join("data/chunkgate.db").display());
    let mut sql = SqliteConnection::connect(&file).await.expect("the file opens");
    sqlx::query("BEGIN IMMEDIATE").execute(&mut sql).await.expect("locked");
    is_away(&gateway.put("slow", 1, &bytes[MIB..]).await);
    is_away(&gateway.post("/uploads", json!({"fileName": "b", "fileSize": 7})).await);
    has_received(&gateway, "slow", &[], &[[0, 1]]).await;
    sqlx::query("ROLLBACK").execute(&mut sql).await.expect("unlocked");
    puts[0].send(&bytes[MIB / 2..MIB]).await;
    let answer = puts.remove(0).answer().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(gateway.put("slow", 1, &bytes[MIB..]).await.json["complete"], true);
    is_whole(&gateway, "slow", &bytes).await;
}

const CHUNK: usize = 100 * KIB;

/// Four senders that try again until all of this upload is acknowledged. What
/// they were refused with in between, and how often.
async fn persevere(gateway: &Gateway, file_id: &str, bytes: &[u8], acknowledged: &AtomicU64) -> BTreeSet<String> {
    use futures_util::StreamExt as _;
    let puts = bytes.chunks(CHUNK).enumerate().map(|(index, piece)| async move {
        let mut refusals = BTreeSet::new();
        for _ in 0..600 {
            match gateway.try_put(file_id, index, piece.to_vec()).await {
                Some(answer) if answer.status == 200 => {
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                    return refusals;
                }
                Some(answer) => refusals.insert(format!("{} {}", answer.status.as_u16(), answer.code())),
                None => refusals.insert("none".to_owned()),
            };
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("chunk {index} is never taken: {refusals:?}\n{}", gateway.log());
    });
    let all: Vec<_> = futures_util::stream::iter(puts).buffer_unordered(4).collect().await;
    all.into_iter().flatten().collect()
}

/// Waits until so many chunks are acknowledged.
async fn until(acknowledged: &AtomicU64, count: u64) {
    while acknowledged.load(Ordering::SeqCst) < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Only what a client may try again came of it.
fn are_retryable(refusals: &BTreeSet<String>) {
    let known = ["503 database_unavailable"];
    assert!(refusals.iter().all(|refusal| known.contains(&refusal.as_str())), "{refusals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_32_postgres_restarts() {
    const CHUNKS: usize = 300;
    let mut cluster = Cluster::start();
    let url = cluster.url();
    let settings = [("DATABASE__URL", url.as_str()), ("DATABASE__ACQUIRE_TIMEOUT", "1s")];
    let gateway = Gateway::start_with(On::OssAndPostgres, &settings).await;
    let bytes = content(CHUNKS * CHUNK - 7, 32);
    gateway.create("a", bytes.len(), CHUNK).await;
    let acknowledged = AtomicU64::new(0);
    let sending = persevere(&gateway, "a", &bytes, &acknowledged);
    let restarting = async {
        for (after, how) in [(40, Stop::Fast), (120, Stop::Immediate), (200, Stop::Immediate)] {
            until(&acknowledged, after).await;
            cluster.stop(how);
            is_away(&gateway.get("/uploads/a").await);
            is_away(&gateway.post("/uploads", json!({"fileName": "b", "fileSize": 7})).await);
            assert_eq!(gateway.get("/readyz").await.status, 200, "no replica leaves for it");
            cluster.start_again();
        }
    };
    let (refusals, ()) = tokio::join!(sending, restarting);
    are_retryable(&refusals);
    assert!(!refusals.is_empty());
    is_whole(&gateway, "a", &bytes).await;
    let emulator = gateway.emulator.as_ref().expect("an emulator");
    assert_eq!((emulator.calls("objects").await, emulator.calls("openParts").await), (1, 0));
    drop(gateway);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_32_postgres_fails_over() {
    const CHUNKS: usize = 200;
    let mut primary = Cluster::start();
    let url = primary.url();
    let settings = [("DATABASE__URL", url.as_str()), ("DATABASE__ACQUIRE_TIMEOUT", "1s")];
    let gateway = Gateway::start_with(On::FileAndSqlite, &settings).await;
    let mut standby = primary.standby().await;
    let bytes = content(CHUNKS * CHUNK - 7, 321);
    gateway.create("a", bytes.len(), CHUNK).await;
    let acknowledged = AtomicU64::new(0);
    let sending = persevere(&gateway, "a", &bytes, &acknowledged);
    let failing_over = async {
        until(&acknowledged, 80).await;
        primary.stop(Stop::Immediate);
        let before = acknowledged.load(Ordering::SeqCst);
        standby.take_the_place_of(&primary);
        before
    };
    let (refusals, before) = tokio::join!(sending, failing_over);
    are_retryable(&refusals);
    assert!(before >= 80);
    is_whole(&gateway, "a", &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_33_the_answer_to_a_commit_is_lost() {
    let database = new_database().await;
    let cable = Cable::before(&database).await;
    let url = cable.url(&database);
    let settings = [("DATABASE__URL", url.as_str()), ("SWEEP__INTERVAL", "1h")];
    let gateway = Gateway::start_with(On::OssAndPostgres, &settings).await;
    let bytes = content(3 * CHUNK, 33);
    gateway.create("a", bytes.len(), CHUNK).await;
    // The row is there, and the gateway does not know: it asks again and finds it.
    cable.lose_next(INSERTED);
    let answer = gateway.put("a", 0, &bytes[..CHUNK]).await;
    assert_eq!((answer.status.as_u16(), &answer.json["uploadedChunks"]), (200, &json!(1)), "{answer:?}");
    assert_eq!(cable.lost(), 1, "an answer was lost");
    has_received(&gateway, "a", &[0], &[[1, 2]]).await;
    // The same of a creation: whoever asks again finds what was made.
    let mut lost = None;
    for n in 0..10 {
        let wanted = json!({"fileId": format!("b{n}"), "fileName": "b", "fileSize": 2 * CHUNK, "chunkSize": CHUNK});
        cable.lose_next(COMMITTED);
        let answer = gateway.post("/uploads", wanted.clone()).await;
        // The sweeper's first turn may have committed something at this moment.
        if answer.status != 201 {
            lost = Some((answer, wanted));
            break;
        }
    }
    let (answer, wanted) = lost.expect("an answer is lost to whoever creates");
    is_away(&answer);
    assert_eq!(gateway.post("/uploads", wanted).await.status, 200, "it was made");
    let emulator = gateway.emulator.as_ref().expect("an emulator");
    gateway.put_all("a", &bytes, CHUNK).await;
    is_whole(&gateway, "a", &bytes).await;
    assert_eq!(emulator.calls("partsStored").await, 3, "nothing was forwarded twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_33_many_answers_to_commits_are_lost() {
    const CHUNKS: usize = 30;
    let database = new_database().await;
    let cable = Cable::before(&database).await;
    let url = cable.url(&database);
    let gateway = Gateway::start_with(On::OssAndPostgres, &[("DATABASE__URL", url.as_str())]).await;
    let mut sql = PgConnection::connect(&database).await.expect("the test server answers");
    for one_in in [2, 3, 5, 7] {
        let file_id = format!("one-in-{one_in}");
        let bytes = content(CHUNKS * CHUNK - 7, 330 + one_in);
        gateway.create(&file_id, bytes.len(), CHUNK).await;
        let before = gateway.emulator.as_ref().expect("an emulator").calls("partsStored").await;
        cable.lose_one_in(one_in);
        let refusals = persevere(&gateway, &file_id, &bytes, &AtomicU64::new(0)).await;
        gateway.until(&file_id, "completed").await;
        cable.lose_one_in(0);
        are_retryable(&refusals);
        // A claim on the event whose answer was lost keeps it for a minute: nobody waits for that here.
        execute(&mut sql, "UPDATE deliveries SET lease_until = 0 WHERE state = 'pending'").await;
        is_whole(&gateway, &file_id, &bytes).await;
        announced(&gateway, &file_id, "upload.completed").await;
        let emulator = gateway.emulator.as_ref().expect("an emulator");
        assert_eq!(emulator.calls("partsStored").await - before, CHUNKS as u64, "nothing was forwarded twice");
    }
    assert!(cable.lost() > 20, "{} answers were lost", cable.lost());
}

/// Whoever is refused for a moment comes back, as clients do.
async fn in_the_end(what: &str, mut attempt: impl AsyncFnMut() -> Answer) -> Answer {
    let attempts = async {
        loop {
            let answer = attempt().await;
            if answer.status.is_success() {
                return answer;
            }
            is_away(&answer);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(120), attempts).await;
    ended.unwrap_or_else(|_| panic!("{what} never succeeds"))
}

/// A gateway stands still in the middle of a transaction: its locks are its
/// owner's row, which every creation and every end of an upload needs.
#[tokio::test(flavor = "multi_thread")]
async fn fault_38_a_gateway_that_stands_still_in_a_transaction_keeps_no_locks() {
    let database = new_database().await;
    let cable = Cable::before(&database).await;
    let url = cable.url(&database);
    let settings = [("DATABASE__URL", url.as_str()), ("SWEEP__INTERVAL", "1h")];
    let still = Gateway::start_with(On::OssAndPostgres, &settings).await;
    let other = still.neighbour_with(&[("DATABASE__URL", database.as_str())]).await;
    let wanted = |id: &str| json!({"fileId": id, "fileName": "a", "fileSize": 2 * CHUNK, "chunkSize": CHUNK});
    // The upload's row is inserted, and then its owner's is counted up.
    cable.freeze_in_transaction(2);
    let stuck = tokio::spawn(still.request(Method::POST, "/uploads").json(&wanted("stuck")).send());
    super::stand::eventually("it stands still", async || cable.frozen() == 1).await;
    let created = in_the_end("a creation", async || other.post("/uploads", wanted("b")).await).await;
    assert_eq!(created.status, 201);
    let bytes = content(2 * CHUNK, 38);
    other.put_all("b", &bytes, CHUNK).await;
    is_whole(&other, "b", &bytes).await;
    // Who stood still is told that it has no answer, and goes on over other connections.
    is_away(&Answer::of(stuck.await.expect("a task")).await);
    assert_eq!(in_the_end("the stuck one", async || still.post("/uploads", wanted("stuck")).await).await.status, 201);
}

/// The server is gone without a word, in the middle of everything: a machine
/// that lost its power sends no reset.
#[tokio::test(flavor = "multi_thread")]
async fn fault_32_postgres_falls_silent() {
    let database = new_database().await;
    let cable = Cable::before(&database).await;
    let url = cable.url(&database);
    let gateway = Gateway::start_with(On::OssAndPostgres, &[("DATABASE__URL", url.as_str())]).await;
    let bytes = content(6 * CHUNK, 32);
    gateway.create("a", bytes.len(), CHUNK).await;
    assert_eq!(gateway.put("a", 0, &bytes[..CHUNK]).await.status, 200);
    cable.freeze_all();
    for index in 1..6 {
        in_the_end("a chunk", async || gateway.put("a", index, &bytes[index * CHUNK..][..CHUNK]).await).await;
    }
    gateway.until("a", "completed").await;
    is_whole(&gateway, "a", &bytes).await;
    announced(&gateway, "a", "upload.completed").await;
}
