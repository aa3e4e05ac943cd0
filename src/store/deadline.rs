//! Deadlines of a streamed request that a slow client cannot trip.
//!
//! An HTTP client's own time-outs begin when the request does, so they would
//! kill an upload that is slow only because its sender is. Here the body
//! itself keeps account of whom it is waiting for: the store is on the clock
//! only while it has a frame of ours, or all of them, and owes us something.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, sleep_until};

use super::{Body, BodyBroken};

/// How long the store may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// From the last byte of the body to the first of the answer.
    pub first_byte: Duration,
    /// For a frame of the body to be taken, or of an answer to come.
    pub idle: Duration,
}

/// Which deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// No answer came.
    FirstByte,
    /// A frame was not taken.
    Idle,
}

/// What a body on its way is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The connection, or the client's next frame: no business of the store's.
    Client,
    /// The store, since then, to take the frame it was given.
    Store(Instant),
    /// The store's answer: the last byte was handed over then.
    Answer(Instant),
    /// Nothing any more: the client's side broke.
    Broken,
}

struct State {
    /// The client's side; gone once it ended, broke or was given up.
    body: Option<Body>,
    phase: Phase,
    /// Bytes that are still to come from the client.
    left: u64,
    /// The last frame, kept back until the client's side has ended well.
    last: Option<Bytes>,
    /// Whether the HTTP client still has the frame before. It gets no other
    /// until then: it would keep them all, each in a buffer of its own.
    is_out: bool,
    /// Who polls the body: must learn that it was given up.
    waker: Option<Waker>,
}

type Shared = Arc<Mutex<State>>;

fn locked(shared: &Shared) -> MutexGuard<'_, State> {
    // The state is valid after every statement, so a panic elsewhere leaves it so.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A body of an exact length for the HTTP client, and the meter that watches it.
pub fn metered(body: Body, bytes: u64) -> (MeteredBody, Meter) {
    let state = State { body: Some(body), phase: Phase::Client, left: bytes, last: None, is_out: false, waker: None };
    let shared = Arc::new(Mutex::new(state));
    (MeteredBody { shared: Arc::clone(&shared) }, Meter { shared })
}

/// The body as the HTTP client sees it. It ends in an error, so that the
/// connection is dropped, when the client's side breaks, brings more or fewer
/// bytes than announced, or the meter is dropped.
pub struct MeteredBody {
    shared: Shared,
}

impl fmt::Debug for MeteredBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeteredBody").finish_non_exhaustive()
    }
}

/// Watches a body on its way. Dropping it gives the body up: the client's side
/// is dropped at once, wherever the HTTP client keeps the rest.
pub struct Meter {
    shared: Shared,
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meter({:?})", locked(&self.shared).phase)
    }
}

impl Meter {
    /// Whether the client's side broke.
    pub fn is_broken(&self) -> bool {
        locked(&self.shared).phase == Phase::Broken
    }

    /// Whether all bytes were handed over.
    pub fn is_sent(&self) -> bool {
        matches!(locked(&self.shared).phase, Phase::Answer(_))
    }

