//! What costs an attacker little and a gateway much.

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Growth, send};
use crate::access::{KEY, TOKENS};
use crate::harness::{Gateway, MIB, On};

/// As many as are asked for, of which none gets a part.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_uploads_are_opened_without_parts() {
    for on in On::BOTH {
        let gateway = Gateway::start_with(on, &TOKENS).await;
        let growth = Growth::of(&gateway);
        let open = (0..10_000).map(async |nth| {
            let wanted = json!({"fileId": format!("u{nth}"), "fileName": "a", "fileSize": 10 * MIB});
            let owner = "/uploads?owner=mallory";
            let answer = send(gateway.request(Method::POST, owner).bearer_auth(KEY).json(&wanted)).await;
            if answer.status != 201 {
                answer.is_refused(429, "too_many_uploads");
                assert!(answer.headers.contains_key("retry-after"));
            }
            answer.status.as_u16()
        });
        let answers: Vec<u16> = futures_util::stream::iter(open).buffer_unordered(64).collect().await;
        // `limits.max_open_uploads`, as it is by default.
        assert_eq!(answers.iter().filter(|status| **status == 201).count(), 1000, "{on:?}");
        growth.is_below(32 * MIB, &format!("{on:?}: 10 000 uploads opened"));
        // Nobody else pays for it.
        let other = json!({"fileName": "a", "fileSize": 10});
        let other = gateway.request(Method::POST, "/uploads?owner=alice").bearer_auth(KEY).json(&other);
        assert_eq!(send(other).await.status, 201);
        match &gateway.emulator {
            Some(emulator) => {
                assert_eq!((emulator.calls("initiate").await, emulator.calls("openParts").await), (0, 0));
            }
            None => {
                let begun = gateway.folder.path().join("data/objects/.chunkgate/uploads");
                assert_eq!(std::fs::read_dir(begun).map_or(0, Iterator::count), 0);
            }
        }
    }
}

/// Forms create uploads as well, one per form.
#[tokio::test(flavor = "multi_thread")]
async fn forms_that_bring_nothing_begin_nothing() {
    let gateway = Gateway::start_with(On::OssAndPostgres, &[("LIMITS__MAX_OPEN_UPLOADS", "20")]).await;
    for nth in 0..40 {
        // All of the fields, and none of the file's bytes.
        let form = format!(
            "--cut\r\nContent-Disposition: form-data; name=\"fileId\"\r\n\r\nf{nth}\r\n\
             --cut\r\nContent-Disposition: form-data; name=\"chunkIndex\"\r\n\r\n0\r\n\
             --cut\r\nContent-Disposition: form-data; name=\"totalChunks\"\r\n\r\n9999\r\n\
             --cut\r\nContent-Disposition: form-data; name=\"fileName\"\r\n\r\na\r\n\
             --cut\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n"
        );
        let head = format!(
            "POST /chunks HTTP/1.1\r\nHost: {}\r\nContent-Type: multipart/form-data; boundary=cut\r\n\
             Content-Length: {}\r\n\r\n",
            gateway.address,
            form.len() + 200_000
        );
        let mut socket = TcpStream::connect(gateway.address).await.expect("a connection");
        socket.write_all([head, form].concat().as_bytes()).await.expect("sent");
        socket.shutdown().await.expect("half closed");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let open = gateway.get("/uploads?limit=1000").await.json["uploads"].as_array().map_or(0, Vec::len);
    assert!(open <= 20, "{open}");
    let emulator = gateway.emulator.as_ref().expect("an emulator");
    println!("{open} uploads are open, {} multipart uploads begun", emulator.calls("initiate").await);
    assert_eq!(emulator.calls("partsStored").await, 0);
}
