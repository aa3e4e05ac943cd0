//! A gateway whose store is S3.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::servers::Server;
use crate::harness::{Answer, Gateway, MIB, On, content, sha256};

pub(super) const CHUNK: usize = 5 * MIB;

pub(super) async fn on(server: &Server) -> Gateway {
    let environment = server.environment();
    let settings: Vec<(&str, &str)> = environment.iter().map(|(key, value)| (*key, value.as_str())).collect();
    Gateway::start_with(On::FileAndSqlite, &settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_through_a_gateway_that_is_killed_into_versitygw() {
    a_file_goes_through_a_gateway_that_is_killed(&Server::versitygw().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_through_a_gateway_that_is_killed_into_moto() {
    a_file_goes_through_a_gateway_that_is_killed(&Server::moto().await).await;
}

async fn a_file_goes_through_a_gateway_that_is_killed(server: &Server) {
    let mut gateway = on(server).await;
    let bytes = content(6 * CHUNK + 7, 1);
    let pieces: Vec<&[u8]> = bytes.chunks(CHUNK).collect();
    gateway.create("a", bytes.len(), CHUNK).await;
    let at_once = async |gateway: &Gateway, indexes: &[usize]| {
        let sent = indexes.iter().map(|&index| gateway.put("a", index, pieces[index]));
        for answer in futures_util::future::join_all(sent).await {
            assert_eq!(answer.status, 200, "{answer:?}\n{}", gateway.log());
        }
    };
    at_once(&gateway, &[0, 3, 6]).await;
    // Killed while two more are on their way.
    let (one, two) = (gateway.try_put("a", 1, pieces[1].to_vec()), gateway.try_put("a", 4, pieces[4].to_vec()));
    let _ = tokio::time::timeout(Duration::from_millis(15), futures_util::future::join(one, two)).await;
    gateway.crash_and_restart().await;
    let received = gateway.received("a").await;
    assert!([0, 3, 6].iter().all(|index| received.contains(index)), "{received:?}");
    let missing: Vec<usize> = (0..pieces.len()).filter(|index| !received.contains(index)).collect();
    at_once(&gateway, &missing).await;
    let upload = gateway.until("a", "completed").await;
    assert_eq!(upload["file"]["fileSize"], bytes.len());
    assert_eq!(sha256(&gateway.download("a").await), sha256(&bytes));
    assert_eq!(gateway.hooks.wait_for("a").await.json["data"]["fileSize"], bytes.len());
    // A repeat is compared, not stored; other bytes are refused.
    assert_eq!(gateway.put("a", 3, pieces[3]).await.json["complete"], true);
    gateway.put("a", 3, pieces[2]).await.is_refused(409, "chunk_conflict");
    // A range, and a link of the store's own.
    let range = gateway.request(Method::GET, "/files/a/content").header("range", "bytes=5242870-5242890");
    let range = range.send().await.expect("an answer");
    assert_eq!(range.status(), 206);
    assert_eq!(range.bytes().await.expect("bytes"), bytes[5_242_870..=5_242_890]);
    let link = gateway.post("/files/a/sign", json!({"expiresIn": 60, "downloadName": "b c.bin"})).await;
    let link = gateway.http.get(link.json["url"].as_str().expect("a URL")).send().await.expect("an answer");
    assert!(link.url().as_str().starts_with(&server.endpoint));
    assert!(link.headers()["content-disposition"].to_str().is_ok_and(|text| text.contains("b c.bin")));
    assert_eq!(sha256(&link.bytes().await.expect("bytes")), sha256(&bytes));
    assert_eq!(gateway.delete("/files/a").await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_and_given_up_uploads_on_s3() {
    for server in [Server::versitygw().await, Server::moto().await] {
        let gateway = on(&server).await;
        let small = content(70_001, 2);
        let put = gateway.request(Method::POST, "/files?fileName=s.bin&fileId=s").body(small.clone());
        let put = Answer::of(put.send().await).await;
        assert_eq!(put.status, 201, "{put:?}\n{}", gateway.log());
        assert_eq!(gateway.download("s").await, small);
        let empty = gateway.post("/uploads", json!({"fileId": "e", "fileName": "e", "fileSize": 0})).await;
        assert_eq!((empty.status.as_u16(), &empty.json["status"]), (201, &json!("completed")), "{empty:?}");
        assert!(gateway.download("e").await.is_empty());
        // A chunk below the store's minimum is refused before anything is begun.
        let tiny = json!({"fileId": "t", "fileName": "t", "fileSize": 9 * MIB, "chunkSize": MIB});
        let refused = gateway.post("/uploads", tiny).await;
        refused.is_refused(400, "chunk_size_out_of_range");
        assert_eq!(refused.json["minChunkSize"], 5 * MIB);
        // What is given up leaves nothing.
        gateway.create("g", 2 * CHUNK, CHUNK).await;
        assert_eq!(gateway.put("g", 0, &content(CHUNK, 3)).await.status, 200);
        let store = super::store(&server, super::ProofConfig::Auto, super::SECRET);
        let listed = async || super::uploads(&store).await;
        assert_eq!(listed().await, 1);
        assert_eq!(gateway.delete("/uploads/g").await.status, 204);
        for _ in 0..100 {
            if listed().await == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(listed().await, 0, "{}", gateway.log());
    }
}

/// The store is away, and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn s3_that_is_away_is_a_503_and_comes_back() {
    let mut server = Server::versitygw().await;
    let gateway = on(&server).await;
    gateway.create("a", 2 * CHUNK, CHUNK).await;
    let bytes = content(2 * CHUNK, 4);
    assert_eq!(gateway.put("a", 0, &bytes[..CHUNK]).await.status, 200);
    server.stop();
    let away = gateway.put("a", 1, &bytes[CHUNK..]).await;
    away.is_refused(503, "store_unavailable");
    server.boot().await;
    let mut sent = gateway.put("a", 1, &bytes[CHUNK..]).await;
    for _ in 0..50 {
        if sent.status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        sent = gateway.put("a", 1, &bytes[CHUNK..]).await;
    }
    assert_eq!(sent.status, 200, "{sent:?}");
    gateway.until("a", "completed").await;
    assert_eq!(sha256(&gateway.download("a").await), sha256(&bytes));
}
