//! Every refusal there is: one variant each, with a stable code and a sentence
//! that says what to do. Which status a protocol answers with is its own matter.

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
    /// No key, or not one we know.
    Unauthorized { reason: &'static str },
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

impl Refusal {
    /// Every code there is, in order: what `openapi.yaml` lists.
    pub const CODES: [&str; 42] = [
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
        "fields_after_file",
        "file_id_required",
        "file_not_found",
        "file_too_large",
        "integrity_failed",
        "internal",
        "invalid_file_id",
        "invalid_parameter",
        "invalid_request",
        "length_required",
        "metadata_too_large",
        "method_not_allowed",
        "not_found",
        "origin_not_allowed",
        "overloaded",
        "range_not_satisfiable",
        "storage_full",
        "store_unavailable",
        "too_many_uploads",
        "total_chunks_out_of_range",
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
            Self::UploadNotFound => "upload_not_found",
            Self::FileNotFound => "file_not_found",
            Self::BodyTimeout { .. } => "body_timeout",
            Self::ChunkConflict { .. } => "chunk_conflict",
            Self::ChunkSuperseded { .. } => "chunk_superseded",
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

    /// What happened and what to do about it, for the person who reads it.
    pub fn detail(&self) -> String {
        match self {
            Self::InvalidRequest { reason } => reason.clone(),
            Self::InvalidParameter { name, reason } => format!("{name} {reason}"),
            Self::InvalidFileId => {
                "a fileId is 1 to 128 characters of A-Z a-z 0-9 . _ ~ - and is not . or ..".to_owned()
            }
            Self::FileIdRequired => {
                "the form has no fileId, so chunks of two files of the same name could not be told apart: make one id \
                 per file (const fileId = crypto.randomUUID()) and add formData.append('fileId', fileId) before the file"
                    .to_owned()
            }
            Self::FieldsAfterFile { bytes_max } => format!(
                "there are fields after the file: append fileId, chunkIndex, totalChunks, fileName and all others to the \
                 form first and the file last (a file that comes first is held in memory up to {})",
                bytes(*bytes_max)
            ),
            Self::ChunkIndexOutOfRange { index, count: 0 } => {
                format!("chunkIndex {index} does not exist: the file is empty and has no chunks")
            }
            Self::ChunkIndexOutOfRange { index, count: 1 } => {
                format!("chunkIndex {index} does not exist: this upload has one chunk, 0")
            }
            Self::ChunkIndexOutOfRange { index, count } => {
                format!("chunkIndex {index} does not exist: this upload has chunks 0 to {}", count - 1)
            }
            Self::ChunkSizeOutOfRange { given, bytes_min, bytes_max } => format!(
                "chunks of {} cannot make this file: a chunk (but for the last) has {bytes_min} to {} and there \
                 are at most 10000",
                bytes(*given),
                bytes(*bytes_max)
            ),
            Self::TotalChunksOutOfRange { given, expected: Some((down, up)) } if down == up => {
                format!("totalChunks is {given}, but fileSize and chunkSize make {up}")
            }
            Self::TotalChunksOutOfRange { given, expected: Some((down, up)) } => {
                format!("totalChunks is {given}, but can be {down} to {up} here")
            }
            Self::TotalChunksOutOfRange { given, expected: None } => {
                let chunks = counted(*given, "equal chunk");
                format!("the file cannot be cut into {chunks}: give a chunkSize, or leave totalChunks out")
            }
            Self::ChunkSizeMismatch { expected, got: Some(got) } => {
                format!(
                    "this chunk has {} by the upload's plan, but {} came or was announced",
                    bytes(*expected),
                    bytes(*got)
                )
            }
            Self::ChunkSizeMismatch { expected, got: None } => {
                format!("this chunk has {} by the upload's plan, but another number was sent", bytes(*expected))
            }
            Self::BodyTooShort { expected, got } => {
                let expected = bytes(*expected);
                format!("the body ended after {got} of {expected} and nothing was recorded: send the chunk again")
            }
            Self::BodyTooLong { expected } => {
                let expected = bytes(*expected);
                format!("the body went on after {expected} and nothing was recorded: send exactly the chunk's bytes")
            }
            Self::HostNotAllowed { host, port } => format!(
                "the Host {host:?} is not allowed while there is no authentication: open http://127.0.0.1:{port}, let \
                 the proxy in front send that Host, or set auth.mode = [\"keys\"] and auth.api_keys"
            ),
            Self::OriginNotAllowed { origin } => format!(
                "the Origin {origin:?} is not allowed while there is no authentication: add it to \
                 cors.allowed_origins, or set auth.mode = [\"keys\"] and auth.api_keys"
            ),
            Self::CorsOriginNotAllowed { origin } => {
                format!("the origin {origin:?} is not allowed: add it to cors.allowed_origins")
            }
            Self::Unauthorized { reason } => {
                format!("{reason}: send Authorization: Bearer with an API key of this gateway")
            }
            Self::UploadNotFound => "there is no upload with this fileId: create it with POST /uploads".to_owned(),
            Self::FileNotFound => "there is no file with this fileId".to_owned(),
            Self::BodyTimeout { idle } => format!(
                "no byte of the body came for {} s and nothing was recorded: send the chunk again",
                idle.as_secs()
            ),
            Self::ChunkConflict { index } => format!(
                "chunk {index} is already recorded with other bytes, which stay: use another fileId for another file"
            ),
            Self::ChunkSuperseded { index } => {
                format!("a newer request for chunk {index} took over: its answer counts")
            }
            Self::UploadConflict { reason } => format!(
                "this upload is known with other properties ({reason}): use another fileId, or POST /uploads with \
                 restart: true"
            ),
            Self::UploadCompleted => {
                "this upload is completed and its file stays: delete the file instead, or use another fileId".to_owned()
            }
            Self::UploadCompleting => "this upload is being merged: wait for it to complete".to_owned(),
            Self::ChunksMissing { missing } => {
                let count: u64 = missing.iter().map(|&[a, b]| u64::from(b - a) + 1).sum();
                let are = if count == 1 { "is" } else { "are" };
                format!("{} {are} missing: send the indexes of missing, then complete again", counted(count, "chunk"))
            }
            Self::UploadExpired => {
                "this upload expired because no chunk came for too long: begin anew with POST /uploads".to_owned()
            }
            Self::UploadAborted => "this upload was aborted: begin anew with POST /uploads".to_owned(),
            Self::UploadLost => "the store no longer has this upload: begin anew with POST /uploads".to_owned(),
            Self::UploadFailed => "this upload failed: begin anew with POST /uploads".to_owned(),
            Self::LengthRequired => {
                "the length of the body must be known: send Content-Length, or declare the chunk size at creation"
                    .to_owned()
            }
            Self::FileTooLarge { bytes: Some(bytes), bytes_max } => {
                format!("the file has {}, but at most {} are allowed", self::bytes(*bytes), self::bytes(*bytes_max))
            }
            Self::FileTooLarge { bytes: None, bytes_max } => {
                format!("the file would have more than {}, the most that is allowed", bytes(*bytes_max))
            }
            Self::SimpleFileTooLarge { bytes_max } => format!(
                "one request takes a file of at most {}: upload it in chunks, beginning with POST /uploads",
                bytes(*bytes_max)
            ),
            Self::MetadataTooLarge { pairs_max, bytes_max } => {
                format!("metadata has at most {pairs_max} pairs and {bytes_max} bytes in all")
            }
            Self::UnsupportedEncoding { encoding } => {
                format!("the body came with Content-Encoding {encoding:?}: send the file's own bytes, unencoded")
            }
            Self::ChecksumMismatch { declared, computed } => format!(
                "the body's checksum is {computed}, but {declared} was declared, and nothing was recorded: send the \
                 chunk again"
            ),
            Self::IntegrityFailed { declared, computed } => match computed {
                Some(computed) => format!(
                    "the whole file's checksum is {computed}, but {declared} was declared: begin anew with POST /uploads"
                ),
                None => format!("the whole file is not what {declared} says: begin anew with POST /uploads"),
            },
            Self::TooManyUploads { max } => {
                let are = if *max == 1 { "is" } else { "are" };
                let uploads = counted(u64::from(*max), "upload");
                format!("{uploads} {are} open already, as many as may be: complete or delete some, then try again")
            }
            Self::Overloaded => "the gateway is busy: try again after the seconds in Retry-After".to_owned(),
            Self::StoreUnavailable { reason } => {
                format!("{reason}; nothing is lost: try again after the seconds in Retry-After")
            }
            Self::DatabaseUnavailable => {
                "the database did not answer; nothing is lost: try again after the seconds in Retry-After".to_owned()
            }
            Self::StorageFull => {
                "the server's disk is full; nothing is lost: try again once there is space".to_owned()
            }
            Self::RangeNotSatisfiable { bytes } => {
                format!("the range lies outside of the file, which has {}", self::bytes(*bytes))
            }
            Self::NotFound => "there is no such route: the project's README and openapi.yaml list them".to_owned(),
            Self::MethodNotAllowed => "this route has other methods, listed in Allow".to_owned(),
            Self::Internal => "the gateway made a mistake, which is in its log under this requestId".to_owned(),
        }
    }
}

/// `1 byte`, `2 bytes`.
fn bytes(count: u64) -> String {
    counted(count, "byte")
}

/// A number and what it counts, in the plural where it is one.
fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn one_is_one() {
        let missing = |missing: &[[u32; 2]]| Refusal::ChunksMissing { missing: missing.to_vec() }.detail();
        assert!(missing(&[[3, 3]]).starts_with("1 chunk is missing:"));
        assert!(missing(&[[1, 2], [7, 7]]).starts_with("3 chunks are missing:"));
        let bounds = PartBounds { part_bytes_min: 100, part_bytes_max: 200, parts_max: 10 };
        assert!(Refusal::chunk_size(1, 7, &bounds).detail().starts_with("chunks of 1 byte cannot"));
    }

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
