//! What is asked of STS, pure: `AssumeRole`, signed as all of Aliyun's RPC
//! interfaces are, and `AssumeRoleWithOIDC`, which a token of the cluster's own
//! stands for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::Timestamp;
use crate::store::credentials::{Credentials, Role};
use crate::store::oss::sign::hmac_sha1;
use crate::store::remote::encode::{encode, encode_query};
use crate::units::Secret;

/// What every request has; a nonce makes it one of a kind.
fn parameters(action: &str, role: &Role, now: Timestamp, nonce: &str) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = [
        ("Action", action),
        ("Version", "2015-04-01"),
        ("Format", "JSON"),
        ("Timestamp", &timestamp(now)),
        ("SignatureNonce", nonce),
        ("RoleArn", &role.arn),
        ("RoleSessionName", &role.session_name),
        ("DurationSeconds", &role.duration.as_secs().to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    pairs.extend(role.policy.iter().map(|policy| ("Policy".to_owned(), policy.clone())));
    pairs
}

/// The form of an `AssumeRole` by whoever has these.
pub(super) fn assume_role(by: &Credentials, role: &Role, now: Timestamp, nonce: &str) -> String {
    let mut pairs = parameters("AssumeRole", role, now, nonce);
    pairs.extend(role.external_id.iter().map(|id| ("ExternalId".to_owned(), id.clone())));
    pairs.extend(by.security_token.iter().map(|token| ("SecurityToken".to_owned(), token.expose().to_owned())));
    signed(pairs, "POST", by)
}

/// The form of an `AssumeRoleWithOIDC`.
pub(super) fn assume_role_with_oidc(
    provider: &str,
    token: &Secret,
    role: &Role,
    now: Timestamp,
    nonce: &str,
) -> String {
    let mut pairs = parameters("AssumeRoleWithOIDC", role, now, nonce);
    pairs.push(("OIDCProviderArn".to_owned(), provider.to_owned()));
    pairs.push(("OIDCToken".to_owned(), token.expose().to_owned()));
    encode_query(&pairs)
}

/// HMAC-SHA1 over the method and all pairs in order, encoded twice.
fn signed(mut pairs: Vec<(String, String)>, method: &str, by: &Credentials) -> String {
    let own = [("SignatureMethod", "HMAC-SHA1"), ("SignatureVersion", "1.0"), ("AccessKeyId", &by.access_key_id)];
    pairs.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    pairs.sort();
    let text = format!("{method}&%2F&{}", encode(&encode_query(&pairs)));
    let key = format!("{}&", by.access_key_secret.expose());
    let signature = STANDARD.encode(hmac_sha1(key.as_bytes(), &text));
    pairs.push(("Signature".to_owned(), signature));
    encode_query(&pairs)
}

/// `2016-02-23T12:46:24Z`
fn timestamp(now: Timestamp) -> String {
    let whole = Timestamp::from_millis(now.seconds() * 1000);
    whole.rfc3339().split('.').next().unwrap_or_default().trim_end_matches('Z').to_owned() + "Z"
}

/// Code and request id of a refusal; empty where it does not say them.
pub(super) fn refusal(text: &str) -> (String, String) {
    let json: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let said = |name: &str| json.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    (said("Code"), said("RequestId"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documents' own example of the signature.
    #[test]
    fn the_signature_is_that_of_the_documents() {
        let by = Credentials {
            access_key_id: "testid".to_owned(),
            access_key_secret: Secret::new("testsecret"),
            security_token: None,
        };
        let pairs = [
            ("Timestamp", "2016-02-23T12:46:24Z"),
            ("Format", "XML"),
            ("Action", "DescribeRegions"),
            ("SignatureNonce", "3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf"),
            ("Version", "2014-05-26"),
        ];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let query = signed(pairs, "GET", &by);
        assert!(query.ends_with("&Signature=OLeaidS1JvxuMvnyHOwuJ%2BuX5qY%3D"), "{query}");
    }

    #[test]
    fn times_have_whole_seconds() {
        assert_eq!(timestamp(Timestamp::from_millis(1_456_231_584_321)), "2016-02-23T12:46:24Z");
    }
}
