//! The connections that objects are read from. An object's bytes wait for
//! whoever reads them in the buffers of its connection, so these read no more
//! at a time than their share of a budget; a client for calls reads as much as
//! there is.

use std::io;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::header::{HeaderValue, USER_AGENT};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::crypto::aws_lc_rs;
use tokio::io::AsyncRead;
use tokio::net::TcpStream;
use tower::{Layer as _, Service};

use crate::share::{Budget, Sharing};
use crate::store::StoreConfig;
use crate::store::connecting::{CountConnections, Counted};

/// What all connections together may read at a time, in bytes, beyond the least
/// of each. It is held three times: read, on its way, and being taken.
const BUDGET_BYTES: usize = 4 << 20;
/// The least that one reads at a time, in bytes: one less than hyper's buffer,
/// which would double, for good, once a read fills it.
const READ_BYTES_MIN: usize = (16 << 10) - 1;
const READ_BYTES: RangeInclusive<usize> = READ_BYTES_MIN..=16 * READ_BYTES_MIN;

pub(super) const AGENT: &str = concat!("chunkgate/", env!("CARGO_PKG_VERSION"));

/// A client for reading objects.
#[derive(Clone, Debug)]
pub(super) struct Downloads {
    http: Client<Counted<Connector>, reqwest::Body>,
}

impl Downloads {
    /// With a pool of connections of its own. `user_timeout`: when the operating
    /// system gives up a peer that takes nothing.
    pub(super) fn new(config: &StoreConfig, user_timeout: Duration) -> Result<Self, String> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(user_timeout));
        let tls = HttpsConnectorBuilder::new().with_provider_and_platform_verifier(aws_lc_rs::default_provider());
        let inner = tls.map_err(|error| error.to_string())?.https_or_http().enable_http1().wrap_connector(tcp);
        let budget = Budget::new(BUDGET_BYTES, READ_BYTES);
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(config.pool.idle_timeout)
            .pool_max_idle_per_host(config.pool.max_idle)
            .build(CountConnections.layer(Connector { inner, budget, timeout: config.connect_timeout }));
        Ok(Self { http })
    }

    /// Sends a request without a body, up to the answer's head.
    pub(super) async fn execute(&self, request: reqwest::Request) -> Result<reqwest::Response, Unsent> {
        let mut request = http::Request::try_from(request).map_err(Unsent::Request)?;
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let answer = self.http.request(request).await.map_err(Unsent::Transport)?;
        Ok(answer.map(reqwest::Body::wrap).into())
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsent {
    /// It is no request.
    #[error(transparent)]
    Request(reqwest::Error),
    /// There was no connection, or it broke.
    #[error(transparent)]
    Transport(Error),
}

impl Unsent {
    /// Whether there was no connection, and whether for want of time.
    pub(super) fn is_connect(&self) -> (bool, bool) {
        let Self::Transport(error) = self else { return (false, false) };
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            if inner.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
                return (error.is_connect(), true);
            }
            cause = inner.source();
        }
        (error.is_connect(), false)
    }
}

/// Makes connections that read their share.
#[derive(Clone, Debug)]
struct Connector {
    inner: HttpsConnector<HttpConnector>,
    budget: Budget,
    timeout: Duration,
}

type Stream = TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>;
type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<Sharing<Stream>>>> + Send>>;

impl Service<Uri> for Connector {
    type Response = TokioIo<Sharing<Stream>>;
    type Error = io::Error;
    type Future = Connecting;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_ready(cx).map_err(io::Error::other)
    }

    fn call(&mut self, to: Uri) -> Connecting {
        let (connecting, share, timeout) = (self.inner.call(to), self.budget.share(), self.timeout);
        Box::pin(async move {
            let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
            let connected = tokio::time::timeout(timeout, connecting).await.map_err(|_| late())?;
            let stream = TokioIo::new(connected.map_err(io::Error::other)?);
            Ok(TokioIo::new(Sharing::new(stream, share)))
        })
    }
}

impl<T: AsyncRead + Connection + Unpin> Connection for Sharing<T> {
    fn connected(&self) -> Connected {
        self.get_ref().connected()
    }
}
