//! Connections to a store, counted as they are made: calls beside them tell
//! how well the pool serves.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tower::{Layer, Service};

/// Counts what lies below it.
#[derive(Clone, Copy, Debug)]
pub struct CountConnections;

/// A connector that is counted.
#[derive(Clone, Debug)]
pub struct Counted<S>(S);

impl<S> Layer<S> for CountConnections {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Counted(inner)
    }
}

impl<R, S> Service<R> for Counted<S>
where
    S: Service<R>,
    S::Response: Send,
    S::Error: Send,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, to: R) -> Self::Future {
        let (began, connecting) = (Instant::now(), self.0.call(to));
        Box::pin(async move {
            let connected = connecting.await;
            let outcome = if connected.is_ok() { "ok" } else { "failed" };
            metrics::histogram!("chunkgate_store_connect_seconds", "outcome" => outcome)
                .record(began.elapsed().as_secs_f64());
            connected
        })
    }
}
