//! Straight to the store: parts that clients put at signed URLs, and a gateway
//! that finds them there.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::access::{KEY, TOKENS};
use crate::harness::{Answer, Gateway, KIB, On, content};

const CHUNK: usize = 100 * KIB;
/// What the store has listed counts for so long.
const FRESH: Duration = Duration::from_millis(2100);

async fn sign(gateway: &Gateway, id: &str, indexes: Value) -> Answer {
    gateway.post(&format!("/uploads/{id}/parts/sign"), json!({"chunkIndexes": indexes})).await
}

/// Signed parts, as a browser uses them.
async fn parts(gateway: &Gateway, id: &str, indexes: Value) -> Vec<Value> {
    let answer = sign(gateway, id, indexes).await;
    assert_eq!(answer.status, 200, "{answer:?}\n{}", gateway.log());
    answer.json["parts"].as_array().expect("parts").clone()
}

/// Puts these bytes where a signed part says, and returns the store's status.
async fn put(part: &Value, bytes: &[u8]) -> u16 {
    assert_eq!(part["method"], "PUT");
    let mut request = crate::harness::client().put(part["url"].as_str().expect("a URL")).body(bytes.to_vec());
    for (name, value) in part["headers"].as_object().expect("headers") {
        request = request.header(name, value.as_str().expect("text"));
    }
    request.send().await.expect("an answer").status().as_u16()
}

