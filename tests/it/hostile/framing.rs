//! Requests that two readers could take for different ones.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Growth, say};
use crate::harness::{Gateway, MIB, On};

/// A gateway with two uploads of one chunk of five bytes.
async fn gateway() -> Gateway {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    gateway.create("p", 10, 5).await;
    gateway
}

async fn is_refused_and_closed(gateway: &Gateway, request: &[u8], statuses: &[u16]) {
    let shown: String = String::from_utf8_lossy(request).chars().take(200).collect();
    let answers = say(gateway.address, request).await;
    // What stood behind it was not read as a request.
    assert!(answers.len() <= 1, "{shown:?} is answered, and so is what follows: {answers:?}");
    let status = answers.first().and_then(|answer| answer.get(..3)?.parse::<u16>().ok());
    assert!(status.is_some_and(|status| statuses.contains(&status)), "{shown:?}: {answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_of_two_meanings_are_refused_and_closed() {
    let gateway = gateway().await;
    let host = format!("Host: {}", gateway.address);
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 6\r\nContent-Length: 5",
        "Content-Length: 5, 6",
        "Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 50",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: ",
        "Content-Length: 5\u{a0}",
        "Content-Length: 18446744073709551616",
        "Content-Length: 99999999999999999999999999",
        "Content-Length : 5",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding : chunked",
        "Content-Length: 5\r\n Transfer-Encoding: chunked",
        "X: a\0b\r\nContent-Length: 5",
        "X: a\rb\r\nContent-Length: 5",
        "X\r\nContent-Length: 5",
        ": a\r\nContent-Length: 5",
        "\u{e9}: a\r\nContent-Length: 5",
    ] {
        let request = format!("PUT /chunks/p/0 HTTP/1.1\r\n{host}\r\n{fields}\r\n\r\nhello");
        is_refused_and_closed(&gateway, request.as_bytes(), &[400]).await;
    }
    for line in [
        "PUT /chunks/p/0",
        "PUT /chunks/p/0 HTTP/1.1 ",
        "PUT  /chunks/p/0 HTTP/1.1",
        "PUT /chunks/p/0 HTTP/9.9",
        "PUT /chunks/p/0 HTTP/2.0",
        "P\0T /chunks/p/0 HTTP/1.1",
        "PUT /chunks/\u{7f} HTTP/1.1",
        "PUT chunks/p/0 HTTP/1.1",
    ] {
        let request = format!("{line}\r\n{host}\r\nContent-Length: 5\r\n\r\nhello");
        is_refused_and_closed(&gateway, request.as_bytes(), &[400]).await;
    }
    let old =
        format!("PUT /chunks/p/0 HTTP/1.0\r\n{host}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    is_refused_and_closed(&gateway, old.as_bytes(), &[400]).await;
    for hosts in [String::new(), format!("{host}\r\n{host}\r\n"), format!("{host}\r\nHost: evil.example\r\n")] {
        let request = format!("PUT /chunks/p/0 HTTP/1.1\r\n{hosts}Content-Length: 5\r\n\r\nhello");
        is_refused_and_closed(&gateway, request.as_bytes(), &[400]).await;
    }
    for hosts in [format!("{host}\r\n{host}"), format!("{host}\r\nHost: evil.example")] {
        let old = format!("PUT /chunks/p/0 HTTP/1.0\r\n{hosts}\r\nContent-Length: 5\r\n\r\nhello");
        let mut socket = TcpStream::connect(gateway.address).await.expect("a connection");
        socket.write_all(old.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("closed");
        assert!(answer.starts_with("HTTP/1.0 400 "), "{answer}");
    }
    // A coding that is left when `chunked` is undone would be taken for the file's bytes.
    for coding in ["gzip, chunked", "identity, chunked", "gzip\r\nTransfer-Encoding: chunked", "chunked, chunked"] {
        let request =
            format!("PUT /chunks/p/0 HTTP/1.1\r\n{host}\r\nTransfer-Encoding: {coding}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        let answers = say(gateway.address, request.as_bytes()).await;
        assert!(answers[0].starts_with("415 ") || answers[0].starts_with("400 "), "{coding}: {answers:?}");
    }
    assert_eq!(gateway.received("p").await, Vec::<usize>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_beyond_their_bounds_are_refused_and_closed() {
    let gateway = gateway().await;
    let growth = Growth::of(&gateway);
    let head = format!("GET /uploads HTTP/1.1\r\nHost: {}\r\n", gateway.address);
    let many: String = (0..200).map(|n| format!("X-{n}: a\r\n")).collect();
    for _ in 0..50 {
        let long = format!("{head}X: {}\r\n\r\n", "a".repeat(300 << 10));
        is_refused_and_closed(&gateway, long.as_bytes(), &[431]).await;
        is_refused_and_closed(&gateway, format!("{head}{many}\r\n").as_bytes(), &[431]).await;
        let path = format!("GET /{} HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(300 << 10), gateway.address);
        is_refused_and_closed(&gateway, path.as_bytes(), &[414, 431]).await;
    }
    growth.is_below(32 * MIB, "150 heads of 300 KiB");
}

/// Whatever reads the body: a chunk, JSON, a form, a file, and nobody at all.
#[tokio::test(flavor = "multi_thread")]
async fn chunked_bodies_that_are_none_are_refused_and_closed() {
    let gateway = gateway().await;
    let growth = Growth::of(&gateway);
    let extension = "x".repeat(20 << 10);
    let slivers: String = (0..30).map(|_| format!("1;{}\r\nh\r\n", "x".repeat(1 << 10))).collect();
    let bodies = [
        "10000000000000000\r\nhello\r\n0\r\n\r\n".to_owned(),
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFF05\r\nhello\r\n0\r\n\r\n".to_owned(),
        "-5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "0x5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "+5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "\r\nhello\r\n0\r\n\r\n".to_owned(),
        "5 5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "5\nhello\r\n0\r\n\r\n".to_owned(),
        "5\r\nhelloX0\r\n\r\n".to_owned(),
        "5\r\nhello\n0\r\n\r\n".to_owned(),
        format!("5;{extension}\r\nhello\r\n0\r\n\r\n"),
        format!("5;a=\"{extension}\"\r\nhello\r\n0\r\n\r\n"),
        format!("{slivers}0\r\n\r\n"),
        format!("5\r\nhello\r\n0\r\nX: {}\r\n\r\n", "x".repeat(100 << 10)),
    ];
    for (line, fields) in [
        ("PUT /chunks/p/0", ""),
        ("POST /uploads", ""),
        ("POST /chunks/complete", ""),
        ("POST /chunks", "Content-Type: multipart/form-data; boundary=cut\r\n"),
        ("POST /files?fileName=a", ""),
        ("PUT /chunks/none/0", ""),
        ("GET /livez", ""),
    ] {
        for body in &bodies {
            let host = gateway.address;
            let request =
                format!("{line} HTTP/1.1\r\nHost: {host}\r\n{fields}Transfer-Encoding: chunked\r\n\r\n{body}");
            // By its head: there is no such upload, the length is not known, the route wants no body.
            let statuses = if line.starts_with("GET") { &[200][..] } else { &[400, 404, 411] };
            is_refused_and_closed(&gateway, request.as_bytes(), statuses).await;
        }
    }
    growth.is_below(32 * MIB, "chunked bodies that are none");
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

/// Where there is one safe reading, that is the answer.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_one_safe_reading() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let host = format!("Host: {}", gateway.address);
    let twice = "Content-Length: 5\r\nContent-Length: 5";
    for (id, fields, body, goes_on) in [
        ("equal", twice, "hello", true),
        ("both", "Content-Length: 3\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n", false),
        ("other", "Transfer-Encoding: chunked\r\nContent-Length: 3", "5\r\nhello\r\n0\r\n\r\n", false),
        ("wrong", "Transfer-Encoding: chunked\r\nContent-Length: x", "5\r\nhello\r\n0\r\n\r\n", false),
        ("chunked", "Transfer-Encoding: chunked", "5;a=b\r\nhello\r\n0\r\nTrailer: x\r\n\r\n", true),
        ("CHUNKED", "Transfer-Encoding: CHUNKED", "05\r\nhello\r\n000\r\n\r\n", true),
    ] {
        gateway.create(id, 5, 5).await;
        let request = format!("PUT /chunks/{id}/0 HTTP/1.1\r\n{host}\r\n{fields}\r\n\r\n{body}");
        let answers = say(gateway.address, request.as_bytes()).await;
        assert!(answers[0].starts_with("200 ") && answers[0].contains("\"complete\":true"), "{fields}: {answers:?}");
        assert_eq!(answers.len() > 1, goes_on, "{fields}: {answers:?}");
        assert_eq!(gateway.download(id).await, b"hello", "{fields}");
    }
    // Bare line feeds end lines, as RFC 9112 §2.2 lets a reader have it, and only lines.
    gateway.create("bare", 5, 5).await;
    let bare = format!("PUT /chunks/bare/0 HTTP/1.1\n{host}\nContent-Length: 5\n\nhello");
    let answers = say(gateway.address, bare.as_bytes()).await;
    assert!(answers.len() == 2 && answers[0].starts_with("200 "), "{answers:?}");
    assert_eq!(gateway.download("bare").await, b"hello");
}

/// There is neither here: a proxy in front speaks them.
#[tokio::test(flavor = "multi_thread")]
async fn http_2_and_tls_are_a_proxys() {
    let gateway = gateway().await;
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..]].concat();
    let hello = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[7; 508][..]].concat();
    for bytes in [preface, hello] {
        let answers = say(gateway.address, &bytes).await;
        assert!(answers.len() <= 1, "{answers:?}");
        assert!(answers.first().is_none_or(|answer| answer.starts_with("400 ")), "{answers:?}");
    }
    let upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA";
    let request = format!("GET /livez HTTP/1.1\r\nHost: {}\r\n{upgrade}\r\n\r\n", gateway.address);
    let answers = say(gateway.address, request.as_bytes()).await;
    assert!(answers.len() == 2 && answers[0].starts_with("200 "), "{answers:?}");
    for line in
        ["CONNECT 169.254.169.254:80", "GET http://169.254.169.254/latest/meta-data", "TRACE /livez", "OPTIONS *"]
    {
        let request = format!("{line} HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.address);
        let answers = say(gateway.address, request.as_bytes()).await;
        let status: u16 = answers[0][..3].parse().expect("a status");
        assert!(matches!(status, 204 | 400 | 403 | 404 | 405), "{line}: {answers:?}");
    }
}
