//! The operations of objects and the bucket.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE};
use http::{HeaderMap, Method, StatusCode};

use super::access::parse_http_date;
use super::address::{valid_key, value};
use super::body::{blocking, document, receive, send};
use super::call::{Call, empty, of_upload, set, xml as xml_response};
use super::callback::{self, Callback};
use super::error::{NEXT_APPEND_HEADER, OssError};
use super::operation::ListObjects;
use super::range::{Asked, asked, slices};
use super::stats::Stats;
use super::storage::{Object, ObjectRecord, ObjectType};
use super::{documents, listing};
use crate::domain::Crc64;
use crate::store::oss::sign::v1::http_date;

/// PutObject.
pub(crate) async fn put(call: &Call, body: &mut Body) -> Result<Response, OssError> {
    let storage = call.storage();
    let (key, properties, precondition) = (call.key.clone(), call.properties()?, call.precondition());
    let callback = Callback::of_request(&call.headers, &call.query)?;
    let blob = receive(&storage, &call.headers, body).await?;
    let md5 = blob.md5;
    let object = of_upload(blocking(move || storage.put_object(&key, blob, properties, precondition)).await?, "")?;
    Stats::add(&call.emulator.stats.bytes_stored, object.bytes);
    let mut response = empty(StatusCode::OK);
    set_digests(response.headers_mut(), &object.etag, object.crc64(), Some(md5));
    callback::answer(call, callback, &object, "PutObject", response).await
}

/// AppendObject.
pub(crate) async fn append(call: &Call, position: u64, body: &mut Body) -> Result<Response, OssError> {
    let storage = call.storage();
    let (key, properties) = (call.key.clone(), call.properties()?);
    let blob = receive(&storage, &call.headers, body).await?;
    let md5 = blob.md5;
    let object = of_upload(blocking(move || storage.append_object(&key, position, blob, properties)).await?, "")?;
    Stats::add(&call.emulator.stats.bytes_stored, object.bytes - position);
    let mut response = empty(StatusCode::OK);
    set_digests(response.headers_mut(), &object.etag, object.crc64(), Some(md5));
    set(response.headers_mut(), NEXT_APPEND_HEADER, object.bytes.to_string());
    Ok(response)
}

/// DeleteMultipleObjects.
pub(crate) async fn delete_many(call: &Call, body: &mut Body) -> Result<Response, OssError> {
    let deletion = documents::deletion(&document(&call.headers, body).await?)?;
    if !deletion.keys.iter().all(|key| valid_key(key)) {
        return Err(OssError::invalid_object_name());
    }
    let storage = call.storage();
    let done = blocking(move || deletion.keys.iter().try_for_each(|key| storage.delete_object(key)).map(|()| deletion));
    Ok(xml_response(documents::deleted(&of_upload(done.await?, "")?, call.url_encoded())?))
}

