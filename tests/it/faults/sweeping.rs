//! The sweeper: beside chunks and merges, and behind aborts and beginnings
//! whose answers were lost.

use std::path::Path;
use std::time::Duration;

use chunkgate::clock::{Clock as _, SystemClock};
use reqwest::Method;

use super::stand::{Database, Stand, announced, eventually, is_whole};
use crate::harness::{Answer, Gateway, KIB, On, content, sha256};
use crate::machine::{Failing, WallClock};
use crate::oss_proxy::{Fault, Gate, Operation};

const CHUNK: usize = 100 * KIB;

/// What became of an upload whose last chunk came around the time when it
/// expired: one or the other, and not both.
async fn ends_one_way(gateway: &Gateway, file_id: &str, answer: &Answer, bytes: &[u8]) -> bool {
    if answer.status == 200 {
        is_whole(gateway, file_id, bytes).await;
        return true;
    }
    answer.is_refused(410, "upload_expired");
    gateway.until(file_id, "expired").await;
    announced(gateway, file_id, "upload.expired").await;
    let download = gateway.get(&format!("/files/{file_id}/content")).await;
    assert_eq!(download.status, 404);
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_43_the_sweeper_races_chunks_and_merges() {
    const UPLOADS: i64 = 60;
    for on in On::BOTH {
        let settings = [("UPLOAD__EXPIRES_AFTER", "2s"), ("SWEEP__INTERVAL", "20ms")];
        let gateway = Gateway::start_with(on, &settings).await;
        let bytes = content(2 * CHUNK, 43);
        let races = (0..UPLOADS).map(|n| {
            let (gateway, bytes) = (&gateway, &bytes);
            async move {
                let file_id = format!("race-{n}");
                gateway.create(&file_id, bytes.len(), CHUNK).await;
                let first = gateway.put(&file_id, 0, &bytes[..CHUNK]).await;
                assert_eq!(first.status, 200, "{first:?}");
                let upload = gateway.get(&format!("/uploads/{file_id}")).await.json;
                let expires: jiff::Timestamp = upload["expiresAt"].as_str().expect("a time").parse().expect("a time");
                // Up to three quarters of a second before it, or after it.
                let left = expires.as_millisecond() - SystemClock::new().now().millis() - 750 + 25 * n;
                let left = u64::try_from(left).unwrap_or(0);
                tokio::time::sleep(Duration::from_millis(left)).await;
                let last = gateway.put(&file_id, 1, &bytes[CHUNK..]).await;
                ends_one_way(gateway, &file_id, &last, bytes).await
            }
        });
        let ended = futures_util::future::join_all(races).await;
        let completed = ended.iter().filter(|&&completed| completed).count();
        println!("{on:?}: {completed} of {UPLOADS} completed, the others expired");
        assert!(completed > 0 && completed < UPLOADS as usize, "it was a race: {completed}");
        let hooks = gateway.hooks.all();
        for n in 0..UPLOADS {
            let about = hooks.iter().filter(|hook| hook.json["data"]["fileId"] == format!("race-{n}"));
            let kinds: std::collections::BTreeSet<_> = about.map(|hook| hook.json["type"].to_string()).collect();
            assert_eq!(kinds.len(), 1, "race-{n}: {kinds:?}");
        }
        match &gateway.emulator {
            Some(emulator) => {
                eventually("no parts are left", async || emulator.calls("openParts").await == 0).await;
                assert_eq!(emulator.calls("objects").await, completed as u64);
            }
            None => eventually("no parts are left", async || sessions(&gateway) == 0).await,
        }
    }
}

/// Multipart uploads in the local folder.
fn sessions(gateway: &Gateway) -> usize {
    let folder = gateway.folder.path().join("data/objects/.chunkgate/uploads");
    std::fs::read_dir(&folder as &Path).expect("a folder").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_43_a_merge_outlives_its_upload_s_time() {
    for database in Database::BOTH {
        let settings = [("UPLOAD__EXPIRES_AFTER", "2s"), ("SWEEP__INTERVAL", "20ms")];
        let stand = Stand::start_with(database, &settings).await;
        let bytes = content(CHUNK, 431);
        let gate = Gate::new();
        stand.proxy.next(Operation::Complete, Fault::HeldBefore(gate.clone()));
        stand.gateway.create("a", bytes.len(), CHUNK).await;
        let put = tokio::spawn(stand.gateway.request(Method::PUT, "/chunks/a/0").body(bytes.clone()).send());
        gate.reached().await;
        // Past its time, and past its lease if that were not renewed.
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(stand.gateway.get("/uploads/a").await.json["status"], "completing");
        stand.gateway.delete("/uploads/a").await.is_refused(409, "upload_completing");
        assert_eq!(stand.proxy.calls(Operation::Abort), 0);
        gate.open();
        let answer = Answer::of(put.await.expect("a task")).await;
        assert_eq!((answer.status.as_u16(), &answer.json["complete"]), (200, &true.into()), "{answer:?}");
        is_whole(&stand.gateway, "a", &bytes).await;
        assert_eq!(stand.proxy.calls(Operation::Complete), 1);
    }
}

fn with(clock: &[(String, String)]) -> Vec<(&str, &str)> {
    clock.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_44_an_abort_fails() {
    for database in Database::BOTH {
        let clock = WallClock::new();
        let settings = clock.settings();
        let mut stand = Stand::start_with(database, &with(&settings)).await;
        let bytes = content(2 * CHUNK, 44);
        stand.gateway.create("a", bytes.len(), CHUNK).await;
        stand.gateway.put("a", 0, &bytes[..CHUNK]).await;
        for _ in 0..100 {
            stand.proxy.next(Operation::Abort, Fault::Refused(503, "ServiceUnavailable"));
        }
        assert_eq!(stand.gateway.delete("/uploads/a").await.status, 204);
        eventually("it is tried", async || stand.proxy.calls(Operation::Abort) >= 4).await;
        announced(&stand.gateway, "a", "upload.aborted").await;
        assert_eq!(stand.bucket.sessions().await, 1, "its part is still there");
        // It is not forgotten, whatever dies; and is tried every minute.
        stand.gateway.crash_and_restart().await;
        for minute in 1.. {
            assert!(minute < 60, "{}", stand.gateway.log());
            clock.set(minute * 61);
            tokio::time::sleep(Duration::from_millis(500)).await;
            if stand.bucket.sessions().await == 0 {
                break;
            }
            // The store is well again after a few of them.
            if minute == 3 {
                stand.proxy.forget(Operation::Abort);
            }
        }
        assert_eq!(stand.gateway.get("/uploads/a").await.json["status"], "aborted");
        announced(&stand.gateway, "a", "upload.aborted").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_44_an_abort_fails_in_the_local_folder() {
    let clock = WallClock::new();
    let settings = clock.settings();
    let gateway = Gateway::start_with(On::FileAndSqlite, &with(&settings)).await;
    let bytes = content(2 * CHUNK, 441);
    gateway.create("a", bytes.len(), CHUNK).await;
    gateway.put("a", 0, &bytes[..CHUNK]).await;
    let failing = Failing::calls(gateway.pid(), "unlinkat,renameat,renameat2", "EIO", None);
    assert_eq!(gateway.delete("/uploads/a").await.status, 204);
    eventually("it is tried", async || !failing.struck().is_empty()).await;
    assert_eq!(sessions(&gateway), 1);
    drop(failing);
    clock.set(61);
    eventually("it is tried again", async || sessions(&gateway) == 0).await;
    announced(&gateway, "a", "upload.aborted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_44_the_answer_to_initiate_is_lost() {
    for database in Database::BOTH {
        let mut stand = Stand::start(database).await;
        let bytes = content(2 * CHUNK, 442);
        // Somebody else's, in the same bucket under the same prefix, is nobody's orphan.
        stand.bucket.begin("uploads/local/20200101/theirs.bin").await;
        // Completed in the end.
        stand.gateway.create("a", bytes.len(), CHUNK).await;
        stand.proxy.next(Operation::Initiate, Fault::AnswerLost);
        stand.gateway.put("a", 0, &bytes[..CHUNK]).await.is_refused(503, "store_unavailable");
        assert_eq!(stand.gateway.put("a", 0, &bytes[..CHUNK]).await.status, 200);
        assert_eq!(stand.bucket.sessions().await, 3, "one is an orphan");
        assert_eq!(stand.gateway.put("a", 1, &bytes[CHUNK..]).await.json["complete"], true);
        eventually("the orphan is found", async || stand.bucket.sessions().await == 1).await;
        assert_eq!(sha256(&stand.gateway.download("a").await), sha256(&bytes));
        // Given up in the end, and nothing but the lost one was begun.
        stand.gateway.create("b", bytes.len(), CHUNK).await;
        stand.proxy.next(Operation::Initiate, Fault::AnswerLost);
        stand.gateway.put("b", 0, &bytes[..CHUNK]).await.is_refused(503, "store_unavailable");
        assert_eq!(stand.bucket.sessions().await, 2);
        assert_eq!(stand.gateway.delete("/uploads/b").await.status, 204);
        eventually("the orphan is found", async || stand.bucket.sessions().await == 1).await;
        // The gateway died before it could write down what was begun.
        stand.gateway.create("c", bytes.len(), CHUNK).await;
        let gate = Gate::new();
        stand.proxy.next(Operation::Initiate, Fault::HeldAfter(gate.clone()));
        let put = tokio::spawn(stand.gateway.request(Method::PUT, "/chunks/c/0").body(bytes[..CHUNK].to_vec()).send());
        gate.reached().await;
        stand.gateway.crash_and_restart().await;
        assert!(put.await.expect("a task").is_err());
        stand.gateway.put_all("c", &bytes, CHUNK).await;
        is_whole(&stand.gateway, "c", &bytes).await;
        eventually("the orphan is found", async || stand.bucket.sessions().await == 1).await;
        assert_eq!(stand.emulator.calls("openParts").await, 0);
        is_whole(&stand.gateway, "a", &bytes).await;
    }
}
