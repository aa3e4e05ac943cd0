//! What to do when a role cannot be had of STS, by what was said of it. Pure.

use std::path::Path;

use crate::store::credentials::Role;

/// For who assumes it with an access key.
pub(super) fn assume_role(role: &Role, code: &str) -> String {
    of_sts(role, code).unwrap_or_else(|| match code {
        "AccessDenied" => format!(
            "let the access key's user assume the role: {{\"Effect\":\"Allow\",\"Action\":[\"sts:AssumeRole\"],\
             \"Resource\":[\"{}\"]}}, and let the role's trust policy name that user",
            role.arn
        ),
        "InvalidClientTokenId" | "InvalidAccessKeyId" => {
            "set store.s3.access_key_id (or AWS_ACCESS_KEY_ID) to a key that is enabled: it assumes the role".to_owned()
        }
        "SignatureDoesNotMatch" => {
            "set store.s3.access_key_secret (or AWS_SECRET_ACCESS_KEY) to the secret of the key \
                                    that assumes the role, and store.s3.region to STS's own"
                .to_owned()
        }
        code => role.look_up(code),
    })
}

/// For a pod.
pub(super) fn web_identity(role: &Role, token: &Path, code: &str) -> String {
    if code == "Unreadable" {
        return format!(
            "mount the pod's token at {}: with IRSA, the pod identity webhook does, for service accounts that are \
             annotated with the role",
            token.display()
        );
    }
    of_sts(role, code).unwrap_or_else(|| match code {
        "AccessDenied" => "let the role's trust policy name the cluster's OIDC provider and the pod's service account \
                           (sub, aud)"
            .to_owned(),
        "ExpiredTokenException" | "InvalidIdentityToken" | "IDPRejectedClaim" => {
            "look at store.s3.credentials.web_identity_token_file: the token must be one of a cluster that the account \
             knows as an OIDC provider, for sts.amazonaws.com, and not have ended"
                .to_owned()
        }
        code => role.look_up(code),
    })
}

/// What is the same for whoever asks STS.
fn of_sts(role: &Role, code: &str) -> Option<String> {
    match code {
        "Unreachable" => Some(format!(
            "let this machine out to {}, or set store.s3.credentials.sts_endpoint to where STS is",
            role.endpoint
        )),
        "RegionDisabledException" => Some("enable STS in this region, or set store.s3.credentials.sts_endpoint".to_owned()),
        "RequestExpired" => Some("set the clock: timedatectl set-ntp true".to_owned()),
        "ValidationError" | "MalformedPolicyDocument" | "PackedPolicyTooLarge" => Some(
            "check store.s3.credentials: role_arn, policy, role_session_name, and session_duration, which the role itself \
             may limit to less"
                .to_owned(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_failure_has_the_setting_or_the_grant_that_mends_it() {
        let role = Role {
            endpoint: "https://sts.example".to_owned(),
            arn: "arn:aws:iam::1:role/r".to_owned(),
            session_name: "s".to_owned(),
            duration: Duration::from_secs(3600),
            external_id: None,
            policy: None,
        };
        for (code, told) in [
            ("Unreachable", "https://sts.example"),
            ("AccessDenied", "sts:AssumeRole"),
            ("InvalidClientTokenId", "store.s3.access_key_id"),
            ("SignatureDoesNotMatch", "store.s3.access_key_secret"),
            ("ValidationError", "session_duration"),
            ("Http418", "Http418"),
        ] {
            assert!(assume_role(&role, code).contains(told), "{code}");
        }
        for (code, told) in [
            ("Unreadable", "/token"),
            ("AccessDenied", "trust policy"),
            ("ExpiredTokenException", "web_identity_token_file"),
        ] {
            assert!(web_identity(&role, Path::new("/token"), code).contains(told), "{code}");
        }
    }
}
