//! RFC 9457 problem documents: the one place that knows which refusal has
//! which status.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::domain::Refusal;
use crate::engine::EngineError;

/// A refusal on its way out. The document is written by the outermost layer,
/// which knows the request's id, and logs the cause under it.
#[derive(Clone, Debug)]
pub struct Problem {
    /// What the client is told.
    pub refusal: Refusal,
    /// What the log is told, where something failed.
    pub cause: Option<Arc<str>>,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, cause: None }
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        let cause = error.is_failure().then(|| error.to_string().into());
        Self { refusal: error.refusal(), cause }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = status(&self.refusal);
        answer.extensions_mut().insert(self);
        answer
    }
}

/// The status of a refusal.
pub const fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::InvalidRequest { .. }
        | Refusal::InvalidParameter { .. }
        | Refusal::InvalidFileId
        | Refusal::FileIdRequired
        | Refusal::FieldsAfterFile { .. }
        | Refusal::ChunkIndexOutOfRange { .. }
        | Refusal::ChunkSizeOutOfRange { .. }
        | Refusal::TotalChunksOutOfRange { .. }
        | Refusal::ChunkSizeMismatch { .. }
        | Refusal::BodyTooShort { .. }
        | Refusal::BodyTooLong { .. } => StatusCode::BAD_REQUEST,
        Refusal::Unauthorized { .. }
        | Refusal::TokenMalformed { .. }
        | Refusal::TokenExpired { .. }
        | Refusal::TokenRevoked
        | Refusal::TokenReused
        | Refusal::DeviceMismatch => StatusCode::UNAUTHORIZED,
        Refusal::HostNotAllowed { .. }
        | Refusal::OriginNotAllowed { .. }
        | Refusal::CorsOriginNotAllowed { .. }
        | Refusal::InsufficientScope { .. }
        | Refusal::RefusedByApplication { .. }
        | Refusal::OtherFileId
        | Refusal::SignatureInvalid
        | Refusal::SignatureExpired => StatusCode::FORBIDDEN,
        Refusal::UploadNotFound | Refusal::FileNotFound | Refusal::EventNotFound | Refusal::NotFound => {
            StatusCode::NOT_FOUND
        }
        Refusal::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::BodyTimeout { .. } => StatusCode::REQUEST_TIMEOUT,
        Refusal::ChunkConflict { .. }
        | Refusal::ChunkSuperseded { .. }
        | Refusal::UploadConflict { .. }
        | Refusal::KeyTaken { .. }
        | Refusal::UploadCompleted
        | Refusal::UploadCompleting
        | Refusal::ChunksMissing { .. } => StatusCode::CONFLICT,
        Refusal::UploadExpired | Refusal::UploadAborted | Refusal::UploadLost | Refusal::UploadFailed => {
            StatusCode::GONE
        }
        Refusal::LengthRequired => StatusCode::LENGTH_REQUIRED,
        Refusal::FileTooLarge { .. }
        | Refusal::SimpleFileTooLarge { .. }
        | Refusal::MetadataTooLarge { .. }
        | Refusal::QuotaExceeded { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::UnsupportedEncoding { .. } | Refusal::TypeNotAllowed { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Refusal::RangeNotSatisfiable { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
        Refusal::ChecksumMismatch { .. } | Refusal::IntegrityFailed { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::TooManyUploads { .. } | Refusal::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
        Refusal::Overloaded
        | Refusal::StoreUnavailable { .. }
        | Refusal::DatabaseUnavailable
        | Refusal::IssuerUnavailable
        | Refusal::HookUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::NotSupported { .. } => StatusCode::NOT_IMPLEMENTED,
        Refusal::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        Refusal::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Seconds after which the same request may succeed.
fn retry_after(refusal: &Refusal) -> Option<u64> {
    match (status(refusal), refusal) {
        (_, Refusal::RateLimited { wait, .. }) => Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)),
        // A store mostly fails one request and serves the next. Of one that fails
        // them all, clients learn to wait longer by themselves.
        (_, Refusal::StoreUnavailable { .. }) => Some(1),
        (StatusCode::SERVICE_UNAVAILABLE, _) => Some(2),
        (StatusCode::TOO_MANY_REQUESTS, _) => Some(10),
        (StatusCode::INSUFFICIENT_STORAGE, _) => Some(30),
        _ => None,
    }
}

/// The document and its headers.
pub fn render(refusal: &Refusal, request_id: &str, answer: &mut Response) {
    let status = status(refusal);
    let mut document = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": refusal.detail(),
        "code": refusal.code(),
        "requestId": request_id,
    });
    if let Value::Object(document) = &mut document {
        document.extend(members(refusal));
    }
    *answer.body_mut() = Body::from(document.to_string());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = retry_after(refusal) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(challenge) = challenge(refusal) {
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    if let Refusal::RangeNotSatisfiable { bytes } = refusal
        && let Ok(range) = HeaderValue::try_from(format!("bytes */{bytes}"))
    {
        headers.insert(header::CONTENT_RANGE, range);
    }
}

/// What a client needs to get in (RFC 6750 §3).
#[expect(clippy::wildcard_enum_match_arm, reason = "most refusals are not about who asks")]
fn challenge(refusal: &Refusal) -> Option<HeaderValue> {
    let text = match refusal {
        Refusal::Unauthorized { .. } => "Bearer realm=\"chunkgate\"".to_owned(),
        Refusal::InsufficientScope { needed } if !needed.contains(' ') => {
            format!("Bearer realm=\"chunkgate\", error=\"insufficient_scope\", scope=\"{needed}\"")
        }
        refusal if status(refusal) == StatusCode::UNAUTHORIZED => {
            format!("Bearer realm=\"chunkgate\", error=\"invalid_token\", error_description=\"{}\"", refusal.code())
        }
        _ => return None,
    };
    HeaderValue::try_from(text).ok()
}

/// What a program can read beside the code.
#[expect(clippy::wildcard_enum_match_arm, reason = "most refusals have no members of their own")]
fn members(refusal: &Refusal) -> Map<String, Value> {
    let members = match refusal {
        Refusal::ChunkSizeOutOfRange { bytes_min, bytes_max, .. } => {
            json!({"minChunkSize": bytes_min, "maxChunkSize": bytes_max})
        }
        Refusal::ChunksMissing { missing } => json!({"missing": missing}),
        Refusal::ChunkSizeMismatch { expected, .. } => json!({"expectedSize": expected}),
        Refusal::FileTooLarge { bytes_max, .. } | Refusal::SimpleFileTooLarge { bytes_max } => {
            json!({"maxSize": bytes_max})
        }
        Refusal::QuotaExceeded { used, quota, .. } => json!({"usedBytes": used, "quotaBytes": quota}),
        Refusal::RateLimited { limit, .. } => json!({"limit": limit}),
        Refusal::TooManyUploads { max } => json!({"limit": max}),
        Refusal::InsufficientScope { needed } => json!({"neededScope": needed}),
        Refusal::ChunkConflict { index } | Refusal::ChunkSuperseded { index } => json!({"chunkIndex": index}),
        _ => json!({}),
    };
    match members {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
