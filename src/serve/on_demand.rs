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
mod tests;
