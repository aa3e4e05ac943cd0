//! Straight to S3: parts and forms that a browser sends without the gateway, on
//! servers that nobody here wrote.

use std::time::Duration;

use chunkgate::store::Store as _;
use chunkgate::store::s3::{ProofConfig, S3Store};
use serde_json::{Value, json};

use super::gateway::{CHUNK, on};
use super::servers::{SECRET, Server};
use crate::harness::{Answer, Gateway, client, content, sha256};
use crate::signed_forms::send;

/// What the store has listed counts for so long.
const FRESH: Duration = Duration::from_millis(2100);

async fn parts(gateway: &Gateway, id: &str, indexes: &[usize]) -> Vec<Value> {
    let answer = gateway.post(&format!("/uploads/{id}/parts/sign"), json!({"chunkIndexes": indexes})).await;
    assert_eq!(answer.status, 200, "{answer:?}\n{}", gateway.log());
    answer.json["parts"].as_array().expect("parts").clone()
}

async fn put(part: &Value, bytes: &[u8]) -> u16 {
    assert_eq!((&part["method"], &part["headers"]), (&json!("PUT"), &json!({})));
    let request = client().put(part["url"].as_str().expect("a URL")).body(bytes.to_vec());
    request.send().await.expect("an answer").status().as_u16()
}

async fn missing(gateway: &Gateway, id: &str) -> Value {
    gateway.get(&format!("/chunks?fileId={id}&view=ranges")).await.json["missing"].clone()
}

