//! A form by which a browser puts one object: its fields, with a policy that
//! says what they may be. Pure.

use super::{Signer, v1, v4};
use crate::domain::Timestamp;
use crate::store::oss::SignatureVersion;
use crate::store::remote::policy::{FormLimits, policy};

/// The fields of the form: those that are given, each of which must be sent as
/// it is, and those that sign them.
pub fn sign(
    version: SignatureVersion,
    signer: &Signer<'_>,
    at: Timestamp,
    limits: FormLimits<'_>,
    mut fields: Vec<(String, String)>,
) -> Vec<(String, String)> {
    let mut add = |name: &str, value: String| fields.push((name.to_owned(), value));
    if let Some(token) = signer.security_token {
        add(super::TOKEN_HEADER.as_str(), token.to_owned());
    }
    let timestamp = v4::timestamp(at);
    let scope = v4::Scope::new(&timestamp, signer.region);
    if version == SignatureVersion::V4 {
        add("x-oss-signature-version", v4::ALGORITHM.to_owned());
        add("x-oss-credential", format!("{}/{}", signer.access_key_id, scope.text()));
        add("x-oss-date", timestamp.clone());
    }
    let policy = policy(limits, fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.as_str())));
    let signed = match version {
        SignatureVersion::V1 => [
            ("OSSAccessKeyId", signer.access_key_id.to_owned()),
            ("Signature", v1::signature(signer.access_key_secret, &policy)),
        ]
        .to_vec(),
        SignatureVersion::V4 => {
            [("x-oss-signature", v4::signature(signer.access_key_secret, &scope, &policy))].to_vec()
        }
    };
    fields.push(("policy".to_owned(), policy));
    fields.extend(signed.into_iter().map(|(name, value)| (name.to_owned(), value)));
    fields
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Value, json};

    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_795_255_740_000);

    fn signed(version: SignatureVersion, security_token: Option<&str>) -> Vec<(String, String)> {
        let signer = Signer { access_key_id: "ak", access_key_secret: "sk", security_token, region: "cn-hangzhou" };
        let limits = FormLimits { bucket: "bkt", bytes_max: 9, expires: AT };
        sign(version, &signer, AT, limits, vec![("key".to_owned(), "a".to_owned())])
    }

    fn names(fields: &[(String, String)]) -> String {
        fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_field_is_in_the_policy() {
        let v1 = signed(SignatureVersion::V1, None);
        assert_eq!(names(&v1), "key policy OSSAccessKeyId Signature");
        let policy = STANDARD.decode(&v1[1].1).expect("base64");
        let policy: Value = serde_json::from_slice(&policy).expect("JSON");
        assert_eq!(policy["expiration"], "2026-11-21T10:09:00.000Z");
        let conditions = json!([{"bucket": "bkt"}, ["content-length-range", 0, 9], ["eq", "$key", "a"]]);
        assert_eq!(policy["conditions"], conditions);
        let v4 = signed(SignatureVersion::V4, Some("t"));
        let carried = "key x-oss-security-token x-oss-signature-version x-oss-credential x-oss-date";
        assert_eq!(names(&v4), format!("{carried} policy x-oss-signature"));
        let policy = String::from_utf8(STANDARD.decode(&v4[5].1).expect("base64")).expect("text");
        assert!(carried.split(' ').all(|name| policy.contains(&format!("\"${name}\""))), "{policy}");
    }
}
