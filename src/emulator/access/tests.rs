use http::HeaderValue;

use super::*;
use crate::store::oss::SignatureVersion;
use crate::store::oss::sign::{self, Request, Signer};

const KEY: AccessKey<'static> = AccessKey { id: "ak", secret: "sk", region: "cn-hangzhou", token: None, expires: None };
const VERSIONS: [SignatureVersion; 2] = [SignatureVersion::V1, SignatureVersion::V4];
type Pairs = Vec<(String, String)>;

fn now() -> Timestamp {
    Timestamp::from_millis(1_795_255_740_000)
}

fn signer() -> Signer<'static> {
    Signer { access_key_id: "ak", access_key_secret: "sk", security_token: None, region: "cn-hangzhou" }
}

fn pairs() -> Pairs {
    [("partNumber", "7"), ("uploadId", "A+B")].map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec()
}

fn request(query: &Pairs) -> Request<'_> {
    Request { method: "PUT", bucket: Some("bkt"), key: Some("dir/a+b c~é.bin"), query }
}

fn code(signable: &Signable<'_>, at: Timestamp) -> Result<(), &'static str> {
    verify(&[KEY], at, signable).map_err(|error| error.code)
}

fn signed(version: SignatureVersion, signer: &Signer<'_>, query: &Pairs) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("text/plain"));
    headers.insert("x-oss-meta-a", HeaderValue::from_static("b"));
    sign::sign(version, signer, now(), &request(query), &mut headers).expect("signs");
    headers
}

#[test]
fn what_we_sign_in_headers_we_accept() {
    let query = pairs();
    for version in VERSIONS {
        let mut headers = signed(version, &signer(), &query);
        let later = |by| now().plus(Duration::from_secs(by));
        assert_eq!(code(&request(&query).with(&query, &headers), later(899)), Ok(()), "{version:?}");
        let earlier = now().minus(Duration::from_secs(899));
        assert_eq!(code(&request(&query).with(&query, &headers), earlier), Ok(()), "{version:?}");
        assert_eq!(code(&request(&query).with(&query, &headers), later(901)), Err("RequestTimeTooSkewed"));
        headers.insert("x-oss-meta-a", HeaderValue::from_static("c"));
        assert_eq!(code(&request(&query).with(&query, &headers), now()), Err("SignatureDoesNotMatch"));
    }
}

#[test]
fn what_we_presign_we_accept_until_it_expires() {
    let (query, headers) = (pairs(), HeaderMap::new());
    for version in VERSIONS {
        let life = Duration::from_secs(600);
        let presigned = sign::presign(version, &signer(), now(), life, &request(&query), &headers);
        let at = |by| code(&request(&query).with(&presigned, &headers), now().plus(Duration::from_secs(by)));
        assert_eq!(at(600), Ok(()), "{version:?}");
        assert_eq!(at(601), Err("AccessDenied"), "{version:?}");
        let edited: Pairs = presigned
            .iter()
            .cloned()
            .map(|(k, v)| if k == "partNumber" { (k, "8".to_owned()) } else { (k, v) })
            .collect();
        let edited = code(&request(&query).with(&edited, &headers), now());
        assert_eq!(edited, Err("SignatureDoesNotMatch"), "{version:?}");
    }
}

#[test]
fn other_keys_secrets_and_regions_are_told_apart() {
    let query = pairs();
    for version in VERSIONS {
        let with = |signer: Signer<'_>| {
            let headers = signed(version, &signer, &query);
            verify(&[KEY], now(), &request(&query).with(&query, &headers))
        };
        assert_eq!(with(Signer { access_key_id: "other", ..signer() }).map_err(|e| e.code), Err("InvalidAccessKeyId"));
        let error = with(Signer { access_key_secret: "other", ..signer() }).expect_err("refused");
        assert_eq!((error.code, error.ec), ("SignatureDoesNotMatch", "0002-00000040"));
        assert!(error.details.iter().any(|(name, value)| *name == "StringToSign" && value.contains('\n')));
        let error = with(Signer { security_token: Some("t"), ..signer() }).expect_err("nobody gave it");
        assert_eq!((error.code, error.ec), ("InvalidSecurityToken", "0002-00000008"));
    }
    let headers = signed(SignatureVersion::V4, &Signer { region: "cn-beijing", ..signer() }, &query);
    let error = verify(&[KEY], now(), &request(&query).with(&query, &headers)).expect_err("refused");
    assert_eq!((error.code, error.ec), ("InvalidArgument", "0002-00000226"));
}

#[test]
fn a_key_of_sts_comes_with_its_token_and_until_it_expires() {
    let (query, none) = (pairs(), HeaderMap::new());
    let keys = [KEY, AccessKey { id: "STS.1", token: Some("t"), expires: Some(now()), ..KEY }];
    for version in VERSIONS {
        let with = |security_token, at: Timestamp| {
            let signer = Signer { access_key_id: "STS.1", security_token, ..signer() };
            let headers = signed(version, &signer, &query);
            let in_headers = verify(&keys, at, &request(&query).with(&query, &headers)).map_err(|e| e.code);
            let life = Duration::from_secs(600);
            let presigned = sign::presign(version, &signer, now(), life, &request(&query), &none);
            let in_query = verify(&keys, at, &request(&query).with(&presigned, &none)).map_err(|e| e.code);
            assert_eq!(in_headers, in_query, "{version:?}");
            in_headers
        };
        let before = now().minus(Duration::from_secs(1));
        assert_eq!(with(Some("t"), before), Ok(()), "{version:?}");
        assert_eq!(with(Some("t"), now()), Err("SecurityTokenExpired"));
        assert_eq!(with(Some("u"), before), Err("InvalidSecurityToken"));
        assert_eq!(with(None, before), Err("InvalidAccessKeyId"));
    }
}

