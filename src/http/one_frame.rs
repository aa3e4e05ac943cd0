//! A download of which one frame is held at a time: the next one is read when
//! the connection has written the one before. A connection by itself takes as
//! many frames as its buffer has room for, and holds them as long as its client
//! reads nothing.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;

use crate::held::Place;

/// The frames of `S`, each once the one before is dropped.
#[derive(Debug)]
pub(super) struct OneFrame<S> {
    inner: S,
    place: Place,
}

impl<S> OneFrame<S> {
    pub(super) fn of(inner: S) -> Self {
        Self { inner, place: Place::default() }
    }
}

impl<E, S: Stream<Item = Result<Bytes, E>> + Unpin> Stream for OneFrame<S> {
    type Item = Result<Bytes, E>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        ready!(self.place.poll_free(cx));
        let frame = ready!(Pin::new(&mut self.inner).poll_next(cx));
        Poll::Ready(frame.map(|frame| frame.map(|bytes| self.place.hold(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, StreamExt as _, stream};

    use super::*;

    #[tokio::test]
    async fn the_next_frame_comes_when_the_one_before_is_gone() {
        let frames = ["one", "two"].map(|text| Ok::<_, ()>(Bytes::from(text)));
        let mut body = OneFrame::of(stream::iter(frames));
        let one = body.next().await.and_then(Result::ok).expect("a frame");
        let slice = one.slice(1..2);
        drop(one);
        assert_eq!(body.next().now_or_never(), None, "a slice of it is still there");
        let waiting = tokio::spawn(async move { (body.next().await, body) });
        tokio::task::yield_now().await;
        drop(slice);
        let (two, mut body) = waiting.await.expect("woken");
        assert_eq!(two, Some(Ok(Bytes::from("two"))));
        drop(two);
        assert_eq!(body.next().await, None);
    }
}
