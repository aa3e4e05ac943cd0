//! Many at once, and very slowly: what a gateway may cost, and what it must
//! not mistake for a fault.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use chunkgate::clock::{Clock as _, SystemClock};

use crate::harness::{Answer, Gateway, KIB, MIB, On, content};
use crate::machine::{need_descriptors, peak_bytes, resident_bytes};

/// 64 chunks at once, each of its own upload; the gateway's peak memory.
async fn sixty_four(on: On, chunk: usize) -> usize {
    let gateway = Arc::new(Gateway::start(on).await);
    let bytes = Bytes::from(content(chunk, 30));
    for n in 0..64 {
        gateway.create(&format!("m{n}"), chunk, chunk).await;
    }
    let began = SystemClock::new();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let (gateway, bytes) = (gateway.clone(), bytes.clone());
        tasks.spawn(async move {
            let frames = (0..bytes.len())
                .step_by(256 << 10)
                .map(move |at| Ok::<_, std::io::Error>(bytes.slice(at..bytes.len().min(at + (256 << 10)))));
            let body = reqwest::Body::wrap_stream(futures_util::stream::iter(frames));
            let put = gateway.request(Method::PUT, &format!("/chunks/m{n}/0")).header("content-length", chunk);
            Answer::of(put.body(body).timeout(Duration::from_secs(300)).send().await).await
        });
    }
    for answer in tasks.join_all().await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let peak = peak_bytes(gateway.pid());
    let rate = 64 * chunk / MIB * 1000 / began.monotonic().as_millis().max(1) as usize;
    println!("{on:?}: 64 chunks of {} MiB in flight: peak {} MiB resident, {rate} MiB/s", chunk / MIB, peak / MIB);
    peak
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_chunks() {
    let peak = sixty_four(On::OssAndPostgres, 8 * MIB).await;
    assert!(peak < 64 * MIB, "{} MiB", peak / MIB);
    let peak = sixty_four(On::OssAndPostgres, 64 * MIB).await;
    assert!(peak < 64 * MIB, "{} MiB", peak / MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_on_the_local_folder() {
    let peak = sixty_four(On::FileAndSqlite, 8 * MIB).await;
    // As the tests are built; the released program takes 57.
    assert!(peak < 96 * MIB, "{} MiB", peak / MIB);
}

/// 1 Mbit/s for more than a minute, where every deadline of the store is two
/// seconds: a slow client is not a slow store.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_one_megabit_is_not_a_fault() {
    let deadlines =
        [("STORE__IDLE_TIMEOUT", "2s"), ("STORE__FIRST_BYTE_TIMEOUT", "2s"), ("STORE__CONNECT_TIMEOUT", "2s")];
    let gateway = Gateway::start_with(On::OssAndPostgres, &deadlines).await;
    let bytes = content(8 * MIB, 31);
    gateway.create("slow", bytes.len(), 8 * MIB).await;
    let mut socket = TcpStream::connect(gateway.address).await.expect("a connection");
    let head =
        format!("PUT /chunks/slow/0 HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n", gateway.address, bytes.len());
    socket.write_all(head.as_bytes()).await.expect("sent");
    let began = SystemClock::new();
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    for piece in bytes.chunks(12_500) {
        pace.tick().await;
        socket.write_all(piece).await.expect("sent");
    }
    let mut answer = vec![0; 4096];
    let read = socket.read(&mut answer).await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"complete\":true"), "{answer}");
    println!("8 MiB at 1 Mbit/s took {:?} and was taken", began.monotonic());
}

/// One byte a second from a thousand clients, half of which have begun as
/// honest ones do; beside them one that sends as fast as it can.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_trickling_clients_hold_up_nobody() {
    let gateway = Gateway::start_with(On::OssAndPostgres, &[("LIMITS__MAX_OPEN_UPLOADS", "2000")]).await;
    let before = peak_bytes(gateway.pid());
    let mut sockets = Vec::new();
    for n in 0..1000 {
        gateway.create(&format!("t{n}"), MIB, MIB).await;
        let mut socket = TcpStream::connect(gateway.address).await.expect("a connection");
        let head = format!("PUT /chunks/t{n}/0 HTTP/1.1\r\nHost: {}\r\nContent-Length: {MIB}\r\n\r\n", gateway.address);
        socket.write_all(head.as_bytes()).await.expect("sent");
        if n % 2 == 0 {
            socket.write_all(&[0; 9 << 10]).await.expect("sent");
        }
        sockets.push(socket);
    }
    let trickle = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_secs(1));
        loop {
            pace.tick().await;
            for socket in &mut sockets {
                // Those that lost their turn are told so; they send on all the same.
                let _ = socket.try_write(b"x");
            }
        }
    });
    // All of them have been there for a while.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let bytes = content(64 * MIB, 32);
    gateway.create("fast", bytes.len(), 8 * MIB).await;
    let began = SystemClock::new();
    let done = gateway.put_all("fast", &bytes, 8 * MIB).await;
    assert_eq!((done.status.as_u16(), &done.json["complete"]), (200, &true.into()), "{done:?}");
    let took = began.monotonic();
    let each = (peak_bytes(gateway.pid()) - before) / 1000;
    println!("1000 trickling clients: {} KiB each; beside them 64 MiB took {took:?}", each >> 10);
    // As the tests are built; the released program is leaner.
    assert!(each <= 96 << 10, "{} KiB for each", each >> 10);
    let open = gateway.metric("chunkgate_store_breaker_open").await;
    assert!(open == 0.0, "slow clients are no fault of the store");
    trickle.abort();
}

