//! What every dialect of uploading has in common, for those that measure it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::bench::Content;

/// A dialect of uploading, as its clients speak it.
#[async_trait]
pub trait Protocol: Send + Sync + std::fmt::Debug {
    /// Begins an upload and says what the other calls are to name it by.
    async fn begin(&self, file: &Content) -> Result<String, Failed>;

    /// Sends one chunk, of `pace` bytes a second if that is given.
    async fn send(&self, session: &str, file: &Content, index: u64, pace: Option<Pace>) -> Result<(), Failed>;

    /// Returns when the file is there.
    async fn end(&self, session: &str, file: &Content) -> Result<(), Failed>;

    /// Whether the file that the server has is the one that was sent.
    async fn is_whole(&self, session: &str, file: &Content) -> Result<bool, Failed>;
}

/// Why a request did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Its code, or its status, or what happened to the connection.
    pub code: String,
    /// When the server says that it may be sent again.
    pub retry_after: Option<Duration>,
}

impl Failed {
    /// For good.
    pub fn new(code: impl Into<String>) -> Self {
        Self { code: code.into(), retry_after: None }
    }
}

impl From<reqwest::Error> for Failed {
    fn from(error: reqwest::Error) -> Self {
        Self::new(match () {
            () if error.is_connect() => "no connection",
            () if error.is_timeout() => "time-out",
            () => "connection lost",
        })
    }
}

/// A client that keeps its connections and spends little on each request.
pub fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .no_proxy()
        .http1_only()
        .tcp_nodelay(true)
        .pool_max_idle_per_host(usize::MAX)
        .redirect(reqwest::redirect::Policy::none())
        .build()
}

/// How slowly a body is sent.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Bytes in one go.
    pub bytes: usize,
    /// The pause before each.
    pub every: Duration,
}

/// A chunk's bytes as a body of known length.
pub fn body_of(file: &Content, index: u64, head: Bytes, tail: Bytes, pace: Option<Pace>) -> reqwest::Body {
    let left = head.len() as u64 + file.chunk_len(index) + tail.len() as u64;
    let frames = std::iter::once(head).chain(file.frames(index)).chain(std::iter::once(tail));
    let frames = Box::new(frames.filter(|frame| !frame.is_empty()));
    reqwest::Body::wrap(Frames { left, frames, held: Bytes::new(), pace, pause: None })
}

/// Frames that add up to a length.
struct Frames {
    left: u64,
    frames: Box<dyn Iterator<Item = Bytes> + Send + Sync>,
    /// The rest of a frame that is sent piece by piece.
    held: Bytes,
    pace: Option<Pace>,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Frames {
    fn next(&mut self) -> Option<Bytes> {
        if self.held.is_empty() {
            self.held = self.frames.next()?;
        }
        let most = self.pace.map_or(usize::MAX, |pace| pace.bytes);
        let frame = self.held.split_to(most.min(self.held.len()));
        self.left = self.left.saturating_sub(frame.len() as u64);
        Some(frame)
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(pace) = self.pace {
            let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(pace.every)));
            if pause.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.pause = None;
        }
        Poll::Ready(self.next().map(|frame| Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
