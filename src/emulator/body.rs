//! Bytes on their way in and out, streamed: what is in memory of a body does
//! not grow with it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::{BodyDataStream, BodyExt as _, Limited};
use md5::{Digest as _, Md5};

use super::error::OssError;
use super::range::Slice;
use super::storage::{Blob, BlobDir, NewBlob, Object, Storage};

/// How much is gathered before it is hashed and written, in bytes.
const BATCH_BYTES: usize = 512 << 10;
/// How much is read at once, in bytes.
const READ_BYTES: usize = 256 << 10;
/// The largest part, and the largest object in one request.
pub(crate) const BLOB_BYTES_MAX: u64 = 5 << 30;
/// The largest document that is read: 10 000 parts are well below.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;
/// How much of a refused request is read, so that its sender sees the answer.
const DRAIN_BYTES_MAX: usize = 64 << 20;
/// How long that may take.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

/// Runs what blocks where that is allowed; to its end, also when whoever
/// asked for it is gone.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, OssError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| OssError::internal(&e))
}

/// Takes a body into a blob and checks it against `Content-MD5`.
pub(crate) async fn receive(storage: &Arc<Storage>, headers: &HeaderMap, body: &mut Body) -> Result<Blob, OssError> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > BLOB_BYTES_MAX) {
        return Err(OssError::entity_too_large(BLOB_BYTES_MAX));
    }
    let expected_md5 = content_md5(headers)?;
    let frames = BodyDataStream::new(body).map(|frame| frame.map_err(|_| OssError::incomplete_body()));
    let blob = receive_all(storage, frames, BLOB_BYTES_MAX).await?;
    match expected_md5 {
        Some(md5) if md5 != blob.md5 => Err(OssError::invalid_digest()),
        Some(_) | None => Ok(blob),
    }
}

/// Takes bytes into a blob, and no more than so many.
pub(crate) async fn receive_all(
    storage: &Arc<Storage>,
    frames: impl Stream<Item = Result<Bytes, OssError>>,
    bytes_max: u64,
) -> Result<Blob, OssError> {
    let mut frames = std::pin::pin!(frames);
    let owned = Arc::clone(storage);
    let mut blob = blocking(move || owned.create_blob()).await?.map_err(|e| OssError::internal(&e))?;
    let (mut batch, mut batch_bytes, mut bytes) = (Vec::new(), 0, 0u64);
    while let Some(data) = frames.next().await {
        let data = data?;
        bytes += data.len() as u64;
        batch_bytes += data.len();
        batch.push(data);
        if bytes > bytes_max {
            return Err(OssError::entity_too_large(bytes_max));
        }
        if batch_bytes >= BATCH_BYTES {
            (blob, batch) = append(blob, batch).await?;
            batch_bytes = 0;
        }
    }
    let (blob, _) = append(blob, batch).await?;
    Ok(blob.finish())
}

async fn append(mut blob: NewBlob, mut batch: Vec<Bytes>) -> Result<(NewBlob, Vec<Bytes>), OssError> {
    let written = blocking(move || {
        blob.append(&batch)?;
        batch.clear();
        io::Result::Ok((blob, batch))
    });
    written.await?.map_err(|e| OssError::internal(&e))
}

fn content_md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>, OssError> {
    let Some(value) = headers.get("content-md5") else { return Ok(None) };
    let digest = STANDARD.decode(value.as_bytes().trim_ascii()).ok().and_then(|md5| md5.try_into().ok());
    digest.map(Some).ok_or_else(OssError::invalid_digest)
}

/// Takes in a document and checks it against `Content-MD5`.
pub(crate) async fn document(headers: &HeaderMap, body: &mut Body) -> Result<String, OssError> {
    let all = Limited::new(body, DOCUMENT_BYTES_MAX).collect().await.map_err(|_| OssError::malformed_xml())?;
    let all = all.to_bytes();
    if content_md5(headers)?.is_some_and(|md5| md5 != <[u8; 16]>::from(Md5::digest(&all))) {
        return Err(OssError::invalid_digest());
    }
    String::from_utf8(all.into()).map_err(|_| OssError::malformed_xml())
}

/// Reads and drops what is left of a refused request: a sender that is cut
/// off while it writes does not read the answer.
pub(crate) async fn drain(body: &mut Body) {
    let all = async {
        let mut left = DRAIN_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(bytes) else { break };
            left = rest;
        }
    };
    // Whoever sends no faster than this can do without the answer.
    let _ = tokio::time::timeout(DRAIN_TIME_MAX, all).await;
}

/// The bytes of an object's slices, one after the other.
pub(crate) fn send(blobs: BlobDir, object: Arc<Object>, slices: Vec<Slice>) -> Body {
    let reader = Reader { blobs, _object: object, slices: slices.into_iter(), open: None };
    let frames = stream::try_unfold(reader, |mut reader| async {
        let read = tokio::task::spawn_blocking(move || io::Result::Ok((reader.next()?, reader)));
        let (frame, reader) = read.await.map_err(io::Error::other)??;
        io::Result::Ok(frame.map(|frame| (frame, reader)))
    });
    Body::from_stream(frames.fuse())
}

struct Reader {
    blobs: BlobDir,
    /// Held, so that its files stay.
    _object: Arc<Object>,
    slices: std::vec::IntoIter<Slice>,
    /// The file being read, and how much of it is still wanted.
    open: Option<(File, u64)>,
}

impl Reader {
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let (mut file, left) = match self.open.take() {
            Some(open) => open,
            None => {
                let Some(slice) = self.slices.next() else { return Ok(None) };
                let mut file = self.blobs.open(slice.segment.blob)?;
                file.seek(SeekFrom::Start(slice.offset))?;
                (file, slice.bytes)
            }
        };
        let wanted = left.min(READ_BYTES as u64);
        let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or(READ_BYTES));
        file.by_ref().take(wanted).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.open = Some((file, left - wanted)).filter(|(_, left)| *left > 0);
        Ok(Some(bytes.into()))
    }
}
