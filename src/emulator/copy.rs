//! Bytes that are in the bucket already: copied, so that neither object has a
//! part in the other's fate.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::header::HeaderName;

use super::body::blocking;
use super::call::{Call, of_upload, xml as xml_response};
use super::documents;
use super::error::OssError;
use super::given;
use super::objects::{self, Condition};
use super::operation::CopySource;
use super::range::slices;
use super::stats::Stats;
use super::storage::{Blob, Object, Properties, Storage};
use crate::domain::PartNumber;

/// How much is read at once, in bytes.
const READ_BYTES: usize = 256 << 10;

/// CopyObject.
pub(crate) async fn object(call: &Call, source: &CopySource) -> Result<Response, OssError> {
    let from = found(call, source)?;
    let whole = 0..from.bytes;
    let properties = properties(call, &from)?;
    let (storage, key, precondition) = (call.storage(), call.key.clone(), call.precondition());
    let copied = blocking(move || {
        let blob = copy(&storage, &from, &whole)?;
        storage.put_object(&key, blob, properties, precondition)
    });
    let object = of_upload(copied.await?, "")?;
    Stats::add(&call.emulator.stats.bytes_stored, object.bytes);
    let mut response = xml_response(documents::copied(&object)?);
    objects::set_digests(response.headers_mut(), &object.etag, object.crc64(), None);
    Ok(response)
}

/// UploadPartCopy.
pub(crate) async fn part(
    call: &Call,
    upload_id: &str,
    number: PartNumber,
    source: &CopySource,
) -> Result<Response, OssError> {
    let storage = call.storage();
    let upload = of_upload(storage.upload(&call.key, upload_id), upload_id)?;
    let from = found(call, source)?;
    let range = range(call, from.bytes)?;
    let copied = blocking(move || {
        let blob = copy(&storage, &from, &range)?;
        storage.put_part(&upload, number, blob)
    });
    let part = of_upload(copied.await?, upload_id)?;
    Stats::add(&call.emulator.stats.parts_stored, 1);
    Stats::add(&call.emulator.stats.bytes_stored, part.bytes);
    let mut response = xml_response(documents::part_copied(&part.etag, part.modified_millis)?);
    objects::set_digests(response.headers_mut(), &part.etag, part.crc64(), None);
    Ok(response)
}

/// The source, if it is as the conditions want it.
fn found(call: &Call, source: &CopySource) -> Result<Arc<Object>, OssError> {
    if source.bucket != call.emulator.bucket {
        return Err(OssError::no_such_bucket(&source.bucket));
    }
    let object = call.storage().object(&source.key).ok_or_else(|| OssError::no_such_key(&source.key))?;
    let header = |name: &'static str| HeaderName::from_static(name);
    let names = [
        header("x-oss-copy-source-if-match"),
        header("x-oss-copy-source-if-none-match"),
        header("x-oss-copy-source-if-modified-since"),
        header("x-oss-copy-source-if-unmodified-since"),
    ];
    match objects::condition(&call.headers, &names, &object) {
        Condition::Holds => Ok(object),
        Condition::NotModified => Err(OssError::precondition_failed("x-oss-copy-source-if-none-match")),
        Condition::Fails(which) => Err(OssError::precondition_failed(which)),
    }
}

/// What the copy says of itself: what its source says, or what the request does.
fn properties(call: &Call, source: &Object) -> Result<Properties, OssError> {
    let replaces = |name: &'static str| match call.header(name) {
        None => Ok(false),
        Some(text) if text.eq_ignore_ascii_case("copy") => Ok(false),
        Some(text) if text.eq_ignore_ascii_case("replace") => Ok(true),
        Some(text) => Err(OssError::invalid_argument("The directive is neither COPY nor REPLACE.", name, text)),
    };
    let said = call.properties()?;
    let headers = if replaces("x-oss-metadata-directive")? { said.headers } else { source.properties.headers.clone() };
    let tags = if replaces("x-oss-tagging-directive")? { said.tags } else { source.properties.tags.clone() };
    let acl = given::acl(&call.headers, "x-oss-object-acl")?.unwrap_or_default();
    Ok(Properties { headers, tags, acl })
}

/// `x-oss-copy-source-range: bytes=0-9`; all of it without.
fn range(call: &Call, bytes: u64) -> Result<Range<u64>, OssError> {
    let Some(text) = call.header("x-oss-copy-source-range") else { return Ok(0..bytes) };
    let bounds = text.trim().strip_prefix("bytes=").and_then(|range| range.split_once('-'));
    let bounds = bounds.and_then(|(first, last)| Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?)));
    match bounds {
        Some((first, last)) if first <= last && last < bytes => Ok(first..last + 1),
        Some(_) | None => Err(OssError::invalid_range(text, bytes)),
    }
}

/// Blocks.
fn copy(storage: &Storage, from: &Object, range: &Range<u64>) -> io::Result<Blob> {
    let mut blob = storage.create_blob()?;
    for slice in slices(&from.segments, range) {
        let mut file = storage.blobs().open(slice.segment.blob)?;
        file.seek(SeekFrom::Start(slice.offset))?;
        let mut left = file.take(slice.bytes);
        while left.limit() > 0 {
            let mut bytes = Vec::with_capacity(READ_BYTES);
            if left.by_ref().take(READ_BYTES as u64).read_to_end(&mut bytes)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            blob.append(&[Bytes::from(bytes)])?;
        }
    }
    Ok(blob.finish())
}
