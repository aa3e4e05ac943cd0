//! Bodies are read from their connection when somebody asks for more, and not
//! before. hyper by itself reads a frame ahead: into a second buffer, and long
//! before it is passed on, when no cache holds it any more. Asked frame by
//! frame, it reads again into the one buffer, which is free again by then. And
//! who asks reads by itself: the connection's own task would do it later, when
//! many others have had their turn.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};

use crate::held::Place;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection, and whether its own task may work at it: not while whoever
/// reads its body has a frame and has not asked for another.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<Inner>);

#[derive(Default)]
struct Inner {
    is_closed: AtomicBool,
    /// Nobody need be told anything just now: whoever asks works at the
    /// connection next, or closes the gate, or lets its own task go on.
    is_asked: AtomicBool,
    /// Somebody wanted to work at it while another did.
    is_missed: AtomicBool,
    /// The connection's own.
    task: AtomicWaker,
    connection: Mutex<Option<Work>>,
}

impl Gate {
    /// The connection's work, done by its own task while the gate is open.
    /// Whatever answers its requests must run elsewhere.
    pub(super) async fn serve(self, connection: impl Future<Output = ()> + Send + 'static) {
        self.0.put(Some(Box::pin(connection)));
        let ending = Ending(self);
        std::future::poll_fn(|cx| {
            let Ending(Gate(inner)) = &ending;
            inner.task.register(cx.waker());
            if inner.is_closed.load(Ordering::SeqCst) { Poll::Pending } else { inner.work(cx) }
        })
        .await;
    }

    /// A body of the connection.
    pub(super) fn body<B: Body<Data = Bytes>>(&self, inner: B) -> OnDemand<B> {
        OnDemand { inner, gate: self.clone(), waker: None, place: Place::default() }
    }
}

/// Connection and bodies know each other: one of them has to let go.
struct Ending(Gate);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.0.put(None);
    }
}

impl Inner {
    fn put(&self, connection: Option<Work>) {
        let mut place = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *place, connection);
        drop(place);
        drop(before);
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }

    /// The connection's own task goes on, if it stood still.
    fn open(&self) {
        if self.is_closed.swap(false, Ordering::SeqCst) {
            self.task.wake();
        }
    }

    /// It goes on in any case: something may have happened that nobody was told.
    fn go_on(&self) {
        self.is_closed.store(false, Ordering::SeqCst);
        self.task.wake();
    }

    /// Works at the connection, unless somebody is just at it.
    fn work(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut place = loop {
            match self.connection.try_lock() {
                Ok(place) => break place,
                Err(TryLockError::Poisoned(broken)) => break broken.into_inner(),
                // Tried again, for it may have been given back just before this was said.
                Err(TryLockError::WouldBlock) if self.is_missed.swap(true, Ordering::SeqCst) => return Poll::Pending,
                Err(TryLockError::WouldBlock) => {}
            }
        };
        let worked = place.as_mut().map_or(Poll::Ready(()), |connection| connection.as_mut().poll(cx));
        let ended = if worked.is_ready() { place.take() } else { None };
        drop(place);
        if self.is_missed.swap(false, Ordering::SeqCst) || ended.is_some() {
            self.task.wake();
        }
        worked
    }
}

/// Wakes who asks for a body, and the connection's own task: who has asked may
/// have turned to something else since.
struct Both {
    asking: Waker,
    connection: Arc<Inner>,
}

impl Wake for Both {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.connection.is_asked.load(Ordering::SeqCst) {
            self.asking.wake_by_ref();
            self.connection.task.wake();
        }
    }
}

/// A body whose connection is read when it is.
pub(super) struct OnDemand<B> {
    inner: B,
    gate: Gate,
    /// Who asked last, and what wakes both.
    waker: Option<(Waker, Waker)>,
    /// Of the last frame.
    place: Place,
}

impl<B: Body<Data = Bytes> + Unpin> OnDemand<B> {
    /// Reads from the connection, as its own task would.
    fn read(&mut self, asking: &Waker) {
        let waker = match &self.waker {
            Some((before, both)) if before.will_wake(asking) => both,
            _ => {
                let both = Arc::new(Both { asking: asking.clone(), connection: self.gate.0.clone() });
                &self.waker.insert((asking.clone(), both.into())).1
            }
        };
        // What it came to, its own task is told.
        let _ = self.gate.0.work(&mut Context::from_waker(waker));
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for OnDemand<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let connection = this.gate.0.clone();
        // As long as the last frame is there, another would need a buffer of its own: the
        // connection's task has its turn when it is gone, or is held for good.
        let reads = !this.place.is_taken();
        connection.is_asked.store(reads, Ordering::SeqCst);
        let mut polled = Pin::new(&mut this.inner).poll_frame(cx);
        connection.is_asked.store(false, Ordering::SeqCst);
        if polled.is_pending() && reads {
            connection.is_closed.store(false, Ordering::SeqCst);
            this.read(cx.waker());
            polled = Pin::new(&mut this.inner).poll_frame(cx);
        }
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                connection.close();
                Poll::Ready(Some(Ok(frame.map_data(|bytes| this.place.hold(bytes)))))
            }
            Poll::Pending => {
                connection.open();
                Poll::Pending
            }
            ended => {
                connection.go_on();
                ended
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> Drop for OnDemand<B> {
    fn drop(&mut self) {
        self.gate.0.open();
    }
}

#[cfg(test)]
mod tests {
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
}
