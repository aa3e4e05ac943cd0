//! Requests that make no sense, to every operation: whatever they get must
//! still be an answer that the document describes.

use reqwest::{Method, RequestBuilder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::contract::{Contract, Operation};
use crate::harness::{Gateway, On};

/// What may stand in a path or a query where something else is expected.
const WORDS: [&str; 13] = [
    "%ff",
    "%00",
    "..%2f..",
    "%20",
    "-1",
    "1e9",
    "0x1",
    "99999999999999999999999999",
    "%F0%9F%92%A9",
    "'",
    "%22",
    "a%0d%0ab",
    "1.5",
];
const QUERIES: [&str; 12] = [
    "?limit=1&limit=2",
    "?fileId=a&fileId=b",
    "?fileName=a&fileName=b",
    "?view=all&view=all",
    "?strict=1&strict=2",
    "?=&&=",
    "?limit",
    "?cursor=%ff",
    "?status=%00",
    "?owner=%ff",
    "?%ff=%ff",
    "?checksum=md5:xyz&fileName=a",
];
const HEADERS: [(&str, &str); 16] = [
    ("Content-Type", "multipart/form-data"),
    ("Content-Type", "multipart/form-data; boundary="),
    ("Content-Type", "multipart/form-data; boundary=\"a\u{e9}\""),
    ("Content-Type", "application/json; charset=utf-16"),
    ("Content-Digest", "sha-256=:!:"),
    ("Content-MD5", "AA=="),
    ("X-Checksum-Crc64", "-1"),
    ("X-File-Id", "../../etc"),
    ("X-Chunk-Index", "NaN"),
    ("Range", "bytes=-"),
    ("Range", "bytes=9999999999999999999999-1"),
    ("If-None-Match", "*"),
    ("If-Range", "\u{e9}"),
    ("Authorization", "Bearer \u{e9}"),
    ("X-Request-Id", "a b"),
    ("Expect", "100-continue"),
];
const BODIES: [&[u8]; 9] = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b"{\"fileId\":1}",
    b"{\"fileId\":\"\\ud800\"}",
    b"--cut\r\n\r\n",
    b"{\"fileName\":\"a\",\"fileSize\":1e400}",
];

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_as_described() {
    let contract = Contract::read();
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let mut asked = 0;
    for operation in contract.operations() {
        for request in nonsense(&gateway, operation) {
            let answer = contract.ask(operation.path, request).await;
            // What this gateway cannot do it cannot, whatever is asked.
            let is_fine = !answer.status.is_server_error() || answer.status == 501;
            // And one asks to be refused.
            let is_fine = is_fine || (operation.id == "doctorSample" && answer.code() == "overloaded");
            assert!(is_fine, "{}: {answer:?}", operation.id);
            asked += 1;
        }
    }
    assert!(asked > 500, "{asked}");
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

/// Clients resolve `..` before they ask; who means harm does not.
#[tokio::test(flavor = "multi_thread")]
async fn no_path_leads_out_of_its_place() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    for (line, status) in [
        ("GET /uploads/..", 400),
        ("GET /uploads/%2e%2e", 400),
        ("GET /uploads/%2E%2e%2f..", 400),
        ("DELETE /uploads/.", 400),
        ("GET /files/../content", 400),
        ("GET /files/%2e%2e/content", 400),
        ("GET /chunks?fileId=..", 400),
        ("PUT /chunks/%2e%2e/0", 400),
        ("GET /page/../../etc/passwd", 404),
        ("GET /../livez", 404),
        ("GET /livez/..", 404),
    ] {
        let mut socket = TcpStream::connect(gateway.address).await.expect("a connection");
        let request = format!("{line} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", gateway.address);
        socket.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = vec![0; 4096];
        let read = socket.read(&mut answer).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..read]);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
        assert!(answer.contains("application/problem+json"), "{line}: {answer}");
    }
}

fn nonsense(gateway: &Gateway, operation: Operation<'_>) -> Vec<RequestBuilder> {
    let method = Method::from_bytes(operation.method.to_ascii_uppercase().as_bytes()).expect("a method");
    let ask = |path: &str| operation.request(gateway, method.clone(), path);
    let path = operation.path.replace("{id}", "evt_x").replace("{fileId}", "x").replace("{chunkIndex}", "0");
    let mut requests = Vec::new();
    for word in WORDS {
        for (hole, other) in [("{fileId}", "{chunkIndex}"), ("{chunkIndex}", "{fileId}")] {
            if operation.path.contains(hole) {
                requests.push(ask(&operation.path.replace(hole, word).replace(other, "0")));
            }
        }
        for name in ["fileId", "limit", "cursor", "status", "state", "view", "owner", "checksum", "contentType"] {
            requests.push(ask(&format!("{path}?{name}={word}")));
        }
    }
    requests.extend(QUERIES.map(|query| ask(&format!("{path}{query}"))));
    requests.extend(HEADERS.map(|(name, value)| {
        let value = reqwest::header::HeaderValue::from_bytes(value.as_bytes()).expect("a value");
        operation.sample(gateway).header(name, value)
    }));
    if !matches!(operation.method, "get" | "head" | "delete") {
        for body in BODIES {
            requests.push(ask(&path).body(body.to_vec()));
            let form = ask(&path).header("Content-Type", "multipart/form-data; boundary=cut");
            requests.push(form.body(body.to_vec()));
        }
    }
    requests
}
