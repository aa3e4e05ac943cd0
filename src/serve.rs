//! The accept loop. `axum::serve` sets no timer, so a client that sends its
//! headers one byte an hour would hold a connection for ever; this loop bounds
//! headers, answers that nobody reads, connections and the drain.

mod on_demand;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use crate::share::{Budget, Sharing};

use on_demand::Gate;

/// What every connection may read at a time: a head, and some of a body.
const READ_BYTES_MIN: usize = 16 << 10;

/// What the kernel takes of an answer beyond what is on its way: by itself it
/// takes megabytes, and a thousand clients that read nothing exhaust what it has
/// for all connections.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 256 << 10;

/// Bounds of one listener.
#[derive(Clone, Copy, Debug)]
pub struct ServeLimits {
    /// From the first byte of a request (or an idle connection's last answer)
    /// to the end of its headers.
    pub header_timeout: Duration,
    /// How long a client may leave an answer unread that is being sent.
    pub write_timeout: Duration,
    /// Connections at once; further ones wait in the kernel's backlog.
    pub connections_max: usize,
    /// How long requests in flight may take once we shut down.
    pub drain_deadline: Duration,
    /// The longest head of a request, in bytes.
    pub head_bytes_max: usize,
    /// What a connection that sends a body reads at a time, in bytes; up to
    /// twice as much once it has grown. It has one such buffer.
    pub read_bytes: usize,
    /// What all connections together may read at a time, beyond the 16 KiB of
    /// each, in bytes.
    pub read_budget_bytes: usize,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            connections_max: 10_000,
            drain_deadline: Duration::from_secs(25),
            head_bytes_max: 64 << 10,
            read_bytes: 192 << 10,
            read_budget_bytes: 28 << 20,
        }
    }
}

/// The other end of a request's connection, among its extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Serves `router` on `listener` until `shutdown`, then lets requests in
/// flight finish up to the drain's deadline. Connections still open then are
/// cut; true when there were none.
pub async fn serve(listener: TcpListener, router: Router, limits: ServeLimits, shutdown: CancellationToken) -> bool {
    let mut builder = http1::Builder::new();
    // A client that has nothing more to say may still listen. One that is gone
    // shows in its body, if that breaks off, or when the answer is written.
    builder.half_close(true);
    builder.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
    builder.max_header_size(limits.head_bytes_max).max_buf_size(limits.read_bytes);
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let budget = Budget::new(limits.read_budget_bytes, READ_BYTES_MIN..=2 * limits.read_bytes);
    let graceful = GracefulShutdown::new();
    let cut = CancellationToken::new();
    loop {
        // The place first: a connection that is accepted is served.
        let place = tokio::select! {
            () = shutdown.cancelled() => break,
            place = places.clone().acquire_owned() => place,
        };
        let Ok(place) = place else { break };
        let (stream, peer) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener) => accepted,
        };
        let router = router.clone();
        let mut stream = TimeoutWriter::new(stream);
        stream.set_timeout(Some(limits.write_timeout));
        let gate = Gate::default();
        let bodies = gate.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(|body| bodies.body(body));
            detach(request.headers_mut());
            request.extensions_mut().insert(Peer(peer));
            // It goes on while the connection stands still, and ends with it.
            AbortOnDropHandle::new(tokio::spawn(router.clone().oneshot(request))).map(|ended| match ended {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(never)) => match never {},
                Err(error) => Err(error),
            })
        });
        let connection = graceful
            .watch(builder.serve_connection(TokioIo::new(Sharing::new(Box::pin(stream), budget.share())), service));
        let connection = gate.serve(async move {
            if let Err(error) = connection.await {
                debug!(%peer, %error, "connection ended early");
            }
        });
        let cut = cut.clone();
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                () = connection => {}
                () = cut.cancelled() => {}
            }
        });
    }
    // Further clients are refused by the kernel at once, not after the drain.
    drop(listener);
    let drained = tokio::time::timeout(limits.drain_deadline, graceful.shutdown()).await.is_ok();
    cut.cancel();
    drained
}

/// The connection's read buffer is not to be held by a header: as long as one
/// lives, so would all that was read ahead with it.
fn detach(headers: &mut HeaderMap) {
    for value in headers.values_mut() {
        if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
            *value = copy;
        }
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut pause = Duration::from_millis(10);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Answers are small and written whole: waiting to fill a segment only delays them.
                if let Err(error) = stream.set_nodelay(true) {
                    debug!(%peer, %error, "TCP_NODELAY refused");
                }
                #[cfg(target_os = "linux")]
                if let Err(error) = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES) {
                    debug!(%peer, %error, "TCP_NOTSENT_LOWAT refused");
                }
                return (stream, peer);
            }
            Err(error) if is_of_one_connection(&error) => debug!(%error, "a client left before it was accepted"),
            Err(error) => {
                // Out of descriptors or memory: those in flight will give some back.
                warn!(%error, "cannot accept connections for now");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
