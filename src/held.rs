//! A frame on its way that says when it is gone, so that another is read into
//! the room that it had, and not beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;

/// Where one frame is at a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    is_taken: AtomicBool,
    next: AtomicWaker,
}

struct Held {
    bytes: Bytes,
    place: Arc<Inner>,
}

impl Place {
    /// Whether any of the frame is still there.
    pub(crate) fn is_taken(&self) -> bool {
        self.0.is_taken.load(Ordering::SeqCst)
    }

    /// Ready when nothing of the frame is there any more.
    pub(crate) fn poll_free(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_taken() {
            return Poll::Ready(());
        }
        self.0.next.register(cx.waker());
        // It may have been given back just before the waker was there.
        if self.is_taken() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// The same bytes, which take the place until their last slice is dropped.
    pub(crate) fn hold(&self, bytes: Bytes) -> Bytes {
        self.0.is_taken.store(true, Ordering::SeqCst);
        Bytes::from_owner(Held { bytes, place: self.0.clone() })
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // First the bytes: whoever is woken may read as many anew.
        drop(std::mem::take(&mut self.bytes));
        self.place.is_taken.store(false, Ordering::SeqCst);
        self.place.next.wake();
    }
}
