//! What is in files, and what is said of it.

use std::fmt::Write as _;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Growth, is_untouched, send, with_query};
use crate::harness::{Answer, Gateway, MIB, On};
use crate::openapi::contract::with_form;

const ACTIVE: [(&str, &str, &[u8]); 7] = [
    ("a.html", "text/html; charset=utf-8", b"<!DOCTYPE html><script>alert(document.cookie)</script>"),
    (
        "a.xhtml",
        "application/xhtml+xml",
        b"<html xmlns=\"http://www.w3.org/1999/xhtml\"><script>alert(1)</script></html>",
    ),
    ("a.svg", "image/svg+xml", b"<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert(1)\"/>"),
    ("a.png", "image/png", b"alert(1)//"),
    ("a.js", "text/javascript", b"alert(1)"),
    ("a.xml", "text/xml", b"<?xml-stylesheet href=\"//evil.example/x.xsl\" type=\"text/xsl\"?><a/>"),
    ("a.pdf", "application/pdf", b"%PDF-1.7\n1 0 obj<</OpenAction<</S/JavaScript/JS(app.alert(1))>>>>"),
];

fn text<'a>(answer: &'a reqwest::Response, name: &str) -> &'a str {
    let values: Vec<_> = answer.headers().get_all(name).iter().collect();
    assert_eq!(values.len(), 1, "{name}: {values:?}");
    values[0].to_str().expect("ASCII")
}

