//! How much is read at a time: from each of many connections, or of each of
//! many objects. Large reads are fast, but what has been read is held until
//! somebody takes it, and a connection keeps a buffer as large as the largest
//! read it has made. So each begins with little, and those that fill what they
//! read may read more, as long as there is something left of what all of them
//! share.

use std::io::{self, IoSlice};
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take};

/// What some readers share.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    left: Arc<AtomicUsize>,
    /// What each reads at a time, in bytes: anyway, and at most.
    each_min: usize,
    each_max: usize,
}

impl Budget {
    /// So many bytes for all of them, beyond what each has anyway.
    pub(crate) fn new(bytes: usize, each: RangeInclusive<usize>) -> Self {
        Self { left: Arc::new(AtomicUsize::new(bytes)), each_min: *each.start(), each_max: *each.end() }
    }

    /// One more reader's.
    pub(crate) fn share(&self) -> Share {
        Share { budget: self.clone(), bytes: self.each_min }
    }

    fn take(&self, bytes: usize) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }
}

/// What one reader may read at a time; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    bytes: usize,
}

impl Share {
    /// In bytes.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// It was all used: twice as much from now on, if there is so much left.
    pub(crate) fn grow(&mut self) {
        if self.bytes < self.budget.each_max && self.budget.take(self.bytes) {
            self.bytes *= 2;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes - self.budget.each_min, Ordering::Relaxed);
    }
}

/// A connection that reads no more than its share at a time.
#[derive(Debug)]
pub(crate) struct Sharing<T> {
    inner: Take<T>,
    share: Share,
}

impl<T: AsyncRead + Unpin> Sharing<T> {
    /// With this share.
    pub(crate) fn new(inner: T, share: Share) -> Self {
        Self { inner: inner.take(0), share }
    }

    /// The connection itself.
    pub(crate) fn get_ref(&self) -> &T {
        self.inner.get_ref()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Sharing<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let (before, room) = (buf.filled().len(), buf.remaining());
        this.inner.set_limit(this.share.bytes() as u64);
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        // It is its share that held it back, not the buffer that it was given.
        if read == this.share.bytes() && room > read {
            this.share.grow();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Sharing<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.inner.get_mut()).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.inner.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.inner.get_mut()).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.inner.get_mut()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.get_ref().is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;

    async fn reads(sharing: &mut Sharing<&[u8]>, times: usize) -> Vec<usize> {
        let mut buffer = vec![0; 1 << 20];
        let mut read = Vec::new();
        for _ in 0..times {
            read.push(sharing.read(&mut buffer).await.unwrap() / KIB);
        }
        read
    }

    #[tokio::test]
    async fn who_fills_its_share_gets_more_while_there_is_some() {
        let budget = Budget::new(150 * KIB, 16 * KIB..=128 * KIB);
        let bytes = vec![7; 1 << 20];
        let mut first = Sharing::new(&bytes[..], budget.share());
        assert_eq!(reads(&mut first, 6).await, [16, 32, 64, 128, 128, 128]);
        let mut second = Sharing::new(&bytes[..], budget.share());
        assert_eq!(reads(&mut second, 4).await, [16, 32, 32, 32], "there is not more");
        drop(first);
        assert_eq!(reads(&mut second, 4).await, [32, 64, 128, 128]);
        let mut little = [0; 100];
        let mut third = Sharing::new(&bytes[..], budget.share());
        for _ in 0..1000 {
            assert_eq!(third.read(&mut little).await.unwrap(), 100);
        }
        drop((second, third));
        assert_eq!(budget.left.load(Ordering::Relaxed), 150 * KIB);
    }
}
