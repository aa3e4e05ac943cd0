//! What the head of a request says twice, and what is decided by it alone.

use std::time::Duration;

use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::head;
use crate::harness::{Answer, Gateway, MIB, On, content};

/// Of two headers nobody knows which is meant.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_head_says_twice() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    gateway.create("h", 2 * MIB, MIB).await;
    let bytes = content(MIB, 1);
    let put = async |headers: &[(&str, &str)]| {
        let request = gateway.request(Method::PUT, "/chunks");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Answer::of(request.body(bytes.clone()).send().await).await
    };
    const ID: (&str, &str) = ("x-file-id", "h");
    const INDEX: (&str, &str) = ("x-chunk-index", "0");
    for codings in [&["identity", "gzip"][..], &["identity, gzip"], &["gzip, identity"]] {
        let lines: Vec<_> = codings.iter().map(|coding| ("content-encoding", *coding)).collect();
        put(&[&[ID, INDEX], &lines[..]].concat()).await.is_refused(415, "unsupported_encoding");
        let file = lines.iter().fold(gateway.request(Method::POST, "/files?fileName=a"), |r, (n, v)| r.header(*n, *v));
        Answer::of(file.body("x").send().await).await.is_refused(415, "unsupported_encoding");
    }
    let right = format!("sha-256=:{}:", base64(&sha2_of(&bytes)));
    let wrong = format!("sha-256=:{}:", base64(&[0; 32]));
    let list = format!("{right}, {wrong}");
    for digests in [&[&right[..], &wrong][..], &[&list], &[&wrong, &right]] {
        let lines: Vec<_> = digests.iter().map(|digest| ("content-digest", *digest)).collect();
        put(&[&[ID, INDEX], &lines[..]].concat()).await.is_refused(400, "invalid_request");
    }
    for twice in [
        &[ID, INDEX, ("x-file-id", "other")][..],
        &[ID, INDEX, ("x-chunk-index", "1")],
        &[ID, INDEX, ("x-checksum-crc64", "1"), ("x-checksum-crc64", "2")],
        &[ID, INDEX, ("content-md5", "kAFQmDzST7DWlj99KOF/cg=="), ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")],
    ] {
        put(twice).await.is_refused(400, "invalid_request");
    }
    assert_eq!(gateway.received("h").await, Vec::<usize>::new());
    let same =
        [ID, INDEX, ("content-digest", &right[..]), ("content-digest", &right), ("content-encoding", "Identity")];
    assert_eq!(put(&same).await.status, 200);
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn sha2_of(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).into()
}

/// A client that has sent all of it may say so, and still waits for its answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_nothing_more_to_say_is_answered() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    for n in 0..20 {
        let mut socket = TcpStream::connect(gateway.address).await.expect("a connection");
        let head = format!("POST /files?fileName=a&fileId=h{n} HTTP/1.1\r\nHost: {}\r\n", gateway.address);
        socket.write_all(format!("{head}Content-Length: 5\r\n\r\nhello").as_bytes()).await.expect("sent");
        socket.shutdown().await.expect("half closed");
        let mut answer = String::new();
        let read = tokio::time::timeout(Duration::from_secs(10), socket.read_to_string(&mut answer)).await;
        read.expect("in time").expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 201"), "{n}: {answer:?}");
    }
    // One that breaks off is told what is missing.
    gateway.create("b", MIB, MIB).await;
    let mut socket = TcpStream::connect(gateway.address).await.expect("a connection");
    let head = format!("PUT /chunks/b/0 HTTP/1.1\r\nHost: {}\r\nContent-Length: {MIB}\r\n\r\nxxx", gateway.address);
    socket.write_all(head.as_bytes()).await.expect("sent");
    socket.shutdown().await.expect("half closed");
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_secs(10), socket.read_to_string(&mut answer)).await;
    read.expect("in time").expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("body_too_short"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_by_its_head_and_cut_in_the_log() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let post = format!("POST /uploads HTTP/1.1\r\nHost: {}\r\nContent-Length: 100000\r\n\r\n", gateway.address);
    let answer = tokio::time::timeout(Duration::from_secs(5), head(gateway.address, &post)).await.expect("at once");
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("metadata_too_large"), "{answer}");
    gateway.get(&format!("/nothing/{}", "x".repeat(60_000))).await.is_refused(404, "not_found");
    let log = gateway.log();
    let line = log.lines().find(|line| line.contains("/nothing/")).expect("a line");
    assert!(line.len() < 1000, "{} bytes", line.len());
}
