//! What to do about S3's refusals, by its own codes and by ours.

use crate::store::remote::answer::UNREADABLE;
use crate::store::s3::proof::NO_PROOF;

/// Whether the store does not know who we are, or does not any more.
pub fn is_of_credentials(code: &str) -> bool {
    let is_known = ["SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"].contains(&code);
    is_known || code.to_ascii_lowercase().starts_with("invalidaccesskey")
}

/// What to change so that S3 does not refuse so again, where its code tells.
pub fn remedy(code: &str) -> Option<&'static str> {
    Some(match code {
        "SignatureDoesNotMatch" => "check store.s3.access_key_secret (or AWS_SECRET_ACCESS_KEY)",
        "InvalidAccessKeyId" | "XAdminUserNotFound" => "check store.s3.access_key_id (or AWS_ACCESS_KEY_ID)",
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
            "let the gateway get new ones: store.s3.credentials (file, command, assume_role, web_identity)"
        }
        "NoCredentials" => "look at what its message says of store.s3.credentials",
        "NoSuchBucket" | "InvalidBucketName" => "check store.s3.bucket, and that store.s3.endpoint is where it is",
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException"
        | "Http301" => "set store.s3.region (and the endpoint) to the bucket's own",
        "AccessDenied" | "AllAccessDisabled" | "Http403" => {
            "check the key's permissions: s3:PutObject, s3:GetObject, s3:DeleteObject, s3:AbortMultipartUpload, \
             s3:ListMultipartUploadParts and s3:ListBucketMultipartUploads on the bucket"
        }
        "RequestTimeTooSkewed" => "set this machine's clock",
        "KMS.DisabledException" | "KMS.NotFoundException" | "KMS.KMSInvalidStateException" => {
            "check the KMS key that the bucket encrypts with"
        }
        NO_PROOF => "set store.s3.proof = \"size\" if its size shall be proof enough of a part",
        // Whoever answered gave a status and no code of S3's.
        UNREADABLE => "this does not answer like S3: check store.s3.endpoint, and store.s3.path_style",
        code if code.starts_with("Http") => {
            "this does not answer like S3: check store.s3.endpoint, and store.s3.path_style"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_names_the_key_to_change() {
        assert!(remedy("SignatureDoesNotMatch").is_some_and(|text| text.contains("store.s3.access_key_secret")));
        assert!(remedy("NoSuchBucket").is_some_and(|text| text.contains("store.s3.bucket")));
        assert!(remedy("AuthorizationHeaderMalformed").is_some_and(|text| text.contains("store.s3.region")));
        assert!(remedy("Http404").is_some_and(|text| text.contains("store.s3.endpoint")));
        assert_eq!(remedy("SlowDown"), None);
    }
}
