//! The merge: raced, repeated, orphaned, lied to.

use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::stand::{Database, Stand, announced, eventually, has_received, is_retryable, is_whole};
use crate::harness::{Answer, Gateway, KIB, MIB, On, content, sha256};
use crate::machine::Failing;
use crate::oss_proxy::{Fault, Gate, Operation};

async fn complete(gateway: &Gateway, file_id: &str) -> Answer {
    gateway.post("/chunks/complete", json!({"fileId": file_id})).await
}

/// An upload that is merged when it is asked for.
async fn create_by_hand(gateway: &Gateway, file_id: &str, bytes: usize, chunk: usize) {
    let wanted = json!({"fileId": file_id, "fileName": "a.bin", "fileSize": bytes, "chunkSize": chunk,
        "autoComplete": false});
    assert_eq!(gateway.post("/uploads", wanted).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_08_complete_races_the_last_chunk() {
    const CHUNK: usize = 100 * KIB;
    for on in On::BOTH {
        let gateway = Gateway::start(on).await;
        let (mut early, mut late) = (0, 0);
        for round in 0..40 {
            let (file_id, bytes) = (format!("a-{round}"), content(2 * CHUNK, round));
            create_by_hand(&gateway, &file_id, bytes.len(), CHUNK).await;
            gateway.put(&file_id, 0, &bytes[..CHUNK]).await;
            // Each round the one starts a little later than in the round before.
            let asking = async {
                tokio::time::sleep(Duration::from_micros(round * 250)).await;
                complete(&gateway, &file_id).await
            };
            let (put, asked) = tokio::join!(gateway.put(&file_id, 1, &bytes[CHUNK..]), asking);
            assert_eq!(put.status, 200, "{put:?}");
            if asked.status == 200 {
                late += 1;
            } else {
                early += 1;
                assert_eq!(asked.is_refused(409, "chunks_missing").json["missing"], json!([[1, 1]]));
                assert_eq!(complete(&gateway, &file_id).await.status, 200);
            }
            is_whole(&gateway, &file_id, &bytes).await;
        }
        println!("{on:?}: complete came before the last chunk {early} times, after it {late} times");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_09_two_gateways_complete() {
    let stand = Stand::start(Database::Postgres).await;
    let other = stand.gateway.neighbour().await;
    let bytes = content(2 * MIB, 1);
    create_by_hand(&stand.gateway, "a", bytes.len(), MIB).await;
    stand.gateway.put_all("a", &bytes, MIB).await;
    let gate = Gate::new();
    stand.proxy.next(Operation::Complete, Fault::HeldBefore(gate.clone()));
    let then = async {
        gate.reached().await;
        let loser = complete(&other, "a").await;
        assert_eq!((loser.status.as_u16(), &loser.json["status"]), (202, &json!("completing")), "{loser:?}");
        assert!(loser.headers.contains_key("retry-after"));
        gate.open();
    };
    let (winner, ()) = tokio::join!(complete(&stand.gateway, "a"), then);
    assert_eq!(winner.status, 200, "{winner:?}");
    let again = complete(&other, "a").await;
    assert_eq!((again.status.as_u16(), &again.json["file"]), (200, &winner.json["file"]));
    // At the same instant.
    create_by_hand(&stand.gateway, "b", bytes.len(), MIB).await;
    other.put_all("b", &bytes, MIB).await;
    let (one, two) = tokio::join!(complete(&stand.gateway, "b"), complete(&other, "b"));
    assert!([one.status.as_u16(), two.status.as_u16()].iter().all(|s| [200, 202].contains(s)), "{one:?} {two:?}");
    for file_id in ["a", "b"] {
        is_whole(&other, file_id, &bytes).await;
    }
    assert_eq!((stand.emulator.calls("complete").await, stand.emulator.calls("objects").await), (2, 2));
}

/// Two chunks, of which the last is not sent yet.
async fn all_but_the_last(stand: &Stand, file_id: &str) -> Vec<u8> {
    let bytes = content(2 * MIB, 2);
    stand.gateway.create(file_id, bytes.len(), MIB).await;
    assert_eq!(stand.gateway.put(file_id, 0, &bytes[..MIB]).await.status, 200);
    bytes
}

async fn last(stand: &Stand, file_id: &str, bytes: &[u8]) -> Answer {
    stand.gateway.put(file_id, 1, &bytes[MIB..]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_10_the_answer_to_complete_is_lost() {
    for database in Database::BOTH {
        let stand = Stand::start(database).await;
        let bytes = all_but_the_last(&stand, "a").await;
        stand.proxy.next(Operation::Complete, Fault::AnswerLost);
        let last = last(&stand, "a", &bytes).await;
        assert_eq!((last.status.as_u16(), &last.json["complete"]), (200, &json!(true)), "{last:?}");
        is_whole(&stand.gateway, "a", &bytes).await;
        // Asked again, the store knows of no multipart upload: the object itself is looked at.
        assert_eq!((stand.proxy.calls(Operation::Complete), stand.proxy.calls(Operation::Head)), (2, 1));
        assert_eq!(stand.emulator.calls("objects").await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_11_the_answer_to_complete_is_lost_and_there_is_no_object() {
    for database in Database::BOTH {
        let stand = Stand::start(database).await;
        // The store never heard of it: the parts are alive.
        let bytes = all_but_the_last(&stand, "alive").await;
        stand.proxy.next(Operation::Complete, Fault::RequestLost);
        assert_eq!(last(&stand, "alive", &bytes).await.json["complete"], true);
        is_whole(&stand.gateway, "alive", &bytes).await;
        assert_eq!((stand.proxy.calls(Operation::Complete), stand.emulator.calls("complete").await), (2, 1));

        // Somebody aborted it meanwhile, or deleted the object: gone is gone.
        for (file_id, first) in [("aborted", Fault::RequestLost), ("deleted", Fault::AnswerLost)] {
            let bytes = all_but_the_last(&stand, file_id).await;
            let (key, _) = stand.bucket.session().await;
            let gate = Gate::new();
            stand.proxy.next(Operation::Complete, first);
            stand.proxy.next(Operation::Complete, Fault::HeldBefore(gate.clone()));
            let meanwhile = async {
                gate.reached().await;
                if file_id == "aborted" {
                    stand.bucket.abort().await;
                } else {
                    assert!(stand.bucket.has(&key).await);
                    stand.bucket.delete(&key).await;
                }
                gate.open();
            };
            let (refused, ()) = tokio::join!(last(&stand, file_id, &bytes), meanwhile);
            refused.is_refused(410, "upload_lost");
            is_failed(&stand, file_id, "upload_lost").await;
            stand.gateway.get(&format!("/files/{file_id}")).await.is_refused(404, "file_not_found");
        }
    }
}

/// The upload has failed for this reason, was announced as that, and not as done.
async fn is_failed(stand: &Stand, file_id: &str, failure: &str) {
    let upload = stand.gateway.get(&format!("/uploads/{file_id}")).await.json;
    assert_eq!((&upload["status"], &upload["failure"]), (&json!("failed"), &json!(failure)));
    let asked = stand.gateway.get(&format!("/chunks?fileId={file_id}")).await;
    assert_eq!((asked.status.as_u16(), &asked.json["status"]), (200, &json!("failed")));
    announced(&stand.gateway, file_id, "upload.failed").await;
    assert!(stand.gateway.hooks.of(file_id).iter().all(|hook| hook.json["type"] != "upload.completed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_12_an_error_inside_a_200() {
    for database in Database::BOTH {
        let stand = Stand::start(database).await;
        let bytes = all_but_the_last(&stand, "a").await;
        // A streamed body cannot be sent again: the client does that.
        stand.proxy.next(Operation::UploadPart, Fault::ErrorInside("InternalError"));
        is_retryable(&last(&stand, "a", &bytes).await);
        has_received(&stand.gateway, "a", &[0], &[[1, 1]]).await;
        stand.proxy.next(Operation::Complete, Fault::ErrorInside("InternalError"));
        assert_eq!(last(&stand, "a", &bytes).await.json["complete"], true);
        assert_eq!((stand.proxy.calls(Operation::Complete), stand.emulator.calls("complete").await), (2, 1));
        is_whole(&stand.gateway, "a", &bytes).await;
    }
}

/// The gateway dies while the store is at it. Postgres: another gateway goes
/// on after the lease. SQLite: the next start does.
#[tokio::test(flavor = "multi_thread")]
async fn fault_13_a_crash_while_completing() {
    for database in Database::BOTH {
        let mut stand = Stand::start(database).await;
        let other = match database {
            Database::Postgres => Some(stand.gateway.neighbour().await),
            Database::Sqlite => None,
        };
        for (file_id, is_done) in [("before", false), ("after", true)] {
            let bytes = all_but_the_last(&stand, file_id).await;
            let gate = Gate::new();
            let held = if is_done { Fault::HeldAfter } else { Fault::HeldBefore };
            stand.proxy.next(Operation::Complete, held(gate.clone()));
            let path = format!("/chunks/{file_id}/1");
            let put = tokio::spawn(stand.gateway.request(Method::PUT, &path).body(bytes[MIB..].to_vec()).send());
            gate.reached().await;
            assert_eq!(stand.gateway.get(&format!("/uploads/{file_id}")).await.json["status"], "completing");
            stand.gateway.crash();
            assert!(put.await.expect("a task").is_err(), "not acknowledged");
            match &other {
                Some(other) => {
                    assert_eq!(complete(other, file_id).await.status, 202, "the lease is not over");
                    is_whole(other, file_id, &bytes).await;
                    stand.gateway.boot().await;
                }
                None => {
                    stand.gateway.boot().await;
                    is_whole(&stand.gateway, file_id, &bytes).await;
                }
            }
        }
        assert_eq!(stand.emulator.calls("objects").await, 2);
        assert_eq!(stand.emulator.calls("openParts").await, 0, "nothing is left");
    }
}

/// In the local folder the merge is a rename: the gateway dies in it, before
/// and after the kernel did it.
#[tokio::test(flavor = "multi_thread")]
async fn fault_13_a_crash_while_completing_in_the_local_folder() {
    for (when, is_done) in [("delay_enter", false), ("delay_exit", true)] {
        let mut gateway = Gateway::start(On::FileAndSqlite).await;
        let bytes = content(2 * MIB, 5);
        gateway.create("a", bytes.len(), MIB).await;
        gateway.put("a", 0, &bytes[..MIB]).await;
        let slow = Failing::inject(gateway.pid(), "renameat,renameat2", &format!("{when}=5s"), None);
        let put = tokio::spawn(gateway.request(Method::PUT, "/chunks/a/1").body(bytes[MIB..].to_vec()).send());
        gateway.until("a", "completing").await;
        let objects = gateway.folder.path().join("data/objects/uploads");
        if is_done {
            eventually("the object has its name", async || files(&objects) == 1).await;
        } else {
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert_eq!(files(&objects), 0);
        }
        gateway.crash();
        drop(slow);
        assert!(put.await.expect("a task").is_err(), "not acknowledged");
        gateway.boot().await;
        is_whole(&gateway, "a", &bytes).await;
        assert_eq!(files(&objects), 1, "one object");
        assert_eq!(files(&gateway.folder.path().join("data/objects/.chunkgate/uploads")), 0, "no part is left");
    }
}

/// How many files there are below a folder.
fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_15_a_lifecycle_rule_aborted_the_multipart_upload() {
    for database in Database::BOTH {
        let stand = Stand::start(database).await;
        let bytes = all_but_the_last(&stand, "a").await;
        stand.bucket.abort().await;
        for _ in 0..2 {
            last(&stand, "a", &bytes).await.is_refused(410, "upload_lost");
        }
        is_failed(&stand, "a", "upload_lost").await;
        let again = stand.gateway.create("a", bytes.len(), MIB).await;
        assert_eq!((&again["status"], &again["uploadedChunks"]), (&json!("uploading"), &json!(0)));
        stand.gateway.put_all("a", &bytes, MIB).await;
        is_whole(&stand.gateway, "a", &bytes).await;
    }
    // Somebody cleaned up the local folder.
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let bytes = content(2 * MIB, 3);
    gateway.create("f", bytes.len(), MIB).await;
    gateway.put("f", 0, &bytes[..MIB]).await;
    let uploads = gateway.folder.path().join("data/objects/.chunkgate/uploads");
    for session in std::fs::read_dir(&uploads).expect("a folder").flatten() {
        std::fs::remove_dir_all(session.path()).expect("removed");
    }
    gateway.put("f", 1, &bytes[MIB..]).await.is_refused(410, "upload_lost");
    announced(&gateway, "f", "upload.failed").await;
    gateway.create("f", bytes.len(), MIB).await;
    gateway.put_all("f", &bytes, MIB).await;
    is_whole(&gateway, "f", &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_17_the_whole_is_not_what_was_acknowledged() {
    for database in Database::BOTH {
        let stand = Stand::start(database).await;
        // By the store's account: the object is kept, and not announced.
        let bytes = all_but_the_last(&stand, "store").await;
        let (key, _) = stand.bucket.session().await;
        stand.proxy.next(Operation::Complete, Fault::crc(Some("1")));
        last(&stand, "store", &bytes).await.is_refused(410, "upload_failed");
        is_failed(&stand, "store", "integrity_failed").await;
        assert!(stand.bucket.has(&key).await, "kept for inspection");
        let listed = stand.gateway.get("/uploads?status=failed").await.json;
        assert_eq!(listed["uploads"][0]["fileId"], "store");
        stand.gateway.get("/files/store").await.is_refused(404, "file_not_found");
        // By the client's declaration: nothing is kept.
        let bytes = content(2 * MIB, 4);
        let wanted = json!({"fileId": "client", "fileName": "a", "fileSize": bytes.len(), "chunkSize": MIB,
            "checksum": {"algorithm": "crc64", "value": "1"}});
        stand.gateway.post("/uploads", wanted).await;
        stand.gateway.put("client", 0, &bytes[..MIB]).await;
        let (key, _) = stand.bucket.session().await;
        stand.gateway.put("client", 1, &bytes[MIB..]).await.is_refused(422, "integrity_failed");
        is_failed(&stand, "client", "integrity_failed").await;
        assert!(!stand.bucket.has(&key).await);
        eventually("no part is left", async || stand.emulator.calls("openParts").await == 0).await;
        // Declared rightly, it passes; another digest cannot be checked here.
        let crc64 = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Xz, &bytes).to_string();
        for (file_id, algorithm, value) in [("right", "crc64", crc64), ("other", "sha256", sha256(&bytes))] {
            let wanted = json!({"fileId": file_id, "fileName": "a", "fileSize": bytes.len(), "chunkSize": MIB,
                "checksum": {"algorithm": algorithm, "value": value}});
            stand.gateway.post("/uploads", wanted).await;
            assert_eq!(stand.gateway.put_all(file_id, &bytes, MIB).await.json["complete"], true);
        }
    }
}