async fn complete(gateway: &Gateway, id: &str) -> Answer {
    gateway.post("/chunks/complete", json!({"fileId": id})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_go_straight_to_versitygw_and_resume_from_there() {
    parts_go_straight_to_the_store_and_resume_from_there(&Server::versitygw().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_go_straight_to_moto_and_resume_from_there() {
    parts_go_straight_to_the_store_and_resume_from_there(&Server::moto().await).await;
}

async fn parts_go_straight_to_the_store_and_resume_from_there(server: &Server) {
    let mut gateway = on(server).await;
    let bytes = content(4 * CHUNK + 7, 1);
    let pieces: Vec<&[u8]> = bytes.chunks(CHUNK).collect();
    let by_hand =
        json!({"fileId": "a", "fileName": "a", "fileSize": bytes.len(), "chunkSize": CHUNK, "autoComplete": false});
    assert_eq!(gateway.post("/uploads", by_hand).await.status, 201);
    let signed = parts(&gateway, "a", &[0, 1, 2, 3, 4]).await;
    assert!(signed.iter().all(|part| part["url"].as_str().is_some_and(|url| url.starts_with(&server.endpoint))));
    assert_eq!(put(&signed[0], pieces[0]).await, 200);
    assert_eq!(put(&signed[4], pieces[4]).await, 200);
    // The gateway that signed dies before it has seen any of it.
    gateway.crash_and_restart().await;
    assert_eq!(missing(&gateway, "a").await, json!([[1, 3]]));
    complete(&gateway, "a").await.is_refused(409, "chunks_missing");
    // One through the gateway, the rest as before.
    assert_eq!(gateway.put("a", 1, pieces[1]).await.status, 200);
    assert_eq!(put(&signed[2], pieces[2]).await, 200);
    assert_eq!(put(&signed[3], pieces[3]).await, 200);
    let done = complete(&gateway, "a").await;
    assert_eq!(done.status, 200, "{done:?}\n{}", gateway.log());
    let file = &done.json["file"];
    assert_eq!(file["checksum"], json!({"crc64": null, "verified": false}));
    assert!(file["etag"].as_str().is_some_and(|etag| etag.ends_with("-5")), "{file}");
    assert_eq!(gateway.get("/files/a").await.json, *file);
    let event = gateway.hooks.wait_for("a").await.json;
    assert_eq!((&event["data"]["crc64"], &event["data"]["etag"]), (&Value::Null, &file["etag"]));
    assert_eq!(sha256(&gateway.download("a").await), sha256(&bytes));
    // A repeat is compared with what came, by whichever way.
    for index in [0, 1] {
        let again = gateway.put("a", index, pieces[index]).await;
        assert_eq!((again.status.as_u16(), &again.json["complete"]), (200, &json!(true)), "{again:?}");
        gateway.put("a", index, pieces[2]).await.is_refused(409, "chunk_conflict");
    }
    // A server that refuses a body need not read it: then the connection may be reset.
    let late = client().put(signed[3]["url"].as_str().expect("a URL")).body(pieces[3].to_vec()).send().await;
    assert!(late.map_or(true, |answer| answer.status() != 200), "nothing can be put any more");
    // What passes the gateway alone has its checksum, as ever.
    gateway.create("b", 2 * CHUNK, CHUNK).await;
    gateway.put("b", 0, pieces[0]).await;
    let through = gateway.put("b", 1, pieces[1]).await;
    let checksum = &through.json["file"]["checksum"];
    assert!(checksum["crc64"].is_string() && checksum.get("verified").is_none(), "{through:?}");
}

/// Nothing bounds what somebody sends to a signed URL.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_planned_is_no_chunk_on_s3() {
    for server in [Server::versitygw().await, Server::moto().await] {
        let gateway = on(&server).await;
        let store = super::store(&server, ProofConfig::Auto, SECRET);
        let bytes = content(CHUNK + 7, 2);
        let (first, last) = bytes.split_at(CHUNK);
        gateway.create("a", bytes.len(), CHUNK).await;
        let signed = parts(&gateway, "a", &[0, 1]).await;
        let turned = signed[0]["url"].as_str().expect("a URL").replace("partNumber=1", "partNumber=2");
        if server.name == "versitygw" {
            // moto checks no signature.
            assert_eq!(client().put(&turned).body("x").send().await.expect("an answer").status(), 403);
        }
        assert_eq!(put(&signed[0], &content(CHUNK + 1, 3)).await, 200);
        assert_eq!(put(&signed[1], &content(7, 4)).await, 200);
        assert_eq!(missing(&gateway, "a").await, json!([[0, 0]]), "of another size");
        // Written over after it was seen: found when the parts are joined, and asked for again.
        assert_eq!(put(&signed[1], last).await, 200);
        assert_eq!(put(&signed[0], first).await, 200);
        let refused = complete(&gateway, "a").await;
        refused.is_refused(409, "chunks_missing");
        assert_eq!(refused.json["missing"], json!([[1, 1]]));
        tokio::time::sleep(FRESH).await;
        assert_eq!(complete(&gateway, "a").await.status, 200, "{}", gateway.log());
        assert_eq!(sha256(&gateway.download("a").await), sha256(&bytes));
        // A CRC-64 that was declared is verified; a digest that nobody of ours has seen is not.
        let declared = async |id: &str, algorithm: &str, value: String| {
            let checksum = json!({"algorithm": algorithm, "value": value});
            let wanted = json!({"fileId": id, "fileName": id, "fileSize": 7, "checksum": checksum});
            assert_eq!(gateway.post("/uploads", wanted).await.status, 201);
            assert_eq!(put(&parts(&gateway, id, &[0]).await[0], last).await, 200);
            complete(&gateway, id).await
        };
        let crc64 = chunkgate::domain::Crc64::of(last).to_string();
        let right = declared("right", "crc64", crc64.clone()).await;
        assert_eq!(right.json["file"]["checksum"], json!({"crc64": crc64, "verified": true}), "{right:?}");
        declared("wrong", "crc64", "1".to_owned()).await.is_refused(422, "integrity_failed");
        let unseen = declared("unseen", "sha256", sha256(last)).await;
        let checksum = json!({"crc64": null, "sha256": sha256(last), "verified": false});
        assert_eq!(unseen.json["file"]["checksum"], checksum, "{unseen:?}");
        for (id, is_there) in [("right", true), ("wrong", false)] {
            assert_eq!(is_object(&store, &gateway, id).await, is_there, "{id}");
        }
        // Given up, nothing is left of it.
        gateway.create("g", bytes.len(), CHUNK).await;
        assert_eq!(put(&parts(&gateway, "g", &[0]).await[0], first).await, 200);
        assert_eq!(super::uploads(&store).await, 1);
        assert_eq!(gateway.delete("/uploads/g").await.status, 204);
        for _ in 0..100 {
            if super::uploads(&store).await == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(super::uploads(&store).await, 0, "{}", gateway.log());
    }
}

/// Whether the store has the object of this upload.
async fn is_object(store: &S3Store, gateway: &Gateway, id: &str) -> bool {
    let key = gateway.hooks.wait_for(id).await.json["data"]["objectKey"].as_str().expect("a key").to_owned();
    let key = chunkgate::domain::ObjectKey::parse(&key).expect("a key");
    store.head(&key).await.expect("an answer").is_some()
}

async fn sign(gateway: &Gateway, wanted: Value) -> Value {
    let answer = gateway.post("/uploads/sign", wanted).await;
    assert_eq!(answer.status, 200, "{answer:?}\n{}", gateway.log());
    answer.json
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_puts_one_small_file_into_s3() {
    for server in [Server::versitygw().await, Server::moto().await] {
        let gateway = on(&server).await;
        let wanted = json!({"fileName": "报告 1.txt", "maxFileSize": 9, "contentType": "text/plain", "expiresIn": 60});
        let form = sign(&gateway, wanted.clone()).await;
        let path = format!("/files/{}", form["fileId"].as_str().expect("an id"));
        gateway.get(&path).await.is_refused(404, "file_not_found");
        let sent = send(&form, b"hello").await;
        assert_eq!(sent.status, 200, "{sent:?}");
        // S3 tells nobody: whoever asks for the file has it found.
        let file = gateway.get(&path).await;
        assert_eq!(file.status, 200, "{file:?}\n{}", gateway.log());
        assert_eq!(
            (&file.json["fileName"], &file.json["fileSize"], &file.json["contentType"], &file.json["checksum"]),
            (&json!("报告 1.txt"), &json!(5), &json!("text/plain"), &json!({"crc64": null, "verified": false}))
        );
        let id = form["fileId"].as_str().expect("an id");
        assert_eq!(gateway.download(id).await, b"hello");
        let event = gateway.hooks.wait_for(id).await.json;
        assert_eq!((&event["type"], &event["data"]["crc64"]), (&json!("upload.completed"), &Value::Null));
        assert_eq!(gateway.hooks.all().len(), 1);
        // S3 has it written over by the same form: that is not handed out as the file.
        assert_eq!(send(&form, b"other").await.status, 200);
        assert_ne!(gateway.get(&format!("{path}/content")).await.status, 200);
        assert_eq!(gateway.delete(&path).await.status, 204);
        if server.name == "moto" {
            // moto reads no policy.
            continue;
        }
        let form = sign(&gateway, wanted.clone()).await;
        let edited = |name: &str, value: &str| {
            let mut edited = form.clone();
            edited["fields"][name] = json!(value);
            edited
        };
        assert_eq!(send(&form, b"more than nine").await.status, 400);
        for wrong in [edited("key", "uploads/elsewhere"), edited("Content-Type", "text/html"), edited("x-amz-date", "")]
        {
            assert!(send(&wrong, b"hello").await.status.is_client_error(), "{wrong}");
        }
        gateway
            .get(&format!("/files/{}", form["fileId"].as_str().expect("an id")))
            .await
            .is_refused(404, "file_not_found");
        let short = sign(&gateway, json!({"maxFileSize": 9, "expiresIn": 1})).await;
        tokio::time::sleep(Duration::from_millis(2100)).await;
        assert_eq!(send(&short, b"late").await.status, 403);
    }
}
