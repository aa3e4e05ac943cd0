//! One request and what answers it.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};

use super::Inner;
use super::address::value;
use super::error::OssError;
use super::given;
use super::storage::{Precondition, Properties, Storage, StorageError};

/// A request that was understood and is rightly signed.
pub(crate) struct Call {
    pub emulator: Arc<Inner>,
    pub method: Method,
    /// What the answer will be known by.
    pub request_id: String,
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
        given::precondition(&self.headers)
    }

    /// What comes back with the object.
    pub(crate) fn properties(&self) -> Result<Properties, OssError> {
        given::properties(&self.headers)
    }
}

/// What the storage said of an upload, in OSS's words.
pub(crate) fn of_upload<T>(result: Result<T, StorageError>, upload_id: &str) -> Result<T, OssError> {
    result.map_err(|error| OssError::of_storage(&error, upload_id))
}

/// What the storage said of the object with this key.
pub(crate) fn of_object<T>(result: Result<T, StorageError>, key: &str) -> Result<T, OssError> {
    result.map_err(|error| match error {
        StorageError::NoSuchObject => OssError::no_such_key(key),
        StorageError::NoSuchUpload
        | StorageError::NotAppendable
        | StorageError::NotAtTheEnd { .. }
        | StorageError::ObjectExists
        | StorageError::InvalidPart(_)
        | StorageError::InvalidPartOrder
        | StorageError::NoParts
        | StorageError::PartTooSmall { .. }
        | StorageError::Io(_) => OssError::of_storage(&error, ""),
    })
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