/// What a connection has read at a time it keeps as a buffer: all together
/// keep no more than they may.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_that_were_fast_once_keep_little() {
    let gateway = Gateway::start_with(On::FileAndSqlite, &[("LIMITS__MAX_OPEN_UPLOADS", "2000")]).await;
    let bytes = content(MIB, 33);
    for n in 0..1000 {
        gateway.create(&format!("f{n}"), MIB, MIB).await;
    }
    let before = peak_bytes(gateway.pid());
    let mut sockets = Vec::new();
    for n in 0..1000 {
        let mut socket = TcpStream::connect(gateway.address).await.expect("a connection");
        let head = format!("PUT /chunks/f{n}/0 HTTP/1.1\r\nHost: {}\r\nContent-Length: {MIB}\r\n\r\n", gateway.address);
        socket.write_all(head.as_bytes()).await.expect("sent");
        socket.write_all(&bytes).await.expect("sent");
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200");
        sockets.push(socket);
    }
    let kept = peak_bytes(gateway.pid()) - before;
    println!("1000 clients that were fast once: {} MiB", kept / MIB);
    // 32 MiB for the fast ones, and what the trickling ones have.
    assert!(kept <= (32 + 96) * MIB, "{} MiB", kept / MIB);
}

/// Downloads whose readers stop, half of them in the middle: what is read ahead
/// of each is little, and of all together bounded; beside them one that reads.
async fn a_thousand_readers_that_stop(on: On) {
    const READERS: usize = 1000;
    /// They have all of the budget, and the kernel's buffers are not used up yet.
    const BESIDE: usize = 100;
    need_descriptors(8000);
    let gateway = Gateway::start_with(on, &[("LIMITS__BODY_IDLE_TIMEOUT", "10m")]).await;
    let bytes = content(4 * MIB, 34);
    gateway.create("r", bytes.len(), bytes.len()).await;
    gateway.put_all("r", &bytes, bytes.len()).await;
    let fast = async || {
        let began = SystemClock::new();
        for _ in 0..16 {
            assert!(gateway.download("r").await == bytes);
        }
        16 * bytes.len() / MIB * 1000 / began.monotonic().as_millis().max(1) as usize
    };
    let (alone, mut beside) = (fast().await, 0);
    let before = resident_bytes(gateway.pid());
    let ask = format!("GET /files/r/content HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.address);
    let (mut readers, mut buffer) = (Vec::new(), vec![0; 64 * KIB]);
    for n in 0..READERS {
        let socket = TcpSocket::new_v4().expect("a socket");
        // The kernel is to hold little of it.
        socket.set_recv_buffer_size(64 << 10).expect("a size");
        let mut reader = socket.connect(gateway.address).await.expect("a connection");
        reader.write_all(ask.as_bytes()).await.expect("sent");
        let mut read = 0;
        while n % 2 == 0 && read < MIB {
            read += reader.read(&mut buffer).await.expect("content");
        }
        readers.push(reader);
        if readers.len() == BESIDE {
            tokio::time::sleep(Duration::from_secs(1)).await;
            beside = fast().await;
        }
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = resident_bytes(gateway.pid());
    let each = after.saturating_sub(before) / READERS;
    let (mib_before, mib_after) = (before as f64 / MIB as f64, after as f64 / MIB as f64);
    println!("memory: {on:?}: 1000 readers that stop: {mib_before:.1} MiB before, {mib_after:.1} MiB after");
    println!("{} KiB each; who reads: {alone} MiB/s alone, {beside} MiB/s beside {BESIDE}", each / KIB);
    // As the tests are built.
    assert!(each <= 128 * KIB, "{} KiB for each", each / KIB);
}

/// One store after the other: what the kernel has for all connections is no more
/// than both together would take, and other tests want some.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_readers_that_stop_keep_little() {
    for on in [On::FileAndSqlite, On::OssAndPostgres] {
        a_thousand_readers_that_stop(on).await;
    }
}