fn does_not_run(answer: &reqwest::Response, kind: &str, mime: &str) {
    assert!(text(answer, "content-disposition").starts_with(kind), "{answer:?}");
    assert_eq!(text(answer, "x-content-type-options"), "nosniff");
    assert_eq!(text(answer, "content-security-policy"), "sandbox");
    assert_eq!(text(answer, "cross-origin-resource-policy"), "same-origin");
    assert_eq!(text(answer, "content-type"), mime);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_users_upload_does_not_run_in_a_page() {
    for on in On::BOTH {
        let gateway = Gateway::start(on).await;
        for (name, mime, bytes) in ACTIVE {
            let id = name.replace('.', "-");
            let request = gateway.request(Method::POST, &with_query("/files", &[("fileName", name), ("fileId", &id)]));
            let made = send(request.header("Content-Type", mime).body(bytes)).await;
            assert_eq!(made.status, 201, "{made:?}");
            let path = format!("/files/{id}/content");
            let ask = async |method: Method, header: (&str, &str)| {
                let asked = gateway.request(method, &path).header("Accept", "text/html").header(header.0, header.1);
                asked.send().await.expect("an answer")
            };
            let etag = ask(Method::HEAD, ("Accept", "*/*")).await.headers()["etag"].to_str().expect("ASCII").to_owned();
            for (method, header, status) in [
                (Method::GET, ("Accept", "*/*"), 200),
                (Method::HEAD, ("Accept", "*/*"), 200),
                (Method::GET, ("Range", "bytes=0-3"), 206),
                (Method::GET, ("If-None-Match", etag.as_str()), 304),
            ] {
                let answer = ask(method, header).await;
                assert_eq!(answer.status(), status);
                does_not_run(&answer, "attachment", mime);
            }
            if on == On::FileAndSqlite {
                // Shown in a tab because its owner's link says so: it still runs nothing.
                let link = gateway.post(&format!("/files/{id}/sign"), json!({"inline": true})).await;
                let link = gateway.url(link.json["url"].as_str().expect("a path"));
                let shown = gateway.http.get(link).send().await.expect("an answer");
                does_not_run(&shown, "inline", mime);
                assert_eq!(shown.bytes().await.expect("bytes"), bytes);
            }
        }
    }
}

/// One that no list of kinds is asked about, and one that is.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_is_not_what_its_name_says() {
    let gateway = Gateway::start_with(On::FileAndSqlite, &[("UPLOAD__ALLOWED_TYPES", "image/png,text/plain")]).await;
    for (nth, (name, mime, bytes)) in ACTIVE.into_iter().enumerate() {
        // By its name, by what is said of it, by its first bytes.
        for (name, mime) in [(name, mime), ("a.png", "image/png"), ("a.txt", mime)] {
            let id = format!("k{nth}");
            let wanted = json!({"fileId": id, "fileName": name, "fileSize": bytes.len(), "contentType": mime});
            let created = gateway.post("/uploads", wanted).await;
            if created.status == 201 {
                gateway.put(&id, 0, bytes).await.is_refused(415, "type_not_allowed");
                assert_eq!(gateway.delete(&format!("/uploads/{id}")).await.status, 204);
            } else {
                created.is_refused(415, "type_not_allowed");
            }
        }
    }
    let objects = gateway.folder.path().join("data/objects/.chunkgate/uploads");
    assert_eq!(std::fs::read_dir(objects).map_or(0, Iterator::count), 0, "nothing was begun");
    assert_eq!(gateway.get("/files").await.json["files"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_would_end_a_header_is_refused() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let long = format!("a/{}", "b".repeat(254));
    for mime in [
        "text/html\r\nX-Injected: yes",
        "text/html\nSet-Cookie: a=b",
        "text/html\r\n\r\n<script>alert(1)</script>",
        "image/png\0",
        "image/png\u{1b}[31m",
        "图/片",
        "image/\u{202e}gnp",
        "png",
        long.as_str(),
    ] {
        let wanted = json!({"fileName": "a", "fileSize": 5, "contentType": mime});
        gateway.post("/uploads", wanted).await.is_refused(400, "invalid_request");
        let request = gateway.request(Method::POST, &with_query("/files", &[("fileName", "a"), ("contentType", mime)]));
        send(request.body("hello")).await.is_refused(400, "invalid_request");
        let fields = [("fileId", "a"), ("chunkIndex", "0"), ("totalChunks", "1"), ("fileName", "a")];
        let fields = [&fields[..], &[("contentType", mime)]].concat();
        for path in ["/chunks", "/files"] {
            let request = with_form(gateway.request(Method::POST, path), &fields, b"hello");
            send(request).await.is_refused(400, "invalid_request");
        }
    }
    is_untouched(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_beyond_its_bounds() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let with = |metadata: &Value| json!({"fileName": "a", "fileSize": 5, "metadata": metadata});
    let mut keys = "{".to_owned();
    for n in 0..10_000 {
        write!(keys, "\"{n}\":\"\",").expect("written");
    }
    let keys: Value = serde_json::from_str(&format!("{}}}", keys.trim_end_matches(','))).expect("JSON");
    let large = json!({"k": "v".repeat(1 << 20)});
    let many: serde_json::Map<String, Value> = (0..65).map(|n| (n.to_string(), json!("v"))).collect();
    let many = Value::Object(many);
    let heavy = json!({"k": "v".repeat(8 << 10)});
    let growth = Growth::of(&gateway);
    for metadata in [&keys, &large, &many, &heavy] {
        let both = join_all((0..16).map(async |_| {
            let json = gateway.post("/uploads", with(metadata)).await;
            let text = metadata.to_string();
            let form = with_form(gateway.request(Method::POST, "/files"), &[("metadata", &text)], b"hello");
            [json, send(form).await]
        }));
        for answer in both.await.into_iter().flatten() {
            answer.is_refused(413, "metadata_too_large");
        }
    }
    growth.is_below(32 * MIB, "metadata of 1 MiB and of 10 000 keys");
    // As large as it may be.
    let most: serde_json::Map<String, Value> = (0..64).map(|n| (format!("{n:02}"), json!("v".repeat(126)))).collect();
    let made = gateway.post("/uploads", with(&Value::Object(most))).await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.json["fileId"].as_str().expect("an id");
    assert_eq!(gateway.delete(&format!("/uploads/{id}")).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_text_is_refused() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let not_utf8: [&[u8]; 6] =
        [b"\xff", b"\xc0\xaf", b"\xe2\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80"];
    for bytes in not_utf8 {
        let json = [&b"{\"fileName\":\"a\",\"fileSize\":5,\"metadata\":{\"k\":\""[..], bytes, b"\"}}"].concat();
        send(gateway.request(Method::POST, "/uploads").body(json)).await.is_refused(400, "invalid_request");
        for (path, field) in [("/files", "metadata"), ("/chunks", "fileName"), ("/chunks", "note")] {
            let head = format!("--cut\r\nContent-Disposition: form-data; name=\"{field}\"\r\n\r\n");
            let rest =
                "\r\n--cut\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx\r\n--cut--\r\n";
            let form = [head.as_bytes(), bytes, rest.as_bytes()].concat();
            let request = gateway.request(Method::POST, path);
            let request = request.header("content-type", "multipart/form-data; boundary=cut").body(form);
            send(request).await.is_refused(400, "invalid_request");
        }
    }
    // As deep as a body of 64 KiB can be.
    let growth = Growth::of(&gateway);
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let depth = 60_000 / open.len();
        let nested = format!("{{\"fileName\":\"a\",\"fileSize\":5,\"metadata\":{}0{}}}", open.repeat(depth), close);
        let answer: Answer = send(gateway.request(Method::POST, "/uploads").body(nested)).await;
        answer.is_refused(400, "invalid_request");
    }
    growth.is_below(16 * MIB, "JSON nested 60 000 levels deep");
    is_untouched(&gateway).await;
}

/// Forty megabytes of zeros in forty kilobytes.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_decompressed() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let bomb = bomb();
    let growth = Growth::of(&gateway);
    for coding in ["gzip", "GZIP", "x-gzip", "deflate", "br", "zstd", "compress", "gzip, gzip", "\u{e9}"] {
        let ask = |method: Method, path: &str| {
            let value = reqwest::header::HeaderValue::from_bytes(coding.as_bytes()).expect("a value");
            gateway.request(method, path).header("Content-Encoding", value).body(bomb.clone())
        };
        for (method, path) in [
            (Method::PUT, "/chunks/a/0"),
            (Method::POST, "/files?fileName=a"),
            (Method::POST, "/chunks"),
            (Method::POST, "/upload-chunk"),
        ] {
            send(ask(method, path)).await.is_refused(415, "unsupported_encoding");
        }
        // Nobody looks for JSON in it.
        for path in ["/uploads", "/uploads/sign", "/chunks/complete", "/files/a/sign", "/uploads/a/parts/sign"] {
            let answer = send(ask(Method::POST, path)).await;
            assert!(matches!(answer.status.as_u16(), 400 | 413 | 415), "{path}: {answer:?}");
        }
    }
    growth.is_below(32 * MIB, "bodies that say they are compressed");
    is_untouched(&gateway).await;
}

/// The gzip of 40 MiB of zeros, made by hand: deflate's fixed code for "258 times the byte before".
fn bomb() -> Vec<u8> {
    let mut bits: Vec<bool> = vec![true, true, false];
    // A zero, and then matches of the longest length at distance 1.
    bits.extend([false, false, true, true, false, false, false, false]);
    for _ in 0..(40 * MIB / 258) {
        bits.extend([true, true, false, false, false, true, false, true]);
        bits.extend([false; 5]);
    }
    bits.extend([false; 7]);
    let packed = bits.chunks(8).map(|byte| byte.iter().enumerate().fold(0, |all, (n, bit)| all | u8::from(*bit) << n));
    [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3].into_iter().chain(packed).collect()
}
