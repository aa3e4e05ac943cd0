//! A form by which a browser puts one object: its fields, with a policy that
//! says what they may be. Pure.

use super::{ALGORITHM, Scope, Signer, TOKEN_HEADER, timestamp};
use crate::domain::Timestamp;
use crate::store::remote::policy::{FormLimits, policy};

/// The fields of the form: those that are given, each of which must be sent as
/// it is, and those that sign them.
pub fn sign(
    signer: &Signer<'_>,
    at: Timestamp,
    limits: FormLimits<'_>,
    mut fields: Vec<(String, String)>,
) -> Vec<(String, String)> {
    let timestamp = timestamp(at);
    let scope = Scope::new(&timestamp, signer);
    let mut add = |name: &str, value: String| fields.push((name.to_owned(), value));
    add("x-amz-algorithm", ALGORITHM.to_owned());
    add("x-amz-credential", format!("{}/{}", signer.access_key_id, scope.text()));
    add("x-amz-date", timestamp.clone());
    if let Some(token) = signer.session_token {
        add(TOKEN_HEADER.as_str(), token.to_owned());
    }
    let policy = policy(limits, fields.iter().map(|(name, value)| (name.clone(), value.as_str())));
    let signature = scope.signed(signer.access_key_secret, &policy);
    fields.push(("policy".to_owned(), policy));
    fields.push(("x-amz-signature".to_owned(), signature));
    fields
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Value, json};

    use super::*;
    use crate::store::s3::sign::S3;

    // Amazon S3 API Reference, "Browser-Based Upload using HTTP POST (Using AWS
    // Signature Version 4)".
    const POLICY: &str = "eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0aW9ucyI6IFsNCiAgICB7\
        ImJ1Y2tldCI6ICJzaWd2NGV4YW1wbGVidWNrZXQifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRrZXkiLCAidXNlci91c2VyMS8iXSwNCiAg\
        ICB7ImFjbCI6ICJwdWJsaWMtcmVhZCJ9LA0KICAgIHsic3VjY2Vzc19hY3Rpb25fcmVkaXJlY3QiOiAiaHR0cDovL3NpZ3Y0ZXhhbXBsZWJ1\
        Y2tldC5zMy5hbWF6b25hd3MuY29tL3N1Y2Nlc3NmdWxfdXBsb2FkLmh0bWwifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRDb250ZW50LVR5\
        cGUiLCAiaW1hZ2UvIl0sDQogICAgeyJ4LWFtei1tZXRhLXV1aWQiOiAiMTQzNjUxMjM2NTEyNzQifSwNCiAgICB7IngtYW16LXNlcnZlci1z\
        aWRlLWVuY3J5cHRpb24iOiAiQUVTMjU2In0sDQogICAgWyJzdGFydHMtd2l0aCIsICIkeC1hbXotbWV0YS10YWciLCAiIl0sDQoNCiAgICB7\
        IngtYW16LWNyZWRlbnRpYWwiOiAiQUtJQUlPU0ZPRE5ON0VYQU1QTEUvMjAxNTEyMjkvdXMtZWFzdC0xL3MzL2F3czRfcmVxdWVzdCJ9LA0K\
        ICAgIHsieC1hbXotYWxnb3JpdGhtIjogIkFXUzQtSE1BQy1TSEEyNTYifSwNCiAgICB7IngtYW16LWRhdGUiOiAiMjAxNTEyMjlUMDAwMDAw\
        WiIgfQ0KICBdDQp9";

    #[test]
    fn a_policy_is_signed_as_aws_shows_it() {
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let signer = Signer {
            access_key_id: "",
            access_key_secret: secret,
            session_token: None,
            region: "us-east-1",
            service: S3,
        };
        let signature = Scope::new("20151229T000000Z", &signer).signed(secret, POLICY);
        assert_eq!(signature, "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e");
    }

    #[test]
    fn every_field_is_in_the_policy() {
        let at = Timestamp::from_millis(1_795_255_740_000);
        let signer =
            Signer { access_key_id: "ak", access_key_secret: "sk", session_token: Some("t"), region: "r", service: S3 };
        let limits = FormLimits { bucket: "bkt", bytes_max: 9, expires: at };
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let fields = sign(&signer, at, limits, vec![field("key", "a"), field("Content-Type", "text/plain")]);
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        let signing = ["x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-security-token"];
        assert_eq!(names, [&["key", "Content-Type"][..], &signing, &["policy", "x-amz-signature"]].concat());
        let policy = STANDARD.decode(&fields[names.len() - 2].1).expect("base64");
        let policy: Value = serde_json::from_slice(&policy).expect("JSON");
        assert_eq!(policy["expiration"], "2026-11-21T10:09:00.000Z");
        let conditions = json!([
            {"bucket": "bkt"},
            ["content-length-range", 0, 9],
            ["eq", "$key", "a"],
            ["eq", "$Content-Type", "text/plain"],
            ["eq", "$x-amz-algorithm", "AWS4-HMAC-SHA256"],
            ["eq", "$x-amz-credential", "ak/20261121/r/s3/aws4_request"],
            ["eq", "$x-amz-date", "20261121T100900Z"],
            ["eq", "$x-amz-security-token", "t"],
        ]);
        assert_eq!(policy["conditions"], conditions);
    }
}
