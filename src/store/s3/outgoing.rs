//! A body on its way to S3. A checksum can only stand behind a body that is
//! still to come, so it goes out in chunks (`aws-chunked`), whose boundaries are
//! known before: the length of it all is announced.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use md5::{Digest as _, Md5};

use crate::store::s3::proof::{Algorithm, PartProof, Sent};
use crate::store::{Body, BodyBroken};

/// Bytes of a chunk: MinIO takes 16 MiB at most, S3 no less than 8 KiB.
const CHUNK_BYTES: u64 = 1 << 20;

/// A body as it is sent, and what will have been computed of it.
pub struct Outgoing {
    /// The bytes on the wire.
    pub body: Body,
    /// How many they are.
    pub bytes: u64,
    /// There once they all went out.
    pub sent: Arc<OnceLock<Sent>>,
}

impl Outgoing {
    /// `bytes` is exactly what `body` brings.
    pub fn new(proof: PartProof, bytes: u64, body: Body) -> Self {
        let sent = Arc::new(OnceLock::new());
        let (body, bytes) = match proof {
            PartProof::Checksum(algorithm) => {
                (chunked(algorithm, bytes, body, sent.clone()), chunked_bytes(algorithm, bytes))
            }
            PartProof::Md5 => (hashed(body, sent.clone()), bytes),
            PartProof::Size => {
                // Nobody else writes it.
                let _ = sent.set(Sent::Size);
                (body, bytes)
            }
        };
        Self { body, bytes, sent }
    }
}

/// The same bytes, and their MD5 once they have ended well.
fn hashed(body: Body, sent: Arc<OnceLock<Sent>>) -> Body {
    let state = (body, Some(Md5::new()));
    Box::pin(stream::unfold(state, move |(mut body, mut md5)| {
        let sent = sent.clone();
        async move {
            let frame = body.next().await;
            match &frame {
                Some(Ok(bytes)) => md5.iter_mut().for_each(|md5| md5.update(bytes)),
                Some(Err(BodyBroken)) => md5 = None,
                None => {
                    let _ = md5.take().map(|md5| sent.set(Sent::Md5(md5.finalize().into())));
                }
            }
            frame.map(|frame| (frame, (body, md5)))
        }
    }))
}

/// The body in chunks, its checksum behind it.
fn chunked(algorithm: Algorithm, bytes: u64, body: Body, sent: Arc<OnceLock<Sent>>) -> Body {
    let digest = crc_fast::Digest::new(algorithm.crc());
    let chunks = Chunks { algorithm, body, rest: Bytes::new(), left: bytes, chunk_left: 0, begun: false, digest, sent };
    Box::pin(stream::unfold(Some(chunks), async move |chunks| {
        let mut chunks = chunks?;
        match chunks.next().await {
            Ok(Next::Frame(bytes)) => Some((Ok(bytes), Some(chunks))),
            Ok(Next::Last(bytes)) => Some((Ok(bytes), None)),
            Err(BodyBroken) => Some((Err(BodyBroken), None)),
        }
    }))
}

/// How long a body of so many bytes is in chunks.
fn chunked_bytes(algorithm: Algorithm, bytes: u64) -> u64 {
    let framed = |bytes: u64| u64::from(bytes.ilog2() / 4 + 1) + bytes + 4;
    let (whole, rest) = (bytes / CHUNK_BYTES, bytes % CHUNK_BYTES);
    let last = if rest == 0 { 0 } else { framed(rest) };
    // `0\r\n`, `name:value\r\n`, `\r\n`
    whole * framed(CHUNK_BYTES) + last + 3 + algorithm.header().len() as u64 + 1 + algorithm.text_bytes() + 4
}

struct Chunks {
    algorithm: Algorithm,
    body: Body,
    /// What is left of the frame that came last.
    rest: Bytes,
    /// Bytes of the body that are still to go.
    left: u64,
    /// Of the chunk that has begun.
    chunk_left: u64,
    begun: bool,
    digest: crc_fast::Digest,
    sent: Arc<OnceLock<Sent>>,
}

enum Next {
    Frame(Bytes),
    Last(Bytes),
}

impl Chunks {
    async fn next(&mut self) -> Result<Next, BodyBroken> {
        if self.chunk_left > 0 {
            return self.piece().await.map(Next::Frame);
        }
        let mut head = String::from(if self.begun { "\r\n" } else { "" });
        if self.left > 0 {
            self.begun = true;
            self.chunk_left = self.left.min(CHUNK_BYTES);
            // Writing to a String cannot fail.
            let _ = write!(head, "{:x}\r\n", self.chunk_left);
            return Ok(Next::Frame(head.into()));
        }
        // Only a body that ends well gets its checksum, without which it is no part.
        if self.frame().await?.is_some() {
            return Err(BodyBroken);
        }
        let value = self.digest.finalize();
        let _ = self.sent.set(Sent::Checksum(self.algorithm, value));
        let _ = write!(head, "0\r\n{}:{}\r\n\r\n", self.algorithm.header(), self.algorithm.text(value));
        Ok(Next::Last(head.into()))
    }

