//! One request and what answers it.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};

use super::Inner;
use super::address::value;
use super::error::OssError;
use super::storage::{KeptHeaders, Precondition, Storage, StorageError};

/// A request that was understood and is rightly signed.
pub(crate) struct Call {
    pub emulator: Arc<Inner>,
    pub method: Method,
    /// As the client wrote it.
    pub host: String,
    /// Decoded.
    pub key: String,
    /// Decoded.
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
}

impl Call {
    /// The storage, to be called where blocking is allowed.
    pub(crate) fn storage(&self) -> Arc<Storage> {
        Arc::clone(&self.emulator.storage)
    }

    /// A header's text.
    pub(crate) fn header(&self, name: impl AsRef<str>) -> Option<&str> {
        self.headers.get(name.as_ref()).and_then(|value| value.to_str().ok())
    }

    /// Whether keys are to be encoded in the answer.
    pub(crate) fn url_encoded(&self) -> bool {
        value(&self.query, "encoding-type") == Some("url")
    }

    /// `x-oss-forbid-overwrite`
    pub(crate) fn precondition(&self) -> Precondition {
        let forbids = self.header("x-oss-forbid-overwrite").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        if forbids { Precondition::Absent } else { Precondition::None }
    }

    /// The headers that come back with the object.
    pub(crate) fn kept_headers(&self) -> KeptHeaders {
        let kept = |name: &HeaderName| {
            let plain = ["content-type", "content-disposition", "content-encoding", "content-language"];
            let name = name.as_str();
            plain.contains(&name) || ["cache-control", "expires"].contains(&name) || name.starts_with("x-oss-meta-")
        };
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = self.headers.iter().filter(|(name, _)| kept(name));
        headers.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
    }
}

/// What the storage said of an upload, in OSS's words.
pub(crate) fn of_upload<T>(result: Result<T, StorageError>, upload_id: &str) -> Result<T, OssError> {
    result.map_err(|error| OssError::of_storage(&error, upload_id))
}

/// A document, with status 200.
pub(crate) fn xml(document: String) -> Response {
    let mut response = Response::new(Body::from(document));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}

/// No body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response
}

/// Sets a header; a value that no header can carry is left out.
pub(crate) fn set(headers: &mut HeaderMap, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_ref()), HeaderValue::from_bytes(value.as_ref())) {
        headers.insert(name, value);
    }
}
