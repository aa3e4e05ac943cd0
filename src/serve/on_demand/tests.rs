use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::routing::put;
use futures_util::{FutureExt as _, StreamExt as _};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::serve::{ServeLimits, serve};

const BODY_BYTES: usize = 8 << 20;

async fn listening(router: Router) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, router, ServeLimits::default(), CancellationToken::new()));
    address
}

/// Where each frame of a body lies in memory, while others could be read.
async fn observe(State(places): State<mpsc::UnboundedSender<Range<usize>>>, request: Request) {
    let mut body = request.into_body().into_data_stream();
    while let Some(Ok(frame)) = body.next().await {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let _ = places.send(frame.as_ptr().addr()..frame.as_ptr().addr() + frame.len());
    }
}

#[tokio::test]
async fn a_body_is_read_into_one_buffer() {
    let (tell, mut places) = mpsc::unbounded_channel();
    let address = listening(Router::new().route("/", put(observe)).with_state(tell)).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let mut buffers: Vec<Range<usize>> = Vec::new();
    // While the first comes in, the buffer grows.
    for _ in 0..2 {
        while places.try_recv().is_ok() {}
        client
            .write_all(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY_BYTES}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        client.write_all(&vec![7; BODY_BYTES]).await.unwrap();
        let mut answer = [0; 1000];
        assert!(client.read(&mut answer).await.unwrap() > 0);
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    }
    let mut bytes = 0;
    while let Ok(place) = places.try_recv() {
        bytes += place.len();
        buffers.push(place);
    }
    assert_eq!(bytes, BODY_BYTES);
    let first = buffers.iter().map(|place| place.start).min().unwrap();
    let last = buffers.iter().map(|place| place.end).max().unwrap();
    assert!(last - first <= 2 * ServeLimits::default().read_bytes, "{buffers:x?}");
}

/// Reads a body in every manner: waits for it, asks once and turns to
/// something else, holds what it has got, passes it on to another task.
async fn read_anyhow(request: Request) -> String {
    let mut body = request.into_body().into_data_stream();
    let (mut bytes, mut held, mut turn) = (0, Vec::new(), 0_u32);
    loop {
        turn += 1;
        let frame = match turn % 4 {
            0 => body.next().await,
            1 => match body.next().now_or_never() {
                Some(frame) => frame,
                None => {
                    tokio::time::sleep(Duration::from_micros(200)).await;
                    continue;
                }
            },
            2 => {
                let elsewhere = tokio::spawn(async move { (body.next().await, body) });
                let (frame, back) = elsewhere.await.unwrap();
                body = back;
                frame
            }
            _ => {
                tokio::task::yield_now().await;
                body.next().await
            }
        };
        let Some(frame) = frame else { return bytes.to_string() };
        let frame = frame.unwrap();
        bytes += frame.len();
        if turn % 3 == 0 { held.push(frame) } else { held.clear() }
    }
}

/// A body in pieces of changing sizes, some of them late; then the answer.
async fn send_anyhow(address: SocketAddr, seed: usize) {
    let mut client = TcpStream::connect(address).await.unwrap();
    for request in 0..3 {
        let bytes = 1 + (seed * 7919 + request * 104_729) % 600_000;
        client
            .write_all(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let (mut sent, mut piece) = (0, seed);
        while sent < bytes {
            piece = piece * 31 % 65_521 + 1;
            let now = piece.min(bytes - sent);
            client.write_all(&vec![7; now]).await.unwrap();
            sent += now;
            if piece % 3 == 0 {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
        }
        let mut answer = Vec::new();
        while !answer.ends_with(bytes.to_string().as_bytes()) {
            assert!(client.read_buf(&mut answer).await.unwrap() > 0, "{answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_reads_a_body_and_however_gets_all_of_it() {
    let address = listening(Router::new().route("/", put(read_anyhow))).await;
    let clients = (1..=200).map(|seed| tokio::spawn(send_anyhow(address, seed)));
    for client in clients.collect::<Vec<_>>() {
        tokio::time::timeout(Duration::from_secs(60), client).await.expect("nobody waits for ever").unwrap();
    }
}

/// Asks once, and never again: it answers when it is told to.
async fn ask_once(State(told): State<Arc<Notify>>, request: Request) -> &'static str {
    let mut body = request.into_body().into_data_stream();
    assert!(body.next().now_or_never().is_none());
    told.notified().await;
    drop(body);
    "enough"
}

#[tokio::test]
async fn who_asked_and_turned_away_does_not_stop_its_connection() {
    let told = Arc::new(Notify::new());
    let address = listening(Router::new().route("/", put(ask_once)).with_state(told.clone())).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    client.write_all(&[7; 50_000]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    told.notify_one();
    let mut answer = Vec::new();
    let whole = async { while !answer.ends_with(b"enough") && client.read_buf(&mut answer).await.unwrap() > 0 {} };
    tokio::time::timeout(Duration::from_secs(10), whole).await.expect("the answer comes");
    assert!(answer.ends_with(b"enough"));
}

/// How often somebody was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn who_finds_somebody_at_work_is_woken_afterwards() {
    let (gate, task) = (Gate::default(), Arc::new(Woken::default()));
    let inner = gate.0.clone();
    let connection = std::future::poll_fn(move |cx| {
        // Its own task, at the same moment.
        assert!(inner.work(cx).is_pending());
        Poll::Pending
    });
    gate.0.put(Some(Box::pin(connection)));
    let waker = Waker::from(task.clone());
    gate.0.task.register(&waker);
    assert!(gate.0.work(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(task.0.load(Ordering::SeqCst), 1);
    gate.0.put(None);
}

/// A body during whose last look something happens at the connection.
struct Last(Waker);

impl Body for Last {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.wake_by_ref();
        Poll::Ready(None)
    }
}

#[tokio::test]
async fn what_happens_while_a_body_ends_is_not_missed() {
    let (gate, task) = (Gate::default(), Arc::new(Woken::default()));
    let connection = Arc::new(Both { asking: Waker::noop().clone(), connection: gate.0.clone() });
    let mut body = gate.body(Last(connection.into()));
    let waker = Waker::from(task.clone());
    gate.0.task.register(&waker);
    assert!(body.frame().await.is_none());
    assert_eq!(task.0.load(Ordering::SeqCst), 1);
}