    /// Bytes of the chunk that has begun.
    async fn piece(&mut self) -> Result<Bytes, BodyBroken> {
        let mut frame = self.frame().await?.ok_or(BodyBroken)?;
        let fits = usize::try_from(self.chunk_left).unwrap_or(usize::MAX);
        if frame.len() > fits {
            self.rest = frame.split_off(fits);
        }
        self.digest.update(&frame);
        self.chunk_left -= frame.len() as u64;
        self.left -= frame.len() as u64;
        Ok(frame)
    }

    /// The next bytes of the body; none at its end.
    async fn frame(&mut self) -> Result<Option<Bytes>, BodyBroken> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        while let Some(frame) = self.body.next().await {
            let frame = frame?;
            if !frame.is_empty() {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::body_of;

    const NVME: PartProof = PartProof::Checksum(Algorithm::Crc64Nvme);

    fn frames(frames: Vec<Result<&[u8], BodyBroken>>) -> Body {
        let frames: Vec<_> = frames.into_iter().map(|frame| frame.map(Bytes::copy_from_slice)).collect();
        Box::pin(stream::iter(frames))
    }

    async fn read(mut outgoing: Outgoing) -> (Result<Vec<u8>, BodyBroken>, Option<Sent>) {
        let mut all = Vec::new();
        while let Some(frame) = outgoing.body.next().await {
            match frame {
                Ok(frame) => all.extend_from_slice(&frame),
                Err(BodyBroken) => return (Err(BodyBroken), outgoing.sent.get().copied()),
            }
        }
        assert_eq!(all.len() as u64, outgoing.bytes, "as announced");
        (Ok(all), outgoing.sent.get().copied())
    }

    #[tokio::test]
    async fn a_body_is_followed_by_its_checksum() {
        let body = frames(vec![Ok(b"1234"), Ok(b""), Ok(b"56789")]);
        let (all, sent) = read(Outgoing::new(NVME, 9, body)).await;
        let all = String::from_utf8(all.expect("whole")).expect("text");
        assert_eq!(all, "9\r\n123456789\r\n0\r\nx-amz-checksum-crc64nvme:rosUhgp5mIg=\r\n\r\n");
        assert_eq!(sent, Some(Sent::Checksum(Algorithm::Crc64Nvme, 0xae8b_1486_0a79_9888)));
        let (all, _) = read(Outgoing::new(PartProof::Checksum(Algorithm::Crc32), 0, body_of(""))).await;
        assert_eq!(all, Ok(b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n".to_vec()));
    }

    #[tokio::test]
    async fn chunks_are_cut_where_the_length_says() {
        let mib = CHUNK_BYTES as usize;
        for bytes in [1, 15, 16, mib - 1, mib, mib + 1, 3 * mib + 7] {
            let whole: Vec<u8> = (0..=250).cycle().take(bytes).collect();
            for size in [mib * 5, 300_001] {
                let body = frames(whole.chunks(size).map(Ok).collect());
                let (all, _) = read(Outgoing::new(NVME, bytes as u64, body)).await;
                assert_eq!(unchunked(&all.expect("whole")), whole, "{bytes} in frames of {size}");
            }
        }
    }

    fn unchunked(mut text: &[u8]) -> Vec<u8> {
        let mut whole = Vec::new();
        loop {
            let end = text.windows(2).position(|two| two == b"\r\n").expect("a line");
            let size = std::str::from_utf8(&text[..end]).expect("text");
            let size = usize::from_str_radix(size, 16).expect("a size");
            assert!(size <= 1 << 20);
            text = &text[end + 2..];
            if size == 0 {
                return whole;
            }
            whole.extend_from_slice(&text[..size]);
            assert_eq!(&text[size..size + 2], b"\r\n");
            text = &text[size + 2..];
        }
    }

    #[tokio::test]
    async fn a_bad_body_gets_no_checksum() {
        for bad in [
            vec![Ok(&b"123"[..]), Err(BodyBroken)],
            vec![Ok(b"123456789"), Err(BodyBroken)],
            vec![Ok(b"12345678")],
            vec![Ok(b"1234567890")],
            vec![Ok(b"123456789"), Ok(b"0")],
            vec![],
        ] {
            let (all, sent) = read(Outgoing::new(NVME, 9, frames(bad.clone()))).await;
            assert_eq!((all, sent), (Err(BodyBroken), None), "{bad:?}");
        }
        let (all, sent) = read(Outgoing::new(PartProof::Md5, 9, frames(vec![Ok(b"1"), Err(BodyBroken)]))).await;
        assert_eq!((all, sent), (Err(BodyBroken), None));
    }

    #[tokio::test]
    async fn an_md5_is_computed_on_the_way() {
        let (all, sent) = read(Outgoing::new(PartProof::Md5, 9, frames(vec![Ok(b"1234"), Ok(b"56789")]))).await;
        assert_eq!(all, Ok(b"123456789".to_vec()));
        let md5 = hex::decode("25f9e794323b453885f5181f1b624d0b").expect("hex");
        assert!(matches!(sent, Some(Sent::Md5(sent)) if sent[..] == md5));
    }
}
