//! What to do about OSS's refusals, by its own codes and by ours.

use crate::store::remote::answer::UNREADABLE;

/// What to change so that OSS does not refuse so again, where its code tells.
pub fn remedy(code: &str) -> Option<&'static str> {
    Some(match code {
        "SignatureDoesNotMatch" => "check store.oss.access_key_secret (or OSS_ACCESS_KEY_SECRET)",
        "InvalidAccessKeyId" => "check store.oss.access_key_id (or OSS_ACCESS_KEY_ID)",
        "InvalidSecurityToken" | "SecurityTokenExpired" | "SecurityTokenNotSupported" => {
            "get new temporary credentials: access_key_id, access_key_secret and security_token belong together"
        }
        "NoSuchBucket" | "InvalidBucketName" => "check store.oss.bucket, and that store.oss.endpoint is its region's",
        "InvalidArgument" => "check store.oss.region, which the signature names",
        "AccessDenied" => "check the key's permissions on the bucket, and that store.oss.endpoint is the bucket's own",
        "SecondLevelDomainForbidden" => "set store.oss.path_style = false: OSS itself has buckets as subdomains",
        "RequestTimeTooSkewed" => "set this machine's clock",
        // Whoever answered gave a status and no code of OSS's.
        UNREADABLE => "this does not answer like OSS: check store.oss.endpoint",
        code if code.starts_with("Http") => "this does not answer like OSS: check store.oss.endpoint",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_names_the_key_to_change() {
        assert!(remedy("SignatureDoesNotMatch").is_some_and(|text| text.contains("store.oss.access_key_secret")));
        assert!(remedy("NoSuchBucket").is_some_and(|text| text.contains("store.oss.bucket")));
        assert!(remedy("Http404").is_some_and(|text| text.contains("store.oss.endpoint")));
        assert_eq!(remedy("SlowDown"), None);
    }
}
