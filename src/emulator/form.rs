//! PostObject: a browser's form, whose policy somebody else signed.

use axum::body::Body;
use axum::response::Response;
use futures_util::StreamExt as _;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyDataStream;
use multer::{Constraints, Multipart, SizeLimit};

use super::access::{self, AccessKeys};
use super::address::valid_key;
use super::body::{BLOB_BYTES_MAX, blocking, drain, receive_all};
use super::call::{Call, empty, of_upload, xml as xml_response};
use super::callback::{self, Callback};
use super::error::OssError;
use super::policy::Policy;
use super::stats::Stats;
use super::storage::Blob;
use super::{documents, given, objects};
use crate::store::oss::sign;

/// The longest field that is not the file, in bytes.
const FIELD_BYTES_MAX: u64 = 64 << 10;
const FIELDS_MAX: usize = 100;

/// Whether a request on the bucket is a form.
pub(crate) fn is_form(method: &Method, headers: &HeaderMap, query: &sign::Query) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    method == Method::POST && kind.starts_with("multipart/form-data") && query.iter().all(|(name, _)| name != "delete")
}

/// The fields before the file, by lower-case name.
#[derive(Debug, Default)]
struct Fields(Vec<(String, String)>);

impl Fields {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(n, _)| n != name);
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// What could as well have come in headers.
    fn headers(&self) -> HeaderMap {
        let header = |(name, value): &(String, String)| {
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
        };
        self.0.iter().filter_map(header).collect()
    }
}

/// PostObject.
pub(crate) async fn post(call: &Call, body: &mut Body) -> Result<Response, OssError> {
    let (fields, file) = receive(call, body).await?;
    // What follows the file means nothing.
    drain(body).await;
    let key = fields.get("key").unwrap_or_default().to_owned();
    let callback = Callback::of_form(fields.0.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
    let headers = fields.headers();
    let (properties, precondition) = (given::properties(&headers)?, given::precondition(&headers));
    let storage = call.storage();
    let object = blocking(move || storage.put_object(&key, file, properties, precondition)).await?;
    let object = of_upload(object, "")?;
    Stats::add(&call.emulator.stats.bytes_stored, object.bytes);
    let mut plain = answer(call, &fields, &object)?;
    objects::set_digests(plain.headers_mut(), &object.etag, object.crc64(), None);
    callback::answer(call, callback, &object, "PostObject", plain).await
}

/// Reads up to the end of the file, which is read only once the fields before
/// it are found to be right.
async fn receive(call: &Call, body: &mut Body) -> Result<(Fields, Blob), OssError> {
    let kind = call.header(CONTENT_TYPE).unwrap_or_default();
    let boundary = multer::parse_boundary(kind).map_err(|_| malformed())?;
    let limits = SizeLimit::new().per_field(FIELD_BYTES_MAX).for_field("file", BLOB_BYTES_MAX);
    let frames = BodyDataStream::new(body);
    let mut form = Multipart::with_constraints(frames, boundary, Constraints::new().size_limit(limits));
    let mut fields = Fields::default();
    loop {
        let Some(field) = form.next_field().await.map_err(|_| malformed())? else {
            let message = "POST requires exactly one file upload per request.";
            return Err(OssError::invalid_argument(message, "file", "0"));
        };
        let name = field.name().unwrap_or_default().to_ascii_lowercase();
        if name != "file" {
            if fields.0.len() == FIELDS_MAX {
                return Err(malformed());
            }
            fields.0.push((name, field.text().await.map_err(|_| malformed())?));
            continue;
        }
        if let (None, Some(kind)) = (fields.get("content-type"), field.content_type()) {
            let kind = fields.get("x-oss-content-type").unwrap_or(kind.as_ref()).to_owned();
            fields.set("content-type", &kind);
        }
        let file_name = field.file_name().unwrap_or_default().to_owned();
        let (bytes_min, bytes_max) = admit(call, &mut fields, &file_name)?;
        let bytes = field.map(|piece| piece.map_err(|_| OssError::incomplete_body()));
        let file = receive_all(&call.storage(), bytes, bytes_max.min(BLOB_BYTES_MAX)).await?;
        if file.bytes < bytes_min {
            return Err(OssError::entity_too_small(file.bytes, bytes_min));
        }
        return Ok((fields, file));
    }
}

/// Whether a form with these fields may bring a file, and of how many bytes.
fn admit(call: &Call, fields: &mut Fields, file_name: &str) -> Result<(u64, u64), OssError> {
    let Some(key) = fields.get("key") else {
        let message =
            "Bucket POST must contain a field named 'key'. If it is specified, please check the order of the fields.";
        return Err(OssError::invalid_argument(message, "key", ""));
    };
    let key = key.replace("${filename}", file_name);
    if !valid_key(&key) {
        return Err(OssError::invalid_object_name());
    }
    fields.set("key", &key);
    let emulator = &call.emulator;
    let Some(policy) = fields.get("policy") else {
        if fields.get("ossaccesskeyid").is_some() {
            let message = "Bucket POST must contain a field named 'policy' when it is signed.";
            return Err(OssError::invalid_argument(message, "policy", "").ec("0002-00000702"));
        }
        return Err(OssError::anonymous());
    };
    let now = emulator.clock.now();
    emulator.with_keys(|keys: &AccessKeys<'_>| access::verify_policy(keys, now, policy, |name| fields.get(name)))?;
    let policy = Policy::parse(policy)?;
    policy.check(now, |name| if name == "bucket" { Some(emulator.bucket.as_str()) } else { fields.get(name) })?;
    Ok(policy.length)
}

fn malformed() -> OssError {
    let message = "The body of your POST request is not well-formed multipart/form-data.";
    OssError::new(StatusCode::BAD_REQUEST, "MalformedPOSTRequest", message)
}

/// As `success_action_redirect` or `success_action_status` wants it.
fn answer(call: &Call, fields: &Fields, object: &super::storage::ObjectRecord) -> Result<Response, OssError> {
    let bucket = &call.emulator.bucket;
    if let Some(url) = fields.get("success_action_redirect").filter(|url| !url.is_empty()) {
        let pairs = [("bucket", bucket.clone()), ("key", object.key.clone()), ("etag", format!("\"{}\"", object.etag))];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value));
        let separator = if url.contains('?') { '&' } else { '?' };
        let location = format!("{url}{separator}{}", sign::encode_query(&pairs));
        let mut response = empty(StatusCode::SEE_OTHER);
        let location = HeaderValue::from_str(&location)
            .map_err(|_| OssError::invalid_argument("The redirect is no URL.", "success_action_redirect", url))?;
        response.headers_mut().insert(LOCATION, location);
        return Ok(response);
    }
    match fields.get("success_action_status") {
        Some("200") => Ok(empty(StatusCode::OK)),
        Some("201") => {
            let location = format!("http://{}/{}", call.host, sign::encode_path(&object.key));
            let mut response = xml_response(documents::posted(bucket, &location, object)?);
            *response.status_mut() = StatusCode::CREATED;
            Ok(response)
        }
        Some(_) | None => Ok(empty(StatusCode::NO_CONTENT)),
    }
}
