//! The calls that both dialects say alike.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use http::Method;
use http::header::{CONTENT_RANGE, RANGE};
use tokio::time::timeout;

use crate::domain::{ObjectKey, PartNumber};
use crate::store::remote::answer::{Answer, UNREADABLE, object};
use crate::store::remote::client::Client;
use crate::store::remote::request::{Call, unreachable_store};
use crate::store::remote::xml;
use crate::store::{Download, ListedUpload, ObjectStream, Reading, StoreError, StoredObject, Target};

/// Pages of a thousand uploads that one sweep looks at.
const UPLOAD_PAGES_MAX: u32 = 100;

/// What a signed URL of a download asks for.
pub fn download_query(download: &Download<'_>) -> Vec<(String, String)> {
    let mut query = vec![("response-content-disposition".to_owned(), download.disposition.clone())];
    query.extend(download.content_type.map(|kind| ("response-content-type".to_owned(), kind.to_owned())));
    query
}

/// What the URL of a part names.
pub fn part_query(target: Target<'_>, number: PartNumber) -> Vec<(String, String)> {
    vec![
        ("partNumber".to_owned(), number.get().to_string()),
        ("uploadId".to_owned(), target.session.as_str().to_owned()),
    ]
}

/// All parts of an upload, ascending.
pub async fn list_parts(client: &Client, target: Target<'_>) -> Result<Vec<xml::ListedPart>, StoreError> {
    let mut parts: Vec<xml::ListedPart> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut call = Call::new("ListParts", Method::GET, Some(target.key.as_str()))
            .query("uploadId", target.session.as_str())
            .query("max-parts", "1000")
            .query("encoding-type", "url");
        if let Some(marker) = &after {
            call = call.query("part-number-marker", marker);
        }
        let answer = client.call(&call).await?;
        let page = xml::parts(&answer.text()).map_err(|e| unreadable(&call, &e))?;
        // Ascending over all pages: what goes round in circles ends here.
        let last = parts.last().map(|listed| listed.part.number);
        let numbers = last.into_iter().chain(page.parts.iter().map(|listed| listed.part.number));
        if !numbers.is_sorted_by(|a, b| a < b) || (page.parts.is_empty() && page.next.is_some()) {
            return Err(call.unavailable(UNREADABLE, "the listed parts do not ascend"));
        }
        parts.extend(page.parts);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(parts),
        }
    }
}

/// Drops a multipart upload; also well when there is none.
pub async fn abort(client: &Client, target: Target<'_>) -> Result<(), StoreError> {
    let call = Call::new("AbortMultipartUpload", Method::DELETE, Some(target.key.as_str()))
        .query("uploadId", target.session.as_str());
    match client.call(&call).await {
        Ok(_) | Err(StoreError::NoSuchUpload) => Ok(()),
        Err(error) => Err(error),
    }
}