async fn missing(gateway: &Gateway, id: &str) -> Value {
    let answer = gateway.get(&format!("/chunks?fileId={id}&view=ranges")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json["missing"].clone()
}

async fn complete(gateway: &Gateway, id: &str) -> Answer {
    gateway.post("/chunks/complete", json!({"fileId": id})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_go_straight_to_the_store_and_resume_from_there() {
    let mut gateway = Gateway::start(On::OssAndPostgres).await;
    let bytes = content(5 * CHUNK + 7, 1);
    let by_hand =
        json!({"fileId": "a", "fileName": "a", "fileSize": bytes.len(), "chunkSize": CHUNK, "autoComplete": false});
    assert_eq!(gateway.post("/uploads", by_hand).await.status, 201);
    let signed = parts(&gateway, "a", json!([0, 1, 2, 3, 4, 5])).await;
    assert_eq!(
        signed.iter().map(|part| part["chunkIndex"].as_u64()).collect::<Vec<_>>(),
        (0..6).map(Some).collect::<Vec<_>>()
    );
    assert_eq!(missing(&gateway, "a").await, json!([[0, 5]]));
    let piece = |index: usize| bytes.chunks(CHUNK).nth(index).expect("a piece").to_vec();
    for index in [0, 2, 5] {
        assert_eq!(put(&signed[index], &piece(index)).await, 200);
    }
    // The gateway that signed dies before it has seen any of it; another one answers.
    gateway.crash();
    let neighbour = gateway.neighbour().await;
    assert_eq!(missing(&neighbour, "a").await, json!([[1, 1], [3, 4]]));
    complete(&neighbour, "a").await.is_refused(409, "chunks_missing");
    gateway.boot().await;
    // The rest by both ways.
    assert_eq!(gateway.put("a", 1, &piece(1)).await.status, 200);
    for index in [3, 4] {
        assert_eq!(put(&signed[index], &piece(index)).await, 200);
    }
    // Who asks for the end wants to know what there is now, not a moment ago.
    let file = complete(&gateway, "a").await;
    assert_eq!(file.status, 200, "{file:?}");
    assert_eq!(gateway.download("a").await, bytes);
    let event = gateway.hooks.wait_for("a").await;
    assert_eq!(event.json["data"]["crc64"], file.json["file"]["checksum"]["crc64"]);
    // A part that went by the store is as well known as any: compared, and kept.
    assert_eq!(gateway.put("a", 3, &piece(3)).await.json["complete"], true);
    gateway.put("a", 3, &piece(2)).await.is_refused(409, "chunk_conflict");
    assert_ne!(put(&signed[3], &piece(2)).await, 200, "nothing can be put any more");
    assert_eq!(gateway.download("a").await, bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_part_that_is_seen_starts_the_merge() {
    let gateway = Gateway::start(On::OssAndPostgres).await;
    let bytes = content(3 * CHUNK, 2);
    gateway.create("a", bytes.len(), CHUNK).await;
    for (part, piece) in parts(&gateway, "a", json!([0, 1, 2])).await.iter().zip(bytes.chunks(CHUNK)) {
        assert_eq!(put(part, piece).await, 200);
    }
    assert_eq!(missing(&gateway, "a").await, json!([]));
    gateway.until("a", "completed").await;
    assert_eq!(gateway.download("a").await, bytes);
    // Nobody asks: the sweeper does not know what nobody has looked for.
    gateway.create("b", 3, 3).await;
    assert_eq!(put(&parts(&gateway, "b", json!([0])).await[0], b"abc").await, 200);
    tokio::time::sleep(FRESH).await;
    assert_eq!(gateway.get("/uploads/b").await.json["status"], "uploading");
    assert_eq!(complete(&gateway, "b").await.status, 200);
}

/// Nothing bounds what somebody sends to a signed URL.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_planned_is_no_chunk() {
    let gateway = Gateway::start(On::OssAndPostgres).await;
    let bytes = content(2 * CHUNK + 7, 3);
    let piece = |index: usize| bytes.chunks(CHUNK).nth(index).expect("a piece").to_vec();
    gateway.create("a", bytes.len(), CHUNK).await;
    let signed = parts(&gateway, "a", json!([0, 1, 2])).await;
    assert_eq!(put(&signed[0], &content(CHUNK + 1, 4)).await, 200);
    assert_eq!(put(&signed[1], &content(CHUNK, 5)).await, 200);
    assert_eq!(put(&signed[2], &piece(2)).await, 200);
    assert_eq!(missing(&gateway, "a").await, json!([[0, 0]]));
    // Written over after it was seen: found when the parts are joined, and asked for again.
    assert_eq!(put(&signed[1], &piece(1)).await, 200);
    assert_eq!(put(&signed[0], &piece(0)).await, 200);
    let last = complete(&gateway, "a").await;
    last.is_refused(409, "chunks_missing");
    assert_eq!(last.json["missing"], json!([[1, 1]]));
    assert_eq!(complete(&gateway, "a").await.status, 200);
    assert_eq!(gateway.download("a").await, bytes);
    // A whole file that is not what was declared.
    let declared = json!({"algorithm": "crc64", "value": "1"});
    let wrong = json!({"fileId": "w", "fileName": "w", "fileSize": 7, "checksum": declared});
    assert_eq!(gateway.post("/uploads", wrong).await.status, 201);
    assert_eq!(put(&parts(&gateway, "w", json!([0])).await[0], &piece(2)).await, 200);
    complete(&gateway, "w").await.is_refused(422, "integrity_failed");
    // Nobody of ours has seen the bytes of this one: its digest is not certified.
    let declared = json!({"algorithm": "sha256", "value": "0".repeat(64)});
    let unseen = json!({"fileId": "u", "fileName": "u", "fileSize": 7, "checksum": declared});
    assert_eq!(gateway.post("/uploads", unseen).await.status, 201);
    assert_eq!(put(&parts(&gateway, "u", json!([0])).await[0], &piece(2)).await, 200);
    assert_eq!(complete(&gateway, "u").await.json["file"]["checksum"]["verified"], false);
}

/// A signed URL is for one part of one upload, sent in one way.
#[tokio::test(flavor = "multi_thread")]
async fn a_signed_part_is_for_nothing_else() {
    let settings = [("STORE__OSS__SIGNATURE", "v1")];
    for settings in [&[][..], &settings] {
        let gateway = Gateway::start_with(On::OssAndPostgres, settings).await;
        gateway.create("a", 2 * CHUNK, CHUNK).await;
        let part = parts(&gateway, "a", json!([0])).await.remove(0);
        let url = part["url"].as_str().expect("a URL").to_owned();
        let bytes = content(CHUNK, 6);
        let send = async |method: Method, url: &str, mime: Option<&str>| {
            let request = crate::harness::client().request(method, url).body(bytes.clone());
            let request = mime.into_iter().fold(request, |request, mime| request.header("Content-Type", mime));
            request.send().await.expect("an answer").status().as_u16()
        };
        let octets = Some("application/octet-stream");
        assert_eq!(send(Method::PUT, &url.replace("partNumber=1", "partNumber=2"), octets).await, 403);
        assert_eq!(send(Method::DELETE, &url, octets).await, 403);
        assert_eq!(send(Method::GET, &url, None).await, 403);
        assert_eq!(send(Method::PUT, &url, Some("text/html")).await, 403);
        let key = url.split('?').next().expect("a path").rsplit('/').next().expect("a name");
        assert_eq!(send(Method::PUT, &url.replacen(key, "other", 1), octets).await, 403);
        assert_eq!(missing(&gateway, "a").await, json!([[0, 1]]));
        assert_eq!(put(&part, &bytes).await, 200);
        tokio::time::sleep(FRESH).await;
        assert_eq!(missing(&gateway, "a").await, json!([[1, 1]]));
        // Given up, nothing is left of it.
        assert_eq!(gateway.delete("/uploads/a").await.status, 204);
        assert_eq!(put(&part, &bytes).await, 404);
        sign(&gateway, "a", json!([0])).await.is_refused(410, "upload_aborted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_signed_is_said() {
    let gateway = Gateway::start(On::OssAndPostgres).await;
    gateway.create("a", 2 * CHUNK, CHUNK).await;
    sign(&gateway, "none", json!([0])).await.is_refused(404, "upload_not_found");
    for index in [json!(2), json!(-1), json!(u64::MAX)] {
        sign(&gateway, "a", json!([0, index])).await.is_refused(400, "chunk_index_out_of_range");
    }
    for wrong in [json!([]), json!(vec![0; 1001]), json!("0"), json!([0.5]), Value::Null] {
        sign(&gateway, "a", wrong).await.is_refused(400, "invalid_request");
    }
    // How a form's file is cut is not known before its chunks come.
    let form = crate::openapi::contract::with_form(
        gateway.request(Method::POST, "/chunks"),
        &crate::openapi::contract::chunk_fields("f", "0", "3"),
        &content(CHUNK, 1),
    );
    let sent = Answer::of(form.send().await).await;
    assert_eq!(sent.status, 200, "{sent:?}");
    sign(&gateway, "f", json!([1])).await.is_refused(400, "invalid_request");
    gateway.put("a", 0, &content(CHUNK, 1)).await;
    gateway.put("a", 1, &content(CHUNK, 2)).await;
    gateway.until("a", "completed").await;
    sign(&gateway, "a", json!([0])).await.is_refused(409, "upload_completed");
    // A folder takes nothing but by the gateway.
    let folder = Gateway::start(On::FileAndSqlite).await;
    folder.create("a", CHUNK, CHUNK).await;
    sign(&folder, "a", json!([0])).await.is_refused(501, "not_supported");

    // Where the first bytes decide, they are looked at.
    let images = [&TOKENS[..], &[("UPLOAD__ALLOWED_TYPES", "image/*")]].concat();
    let kinds = Gateway::start_with(On::OssAndPostgres, &images).await;
    let ask = |path: &str, body: Value| kinds.request(Method::POST, path).bearer_auth(KEY).json(&body).send();
    let wanted = json!({"fileId": "p", "fileName": "p.png", "fileSize": 2 * CHUNK, "chunkSize": CHUNK});
    assert_eq!(Answer::of(ask("/uploads", wanted).await).await.status, 201);
    let first = Answer::of(ask("/uploads/p/parts/sign", json!({"chunkIndexes": [0]})).await).await;
    first.is_refused(501, "not_supported");
    assert_eq!(Answer::of(ask("/uploads/p/parts/sign", json!({"chunkIndexes": [1]})).await).await.status, 200);
    // And another owner's upload is nobody's.
    let login = Answer::of(ask("/auth/tokens", json!({"subject": "other"})).await).await;
    let other = kinds.request(Method::POST, "/uploads/p/parts/sign").json(&json!({"chunkIndexes": [1]}));
    let other = other.bearer_auth(login.json["accessToken"].as_str().expect("a token"));
    Answer::of(other.send().await).await.is_refused(404, "upload_not_found");
}

/// What nobody asks about expires as any other, and its parts go.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_left_expires_with_its_parts() {
    let gateway = Gateway::start_with(On::OssAndPostgres, &[("UPLOAD__EXPIRES_AFTER", "3s")]).await;
    gateway.create("a", 2 * CHUNK, CHUNK).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    // To be given a URL is a sign of life.
    let part = parts(&gateway, "a", json!([0])).await.remove(0);
    assert_eq!(put(&part, &content(CHUNK, 1)).await, 200);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(gateway.get("/uploads/a").await.json["status"], "uploading");
    gateway.until("a", "expired").await;
    for _ in 0..100 {
        if put(&part, &content(CHUNK, 1)).await == 404 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("its parts stay: {}", gateway.log());
}
