//! What a token locks in: acts, sizes, kinds, folder, pairs.

use reqwest::Method;
use serde_json::json;

use super::{KEY, ask, gateway, log_in, put_chunk, put_file, send};
use crate::harness::On;
use crate::openapi::contract::with_form;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0";

#[tokio::test(flavor = "multi_thread")]
async fn a_token_does_what_it_was_handed_out_for() {
    let here = gateway(On::FileAndSqlite, &[]).await;
    let upload = json!({"fileName": "a", "fileSize": 0});
    let acts = [
        ("uploads:write", Method::POST, "/uploads", Some(upload)),
        ("uploads:write", Method::GET, "/uploads", None),
        ("files:read", Method::GET, "/files", None),
        ("files:write", Method::DELETE, "/files/none", None),
    ];
    for scope in ["uploads:write", "files:read", "files:write"] {
        let tokens = log_in(&here, json!({"subject": "a", "scope": scope})).await;
        for (needed, method, path, body) in acts.clone() {
            let answer = ask(&here, &tokens.access, method.clone(), path, body).await;
            if needed == scope {
                assert!(answer.status.is_success() || answer.status == 404, "{method} {path}: {answer:?}");
                continue;
            }
            answer.is_refused(403, "insufficient_scope");
            assert_eq!(answer.json["neededScope"], needed);
            let challenge = answer.headers["www-authenticate"].to_str().expect("ASCII");
            assert!(challenge.contains(&format!("scope=\"{needed}\"")), "{challenge}");
        }
        // Only a back end hands out tokens.
        let more = json!({"subject": "a", "scope": "files:write"});
        ask(&here, &tokens.access, Method::POST, "/auth/tokens", Some(more))
            .await
            .is_refused(403, "insufficient_scope");
    }
    for wrong in [
        json!({}),
        json!({"subject": ""}),
        json!({"subject": "a\n"}),
        json!({"subject": "a", "scope": "files:*"}),
        json!({"subject": "a", "maxfilesize": 1}),
        json!({"subject": "a", "keyPrefix": "../b"}),
        json!({"subject": "a", "fileId": "a b"}),
        json!({"subject": "a", "allowedTypes": []}),
        json!({"subject": "a", "allowedTypes": ["png"]}),
        json!({"subject": "a", "deviceId": ""}),
    ] {
        let answer = ask(&here, KEY, Method::POST, "/auth/tokens", Some(wrong.clone())).await;
        assert_eq!(answer.status, 400, "{wrong}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_kinds_folders_and_pairs_are_locked_in() {
    let here = gateway(On::FileAndSqlite, &[]).await;
    let tokens = log_in(
        &here,
        json!({"subject": "a", "maxFileSize": 100, "allowedTypes": ["image/png", "text/plain"],
            "keyPrefix": "avatars/42", "metadata": {"order": "7"}}),
    )
    .await;
    let token = &tokens.access;
    let create =
        |name: &str, bytes: u64| json!({"fileName": name, "fileSize": bytes, "metadata": {"order": "8", "own": "x"}});
    let refused = ask(&here, token, Method::POST, "/uploads", Some(create("a.png", 101))).await;
    assert_eq!(refused.is_refused(413, "file_too_large").json["maxSize"], 100);
    ask(&here, token, Method::POST, "/uploads", Some(create("a.exe", 10))).await.is_refused(415, "type_not_allowed");
    put_file(&here, token, "fileName=a.html", b"<html>").await.is_refused(415, "type_not_allowed");
    put_file(&here, token, "fileName=a.png", b"alert(1)").await.is_refused(415, "type_not_allowed");
    put_file(&here, token, "fileName=a.txt", PNG).await.status.is_success().then_some(()).expect("a PNG may be sent");
    assert_eq!(put_file(&here, token, "fileName=b.png&contentType=image/png", PNG).await.status, 201);
    let made = ask(&here, token, Method::POST, "/uploads", Some(create("c.png", 8))).await;
    assert_eq!(made.json["metadata"], json!({"order": "7", "own": "x"}), "{made:?}");
    let id = made.json["fileId"].as_str().expect("an id").to_owned();
    put_chunk(&here, token, &format!("/chunks/{id}/0"), b"GIF89a..").await.is_refused(415, "type_not_allowed");
    assert_eq!(put_chunk(&here, token, &format!("/chunks/{id}/0"), &PNG[..8]).await.json["complete"], true);
    let event = here.hooks.wait_for(&id).await;
    let key = event.json["data"]["objectKey"].as_str().expect("a key");
    assert!(key.starts_with("avatars/42/20"), "{key}");
    // Forms learn their sizes, and are held to the same.
    let form = [("fileId", "g"), ("chunkIndex", "0"), ("totalChunks", "3"), ("fileName", "g.txt")];
    let answer = send(with_form(here.request(Method::POST, "/chunks").bearer_auth(token), &form, &[b'a'; 60])).await;
    answer.is_refused(413, "file_too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_can_be_configured_for_all() {
    let here = gateway(On::FileAndSqlite, &[("UPLOAD__ALLOWED_TYPES", "image/*,application/pdf")]).await;
    put_file(&here, KEY, "fileName=a.zip", b"PK\x03\x04").await.is_refused(415, "type_not_allowed");
    assert_eq!(put_file(&here, KEY, "fileName=a.png", PNG).await.status, 201);
    // Both lists count.
    let tokens = log_in(&here, json!({"subject": "a", "allowedTypes": ["application/pdf", "application/zip"]})).await;
    put_file(&here, &tokens.access, "fileName=a.png", PNG).await.is_refused(415, "type_not_allowed");
    put_file(&here, &tokens.access, "fileName=a.zip", b"PK\x03\x04").await.is_refused(415, "type_not_allowed");
    assert_eq!(put_file(&here, &tokens.access, "fileName=a.pdf", b"%PDF-1.7\n").await.status, 201);
}
