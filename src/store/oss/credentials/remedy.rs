//! What to do when a role of RAM cannot be had, by what was said of it. Pure.

use std::path::Path;

use crate::store::credentials::Role;

/// For who assumes it with an access key.
pub(super) fn assume_role(role: &Role, code: &str) -> String {
    of_sts(role, code).unwrap_or_else(|| match code {
        "NoPermission" => format!(
            "let the access key's user assume the role: {{\"Effect\":\"Allow\",\"Action\":[\"sts:AssumeRole\"],\
             \"Resource\":[\"{}\"]}}, and let the role's trust policy name its account",
            role.arn
        ),
        code if code.starts_with("InvalidAccessKeyId") => {
            "set store.oss.access_key_id (or OSS_ACCESS_KEY_ID) to a key \
                                                           that the console lists as enabled: it assumes the role"
                .to_owned()
        }
        "SignatureDoesNotMatch" | "IncompleteSignature" => {
            "set store.oss.access_key_secret (or OSS_ACCESS_KEY_SECRET) \
                                                            to the secret of the key that assumes the role"
                .to_owned()
        }
        code => role.look_up(code),
    })
}

/// For a pod.
pub(super) fn oidc_role(role: &Role, token: &Path, code: &str) -> String {
    if code == "Unreadable" {
        return format!(
            "mount the pod's token at {}: with RRSA, ack-pod-identity-webhook does, in namespaces and for service \
             accounts that are marked for it",
            token.display()
        );
    }
    of_sts(role, code).unwrap_or_else(|| match code {
        "AuthenticationFail.NoPermission" | "NoPermission" => {
            "let the role's trust policy name the cluster's OIDC provider and the pod's service account (oidc:iss, \
             oidc:aud, oidc:sub)"
                .to_owned()
        }
        code if code.starts_with("AuthenticationFail") => {
            "look at store.oss.credentials.oidc_token_file and oidc_provider_arn: the token must be one of the \
             provider's own cluster, for sts.aliyuncs.com, and not have ended"
                .to_owned()
        }
        code => role.look_up(code),
    })
}

/// For an instance.
pub(super) fn ecs_role(endpoint: &str, code: &str) -> String {
    match code {
        "NoRole" => "give the instance a RAM role (console: the instance, RAM role), or correct \
                     store.oss.credentials.ecs_role"
            .to_owned(),
        _ => format!(
            "{endpoint} answers on ECS instances only, and in their containers where the network lets them through to \
             it; elsewhere choose another store.oss.credentials.kind"
        ),
    }
}

/// What is the same for whoever asks STS.
fn of_sts(role: &Role, code: &str) -> Option<String> {
    match code {
        "Unreachable" => Some(format!(
            "let this machine out to {}, or set store.oss.credentials.sts_endpoint: sts.cn-hangzhou.aliyuncs.com, and \
             sts-vpc.cn-hangzhou.aliyuncs.com within Aliyun's network",
            role.endpoint
        )),
        code if code.starts_with("EntityNotExist") => Some(format!(
            "correct store.oss.credentials.role_arn (and oidc_provider_arn): there is no {} in its account",
            role.arn
        )),
        code if code.starts_with("InvalidTimeStamp") => Some("set the clock: timedatectl set-ntp true".to_owned()),
        code if code.starts_with("InvalidParameter") => Some(
            "check store.oss.credentials: role_arn, policy, role_session_name, and session_duration, which the role \
             itself may limit to less"
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
            arn: "acs:ram::1:role/r".to_owned(),
            session_name: "s".to_owned(),
            duration: Duration::from_secs(3600),
            external_id: None,
            policy: None,
        };
        for (code, told) in [
            ("Unreachable", "https://sts.example"),
            ("NoPermission", "sts:AssumeRole"),
            ("InvalidAccessKeyId.NotFound", "store.oss.access_key_id"),
            ("SignatureDoesNotMatch", "store.oss.access_key_secret"),
            ("EntityNotExist.Role", "role_arn"),
            ("InvalidParameter.DurationSeconds", "session_duration"),
            ("Http418", "Http418"),
        ] {
            assert!(assume_role(&role, code).contains(told), "{code}");
        }
        for (code, told) in [
            ("Unreadable", "/token"),
            ("AuthenticationFail.NoPermission", "trust policy"),
            ("AuthenticationFail.OIDCToken.Expired", "oidc_token_file"),
        ] {
            assert!(oidc_role(&role, Path::new("/token"), code).contains(told), "{code}");
        }
        for (code, told) in [("NoRole", "ecs_role"), ("Unreachable", "store.oss.credentials.kind")] {
            assert!(ecs_role("http://100.100.100.200", code).contains(told), "{code}");
        }
    }
}