    /// Returns when the store has let a deadline pass; not before.
    pub async fn overdue(&self, deadlines: Deadlines) -> Overdue {
        loop {
            let phase = locked(&self.shared).phase;
            let now = Instant::now();
            let look_again = match phase {
                Phase::Store(since) if since + deadlines.idle <= now => return Overdue::Idle,
                Phase::Answer(since) if since + deadlines.first_byte <= now => return Overdue::FirstByte,
                Phase::Store(since) => since + deadlines.idle,
                Phase::Answer(since) => since + deadlines.first_byte,
                // Whatever begins from now on ends no sooner than this.
                Phase::Client | Phase::Broken => now + deadlines.idle.min(deadlines.first_byte),
            };
            sleep_until(look_again).await;
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let (body, last, waker) = {
            let mut state = locked(&self.shared);
            (state.body.take(), state.last.take(), state.waker.take())
        };
        // Outside of the lock: a body's drop may do anything.
        drop((body, last));
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl State {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyBroken>>> {
        loop {
            let Some(body) = &mut self.body else {
                // Without a client's side: it ended well, or was lost.
                let ended = matches!(self.phase, Phase::Answer(_));
                return Poll::Ready((!ended).then_some(Err(BodyBroken)));
            };
            match body.as_mut().poll_next(cx) {
                Poll::Pending => {
                    self.phase = Phase::Client;
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) if frame.is_empty() => {}
                Poll::Ready(Some(Ok(frame))) => match self.left.checked_sub(frame.len() as u64) {
                    None => return self.broken(),
                    Some(0) => {
                        self.left = 0;
                        self.last = Some(frame);
                    }
                    Some(left) => {
                        self.left = left;
                        self.phase = Phase::Store(Instant::now());
                        return Poll::Ready(Some(Ok(frame)));
                    }
                },
                Poll::Ready(None) if self.left == 0 => {
                    self.body = None;
                    self.phase = Phase::Answer(Instant::now());
                    return Poll::Ready(self.last.take().map(Ok));
                }
                Poll::Ready(Some(Err(BodyBroken)) | None) => return self.broken(),
            }
        }
    }

    fn broken(&mut self) -> Poll<Option<Result<Bytes, BodyBroken>>> {
        self.phase = Phase::Broken;
        self.body = None;
        self.last = None;
        Poll::Ready(Some(Err(BodyBroken)))
    }
}

impl http_body::Body for MeteredBody {
    type Data = Bytes;
    type Error = BodyBroken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut state = locked(&self.shared);
        let known = state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !known {
            state.waker = Some(cx.waker().clone());
        }
        if state.is_out {
            return Poll::Pending;
        }
        let polled = state.poll(cx);
        state.is_out = matches!(polled, Poll::Ready(Some(Ok(_))));
        drop(state);
        let out = |bytes| Frame::data(Bytes::from_owner(Out { bytes, shared: Arc::clone(&self.shared) }));
        polled.map(|frame| frame.map(|bytes| bytes.map(out)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(locked(&self.shared).phase, Phase::Answer(_))
    }

    fn size_hint(&self) -> SizeHint {
        let state = locked(&self.shared);
        SizeHint::with_exact(state.left + state.last.as_ref().map_or(0, |frame| frame.len() as u64))
    }
}

/// A frame in the HTTP client's hands.
struct Out {
    bytes: Bytes,
    shared: Shared,
}

impl AsRef<[u8]> for Out {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        // Its buffer is free before the next frame is asked for: that is read into it.
        self.bytes = Bytes::new();
        let waker = {
            let mut state = locked(&self.shared);
            state.is_out = false;
            state.waker.clone()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;
    use tokio::sync::mpsc;

    use super::*;

    const DEADLINES: Deadlines = Deadlines { first_byte: Duration::from_millis(300), idle: Duration::from_millis(50) };

    fn body(frames: Vec<Result<Bytes, BodyBroken>>) -> Body {
        Box::pin(stream::iter(frames))
    }

    fn bytes(text: &'static str) -> Result<Bytes, BodyBroken> {
        Ok(Bytes::from_static(text.as_bytes()))
    }

    /// Its next frame, taken: the body sees it dropped.
    async fn frame(body: &mut MeteredBody) -> Option<Result<Bytes, BodyBroken>> {
        Some(body.frame().await?.map(|frame| Bytes::copy_from_slice(&frame.into_data().expect("data"))))
    }

    #[tokio::test]
    async fn a_frame_is_given_when_the_one_before_was_taken() {
        let (mut body, meter) = metered(body(vec![bytes("a"), bytes("b")]), 2);
        let first = body.frame().await.expect("a frame").expect("sound");
        let mut second = Box::pin(body.frame());
        assert!(futures_util::poll!(&mut second).is_pending());
        assert_eq!(meter.overdue(DEADLINES).await, Overdue::Idle, "the store takes its time");
        let waits = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            drop(first);
        });
        let second = second.await.expect("a frame").expect("sound");
        assert_eq!(second.into_data().expect("data"), "b");
        waits.await.expect("no panic");
    }

    #[tokio::test]
    async fn the_last_frame_is_kept_back_until_the_client_has_ended_well() {
        let (mut good, meter) = metered(body(vec![bytes("ab"), bytes(""), bytes("c")]), 3);
        assert_eq!(http_body::Body::size_hint(&good).exact(), Some(3));
        assert_eq!(frame(&mut good).await, Some(bytes("ab")));
        assert!(!meter.is_sent());
        assert_eq!(frame(&mut good).await, Some(bytes("c")));
        assert!(meter.is_sent() && http_body::Body::is_end_stream(&good));
        assert_eq!(frame(&mut good).await, None);

        for (frames, bytes) in [
            (vec![bytes("abc"), Err(BodyBroken)], 3), // verified and found wrong
            (vec![bytes("abc"), bytes("d")], 3),      // too long
            (vec![bytes("abcd")], 3),
            (vec![bytes("ab")], 3), // too short
            (vec![], 3),
            (vec![Err(BodyBroken)], 3),
        ] {
            let (mut bad, meter) = metered(body(frames.clone()), bytes);
            let first = frame(&mut bad).await;
            let second = if first == Some(Err(BodyBroken)) { first } else { frame(&mut bad).await };
            assert_eq!(second, Some(Err(BodyBroken)), "{frames:?}");
            assert!(meter.is_broken() && !meter.is_sent());
        }
    }

    /// A client that sends when it is told to.
    fn channel() -> (mpsc::UnboundedSender<Result<Bytes, BodyBroken>>, Body) {
        let (send, receive) = mpsc::unbounded_channel();
        let client = stream::unfold(receive, |mut from| async move { from.recv().await.map(|frame| (frame, from)) });
        (send, client.boxed())
    }

    #[tokio::test]
    async fn only_the_store_is_on_the_clock() {
        let (send, client) = channel();
        let (mut body, meter) = metered(client, 2);
        let far_beyond = DEADLINES.first_byte * 4;
        let stalled = async |body: &mut MeteredBody, meter: &Meter| {
            tokio::select! {
                biased;
                _ = frame(body) => panic!("nothing was sent"),
                late = meter.overdue(DEADLINES) => panic!("{late:?}, while the client was waited for"),
                () = tokio::time::sleep(far_beyond) => {}
            }
        };
        stalled(&mut body, &meter).await;
        send.send(bytes("a")).expect("the body listens");
        assert_eq!(frame(&mut body).await, Some(bytes("a")));
        let began = Instant::now();
        assert_eq!(meter.overdue(DEADLINES).await, Overdue::Idle);
        assert!(began.elapsed() < DEADLINES.first_byte);

        stalled(&mut body, &meter).await;
        send.send(bytes("b")).expect("the body listens");
        drop(send);
        assert_eq!(frame(&mut body).await, Some(bytes("b")));
        let began = Instant::now();
        assert_eq!(meter.overdue(DEADLINES).await, Overdue::FirstByte);
        assert!(began.elapsed() > DEADLINES.first_byte - DEADLINES.idle);
    }

    #[tokio::test]
    async fn a_dropped_meter_takes_the_client_out_of_the_http_clients_hands() {
        let (send, client) = channel();
        let (mut body, meter) = metered(client, 2);
        let polling = tokio::spawn(async move { frame(&mut body).await });
        tokio::task::yield_now().await;
        drop(meter);
        assert!(send.is_closed());
        assert_eq!(polling.await.ok().flatten(), Some(Err(BodyBroken)));
    }
}
