//! Every refusal there is: one variant each, with a stable code and a sentence
//! that says what to do. Which status a protocol answers with is its own matter.

mod detail;

use std::time::Duration;

use crate::domain::bounds::PartBounds;

/// Why a request was refused. What the fields say goes to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", self.code(), self.detail())]
#[expect(missing_docs, reason = "the fields are named for what they are")]
pub enum Refusal {
    /// The request makes no sense.
    InvalidRequest { reason: String },
    /// A query parameter is out of its range.
    InvalidParameter { name: &'static str, reason: String },
    /// The fileId is not one.
    InvalidFileId,
    /// A form without fileId.
    FileIdRequired,
    /// Fields came after the file, which streamed or is too large to hold.
    FieldsAfterFile { bytes_max: u64 },
    /// No such chunk in the plan.
    ChunkIndexOutOfRange { index: i128, count: u32 },
    /// No plan can be made with chunks of this size.
    ChunkSizeOutOfRange { given: u64, bytes_min: u64, bytes_max: u64 },
    /// The number of chunks fits neither rounding, or is more than there can be.
    TotalChunksOutOfRange { given: u64, expected: Option<(u64, u64)> },
    /// The body's length is not the plan's.
    ChunkSizeMismatch { expected: u64, got: Option<u64> },
    /// The body ended early.
    BodyTooShort { expected: u64, got: u64 },
    /// The body went on after its end.
    BodyTooLong { expected: u64 },
    /// No authentication, and the Host is none of this machine's names.
    HostNotAllowed { host: String, port: u16 },
    /// No authentication, and the Origin is foreign.
    OriginNotAllowed { origin: String },
    /// A preflight from an origin that is not allowed.
    CorsOriginNotAllowed { origin: String },
    /// No key or token, or not one we know.
    Unauthorized { reason: &'static str },
    /// What was sent as a token is none.
    TokenMalformed { reason: &'static str },
    /// The token's time is over.
    TokenExpired { what: &'static str },
    /// The token's login was ended.
    TokenRevoked,
    /// A refresh token was used twice: its login ends.
    TokenReused,
    /// A refresh token was used by another device.
    DeviceMismatch,
    /// The token is not for this.
    InsufficientScope { needed: &'static str },
    /// The token is for one upload, and another was to be created.
    OtherFileId,
    /// The keys of the application's issuer cannot be read.
    IssuerUnavailable,
    /// Too many requests of one subject or address.
    RateLimited { limit: String, wait: Duration },
    /// The file is of a kind that is not taken.
    TypeNotAllowed { found: String, allowed: String },
    /// The application does not want the file.
    RefusedByApplication { detail: String },
    /// The application that must be asked first does not answer.
    HookUnavailable,
    /// No such event.
    EventNotFound,
    /// The owner has no room for the file.
    QuotaExceeded { bytes: u64, used: u64, quota: u64 },
    /// A signed URL was edited, or is for another request.
    SignatureInvalid,
    /// A signed URL's time is over.
    SignatureExpired,
    /// The store, or the way it is used here, cannot do this.
    NotSupported { what: &'static str },
    /// No such upload for this owner.
    UploadNotFound,
    /// No such file for this owner.
    FileNotFound,
    /// The client stopped sending.
    BodyTimeout { idle: Duration },
    /// The chunk is recorded with other bytes.
    ChunkConflict { index: u32 },
    /// A newer request for the same chunk took over.
    ChunkSuperseded { index: u32 },
    /// The upload is known with other properties.
    UploadConflict { reason: String },
    /// The application chose an object key that is not to be had.
    KeyTaken { holder: KeyHolder },
    /// The upload is completed.
    UploadCompleted,
    /// The upload is being merged.
    UploadCompleting,
    /// The merge was asked for, but chunks are missing.
    ChunksMissing { missing: Vec<[u32; 2]> },
    /// The upload expired.
    UploadExpired,
    /// The upload was aborted.
    UploadAborted,
    /// The store lost the upload.
    UploadLost,
    /// The upload failed.
    UploadFailed,
    /// The body's length must be known.
    LengthRequired,
    /// The file is larger than allowed.
    FileTooLarge { bytes: Option<u64>, bytes_max: u64 },
    /// A file for one request is larger than one request takes.
    SimpleFileTooLarge { bytes_max: u64 },
    /// The metadata is larger than allowed.
    MetadataTooLarge { pairs_max: usize, bytes_max: usize },
    /// The body came compressed.
    UnsupportedEncoding { encoding: String },
    /// The chunk is not what its checksum says.
    ChecksumMismatch { declared: String, computed: String },
    /// The whole file is not what its checksum says.
    IntegrityFailed { declared: String, computed: Option<String> },
    /// The owner has as many open uploads as allowed.
    TooManyUploads { max: u32 },
    /// No turn within the wait.
    Overloaded,
    /// The store cannot be reached or says it cannot.
    StoreUnavailable { reason: &'static str },
    /// The database cannot be reached.
    DatabaseUnavailable,
    /// The disk is full.
    StorageFull,
    /// The range lies outside of the file.
    RangeNotSatisfiable { bytes: u64 },
    /// No such route.
    NotFound,
    /// The route has other methods.
    MethodNotAllowed,
    /// Our mistake.
    Internal,
}

/// Who has an object key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHolder {
    /// Another upload, open or completed.
    Upload,
    /// One that is over, or a file that was deleted: the store may still have something of it.
    Remains,
    /// Nobody of ours: there is an object that none of our uploads put there.
    Stranger,
}

impl Refusal {
    /// Every code there is, in order: what `openapi.yaml` lists.
    pub const CODES: [&str; 59] = [
        "body_timeout",
        "body_too_long",
        "body_too_short",
        "checksum_mismatch",
        "chunk_conflict",
        "chunk_index_out_of_range",
        "chunk_size_mismatch",
        "chunk_size_out_of_range",
        "chunk_superseded",
        "chunks_missing",
        "cors_origin_not_allowed",
        "database_unavailable",
        "device_mismatch",
        "event_not_found",
        "fields_after_file",
        "file_id_required",
        "file_not_found",
        "file_too_large",
        "hook_unavailable",
        "insufficient_scope",
        "integrity_failed",
        "internal",
        "invalid_file_id",
        "invalid_parameter",
        "invalid_request",
        "issuer_unavailable",
        "key_taken",
        "length_required",
        "metadata_too_large",
        "method_not_allowed",
        "not_found",
        "not_supported",
        "origin_not_allowed",
        "overloaded",
        "quota_exceeded",
        "range_not_satisfiable",
        "rate_limited",
        "refused_by_application",
        "signature_expired",
        "signature_invalid",
        "storage_full",
        "store_unavailable",
        "token_expired",
        "token_malformed",
        "token_reused",
        "token_revoked",
        "too_many_uploads",
        "total_chunks_out_of_range",
        "type_not_allowed",
        "unauthorized",
        "unsupported_encoding",
        "upload_aborted",
        "upload_completed",
        "upload_completing",
        "upload_conflict",
        "upload_expired",
        "upload_failed",
        "upload_lost",
        "upload_not_found",
    ];

    /// A request that makes no sense, and why.
    pub fn invalid(reason: impl Into<String>) -> Self {
        Self::InvalidRequest { reason: reason.into() }
    }

    /// An upload that is known with other properties.
    pub fn conflict(reason: impl Into<String>) -> Self {
        Self::UploadConflict { reason: reason.into() }
    }

    /// A chunk size that makes no plan, with the sizes that would.
    pub fn chunk_size(given: u64, total_bytes: u64, bounds: &PartBounds) -> Self {
        let fits = total_bytes.div_ceil(u64::from(bounds.parts_max));
        Self::ChunkSizeOutOfRange {
            given,
            bytes_min: bounds.part_bytes_min.max(fits).max(1),
            bytes_max: bounds.part_bytes_max,
        }
    }

    /// The stable code of `api.md`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InvalidRequest { .. } => "invalid_request",
            Self::InvalidParameter { .. } => "invalid_parameter",
            Self::InvalidFileId => "invalid_file_id",
            Self::FileIdRequired => "file_id_required",
            Self::FieldsAfterFile { .. } => "fields_after_file",
            Self::ChunkIndexOutOfRange { .. } => "chunk_index_out_of_range",
            Self::ChunkSizeOutOfRange { .. } => "chunk_size_out_of_range",
            Self::TotalChunksOutOfRange { .. } => "total_chunks_out_of_range",
            Self::ChunkSizeMismatch { .. } => "chunk_size_mismatch",
            Self::BodyTooShort { .. } => "body_too_short",
            Self::BodyTooLong { .. } => "body_too_long",
            Self::HostNotAllowed { .. } | Self::OriginNotAllowed { .. } => "origin_not_allowed",
            Self::CorsOriginNotAllowed { .. } => "cors_origin_not_allowed",
            Self::Unauthorized { .. } => "unauthorized",
            Self::TokenMalformed { .. } => "token_malformed",
            Self::TokenExpired { .. } => "token_expired",
            Self::TokenRevoked => "token_revoked",
            Self::TokenReused => "token_reused",
            Self::DeviceMismatch => "device_mismatch",
            Self::InsufficientScope { .. } | Self::OtherFileId => "insufficient_scope",
            Self::IssuerUnavailable => "issuer_unavailable",
            Self::RateLimited { .. } => "rate_limited",
            Self::TypeNotAllowed { .. } => "type_not_allowed",
            Self::RefusedByApplication { .. } => "refused_by_application",
            Self::HookUnavailable => "hook_unavailable",
            Self::EventNotFound => "event_not_found",
            Self::QuotaExceeded { .. } => "quota_exceeded",
            Self::SignatureInvalid => "signature_invalid",
            Self::SignatureExpired => "signature_expired",
            Self::NotSupported { .. } => "not_supported",
            Self::UploadNotFound => "upload_not_found",
            Self::FileNotFound => "file_not_found",
            Self::BodyTimeout { .. } => "body_timeout",
            Self::ChunkConflict { .. } => "chunk_conflict",
            Self::ChunkSuperseded { .. } => "chunk_superseded",
            Self::KeyTaken { .. } => "key_taken",
            Self::UploadConflict { .. } => "upload_conflict",
            Self::UploadCompleted => "upload_completed",
            Self::UploadCompleting => "upload_completing",
            Self::ChunksMissing { .. } => "chunks_missing",
            Self::UploadExpired => "upload_expired",
            Self::UploadAborted => "upload_aborted",
            Self::UploadLost => "upload_lost",
            Self::UploadFailed => "upload_failed",
            Self::LengthRequired => "length_required",
            Self::FileTooLarge { .. } | Self::SimpleFileTooLarge { .. } => "file_too_large",
            Self::MetadataTooLarge { .. } => "metadata_too_large",
            Self::UnsupportedEncoding { .. } => "unsupported_encoding",
            Self::ChecksumMismatch { .. } => "checksum_mismatch",
            Self::IntegrityFailed { .. } => "integrity_failed",
            Self::TooManyUploads { .. } => "too_many_uploads",
            Self::Overloaded => "overloaded",
            Self::StoreUnavailable { .. } => "store_unavailable",
            Self::DatabaseUnavailable => "database_unavailable",
            Self::StorageFull => "storage_full",
            Self::RangeNotSatisfiable { .. } => "range_not_satisfiable",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Internal => "internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// An enum cannot list its own variants; this file can be read.
    #[test]
    fn the_list_of_codes_is_complete() {
        let source = include_str!("refusal.rs");
        let (_, rest) = source.split_once("pub const fn code(").expect("the function");
        let (function, _) = rest.split_once("\n    }\n").expect("its end");
        let given: BTreeSet<&str> = function.split("=> \"").skip(1).filter_map(|arm| arm.split('"').next()).collect();
        assert!(Refusal::CODES.into_iter().eq(given));
    }
}
