//! Numbers that are too small, too large, or none.

use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Growth, is_untouched, send};
use crate::access::{KEY, TOKENS};
use crate::harness::{Answer, Gateway, MIB, On};
use crate::openapi::contract::with_form;

/// None of them is a number of chunks, bytes or seconds that can be.
const NUMBERS: [&str; 14] = [
    "-1",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "170141183460469231731687303715884105727",
    "170141183460469231731687303715884105728",
    "-170141183460469231731687303715884105729",
    "99999999999999999999999999999999999999999999",
    "1e3",
    "1.5",
    "1e400",
    "0x10",
    "NaN",
];

fn is_refused(answer: &Answer, shown: &str) {
    assert!(matches!(answer.status.as_u16(), 400 | 413), "{shown}: {answer:?}");
    assert!(!answer.code().is_empty(), "{shown}: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_json() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let post = |path: &str, body: String| gateway.request(Method::POST, path).body(body);
    for number in NUMBERS.into_iter().chain(["\"5\"", "null", "[5]", "true", "9007199254740993.0"]) {
        for (name, rest) in [
            ("fileSize", ""),
            ("chunkSize", ",\"fileSize\":10"),
            ("totalChunks", ",\"fileSize\":10"),
            ("fileSize", ",\"chunkSize\":5,\"totalChunks\":2"),
        ] {
            // What is left out may also be null.
            if number == "null" && name != "fileSize" {
                continue;
            }
            let body = format!("{{\"fileName\":\"a\",\"{name}\":{number}{rest}}}");
            is_refused(&send(post("/uploads", body.clone())).await, &body);
        }
    }
    let most = u64::MAX >> 1;
    for body in [
        json!({"fileName": "a", "fileSize": most}),
        json!({"fileName": "a", "fileSize": most, "chunkSize": most}),
        json!({"fileName": "a", "fileSize": most, "chunkSize": 1}),
        json!({"fileName": "a", "fileSize": 1, "chunkSize": 0}),
        json!({"fileName": "a", "fileSize": 1, "totalChunks": 4_294_967_296u64}),
        json!({"fileName": "a", "fileSize": most, "chunkSize": most, "totalChunks": most}),
        json!({"fileName": "a", "fileSize": 10_001, "chunkSize": 1}),
        json!({"fileName": "a", "fileSize": 10_001, "totalChunks": 10_001}),
    ] {
        is_refused(&send(post("/uploads", body.to_string())).await, &body.to_string());
    }
    is_untouched(&gateway).await;
    // No bytes are a file, and it has no chunks.
    let empty = gateway.post("/uploads", json!({"fileId": "e", "fileName": "a", "fileSize": 0})).await;
    assert_eq!(
        (empty.status.as_u16(), &empty.json["totalChunks"], &empty.json["status"]),
        (201, &json!(0), &json!("completed"))
    );
    for number in NUMBERS.into_iter().chain(["0", "604801", "\"5\""]) {
        let body = format!("{{\"expiresIn\":{number}}}");
        send(post("/files/e/sign", body)).await.is_refused(400, "invalid_request");
    }
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_chunks_and_in_forms() {
    let gateway = Gateway::start(On::OssAndPostgres).await;
    gateway.create("p", 3 * MIB, MIB).await;
    let more = ["4294967295", "4294967296", "4294967297", "10000", "10001", "3"];
    for number in NUMBERS.into_iter().chain(more) {
        let by_path = gateway.request(Method::PUT, &format!("/chunks/p/{number}")).body(vec![0; MIB]);
        let by_head = gateway.request(Method::PUT, "/chunks").header("X-File-Id", "p").header("X-Chunk-Index", number);
        let form =
            |path: &str, fields: &[(&str, &str)]| with_form(gateway.request(Method::POST, path), fields, &[0; 1000]);
        let known = [("fileId", "p"), ("chunkIndex", number), ("totalChunks", "3"), ("fileName", "a")];
        let new = [("fileId", "n"), ("chunkIndex", number), ("totalChunks", "3"), ("fileName", "a")];
        for request in [by_path, by_head.body(vec![0; MIB]), form("/chunks", &known), form("/upload-chunk", &new)] {
            let answer = send(request).await;
            assert!(matches!(answer.code(), "chunk_index_out_of_range" | "invalid_request"), "{number}: {answer:?}");
            assert_eq!(answer.status, 400, "{number}: {answer:?}");
        }
        let signed = gateway.request(Method::POST, "/uploads/p/parts/sign");
        let answer = send(signed.body(format!("{{\"chunkIndexes\":[0,{number}]}}"))).await;
        is_refused(&answer, number);
    }
    for number in NUMBERS.into_iter().chain(["10001", "4294967296", "4294967297"]) {
        let fields = [("fileId", "n"), ("chunkIndex", "0"), ("totalChunks", number), ("fileName", "a")];
        let answer = send(with_form(gateway.request(Method::POST, "/chunks"), &fields, &[0; 1000])).await;
        is_refused(&answer, number);
    }
    for (name, number) in NUMBERS.into_iter().flat_map(|number| [("fileSize", number), ("chunkSize", number)]) {
        let fields = [("fileId", "n"), ("chunkIndex", "0"), ("totalChunks", "1"), ("fileName", "a"), (name, number)];
        let answer = send(with_form(gateway.request(Method::POST, "/chunks"), &fields, &[0; 1000])).await;
        is_refused(&answer, &format!("{name} {number}"));
    }
    // Each alone can be; together they are no file.
    let most = (u64::MAX >> 1).to_string();
    for (count, chunk, total) in
        [("10000", most.as_str(), ""), ("2", &most, &most), ("10000", "1", &most), ("1", "", &most)]
    {
        let fields = [("fileId", "n"), ("chunkIndex", "0"), ("totalChunks", count), ("fileName", "a")];
        let fields = [&fields[..], &[("chunkSize", chunk), ("fileSize", total)]].concat();
        let answer = send(with_form(gateway.request(Method::POST, "/chunks"), &fields, &[0; 1000])).await;
        is_refused(&answer, &format!("{count} {chunk} {total}"));
    }
    assert_eq!(gateway.received("p").await, Vec::<usize>::new());
    assert_eq!(gateway.get("/uploads").await.json["uploads"].as_array().map(Vec::len), Some(1));
    assert_eq!(gateway.emulator.as_ref().expect("an emulator").calls("initiate").await, 0);
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn in_queries_and_heads() {
    let gateway = Gateway::start_with(On::FileAndSqlite, &TOKENS).await;
    let ask = |method: Method, path: &str| -> RequestBuilder { gateway.request(method, path).bearer_auth(KEY) };
    assert_eq!(send(ask(Method::POST, "/files?fileName=a&fileId=f").body("hello")).await.status, 201);
    for number in NUMBERS {
        for query in ["/files?limit=", "/files?page=", "/uploads?limit=", "/files?limit=1&page="] {
            send(ask(Method::GET, &format!("{query}{number}"))).await.is_refused(400, "invalid_parameter");
        }
        let sum = ask(Method::PUT, "/chunks/p/0").header("X-Checksum-Crc64", number).body("hello");
        let answer = send(sum).await;
        assert!(matches!(answer.status.as_u16(), 400 | 404), "{number}: {answer:?}");
        let login = format!("{{\"subject\":\"a\",\"maxFileSize\":{number}}}");
        let answer = send(ask(Method::POST, "/auth/tokens").body(login)).await;
        assert!(matches!(answer.status.as_u16(), 200 | 400), "{number}: {answer:?}");
        // Either a range of five bytes, or none.
        for range in [format!("bytes={number}-"), format!("bytes=0-{number}"), format!("bytes=-{number}")] {
            let answer = send(ask(Method::GET, "/files/f/content").header("Range", &range)).await;
            assert!(matches!(answer.status.as_u16(), 200 | 206 | 416), "{range}: {answer:?}");
        }
    }
    let page = send(ask(Method::GET, "/files?page=1000000000&limit=1000")).await;
    assert_eq!((page.status.as_u16(), &page.json["files"]), (200, &json!([])));
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

/// Refused by their heads: nothing is read, and no memory is taken for them.
#[tokio::test(flavor = "multi_thread")]
async fn lengths_that_nobody_can_send() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    gateway.create("p", 10, 5).await;
    let growth = Growth::of(&gateway);
    let mut sockets = Vec::new();
    for length in ["9223372036854775807", "9223372036854775808", "18446744073709551613", "18446744073709551615"] {
        for (line, mime, status) in [
            ("PUT /chunks/p/0", "", 400),
            ("PUT /chunks/none/0", "", 404),
            ("POST /files?fileName=a", "", 413),
            ("POST /uploads", "application/json", 413),
            ("POST /chunks/complete", "application/json", 413),
            ("POST /chunks", "text/plain", 400),
        ] {
            for _ in 0..20 {
                let mut socket = TcpStream::connect(gateway.address).await.expect("a connection");
                let head = format!(
                    "{line} HTTP/1.1\r\nHost: {}\r\nContent-Type: {mime}\r\nContent-Length: {length}\r\n\r\n",
                    gateway.address
                );
                socket.write_all(head.as_bytes()).await.expect("sent");
                let mut answer = vec![0; 4096];
                let read = socket.read(&mut answer).await.expect("an answer");
                let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
                let given = answer.get(9..12).and_then(|status| status.parse().ok());
                // The largest means to hyper that there is none.
                let expected = if length == "18446744073709551615" { 431 } else { status };
                assert_eq!(given, Some(expected), "{line} {length}: {answer}");
                sockets.push(socket);
            }
        }
    }
    growth.is_below(32 * MIB, &format!("{} bodies of 2^63 bytes and more are announced", sockets.len()));
    // A form is read from its beginning: it ends with its first bytes.
    let form = format!(
        "POST /chunks HTTP/1.1\r\nHost: {}\r\nContent-Type: multipart/form-data; boundary=cut\r\n\
         Content-Length: 9223372036854775808\r\n\r\n--cut\r\nContent-Disposition: form-data; name=\"fileId\"\r\n\r\nn\r\n\
         --cut\r\nContent-Disposition: form-data; name=\"chunkIndex\"\r\n\r\n0\r\n\
         --cut\r\nContent-Disposition: form-data; name=\"totalChunks\"\r\n\r\n1\r\n\
         --cut\r\nContent-Disposition: form-data; name=\"fileName\"\r\n\r\na\r\n\
         --cut\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nhello",
        gateway.address
    );
    let mut socket = TcpStream::connect(gateway.address).await.expect("a connection");
    socket.write_all(form.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 4096];
    let read = socket.read(&mut answer).await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}