/// An object's properties.
pub async fn head(client: &Client, key: &ObjectKey) -> Result<Option<StoredObject>, StoreError> {
    let call = Call::new("HeadObject", Method::HEAD, Some(key.as_str()));
    match client.call(&call).await {
        Ok(answer) => {
            let read = object(&answer.headers);
            read.map(Some).ok_or_else(|| call.unavailable(UNREADABLE, "the object's size is missing"))
        }
        Err(StoreError::NoSuchObject) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An object's bytes, or a range of them that lies within it. `call` is the GET
/// with what the dialect wants to be said.
pub async fn get(
    client: &Client,
    mut call: Call<'_>,
    key: &ObjectKey,
    range: Option<Range<u64>>,
) -> Result<Reading, StoreError> {
    if range.as_ref().is_some_and(Range::is_empty) {
        // HTTP has no way to ask for nothing.
        let object = head(client, key).await?.ok_or(StoreError::NoSuchObject)?;
        return Ok(Reading { object, stream: Box::pin(stream::empty()) });
    }
    if let Some(range) = &range {
        call = call.header(RANGE.as_str(), &format!("bytes={}-{}", range.start, range.end - 1))?;
    }
    let response = client.open(&call).await?;
    let headers = response.headers();
    let unexpected = |what| call.unavailable(UNREADABLE, what);
    let object = object(headers).ok_or_else(|| unexpected("the object's size is missing"))?;
    let bytes = match &range {
        None => object.bytes,
        Some(range) => {
            let start = format!("bytes {}-{}/", range.start, range.end - 1);
            let answered = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
            if !answered.is_some_and(|text| text.starts_with(&start)) {
                return Err(unexpected("another range than the one asked for"));
            }
            range.end - range.start
        }
    };
    let stream = read_through(call.operation, response, bytes, client);
    Ok(Reading { object, stream })
}

/// Removes an object; also well when there is none.
pub async fn delete(client: &Client, key: &ObjectKey) -> Result<(), StoreError> {
    let call = Call::new("DeleteObject", Method::DELETE, Some(key.as_str()));
    match client.call(&call).await {
        Ok(_) | Err(StoreError::NoSuchObject) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The multipart uploads whose key begins with `prefix`.
pub async fn list_uploads(client: &Client, prefix: &str) -> Result<Vec<ListedUpload>, StoreError> {
    let mut uploads = Vec::new();
    let mut after = None;
    for _ in 0..UPLOAD_PAGES_MAX {
        let page = list_uploads_page(client, prefix, after.as_ref()).await?;
        uploads.extend(page.uploads);
        if page.next.is_none() || page.next == after {
            return Ok(uploads);
        }
        after = page.next;
    }
    tracing::warn!(prefix, listed = uploads.len(), "too many multipart uploads to list at once");
    Ok(uploads)
}

async fn list_uploads_page(
    client: &Client,
    prefix: &str,
    after: Option<&(String, String)>,
) -> Result<xml::UploadsPage, StoreError> {
    let mut call = Call::new("ListMultipartUploads", Method::GET, None)
        .query("uploads", "")
        .query("encoding-type", "url")
        .query("max-uploads", "1000");
    if !prefix.is_empty() {
        call = call.query("prefix", prefix);
    }
    if let Some((key, upload)) = after {
        call = call.query("key-marker", key).query("upload-id-marker", upload);
    }
    let answer = client.call(&call).await?;
    xml::uploads(&answer.text()).map_err(|e| unreadable(&call, &e))
}

/// Whether the store takes us right now.
pub async fn check(client: &Client) -> Result<(), StoreError> {
    let call = Call::new("ListMultipartUploads", Method::GET, None).query("uploads", "").query("max-uploads", "1");
    let answer = client.call_once(&call).await?;
    // A web server that is no store may answer 200 to anything.
    let read = xml::uploads(&answer.text());
    read.map(|_| ()).map_err(|e| StoreError::Refused(call.fault(UNREADABLE, e.to_string())).at(client.address()))
}

/// The ETag that every answer to a PUT has.
pub fn etag(call: &Call<'_>, answer: &Answer) -> Result<String, StoreError> {
    answer.etag().ok_or_else(|| call.unavailable(UNREADABLE, "the ETag is missing"))
}

/// An answer whose body is not what was asked for.
pub fn unreadable(call: &Call<'_>, error: &xml::Unreadable) -> StoreError {
    call.unavailable(UNREADABLE, error.to_string())
}

/// An answer's body as it comes: exactly `bytes` bytes, none of them late.
/// The deadline runs only while the reader waits for the store.
fn read_through(operation: &'static str, response: reqwest::Response, bytes: u64, client: &Client) -> ObjectStream {
    let call = Call::new(operation, Method::GET, None);
    let (idle_timeout, address) = (client.idle_timeout(), Arc::clone(client.address()));
    let bytes_in_order = stream::unfold(Some((call, response, bytes)), move |state| async move {
        let (call, mut response, left) = state?;
        let read: Result<Option<Bytes>, StoreError> = match timeout(idle_timeout, response.chunk()).await {
            Err(_) => Err(call.unavailable("IdleTimeout", "the object stopped in the middle")),
            Ok(Err(error)) => Err(unreachable_store(&call, error)),
            Ok(Ok(chunk)) => Ok(chunk),
        };
        match read {
            Ok(None) if left == 0 => None,
            Ok(Some(chunk)) if chunk.len() as u64 <= left => {
                let left = left - chunk.len() as u64;
                Some((Ok(chunk), Some((call, response, left))))
            }
            Ok(_) => Some((Err(call.unavailable(UNREADABLE, "another length than announced")), None)),
            Err(error) => Some((Err(error), None)),
        }
    });
    Box::pin(bytes_in_order.map_err(move |error: StoreError| error.at(&address)))
}
