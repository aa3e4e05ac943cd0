//! The client vanishes, stalls, or sends something else than it said.

use std::time::Duration;

use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::stand::{Database, RawPut, Stand, has_received, is_whole};
use crate::harness::{Answer, Gateway, MIB, On, client, content};
use crate::oss_proxy::{Fault, Gate, Operation};

/// One chunk at a time: a place that is not given back shows at once.
const ONE_PLACE: [(&str, &str); 2] = [("LIMITS__MAX_CONCURRENT_CHUNKS", "1"), ("LIMITS__QUEUE_WAIT", "5s")];

async fn parts_stored(gateway: &Gateway) -> u64 {
    match &gateway.emulator {
        Some(emulator) => emulator.calls("partsStored").await,
        None => 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_25_a_client_vanishes_in_mid_body() {
    let bytes = content(2 * MIB, 1);
    for on in On::BOTH {
        let gateway = Gateway::start_with(on, &ONE_PLACE).await;
        gateway.create("a", bytes.len(), MIB).await;
        for sent in [0, 1, MIB / 2, MIB - 1] {
            let mut put = RawPut::begin(gateway.address, "a", 0, MIB).await;
            put.send(&bytes[..sent]).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            drop(put);
        }
        has_received(&gateway, "a", &[], &[[0, 1]]).await;
        assert_eq!(parts_stored(&gateway).await, 0, "what was sent became no part");
        // The place and the index are free: the retry neither waits nor supersedes.
        let began = tokio::time::timeout(Duration::from_secs(2), gateway.put("a", 0, &bytes[..MIB])).await;
        assert_eq!(began.expect("at once").status, 200);
        gateway.put("a", 1, &bytes[MIB..]).await;
        is_whole(&gateway, "a", &bytes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_26_a_body_shorter_or_longer_than_announced() {
    let bytes = content(2 * MIB, 2);
    for on in On::BOTH {
        let gateway = Gateway::start(on).await;
        gateway.create("a", bytes.len(), MIB).await;
        // Shorter: the client has closed its side, and still listens.
        let mut put = RawPut::begin(gateway.address, "a", 0, MIB).await;
        put.send(&bytes[..MIB - 1]).await;
        put.close().await;
        let answer = put.answer().await;
        assert!(
            answer.is_empty() || (answer.starts_with("HTTP/1.1 400") && answer.contains("body_too_short")),
            "{answer}"
        );
        // With chunked coding the length shows only at the end.
        for (length, code) in [(MIB - 1, "body_too_short"), (MIB + 1, "body_too_long")] {
            let frames: Vec<_> =
                content(length, 3).chunks(50_000).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect();
            let body = reqwest::Body::wrap_stream(futures_util::stream::iter(frames));
            let sent = gateway.request(Method::PUT, "/chunks/a/0").body(body).send().await;
            Answer::of(sent).await.is_refused(400, code);
        }
        has_received(&gateway, "a", &[], &[[0, 1]]).await;
        assert_eq!(parts_stored(&gateway).await, 0);
        // Longer than its Content-Length: the chunk is what was announced, and
        // what follows is no request.
        let mut socket = TcpStream::connect(gateway.address).await.expect("a connection");
        let head = format!("PUT /chunks/a/0 HTTP/1.1\r\nHost: {}\r\nContent-Length: {MIB}\r\n\r\n", gateway.address);
        socket.write_all(head.as_bytes()).await.expect("sent");
        socket.write_all(&bytes[..MIB]).await.expect("sent");
        socket.write_all(b"\x01surplus\r\n\r\n").await.expect("sent");
        let mut answers = Vec::new();
        let reading = socket.read_to_end(&mut answers);
        let _ = tokio::time::timeout(Duration::from_secs(10), reading).await.expect("the connection is closed");
        let answers = String::from_utf8_lossy(&answers).into_owned();
        assert!(answers.starts_with("HTTP/1.1 200") && answers.contains("HTTP/1.1 400"), "{answers}");
        has_received(&gateway, "a", &[0], &[[1, 1]]).await;
        gateway.put("a", 1, &bytes[MIB..]).await;
        is_whole(&gateway, "a", &bytes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_27_a_chunk_that_does_not_fit_the_plan() {
    let bytes = content(2 * MIB + 5, 4);
    let refused = async |gateway: &Gateway| {
        gateway.create("a", bytes.len(), MIB).await;
        for (index, length) in [(0, MIB - 1), (0, MIB + 1), (0, 0), (1, 5), (2, MIB), (2, 4)] {
            let answer = gateway.put("a", index, &bytes[..length]).await;
            answer.is_refused(400, "chunk_size_mismatch");
            assert_eq!(answer.json["expectedSize"], if index == 2 { 5 } else { MIB });
        }
        gateway.put("a", 3, &bytes[..5]).await.is_refused(400, "chunk_index_out_of_range");
        has_received(gateway, "a", &[], &[[0, 2]]).await;
    };
    for database in Database::BOTH {
        let stand = Stand::start(database).await;
        refused(&stand.gateway).await;
        let asked = [Operation::Initiate, Operation::UploadPart].map(|operation| stand.proxy.calls(operation));
        assert_eq!(asked, [0, 0], "the store was not asked");
        stand.gateway.put_all("a", &bytes, MIB).await;
        is_whole(&stand.gateway, "a", &bytes).await;
    }
    let gateway = Gateway::start(On::FileAndSqlite).await;
    refused(&gateway).await;
    let uploads = gateway.folder.path().join("data/objects/.chunkgate/uploads");
    assert_eq!(std::fs::read_dir(uploads).map_or(0, Iterator::count), 0, "nothing was begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_28_a_declared_checksum_is_wrong() {
    for on in On::BOTH {
        let gateway = Gateway::start(on).await;
        let bytes = content(2 * MIB, 5);
        gateway.create("a", bytes.len(), MIB).await;
        let wrong = [
            ("content-digest", format!("sha-256=:{}:", base64(&[0; 32]))),
            ("content-md5", base64(&[0; 16])),
            ("x-checksum-crc64", "1".to_owned()),
        ];
        for (name, value) in wrong {
            let put = gateway.request(Method::PUT, "/chunks/a/0").header(name, value).body(bytes[..MIB].to_vec());
            Answer::of(put.send().await).await.is_refused(422, "checksum_mismatch");
            has_received(&gateway, "a", &[], &[[0, 1]]).await;
        }
        // All of the body but its last bytes went to the store, and became no part.
        assert_eq!(parts_stored(&gateway).await, 0);
        use sha2::Digest as _;
        let right = format!("sha-256=:{}:", base64(&sha2::Sha256::digest(&bytes[..MIB])));
        let put = gateway.request(Method::PUT, "/chunks/a/0").header("content-digest", right);
        assert_eq!(Answer::of(put.body(bytes[..MIB].to_vec()).send().await).await.status, 200);
        gateway.put("a", 1, &bytes[MIB..]).await;
        is_whole(&gateway, "a", &bytes).await;
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_29_slow_heads_and_slow_bodies() {
    const EACH: usize = 40;
    let impatient = [("LIMITS__HEADER_TIMEOUT", "1s"), ("LIMITS__BODY_IDLE_TIMEOUT", "1s")];
    for on in On::BOTH {
        let gateway = Gateway::start_with(on, &impatient).await;
        let bytes = content(4 * MIB, 6);
        gateway.create("slow", EACH * MIB, MIB).await;
        gateway.create("a", bytes.len(), MIB).await;
        let mut slow = tokio::task::JoinSet::new();
        for index in 0..EACH {
            let address = gateway.address;
            // A head of which a byte comes now and then.
            slow.spawn(async move {
                let socket = TcpStream::connect(address).await.expect("a connection");
                let (mut read, mut write) = socket.into_split();
                let trickling = async {
                    for byte in format!("PUT /chunks/slow/0 HTTP/1.1\r\nHost: {address}\r\nX: ").bytes().cycle() {
                        if write.write_all(&[byte]).await.is_err() {
                            break;
                        }
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                };
                let mut answer = Vec::new();
                let end = async {
                    let ended = tokio::time::timeout(Duration::from_secs(10), read.read_to_end(&mut answer)).await;
                    let _ = ended.expect("it is cut");
                };
                tokio::select! {
                    () = end => {}
                    () = trickling => {}
                }
                let answer = String::from_utf8_lossy(&answer).into_owned();
                assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
            });
            // A body that stops.
            slow.spawn(async move {
                let mut put = RawPut::begin(address, "slow", index, MIB).await;
                put.send(&[0; 1000]).await;
                let answer = put.answer().await;
                assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body_timeout"), "{answer}");
            });
        }
        // Others are served meanwhile.
        let put = tokio::time::timeout(Duration::from_secs(20), gateway.put_all("a", &bytes, MIB)).await;
        assert_eq!(put.expect("in time").json["complete"], true);
        assert!(client().get(gateway.url("/livez")).send().await.expect("an answer").status().is_success());
        is_whole(&gateway, "a", &bytes).await;
        let ended = slow.join_all().await;
        assert_eq!(ended.len(), 2 * EACH);
        has_received(&gateway, "slow", &[], &[[0, EACH - 1]]).await;
    }
}

/// Its last byte is out and the store has it; then its connection is reset,
/// which the server notices at once. Nobody is there to be answered, and the
/// upload completes all the same.
#[tokio::test(flavor = "multi_thread")]
async fn fault_25_a_client_whose_connection_is_reset_after_its_last_byte() {
    for database in Database::BOTH {
        let stand = Stand::start(database).await;
        let bytes = content(2 * MIB, 25);
        stand.gateway.create("r", bytes.len(), MIB).await;
        stand.gateway.put("r", 0, &bytes[..MIB]).await;
        let gate = Gate::new();
        stand.proxy.next(Operation::UploadPart, Fault::HeldAfter(gate.clone()));
        let mut socket = TcpStream::connect(stand.gateway.address).await.expect("a connection");
        let host = stand.gateway.address;
        let head = format!("PUT /chunks/r/1 HTTP/1.1\r\nHost: {host}\r\nContent-Length: {MIB}\r\n\r\n");
        socket.write_all(&[head.as_bytes(), &bytes[MIB..]].concat()).await.expect("sent");
        gate.reached().await;
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("a reset");
        drop(socket);
        tokio::time::sleep(Duration::from_millis(300)).await;
        gate.open();
        stand.gateway.until("r", "completed").await;
        assert_eq!(stand.gateway.download("r").await, bytes);
    }
}
