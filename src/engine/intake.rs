//! Bytes on their way from a client into the store: counted, hashed while they
//! pass, and held back at the end until length and digests are verified, so
//! that a bad body never becomes a part.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use sha2::Digest as _;
use tokio::time::Instant;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::domain::checksum::Crc64Stream;
use crate::domain::{Checksum, Crc64, Refusal};
use crate::engine::reins::Reins;
use crate::engine::turns::{BYTES_PER_SECOND_MIN, Pace};
use crate::store::{Body, BodyBroken};

/// So much of a body must have come before anything else waits for the rest:
/// less than any client sends at once.
const BEGUN_BYTES: u64 = 8 << 10;
/// Who takes longer for them crawls.
const BEGUN_WITHIN: Duration = Duration::from_secs(BEGUN_BYTES / BYTES_PER_SECOND_MIN);

/// A body as a protocol brings it.
pub type Incoming = Pin<Box<dyn Stream<Item = Result<Bytes, Interrupted>> + Send>>;

/// Why a body stopped before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interrupted {
    /// The client is gone, or sent what cannot be a body.
    Gone,
    /// No byte came for this long.
    Idle(Duration),
    /// The protocol's own framing is broken.
    Malformed(Refusal),
}

/// What is known of a body before it is read.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    /// Checksums of exactly this body.
    pub checksums: Vec<Checksum>,
    /// The checksum of the whole file, where this body is all of it.
    pub whole: Option<Checksum>,
    /// Whether its MD5 is to be known, declared or not.
    pub with_md5: bool,
}

/// What came of reading a body. Filled in while it is read.
#[derive(Debug, Default)]
pub struct Verdict {
    refused: OnceLock<Refusal>,
    crc64: OnceLock<Crc64>,
    md5: OnceLock<[u8; 16]>,
}

impl Verdict {
    /// Why the body was bad, if it was.
    pub fn refused(&self) -> Option<&Refusal> {
        self.refused.get()
    }

    /// The checksum of a body that was read to its end and verified.
    pub fn crc64(&self) -> Option<Crc64> {
        self.crc64.get().copied()
    }

    /// Its MD5, where that was to be known.
    pub fn md5(&self) -> Option<[u8; 16]> {
        self.md5.get().copied()
    }
}

enum Hasher {
    Md5(md5::Md5),
    Sha256(sha2::Sha256),
}

/// A body that is verified while it is read.
pub struct Verified {
    incoming: Incoming,
    bytes: u64,
    seen: u64,
    crc64: Crc64Stream,
    hashers: Vec<Hasher>,
    declared: Declared,
    /// The frame that completes the length, until the end of the body is certain.
    held: Option<Bytes>,
    reins: Reins,
    broken_off: Pin<Box<WaitForCancellationFutureOwned>>,
    verdict: Arc<Verdict>,
    over: bool,
}

impl Verified {
    /// `bytes` is exactly how long the body must be. It breaks off when its
    /// reins say so before its end.
    pub fn new(incoming: Incoming, bytes: u64, declared: Declared, reins: Reins) -> (Self, Arc<Verdict>) {
        let wanted = declared.checksums.iter().chain(declared.whole.iter());
        let mut hashers = Vec::new();
        for checksum in wanted {
            match checksum {
                Checksum::Crc64(_) => {}
                Checksum::Md5(_) => hashers.push(Hasher::Md5(md5::Md5::new())),
                Checksum::Sha256(_) => hashers.push(Hasher::Sha256(sha2::Sha256::new())),
            }
        }
        if declared.with_md5 {
            hashers.push(Hasher::Md5(md5::Md5::new()));
        }
        let verdict = Arc::new(Verdict::default());
        let body = Self {
            incoming,
            bytes,
            seen: 0,
            crc64: Crc64Stream::new(),
            hashers,
            declared,
            held: None,
            broken_off: Box::pin(reins.broken_off().clone().cancelled_owned()),
            reins,
            verdict: verdict.clone(),
            over: false,
        };
        (body, verdict)
    }

    /// As a store takes it.
    pub fn boxed(self) -> Body {
        Box::pin(self)
    }

