//! Clients that are slow on purpose, many at once.

use std::time::Duration;

use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::{Growth, send};
use crate::harness::{Gateway, MIB, On, content};

const IMPATIENT: [(&str, &str); 2] = [("LIMITS__BODY_IDLE_TIMEOUT", "1s"), ("LIMITS__HEADER_TIMEOUT", "1s")];

async fn connect(gateway: &Gateway, bytes: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(gateway.address).await.expect("a connection");
    socket.write_all(bytes).await.expect("sent");
    socket
}

/// The gateway's own connections, by their state in the kernel's table.
fn connections(gateway: &Gateway) -> usize {
    let port = format!(":{:04X}", gateway.address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("a table");
    let of_gateway = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Established, on its side.
        fields.get(1).is_some_and(|local| local.ends_with(&port)) && fields.get(3) == Some(&"01")
    };
    table.lines().filter(of_gateway).count()
}

/// Two dozen ask for 64 MiB each, and read nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn readers_that_stop_are_cut() {
    const READERS: usize = 24;
    for on in On::BOTH {
        let gateway = Gateway::start_with(on, &IMPATIENT).await;
        let bytes = content(64 * MIB, 7);
        gateway.create("r", bytes.len(), 8 * MIB).await;
        gateway.put_all("r", &bytes, 8 * MIB).await;
        // What a first reader takes along is not theirs.
        assert!(gateway.download("r").await == bytes);
        let growth = Growth::of(&gateway);
        let ask = format!("GET /files/r/content HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.address);
        let mut readers = Vec::new();
        for _ in 0..READERS {
            readers.push(connect(&gateway, ask.as_bytes()).await);
        }
        let began = Instant::now();
        let mut most = 0;
        loop {
            sleep(Duration::from_millis(100)).await;
            most = growth.bytes().max(most);
            if began.elapsed() > Duration::from_millis(500) && connections(&gateway) == 0 {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{} are still open", connections(&gateway));
        }
        println!(
            "{on:?}: {READERS} readers that stopped are cut after {:?}; {} KiB each",
            began.elapsed(),
            (most / READERS) >> 10
        );
        // The first ones have most of what may be read ahead; for a thousand of them see `load`.
        growth.was_below(2 * READERS * MIB, most, &format!("{on:?}: {READERS} readers that stop"));
        // Each got what the kernel held for it, and then the end.
        for mut reader in readers {
            let mut buffer = vec![0; MIB];
            let mut read = 0;
            while let Ok(Ok(1..)) = timeout(Duration::from_secs(5), reader.read(&mut buffer)).await.inspect(|bytes| {
                read += bytes.as_ref().copied().unwrap_or(0);
            }) {}
            assert!(read < bytes.len(), "{read}");
        }
        // And it serves those that read.
        assert!(gateway.download("r").await == bytes);
    }
}

/// Answers that are asked for again and again on one connection by who reads none.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_nobody_reads_is_cut() {
    let gateway = Gateway::start_with(On::FileAndSqlite, &IMPATIENT).await;
    for nth in 0..200 {
        let file = gateway.request(Method::POST, &format!("/files?fileName=a&fileId=f{nth}")).body("hello");
        assert_eq!(send(file).await.status, 201);
    }
    let growth = Growth::of(&gateway);
    // Some 60 KB each.
    let ask = format!("GET /files?limit=1000 HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.address).repeat(100);
    let mut pipelines = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (ask, address) = (ask.clone(), gateway.address);
        pipelines.spawn(async move {
            let mut socket = TcpStream::connect(address).await.expect("a connection");
            // Until it is taken no more, or the connection is gone.
            let sending = async { while socket.write_all(ask.as_bytes()).await.is_ok() {} };
            timeout(Duration::from_secs(40), sending).await.is_ok()
        });
    }
    let cut = pipelines.join_all().await;
    growth.is_below(32 * MIB, "10 pipelines that nobody reads");
    assert!(cut.iter().all(|cut| *cut), "{cut:?}");
}

/// Two hundred heads and bodies that come to no end.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_to_no_end_is_cut() {
    let gateway = Gateway::start_with(On::FileAndSqlite, &IMPATIENT).await;
    gateway.create("s", 1000 * MIB, MIB).await;
    gateway.put("s", 0, &content(MIB, 1)).await;
    let growth = Growth::of(&gateway);
    let host = gateway.address;
    let long = "x".repeat(40 << 10);
    let form = "Content-Type: multipart/form-data; boundary=cut";
    let beginnings = [
        String::new(),
        "G".to_owned(),
        format!("GET /livez HTTP/1.1\r\nHost: {host}\r\nX: {long}"),
        format!("PUT /chunks/s/INDEX HTTP/1.1\r\nHost: {host}\r\nContent-Length: {MIB}\r\n\r\n{long}"),
        format!("PUT /chunks/s/INDEX HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n{long}"),
        format!("POST /uploads HTTP/1.1\r\nHost: {host}\r\nContent-Length: 60000\r\n\r\n{{\"fileName\":\"{long}"),
        format!("POST /chunks HTTP/1.1\r\nHost: {host}\r\n{form}\r\nContent-Length: 60000\r\n\r\n--cut\r\nX: "),
        format!("POST /files?fileName=a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 60000\r\n\r\n{long}"),
    ];
    let mut sockets = Vec::new();
    for _ in 0..25 {
        for beginning in &beginnings {
            // Each its own chunk: those of one chunk wait for each other.
            let beginning = beginning.replace("INDEX", &(sockets.len() + 1).to_string());
            sockets.push(connect(&gateway, beginning.as_bytes()).await);
        }
    }
    let began = Instant::now();
    let mut most = 0;
    while connections(&gateway) > 0 {
        most = growth.bytes().max(most);
        assert!(began.elapsed() < Duration::from_secs(40), "{} are still open", connections(&gateway));
        sleep(Duration::from_millis(100)).await;
    }
    println!(
        "{} that came to no end are cut after {:?}, {} KiB each",
        sockets.len(),
        began.elapsed(),
        (most / sockets.len()) >> 10
    );
    growth.was_below(32 * MIB, most, &format!("{} heads and bodies that come to no end", sockets.len()));
    assert_eq!(gateway.received("s").await, [0]);
    assert!(!gateway.log().contains("panicked"));
}
