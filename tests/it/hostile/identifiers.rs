//! Names of uploads: what is none, wherever it stands, and what the server makes.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::json;

use super::{is_untouched, say, send};
use crate::access::{KEY, TOKENS};
use crate::harness::{Gateway, On};
use crate::openapi::contract::{Contract, chunk_fields, with_form};

/// Percent-encoded, as it stands in a path or a query.
fn encoded() -> Vec<String> {
    let plain = [
        "..",
        ".",
        "%2e%2e%2f",
        "%2E%2E",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e%5c",
        "%252e%252e%252f",
        "%00",
        "a%00b",
        "a%0d%0aX-Evil:%20b",
        "%c0%ae%c0%ae%c0%af",
        "%ff",
        "%E2%80%AEa",
        "%F0%9F%92%A9",
        "a%20b",
        "a:b",
        "a;b",
        "*",
    ];
    let long = [129, 4096].map(|length| "x".repeat(length));
    plain.into_iter().map(ToOwned::to_owned).chain(long).collect()
}

/// As it stands in JSON, a form or a header.
fn plain() -> Vec<String> {
    let short =
        ["..", ".", "../etc", "..%2f", "a\0b", "\0", "a\r\nb", "a/b", "a\\b", "\u{202e}a", "", " ", "a ", "'; --"];
    short.into_iter().map(ToOwned::to_owned).chain(["x".repeat(129), "x".repeat(4096)]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_id_is_none_in_any_path_or_query() {
    let contract = Contract::read();
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let mut asked = 0;
    let in_paths: Vec<_> =
        contract.operations().into_iter().filter(|operation| operation.path.contains("{fileId}")).collect();
    assert!(in_paths.len() >= 8, "{}", in_paths.len());
    for id in encoded() {
        let mut lines: Vec<String> = in_paths
            .iter()
            .map(|operation| {
                let path = operation.path.replace("{fileId}", &id).replace("{chunkIndex}", "0");
                format!("{} {path}", operation.method.to_ascii_uppercase())
            })
            .collect();
        lines.push(format!("GET /chunks?fileId={id}"));
        lines.push(format!("POST /files?fileName=a&fileId={id}"));
        for line in lines {
            // `{}` is what those want that want a body.
            let request = format!("{line} HTTP/1.1\r\nHost: {}\r\nContent-Length: 2\r\n\r\n{{}}", gateway.address);
            let answer = say(gateway.address, request.as_bytes()).await.remove(0);
            let is_query = line.contains("?fileId=") || line.contains("&fileId=");
            let code = if is_query && id == "%ff" { "" } else { "invalid_file_id" };
            let is_head = line.starts_with("HEAD");
            assert!(answer.starts_with("400 ") && (is_head || answer.contains(code)), "{line}: {answer}");
            asked += 1;
        }
    }
    assert!(asked > 200, "{asked}");
    is_untouched(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_id_is_none_in_any_body_or_head() {
    let gateway = Gateway::start_with(On::FileAndSqlite, &TOKENS).await;
    for id in plain() {
        let ask = |method: Method, path: &str| gateway.request(method, path).bearer_auth(KEY);
        let shown: String = id.chars().take(20).collect();
        for (path, body) in [
            ("/uploads", json!({"fileId": id, "fileName": "a", "fileSize": 5})),
            ("/chunks/complete", json!({"fileId": id})),
        ] {
            let answer = send(ask(Method::POST, path).json(&body)).await;
            answer.is_refused(400, "invalid_file_id");
        }
        let bound = json!({"subject": "a", "fileId": id});
        let answer = send(ask(Method::POST, "/auth/tokens").json(&bound)).await;
        assert_eq!(answer.status, 400, "{shown:?}: {answer:?}");
        // A form's line break ends a field; an empty one was left out.
        if !id.is_empty() && !id.contains('\r') {
            for path in ["/chunks", "/upload-chunk"] {
                let form = with_form(ask(Method::POST, path), &chunk_fields(&id, "0", "1"), b"hello");
                send(form).await.is_refused(400, "invalid_file_id");
            }
            let form = with_form(ask(Method::POST, "/files"), &[("fileId", &id), ("fileName", "a")], b"hello");
            send(form).await.is_refused(400, "invalid_file_id");
        }
        // Blanks around a header's value are not its own.
        if id.trim() == id
            && let Ok(value) = reqwest::header::HeaderValue::from_str(&id)
        {
            let put = ask(Method::PUT, "/chunks").header("X-File-Id", value).header("X-Chunk-Index", "0").body("hello");
            let answer = send(put).await;
            assert_eq!(answer.status, 400, "{shown:?}: {answer:?}");
        }
    }
    let none = send(gateway.request(Method::GET, "/uploads").bearer_auth(KEY)).await;
    assert_eq!(none.json["uploads"], json!([]));
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

/// 128 bits, of which each is 0 in one id and 1 in another.
#[tokio::test(flavor = "multi_thread")]
async fn ids_that_the_server_makes_cannot_be_guessed() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let (mut uploads, mut requests, mut keys) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for _ in 0..200 {
        let answer = gateway.post("/uploads", json!({"fileName": "a", "fileSize": 0})).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let id = answer.json["fileId"].as_str().expect("an id").to_owned();
        let key = gateway.hooks.wait_for(&id).await.json["data"]["objectKey"].clone();
        keys.insert(key.as_str().expect("a key").rsplit('/').next().expect("a name").to_owned());
        uploads.insert(id);
        requests.insert(answer.headers["x-request-id"].to_str().expect("ASCII").to_owned());
    }
    for ids in [uploads, requests, keys] {
        assert_eq!(ids.len(), 200);
        let bits: Vec<u128> = ids
            .iter()
            .map(|id| {
                assert_eq!(id.len(), 32, "{id}");
                u128::from_str_radix(id, 16).expect("hex")
            })
            .collect();
        assert_eq!(bits.iter().fold(0, |all, id| all | id), u128::MAX);
        assert_eq!(bits.iter().fold(u128::MAX, |all, id| all & id), 0);
        // None is a step away from another.
        assert!(bits.windows(2).all(|two| two[1] - two[0] > 1 << 64), "{bits:x?}");
    }
}
