//! What every refusal tells the person who reads it.

use crate::domain::refusal::{KeyHolder, Refusal};

impl Refusal {
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
                format!("{reason}: send Authorization: Bearer with an API key or a token of this gateway")
            }
            Self::TokenMalformed { reason } => format!("{reason}: send Authorization: Bearer with the token as it was given"),
            Self::TokenExpired { what: "access token" } => {
                "the access token has expired: get the next one with POST /auth/refresh, and send the request again".to_owned()
            }
            Self::TokenExpired { what } => format!("the {what} has expired: log in again"),
            Self::TokenRevoked => "the token's login was ended: log in again".to_owned(),
            Self::TokenReused => {
                "this refresh token was used before, so somebody else may have it: its login has ended, log in again"
                    .to_owned()
            }
            Self::DeviceMismatch => {
                "this refresh token belongs to another device: send the deviceId that it was made with, or log in again"
                    .to_owned()
            }
            Self::InsufficientScope { needed } => format!("the token does not allow this: it needs {needed}"),
            Self::OtherFileId => "the token is for one fileId, and this is another: use that one, or another token".to_owned(),
            Self::IssuerUnavailable => {
                "the keys of the tokens' issuer cannot be read at the moment: try again".to_owned()
            }
            Self::RateLimited { limit, wait } => {
                format!("more requests than {limit}: try again in {} s", wait.as_secs().max(1))
            }
            Self::TypeNotAllowed { found, allowed } => {
                format!("this is {found}, which is not taken here: send one of {allowed}")
            }
            Self::RefusedByApplication { detail } => detail.clone(),
            Self::HookUnavailable => {
                "the application that must be asked first did not answer: try again after the seconds in Retry-After"
                    .to_owned()
            }
            Self::EventNotFound => "there is no event with this id, or it is forgotten by now".to_owned(),
            Self::QuotaExceeded { bytes: more, used, quota } => format!(
                "there is no room for {}: {} of {} are taken by files and by uploads that are open; delete or abort some",
                bytes(*more),
                used,
                bytes(*quota)
            ),
            Self::SignatureInvalid => {
                "the link was changed, or is for another request: use it as it was given, or get a new one".to_owned()
            }
            Self::SignatureExpired => "the link has expired: get a new one".to_owned(),
            Self::NotSupported { what } => what.to_string(),
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
            Self::KeyTaken { holder } => {
                let what = match holder {
                    KeyHolder::Upload => "another upload has it: delete or abort that one first",
                    KeyHolder::Remains => {
                        "what was given up or deleted there is still being removed: try again in some minutes"
                    }
                    KeyHolder::Stranger => {
                        "an object is there already that none of our uploads put there, and it is not replaced: move \
                         it away first"
                    }
                };
                format!("the application chose an object key that is taken; {what}, or let it choose one with {{random}}")
            }
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
            Self::FileTooLarge { bytes: Some(given), bytes_max } => {
                format!("the file has {}, but at most {} are allowed", bytes(*given), bytes(*bytes_max))
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
                format!("the body came with the coding {encoding:?}: send the file's own bytes, unencoded")
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
            Self::RangeNotSatisfiable { bytes: all } => {
                format!("the range lies outside of the file, which has {}", bytes(*all))
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
    use super::*;
    use crate::domain::bounds::PartBounds;

    #[test]
    fn one_is_one() {
        let missing = |missing: &[[u32; 2]]| Refusal::ChunksMissing { missing: missing.to_vec() }.detail();
        assert!(missing(&[[3, 3]]).starts_with("1 chunk is missing:"));
        assert!(missing(&[[1, 2], [7, 7]]).starts_with("3 chunks are missing:"));
        let bounds = PartBounds { part_bytes_min: 100, part_bytes_max: 200, parts_max: 10 };
        assert!(Refusal::chunk_size(1, 7, &bounds).detail().starts_with("chunks of 1 byte cannot"));
    }
}
