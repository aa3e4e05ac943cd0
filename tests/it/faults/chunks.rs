//! A chunk on its way: processes that die around it, and others that write
//! the same index.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use sqlx::{Connection as _, SqliteConnection};

use super::stand::{Database, RawPut, Stand, eventually, has_received, is_whole};
use crate::chaos::{Cable, End, Weather};
use crate::harness::{Gateway, MIB, On, content};
use crate::oss_proxy::{Fault, Gate, Operation};

#[tokio::test(flavor = "multi_thread")]
async fn fault_01_killed_before_the_store_has_the_part() {
    let bytes = content(2 * MIB, 1);
    for on in On::BOTH {
        let mut gateway = Gateway::start(on).await;
        gateway.create("a", bytes.len(), MIB).await;
        gateway.put("a", 0, &bytes[..MIB]).await;
        let mut put = RawPut::begin(gateway.address, "a", 1, MIB).await;
        put.send(&bytes[MIB..][..MIB / 2]).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        gateway.crash_and_restart().await;
        assert_eq!(put.answer().await, "");
        has_received(&gateway, "a", &[0], &[[1, 1]]).await;
        gateway.put("a", 1, &bytes[MIB..]).await;
        is_whole(&gateway, "a", &bytes).await;
        if let Some(emulator) = &gateway.emulator {
            assert_eq!(emulator.calls("partsStored").await, 2);
        }
    }
    // Before the store was asked for anything.
    for database in Database::BOTH {
        let mut stand = Stand::start(database).await;
        stand.gateway.create("b", bytes.len(), MIB).await;
        let gate = Gate::new();
        stand.proxy.next(Operation::Initiate, Fault::HeldBefore(gate.clone()));
        let put = tokio::spawn(stand.gateway.request(Method::PUT, "/chunks/b/0").body(bytes[..MIB].to_vec()).send());
        gate.reached().await;
        stand.gateway.crash_and_restart().await;
        assert!(put.await.expect("a task").is_err(), "not acknowledged");
        has_received(&stand.gateway, "b", &[], &[[0, 1]]).await;
        assert_eq!(stand.proxy.calls(Operation::UploadPart), 0);
        stand.gateway.put_all("b", &bytes, MIB).await;
        is_whole(&stand.gateway, "b", &bytes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_02_killed_between_the_stores_answer_and_the_commit() {
    let bytes = content(2 * MIB, 2);
    for database in Database::BOTH {
        let mut stand = Stand::start(database).await;
        stand.gateway.create("a", bytes.len(), MIB).await;
        let gate = Gate::new();
        stand.proxy.next(Operation::UploadPart, Fault::HeldAfter(gate.clone()));
        let put = tokio::spawn(stand.gateway.request(Method::PUT, "/chunks/a/0").body(bytes[..MIB].to_vec()).send());
        gate.reached().await;
        stand.gateway.crash_and_restart().await;
        assert!(put.await.expect("a task").is_err(), "not acknowledged");
        has_received(&stand.gateway, "a", &[], &[[0, 1]]).await;
        assert_eq!(stand.emulator.calls("partsStored").await, 1);
        // The same part of the same multipart upload is overwritten.
        stand.gateway.put("a", 0, &bytes[..MIB]).await;
        has_received(&stand.gateway, "a", &[0], &[[1, 1]]).await;
        assert_eq!(stand.emulator.calls("partsStored").await, 2);
        assert_eq!((stand.bucket.sessions().await, stand.emulator.calls("openParts").await), (1, 1));
        stand.gateway.put("a", 1, &bytes[MIB..]).await;
        is_whole(&stand.gateway, "a", &bytes).await;
    }
    // The local folder has the bytes, and the database is locked by somebody else.
    let mut gateway = Gateway::start(On::FileAndSqlite).await;
    gateway.create("b", bytes.len(), MIB).await;
    gateway.put("b", 0, &bytes[..MIB]).await;
    let data = gateway.folder.path().join("data");
    let url = format!("sqlite://{}", data.join("chunkgate.db").display());
    let mut sql = SqliteConnection::connect(&url).await.expect("a connection");
    let lock = sql.begin_with("BEGIN IMMEDIATE").await.expect("the lock");
    let put = tokio::spawn(gateway.request(Method::PUT, "/chunks/b/1").body(bytes[MIB..].to_vec()).send());
    let file = data_file(&data.join("objects/.chunkgate/uploads"));
    eventually("the folder has the bytes", async || {
        std::fs::read(&file).expect("a file").get(MIB..2 * MIB) == Some(&bytes[MIB..])
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!put.is_finished(), "not acknowledged");
    gateway.crash();
    assert!(put.await.expect("a task").is_err(), "not acknowledged");
    lock.rollback().await.expect("unlocked");
    sql.close().await.expect("closed");
    gateway.boot().await;
    has_received(&gateway, "b", &[0], &[[1, 1]]).await;
    gateway.put("b", 1, &bytes[MIB..]).await;
    is_whole(&gateway, "b", &bytes).await;
}

/// The one multipart upload's file.
fn data_file(uploads: &Path) -> PathBuf {
    let mut sessions = std::fs::read_dir(uploads).expect("a folder");
    sessions.next().expect("an upload").expect("an entry").path().join("data")
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_03_killed_between_the_commit_and_the_answer() {
    for on in On::BOTH {
        let mut gateway = Gateway::start(on).await;
        let bytes = content(2 * MIB, 3);
        gateway.create("a", bytes.len(), MIB).await;
        for (index, piece) in bytes.chunks(MIB).enumerate() {
            let cable = Cable::to(gateway.address).await;
            cable.down(Weather::after(0, End::Stall));
            let put = gateway.http.put(format!("http://{}/chunks/a/{index}", cable.address));
            let put = tokio::spawn(put.header("host", gateway.address.to_string()).body(piece.to_vec()).send());
            eventually("the chunk is committed", async || gateway.received("a").await.contains(&index)).await;
            if index == 1 {
                gateway.until("a", "completed").await;
            }
            assert!(!put.is_finished(), "the answer is lost");
            gateway.crash_and_restart().await;
            drop(cable);
            assert!(put.await.expect("a task").is_err());
            let stored = parts_stored(&gateway).await;
            let again = gateway.put("a", index, piece).await;
            assert_eq!((again.status.as_u16(), &again.json["complete"]), (200, &json!(index == 1)), "{again:?}");
            assert_eq!(parts_stored(&gateway).await, stored, "the store is not asked");
            assert_eq!(gateway.metric("chunkgate_chunk_repeats_total").await, 1.0);
            assert_eq!(gateway.metric("chunkgate_chunks_total").await, 0.0);
        }
        is_whole(&gateway, "a", &bytes).await;
    }
}

async fn parts_stored(gateway: &Gateway) -> Option<u64> {
    match &gateway.emulator {
        Some(emulator) => Some(emulator.calls("uploadPart").await),
        None => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_04_the_same_chunk_twice_in_flight() {
    for on in On::BOTH {
        let gateway = Gateway::start(on).await;
        let bytes = content(2 * MIB, 4);
        gateway.create("a", bytes.len(), MIB).await;
        let mut first = RawPut::begin(gateway.address, "a", 0, MIB).await;
        first.send(&bytes[..MIB / 2]).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let slowly = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            first.send(&bytes[MIB / 2..MIB]).await;
            first.answer().await
        };
        let (first, second) = tokio::join!(slowly, gateway.put("a", 0, &bytes[..MIB]));
        assert!(first.starts_with("HTTP/1.1 200"), "{first}");
        assert_eq!(second.status, 200, "{second:?}");
        assert_eq!(gateway.metric("chunkgate_chunks_total").await, 1.0, "the second was compared");
        has_received(&gateway, "a", &[0], &[[1, 1]]).await;
        gateway.put("a", 1, &bytes[MIB..]).await;
        is_whole(&gateway, "a", &bytes).await;
        if let Some(emulator) = &gateway.emulator {
            assert_eq!(emulator.calls("uploadPart").await, 2);
        }
    }
}

/// On two gateways, each of which has it in flight.
#[tokio::test(flavor = "multi_thread")]
async fn fault_04_the_same_chunk_twice_in_flight_on_two_gateways() {
    let stand = Stand::start(Database::Postgres).await;
    let other = stand.gateway.neighbour().await;
    let bytes = content(2 * MIB, 5);
    stand.gateway.create("a", bytes.len(), MIB).await;
    let gate = Gate::new();
    stand.proxy.next(Operation::UploadPart, Fault::HeldAfter(gate.clone()));
    let then = async {
        gate.reached().await;
        let second = other.put("a", 0, &bytes[..MIB]).await;
        gate.open();
        second
    };
    let (first, second) = tokio::join!(stand.gateway.put("a", 0, &bytes[..MIB]), then);
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200), "{first:?} {second:?}");
    has_received(&other, "a", &[0], &[[1, 1]]).await;
    // The merge compares the row's ETag with the store's.
    assert_eq!(other.put("a", 1, &bytes[MIB..]).await.json["complete"], true);
    is_whole(&stand.gateway, "a", &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_05_different_bytes_of_one_chunk_at_once() {
    for on in On::BOTH {
        let gateway = Gateway::start(on).await;
        for round in 0..10 {
            let file_id = format!("a-{round}");
            let (one, two) = (content(2 * MIB, 10 + round), content(2 * MIB, 30 + round));
            gateway.create(&file_id, one.len(), MIB).await;
            let put = async |bytes: &[u8]| gateway.put(&file_id, 0, &bytes[..MIB]).await;
            let (a, b) = tokio::join!(put(&one), put(&two));
            let (winner, loser) = if a.status == 200 { (&one, b) } else { (&two, a) };
            loser.is_refused(409, "chunk_conflict");
            assert_eq!(gateway.put(&file_id, 1, &winner[MIB..]).await.json["complete"], true);
            is_whole(&gateway, &file_id, winner).await;
        }
    }
}

/// The slow loser is on another gateway, and overwrites the winner's part.
#[tokio::test(flavor = "multi_thread")]
async fn fault_05_a_slow_loser_does_not_spoil_the_object() {
    let stand = Stand::start(Database::Postgres).await;
    let other = stand.gateway.neighbour().await;
    let bytes = content(2 * MIB, 6);
    stand.gateway.create("a", bytes.len(), MIB).await;
    let gate = Gate::new();
    stand.proxy.next(Operation::UploadPart, Fault::HeldBefore(gate.clone()));
    let then = async {
        gate.reached().await;
        let winner = other.put("a", 0, &bytes[..MIB]).await;
        gate.open();
        winner
    };
    let other_bytes = content(MIB, 7);
    let (loser, winner) = tokio::join!(stand.gateway.put("a", 0, &other_bytes), then);
    assert_eq!(winner.status, 200, "{winner:?}");
    loser.is_refused(409, "chunk_conflict");
    overwritten_is_asked_for(&other, &bytes).await;
}

/// Chunk 0 of two was overwritten in the store by other bytes.
async fn overwritten_is_asked_for(gateway: &Gateway, bytes: &[u8]) {
    let last = gateway.put("a", 1, &bytes[MIB..]).await;
    assert_eq!((last.status.as_u16(), &last.json["complete"]), (200, &json!(false)), "{last:?}");
    assert_eq!(last.json["missing"], json!([[0, 0]]));
    has_received(gateway, "a", &[1], &[[0, 0]]).await;
    let again = gateway.put("a", 0, &bytes[..MIB]).await;
    assert_eq!((again.status.as_u16(), &again.json["complete"]), (200, &json!(true)), "{again:?}");
    is_whole(gateway, "a", bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_07_a_late_put_of_a_former_holder() {
    for database in Database::BOTH {
        let stand = Stand::start(database).await;
        let bytes = content(2 * MIB, 8);
        stand.gateway.create("a", bytes.len(), MIB).await;
        stand.gateway.put("a", 0, &bytes[..MIB]).await;
        stand.bucket.overwrite(0, &content(MIB, 9)).await;
        overwritten_is_asked_for(&stand.gateway, &bytes).await;
    }
}