    fn pass(&mut self, frame: &Bytes) {
        self.seen += frame.len() as u64;
        self.reins.moved(frame.len());
        self.crc64.update(frame);
        for hasher in &mut self.hashers {
            match hasher {
                Hasher::Md5(md5) => md5.update(frame),
                Hasher::Sha256(sha256) => sha256.update(frame),
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> Poll<Option<Result<Bytes, BodyBroken>>> {
        self.over = true;
        self.held = None;
        // The first reason counts; there is no second, for the body is over.
        let _ = self.verdict.refused.set(refusal);
        Poll::Ready(Some(Err(BodyBroken)))
    }

    fn interrupted(&mut self, why: Interrupted) -> Poll<Option<Result<Bytes, BodyBroken>>> {
        let refusal = match why {
            Interrupted::Gone => Refusal::BodyTooShort { expected: self.bytes, got: self.seen },
            Interrupted::Idle(idle) => Refusal::BodyTimeout { idle },
            Interrupted::Malformed(refusal) => refusal,
        };
        self.refuse(refusal)
    }

    /// The client's end has come: what was sent is judged, and only then the
    /// last frame goes on.
    fn finish(&mut self) -> Poll<Option<Result<Bytes, BodyBroken>>> {
        // From here on it is the store that takes its time.
        self.reins.moved(0);
        if self.seen < self.bytes {
            let refusal = Refusal::BodyTooShort { expected: self.bytes, got: self.seen };
            return self.refuse(refusal);
        }
        let computed = self.computed();
        let differing = |declared: &Checksum| {
            computed.iter().find(|c| c.algorithm() == declared.algorithm()).filter(|c| *c != declared).copied()
        };
        if let Some((declared, computed)) = self.declared.checksums.iter().find_map(|d| Some((d, differing(d)?))) {
            let refusal = Refusal::ChecksumMismatch { declared: declared.tagged(), computed: computed.tagged() };
            return self.refuse(refusal);
        }
        if let Some((declared, computed)) = self.declared.whole.as_ref().and_then(|d| Some((d, differing(d)?))) {
            let refusal = Refusal::IntegrityFailed { declared: declared.tagged(), computed: Some(computed.tagged()) };
            return self.refuse(refusal);
        }
        self.over = true;
        let _ = self.verdict.crc64.set(self.crc64.value());
        for checksum in computed {
            if let Checksum::Md5(md5) = checksum {
                let _ = self.verdict.md5.set(md5);
            }
        }
        Poll::Ready(self.held.take().map(Ok))
    }

    fn computed(&mut self) -> Vec<Checksum> {
        let mut computed = vec![Checksum::Crc64(self.crc64.value())];
        for hasher in self.hashers.drain(..) {
            computed.push(match hasher {
                Hasher::Md5(md5) => Checksum::Md5(md5.finalize().into()),
                Hasher::Sha256(sha256) => Checksum::Sha256(sha256.finalize().into()),
            });
        }
        computed
    }
}

impl Stream for Verified {
    type Item = Result<Bytes, BodyBroken>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.over {
                return Poll::Ready(None);
            }
            match this.incoming.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(frame))) if frame.is_empty() => {}
                Poll::Ready(Some(Ok(frame))) => {
                    this.pass(&frame);
                    if this.seen > this.bytes {
                        let refusal = Refusal::BodyTooLong { expected: this.bytes };
                        return this.refuse(refusal);
                    }
                    if this.seen < this.bytes {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    this.held = Some(frame);
                }
                Poll::Ready(Some(Err(why))) => return this.interrupted(why),
                Poll::Ready(None) => return this.finish(),
                Poll::Pending => {
                    this.reins.waits();
                    if this.broken_off.as_mut().poll(cx).is_ready() {
                        let refusal = this.reins.why();
                        return this.refuse(refusal);
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

/// A body whose first bytes have come, and how fast: nothing else waits for a
/// client that sends none. An error among them is found by who reads on.
pub async fn begun(mut incoming: Incoming, bytes: u64) -> (Incoming, Pace) {
    let (enough, since) = (bytes.min(BEGUN_BYTES), Instant::now());
    let (mut frames, mut small) = (Vec::new(), BytesMut::new());
    while (small.len() as u64) < enough {
        match incoming.next().await {
            // Each frame holds all of the buffer that it was read into: few bytes are copied.
            Some(Ok(frame)) if (frame.len() as u64) < enough => small.extend_from_slice(&frame),
            Some(Ok(frame)) => {
                frames.push(Ok(frame));
                break;
            }
            Some(Err(why)) => {
                frames.push(Err(why));
                break;
            }
            None => break,
        }
    }
    if !small.is_empty() {
        frames.insert(0, Ok(small.freeze()));
    }
    let pace = if since.elapsed() <= BEGUN_WITHIN { Pace::Brisk } else { Pace::Crawling };
    (Box::pin(futures_util::stream::iter(frames).chain(incoming)), pace)
}

/// Reads a body to its end and drops it: what a repeat is compared by.
pub async fn drain(mut body: Body) -> Result<(), BodyBroken> {
    while let Some(frame) = body.next().await {
        frame?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming(frames: Vec<Result<&'static [u8], Interrupted>>) -> Incoming {
        Box::pin(futures_util::stream::iter(frames.into_iter().map(|f| f.map(Bytes::from_static))))
    }

    async fn read(
        frames: Vec<Result<&'static [u8], Interrupted>>,
        bytes: u64,
        declared: Declared,
    ) -> (Vec<u8>, Arc<Verdict>) {
        let (body, verdict) = Verified::new(incoming(frames), bytes, declared, Reins::default());
        let mut passed = Vec::new();
        let mut body = body.boxed();
        while let Some(Ok(frame)) = body.next().await {
            passed.extend_from_slice(&frame);
        }
        (passed, verdict)
    }

    #[tokio::test]
    async fn a_good_body_passes_whole() {
        let (passed, verdict) = read(vec![Ok(b"12345"), Ok(b""), Ok(b"6789")], 9, Declared::default()).await;
        assert_eq!(passed, b"123456789");
        assert_eq!(verdict.crc64(), Some(Crc64(0x995d_c9bb_df19_39fa)));
        assert!(verdict.refused().is_none());
    }

    #[tokio::test]
    async fn the_end_of_a_bad_body_never_reaches_the_store() {
        let wrong = Declared { checksums: vec![Checksum::Crc64(Crc64(1))], ..Declared::default() };
        let cases = [
            (vec![Ok(&b"12345"[..]), Ok(b"678")], Declared::default(), "body_too_short"),
            (vec![Ok(&b"12345"[..]), Ok(b"67890")], Declared::default(), "body_too_long"),
            (vec![Ok(&b"12345"[..]), Ok(b"6789"), Ok(b"0")], Declared::default(), "body_too_long"),
            (vec![Ok(&b"12345"[..]), Err(Interrupted::Gone)], Declared::default(), "body_too_short"),
            (
                vec![Ok(&b"12345"[..]), Err(Interrupted::Idle(Duration::from_secs(30)))],
                Declared::default(),
                "body_timeout",
            ),
            (vec![Ok(&b"12345"[..]), Ok(b"6789")], wrong, "checksum_mismatch"),
        ];
        for (frames, declared, code) in cases {
            let (passed, verdict) = read(frames, 9, declared).await;
            assert!(passed.len() < 9, "{code}: {passed:?}");
            assert_eq!(verdict.refused().map(Refusal::code), Some(code));
            assert_eq!(verdict.crc64(), None, "{code}");
        }
    }

    #[tokio::test]
    async fn declared_digests_are_compared() {
        let good = [
            "md5:25f9e794323b453885f5181f1b624d0b",
            "sha256:15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
        ];
        let checksums = good.iter().map(|c| Checksum::parse_tagged(c).expect("a checksum")).collect();
        let (passed, verdict) =
            read(vec![Ok(b"123456789")], 9, Declared { checksums, with_md5: true, ..Declared::default() }).await;
        assert_eq!(passed.len(), 9);
        assert!(verdict.crc64().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn how_fast_a_body_begins_is_seen() {
        let every = |pause| -> Incoming {
            Box::pin(futures_util::stream::repeat(()).then(move |()| async move {
                tokio::time::sleep(pause).await;
                Ok(Bytes::from_static(&[7; 1 << 10]))
            }))
        };
        assert_eq!(begun(every(Duration::from_millis(200)), 1 << 20).await.1, Pace::Brisk);
        let (mut body, pace) = begun(every(Duration::from_millis(300)), 1 << 20).await;
        assert_eq!(pace, Pace::Crawling);
        let mut bytes = 0;
        for _ in 0..3 {
            bytes += body.next().await.expect("a frame").expect("no error").len();
        }
        assert_eq!(bytes, 10 << 10, "nothing of it is lost: eight in one, and two");
    }

    #[tokio::test]
    async fn a_stalled_body_can_be_broken_off() {
        let stalled: Incoming = Box::pin(futures_util::stream::pending());
        let reins = Reins::default();
        let (body, verdict) = Verified::new(stalled, 9, Declared::default(), reins.clone());
        let reading = tokio::spawn(drain(body.boxed()));
        reins.break_off(Refusal::ChunkSuperseded { index: 3 });
        assert_eq!(reading.await.expect("no panic"), Err(BodyBroken));
        assert_eq!(verdict.refused().map(Refusal::code), Some("chunk_superseded"));
    }
}
