//! Bodies are read from their connection when somebody asks for more, and not
//! before. hyper by itself reads a frame ahead: into a second buffer, and long
//! before it is passed on, when no cache holds it any more. Asked frame by
//! frame, it reads again into the one buffer, which is free again by then.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};

/// Whether a connection's task may go on: closed while whoever reads its body
/// has a frame and has not asked for another.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    is_closed: AtomicBool,
    connection: AtomicWaker,
}

impl Gate {
    fn close(&self) {
        self.0.is_closed.store(true, Ordering::SeqCst);
    }

    fn open(&self) {
        if self.0.is_closed.swap(false, Ordering::SeqCst) {
            self.0.connection.wake();
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.0.is_closed.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        self.0.connection.register(cx.waker());
        // It may have been opened just before the waker was there.
        if self.0.is_closed.load(Ordering::SeqCst) { Poll::Pending } else { Poll::Ready(()) }
    }

    /// The connection's work, done only while the gate is open. Whatever
    /// answers its requests must run elsewhere.
    pub(super) async fn guard<F: Future>(self, connection: F) -> F::Output {
        let mut connection = std::pin::pin!(connection);
        std::future::poll_fn(|cx| {
            ready!(self.poll(cx));
            connection.as_mut().poll(cx)
        })
        .await
    }

    /// A body of the connection.
    pub(super) fn body<B: Body>(&self, inner: B) -> OnDemand<B> {
        OnDemand { inner, gate: self.clone() }
    }
}

/// A body whose connection is read when it is.
#[derive(Debug)]
pub(super) struct OnDemand<B> {
    inner: B,
    gate: Gate,
}

impl<B: Body + Unpin> Body for OnDemand<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(_))) => self.gate.close(),
            Poll::Pending | Poll::Ready(None | Some(Err(_))) => self.gate.open(),
        }
        polled
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
        self.gate.open();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::ops::Range;
    use std::time::Duration;

    use axum::Router;
    use axum::extract::{Request, State};
    use axum::routing::put;
    use futures_util::StreamExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use crate::serve::{ServeLimits, serve};

    const BODY_BYTES: usize = 8 << 20;

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
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, mut places) = mpsc::unbounded_channel();
        let (router, limits) = (Router::new().route("/", put(observe)).with_state(tell), ServeLimits::default());
        tokio::spawn(serve(listener, router, limits, CancellationToken::new()));
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
        assert!(last - first <= 2 * limits.read_bytes, "{buffers:x?}");
    }
}