#[test]
fn a_form_is_signed_by_its_policy() {
    let at = Timestamp::from_millis(1_795_255_740_000);
    let verified = |policy: &str, fields: &[(&str, &str)]| {
        let field = |name: &str| fields.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
        verify_policy(&[KEY], at, policy, field).map_err(|error| error.code)
    };
    // The document's own vector (reference: oss-protocol.md, "PostObject policy").
    let policy = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(
            "{\"expiration\":\"2026-12-01T12:00:00.000Z\",\"conditions\":[{\"bucket\":\"bkt\"},\
             [\"content-length-range\",1,1024],[\"eq\",\"$key\",\"a.txt\"]]}",
        )
    };
    let v1 = [("ossaccesskeyid", "ak"), ("signature", "qioV8yR+pZuFDaDq/G/uoc7pp7s=")];
    assert_eq!(verified(&policy, &v1), Ok(()));
    assert_eq!(verified("e30=", &v1), Err("SignatureDoesNotMatch"));
    assert_eq!(verified(&policy, &v1[..1]), Err("InvalidArgument"));
    let scope = v4::Scope::new("20261121T100900Z", "cn-hangzhou");
    let (credential, signature) = (format!("ak/{}", scope.text()), v4::signature("sk", &scope, &policy));
    let v4 = [
        ("x-oss-signature-version", v4::ALGORITHM),
        ("x-oss-credential", &credential),
        ("x-oss-date", "20261121T100900Z"),
        ("x-oss-signature", &signature),
    ];
    assert_eq!(verified(&policy, &v4), Ok(()));
    assert_eq!(verified("e30=", &v4), Err("SignatureDoesNotMatch"));
    assert_eq!(verified(&policy, &v4[..3]), Err("InvalidArgument"));
    let old = [v4[0], v4[1], ("x-oss-date", "20261120T100900Z"), v4[3]];
    assert_eq!(verified(&policy, &old), Err("InvalidArgument"), "its scope is of another day");
}

#[test]
fn v4_fields_come_in_any_order_with_any_blanks() {
    let query = pairs();
    let mut headers = signed(SignatureVersion::V4, &signer(), &query);
    let text = headers[AUTHORIZATION].to_str().expect("text").to_owned();
    let (credential, signature) = text.split_once(",Signature=").expect("two fields");
    for text in [
        format!("{credential}, Signature={signature}, AdditionalHeaders="),
        format!("{credential},AdditionalHeaders=,Signature={signature}"),
    ] {
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&text).expect("a value"));
        assert_eq!(code(&request(&query).with(&query, &headers), now()), Ok(()), "{text}");
    }
}

#[test]
fn garbage_is_refused_with_a_code() {
    let query = pairs();
    let with = |authorization: &str, query: &Pairs| {
        let mut headers = HeaderMap::new();
        if !authorization.is_empty() {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(authorization).expect("a value"));
        }
        code(&request(query).with(query, &headers), now())
    };
    for (authorization, expected) in [
        ("", "AccessDenied"),
        ("Basic abc", "InvalidArgument"),
        ("OSS ak", "InvalidArgument"),
        ("OSS ak:xyz", "AccessDenied"),
        ("OSS4-HMAC-SHA256", "InvalidArgument"),
        ("OSS4-HMAC-SHA256 Credential=ak,Signature=x", "InvalidArgument"),
    ] {
        assert_eq!(with(authorization, &query), Err(expected), "{authorization:?}");
    }
    for (name, expected) in [("x-oss-signature-version", "InvalidArgument"), ("OSSAccessKeyId", "AccessDenied")] {
        assert_eq!(with("", &vec![(name.to_owned(), "x".to_owned())]), Err(expected), "{name}");
    }
}

#[test]
fn signatures_of_the_official_sdks_are_accepted() {
    // Captured from oss2 and alibabacloud-oss-v2 (reference: oss-protocol.md, "Captured from real SDKs").
    let query: Pairs = [("partNumber", "1"), ("uploadId", "0004B9894A22E5B1888A1E29F8236E2D")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .to_vec();
    let signed_at = Timestamp::from_millis(1_795_165_868_000);
    let mut headers = HeaderMap::new();
    headers.insert(DATE, HeaderValue::from_static("Fri, 20 Nov 2026 09:11:08 GMT"));
    headers.insert(AUTHORIZATION, HeaderValue::from_static("OSS ak:uW7id5WCKeWXKq5lOPwCG9TOfKw="));
    assert_eq!(code(&request(&query).with(&query, &headers), signed_at), Ok(()));
}
