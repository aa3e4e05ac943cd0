//! How much a connection reads at a time. Large reads are fast, but a
//! connection keeps a buffer as large as the largest it has made. So each begins
//! with little, and those that fill what they read may read more, as long as
//! there is something left of what all of them share.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take};

/// What every connection may read at a time: a head, and some of a body.
const BYTES_MIN: usize = 16 << 10;

/// What the connections of one listener share.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    left: Arc<AtomicUsize>,
    /// The most that one connection reads at a time.
    each_max: usize,
}

impl Budget {
    /// So many bytes for all of them, beyond what each has anyway.
    pub(super) fn new(bytes: usize, each_max: usize) -> Self {
        Self { left: Arc::new(AtomicUsize::new(bytes)), each_max }
    }

    /// One more connection.
    pub(super) fn share<T: AsyncRead + Unpin>(&self, inner: T) -> Sharing<T> {
        Sharing { inner: inner.take(0), budget: self.clone(), bytes: BYTES_MIN }
    }

    fn take(&self, bytes: usize) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }
}

/// A connection that reads no more than its share at a time.
#[derive(Debug)]
pub(super) struct Sharing<T> {
    inner: Take<T>,
    budget: Budget,
    /// Its share.
    bytes: usize,
}

impl<T> Drop for Sharing<T> {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes - BYTES_MIN, Ordering::Relaxed);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Sharing<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let (before, room) = (buf.filled().len(), buf.remaining());
        this.inner.set_limit(this.bytes as u64);
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        // It is its share that held it back, not the buffer that it was given.
        if read == this.bytes && room > read && this.bytes < this.budget.each_max && this.budget.take(this.bytes) {
            this.bytes *= 2;
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
        let budget = Budget::new(150 * KIB, 128 * KIB);
        let bytes = vec![7; 1 << 20];
        let mut first = budget.share(&bytes[..]);
        assert_eq!(reads(&mut first, 6).await, [16, 32, 64, 128, 128, 128]);
        let mut second = budget.share(&bytes[..]);
        assert_eq!(reads(&mut second, 4).await, [16, 32, 32, 32], "there is not more");
        drop(first);
        assert_eq!(reads(&mut second, 4).await, [32, 64, 128, 128]);
        let mut little = [0; 100];
        let mut third = budget.share(&bytes[..]);
        for _ in 0..1000 {
            assert_eq!(third.read(&mut little).await.unwrap(), 100);
        }
        drop((second, third));
        assert_eq!(budget.left.load(Ordering::Relaxed), 150 * KIB);
    }
}