/// GetObject and HeadObject.
pub(crate) fn get(call: &Call) -> Result<Response, OssError> {
    let object = found(call)?;
    match condition(&call.headers, &[IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE], &object) {
        Condition::Holds => {}
        Condition::NotModified => {
            let mut response = empty(StatusCode::NOT_MODIFIED);
            set_properties(response.headers_mut(), &object);
            return Ok(response);
        }
        Condition::Fails(which) => return Err(OssError::precondition_failed(which)),
    }
    let standard = call.header("x-oss-range-behavior").is_some_and(|text| text.eq_ignore_ascii_case("standard"));
    let range = call.header(RANGE);
    let (status, range) = match asked(range, object.bytes, standard) {
        Asked::Whole => (StatusCode::OK, 0..object.bytes),
        Asked::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Asked::Nothing => return Err(OssError::invalid_range(range.unwrap_or_default(), object.bytes)),
    };
    let body = if call.method == Method::HEAD {
        Body::empty()
    } else {
        send(call.storage().blobs().clone(), Arc::clone(&object), slices(&object.segments, &range))
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    set_properties(headers, &object);
    override_headers(headers, &call.query);
    set(headers, "content-length", (range.end - range.start).to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        set(headers, "content-range", format!("bytes {}-{}/{}", range.start, range.end - 1, object.bytes));
    }
    Ok(response)
}

/// GetObjectMeta: what HeadObject says, without what the client gave.
pub(crate) fn meta(call: &Call) -> Result<Response, OssError> {
    let object = found(call)?;
    let mut response = empty(StatusCode::OK);
    let headers = response.headers_mut();
    set_digests(headers, &object.etag, object.crc64(), None);
    set(headers, "last-modified", http_date(object.modified()));
    // GET has no body either: what it says of the length is the object's.
    if call.method == Method::HEAD {
        set(headers, "content-length", object.bytes.to_string());
    }
    Ok(response)
}

/// DeleteObject.
pub(crate) async fn delete(call: &Call) -> Result<Response, OssError> {
    let (storage, key) = (call.storage(), call.key.clone());
    of_upload(blocking(move || storage.delete_object(&key)).await?, "")?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// ListObjects and ListObjectsV2.
pub(crate) fn list(call: &Call, list: &ListObjects) -> Result<Response, OssError> {
    let objects = call.storage().objects_after(&list.prefix, &list.after);
    let records = objects.iter().map(|object| &***object);
    Ok(xml_response(listing::objects(&call.emulator.bucket, list, records)?))
}

pub(crate) fn found(call: &Call) -> Result<Arc<Object>, OssError> {
    call.emulator.storage.object(&call.key).ok_or_else(|| OssError::no_such_key(&call.key))
}

/// The headers that prove what was stored.
pub(crate) fn set_digests(headers: &mut HeaderMap, etag: &str, crc64: Crc64, md5: Option<[u8; 16]>) {
    set(headers, "etag", format!("\"{etag}\""));
    set(headers, "x-oss-hash-crc64ecma", crc64.to_string());
    if let Some(md5) = md5 {
        set(headers, "content-md5", STANDARD.encode(md5));
    }
}

fn set_properties(headers: &mut HeaderMap, object: &ObjectRecord) {
    set(headers, "content-type", "application/octet-stream");
    set(headers, "x-oss-storage-class", object.storage_class());
    object.properties.headers.iter().for_each(|(name, value)| set(headers, name, value));
    let md5 = match object.object_type {
        ObjectType::Normal => hex::decode(&object.etag).ok().and_then(|md5| md5.try_into().ok()),
        ObjectType::Multipart | ObjectType::Appendable => None,
    };
    set_digests(headers, &object.etag, object.crc64(), md5);
    set(headers, "last-modified", http_date(object.modified()));
    set(headers, "accept-ranges", "bytes");
    set(headers, "x-oss-object-type", object.object_type.name());
    if !object.properties.tags.is_empty() {
        set(headers, "x-oss-tagging-count", object.properties.tags.len().to_string());
    }
    if object.object_type == ObjectType::Appendable {
        set(headers, NEXT_APPEND_HEADER, object.bytes.to_string());
    }
}

/// `response-content-type` and the others, in the query.
fn override_headers(headers: &mut HeaderMap, query: &[(String, String)]) {
    for name in
        ["content-type", "content-language", "expires", "cache-control", "content-disposition", "content-encoding"]
    {
        if let Some(text) = value(query, &format!("response-{name}")) {
            set(headers, name, text);
        }
    }
}

/// Whether the conditions of a read hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Holds,
    NotModified,
    Fails(&'static str),
}

/// Reads the headers that are named so, in this order: match, none match,
/// modified since, unmodified since.
pub(crate) fn condition(headers: &HeaderMap, names: &[HeaderName; 4], object: &ObjectRecord) -> Condition {
    let [matches, none_match, modified_since, unmodified_since] = names;
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let named = |text: &str| {
        let tags = text.split(',').map(|tag| tag.trim().trim_matches('"'));
        tags.into_iter().any(|tag| tag == "*" || tag.eq_ignore_ascii_case(&object.etag))
    };
    // Times in headers have no milliseconds.
    let modified = object.modified().seconds();
    let since = |name: &HeaderName| text(name).and_then(parse_http_date).map(|at| modified > at.seconds());
    match (text(matches).map(named), since(unmodified_since)) {
        (Some(false), _) => return Condition::Fails("If-Match"),
        (None, Some(true)) => return Condition::Fails("If-Unmodified-Since"),
        (Some(true), _) | (None, Some(false) | None) => {}
    }
    match (text(none_match).map(named), since(modified_since)) {
        (Some(true), _) | (None, Some(false)) => Condition::NotModified,
        (Some(false), _) | (None, Some(true) | None) => Condition::Holds,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::emulator::storage::Properties;

    const NAMES: [HeaderName; 4] = [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];

    #[test]
    fn reads_are_conditional() {
        let object = ObjectRecord {
            key: "k".to_owned(),
            bytes: 1,
            etag: "ABC".to_owned(),
            crc64: 0,
            object_type: ObjectType::Normal,
            modified_millis: 1_672_223_261_500,
            properties: Properties::default(),
            upload_id: None,
            segments: vec![],
        };
        let with = |name: HeaderName, text| {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(text))]);
            condition(&headers, &NAMES, &object)
        };
        // Modified Wed, 28 Dec 2022 10:27:41.5 GMT.
        for (name, text, expected) in [
            (IF_MATCH, "\"abc\"", Condition::Holds),
            (IF_MATCH, "\"x\", *", Condition::Holds),
            (IF_MATCH, "\"x\"", Condition::Fails("If-Match")),
            (IF_NONE_MATCH, "\"ABC\"", Condition::NotModified),
            (IF_NONE_MATCH, "\"x\"", Condition::Holds),
            (IF_MODIFIED_SINCE, "Wed, 28 Dec 2022 10:27:41 GMT", Condition::NotModified),
            (IF_MODIFIED_SINCE, "Wed, 28 Dec 2022 10:27:40 GMT", Condition::Holds),
            (IF_UNMODIFIED_SINCE, "Wed, 28 Dec 2022 10:27:41 GMT", Condition::Holds),
            (IF_UNMODIFIED_SINCE, "Wed, 28 Dec 2022 10:27:40 GMT", Condition::Fails("If-Unmodified-Since")),
            (IF_MODIFIED_SINCE, "yesterday", Condition::Holds),
        ] {
            assert_eq!(with(name.clone(), text), expected, "{name}: {text}");
        }
        assert_eq!(condition(&HeaderMap::new(), &NAMES, &object), Condition::Holds);
    }
}
