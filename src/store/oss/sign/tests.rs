//! Vectors of the official SDKs and documents, and signatures captured from
//! SDKs at work.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::*;

const D: &str = "Wed, 28 Dec 2022 10:27:41 GMT";
const PLAIN: Signer<'_> =
    Signer { access_key_id: "ak", access_key_secret: "sk", security_token: None, region: "cn-hangzhou" };
const WITH_TOKEN: Signer<'_> = Signer { security_token: Some("token"), ..PLAIN };

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(
            name.parse::<HeaderName>().expect("a header's name"),
            HeaderValue::from_str(value).expect("a header's value"),
        );
    }
    map
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn value_of<'a>(query: &'a Query, name: &str) -> &'a str {
    query.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
}

fn v4_signature_in(headers: &HeaderMap) -> &str {
    let text = headers[AUTHORIZATION].to_str().expect("ASCII");
    text.split_once("Signature=").map_or("", |(_, signature)| signature)
}

fn v1_signature(request: Request<'_>, given: &HeaderMap) -> String {
    v1::signature("sk", &v1::string_to_sign(&request.with(request.query, given), D))
}

#[test]
fn v1_header_signatures_are_those_of_the_sdks() {
    let put = headers(&[
        ("content-md5", "eB5eJF1ptWaXm4bijSPyxw=="),
        ("content-type", "text/html"),
        ("x-oss-meta-author", "alice"),
        ("x-oss-meta-magic", "abracadabra"),
        ("x-oss-date", D),
    ]);
    let dated = headers(&[("x-oss-date", D)]);
    let object = Request { method: "PUT", bucket: Some("examplebucket"), key: Some("nelson"), query: &[] };
    assert_eq!(v1_signature(object, &put), "kSHKmLxlyEAKtZPkJhG9bZb5k7M=");
    assert_eq!(v1_signature(Request { query: &pairs(&[("acl", "")]), ..object }, &put), "/afkugFbmWDQ967j1vr6zygBLQk=");
    let bucket = Request { method: "GET", key: None, ..object };
    let group = pairs(&[("resourceGroup", "")]);
    assert_eq!(v1_signature(Request { query: &group, ..bucket }, &dated), "vkQmfuUDyi1uDi3bKt67oemssIs=");
    let both = pairs(&[("resourceGroup", ""), ("acl", "")]);
    assert_eq!(v1_signature(Request { query: &both, ..bucket }, &dated), "x3E5TgOvl/i7PN618s5mEvpJDYk=");
}

#[test]
fn v1_signs_what_the_documents_sign() {
    let given = headers(&[
        ("Content-MD5", "ODBGOERFMDMzQTczRUY3NUE3NzA5QzdFNUYzMDQxNEM="),
        ("Content-Type", "text/html"),
        ("X-OSS-Meta-Author", " foo@bar.com "),
        ("X-OSS-Magic", "abracadabra"),
    ]);
    let request = Request { method: "PUT", bucket: Some("oss-example"), key: Some("nelson"), query: &[] };
    let text = v1::string_to_sign(&request.with(&[], &given), "Thu, 17 Nov 2005 18:49:58 GMT");
    assert_eq!(
        text,
        "PUT\nODBGOERFMDMzQTczRUY3NUE3NzA5QzdFNUYzMDQxNEM=\ntext/html\nThu, 17 Nov 2005 18:49:58 GMT\n\
         x-oss-magic:abracadabra\nx-oss-meta-author:foo@bar.com\n/oss-example/nelson"
    );
    assert_eq!(v1::signature("OtxrzxIsfpFjA7SwPzILwy8Bw21TLhquhboDYROV", &text), "26NBxoKdsyly4EDv6inkoDft/yA=");
}

#[test]
fn v1_presigned_urls_are_those_of_the_sdks() {
    let query = pairs(&[("versionId", "versionId")]);
    let request = Request { method: "GET", bucket: Some("bucket"), key: Some("key"), query: &query };
    let none = HeaderMap::new();
    let expires = Duration::from_secs(20);
    let url = presign(SignatureVersion::V1, &PLAIN, seconds(1_699_807_400), expires, &request, &none);
    assert_eq!(value_of(&url, "Expires"), "1699807420");
    assert_eq!(value_of(&url, "OSSAccessKeyId"), "ak");
    assert_eq!(value_of(&url, "Signature"), "dcLTea+Yh9ApirQ8o8dOPqtvJXQ=");
    let plus = Request { key: Some("key+123"), ..request };
    let url = presign(SignatureVersion::V1, &WITH_TOKEN, seconds(1_699_808_184), expires, &plus, &none);
    assert_eq!(value_of(&url, "security-token"), "token");
    assert_eq!(value_of(&url, "Signature"), "jzKYRrM5y6Br0dRFPaTGOsbrDhY=");
}

fn v4_query() -> Vec<(String, String)> {
    pairs(&[
        ("param1", "value1"),
        ("+param1", "value3"),
        ("|param1", "value4"),
        ("+param2", ""),
        ("|param2", ""),
        ("param2", ""),
    ])
}

fn v4_headers(content_type: &str) -> HeaderMap {
    headers(&[
        ("x-oss-head1", "value"),
        ("abc", "value"),
        ("ZAbc", "value"),
        ("XYZ", "value"),
        ("content-type", content_type),
    ])
}

const V4_KEY: Option<&str> = Some("1234+-/123/1.txt");

#[test]
fn v4_header_signatures_are_those_of_the_sdks() {
    let query = v4_query();
    let request = Request { method: "PUT", bucket: Some("bucket"), key: V4_KEY, query: &query };
    let mut given = v4_headers("text/plain");
    sign(SignatureVersion::V4, &PLAIN, seconds(1_702_743_657), &request, &mut given).expect("signed");
    let canonical = v4::canonical_request(&request.with(&query, &given), &[]);
    let scope = v4::Scope::new("20231216T162057Z", "cn-hangzhou");
    assert!(
        v4::string_to_sign("20231216T162057Z", &scope, &canonical)
            .ends_with("\nf4613657f1b108998e8dbd10a1aa5da621dc2c6e02c9ddec0f163664848704c4"),
        "{canonical}"
    );
    assert_eq!(
        given[AUTHORIZATION],
        "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request,\
         Signature=e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe"
    );

    let mut given = v4_headers("text/plain");
    sign(SignatureVersion::V4, &WITH_TOKEN, seconds(1_702_784_856), &request, &mut given).expect("signed");
    assert_eq!(v4_signature_in(&given), "b94a3f999cf85bcdc00d332fbd3734ba03e48382c36fa4d5af5df817395bd9ea");

    let mut given = v4_headers("text/plain");
    let more = ["ZAbc", "abc", "Content-Type"];
    let text = v4::authorize_with(&PLAIN, seconds(1_702_747_512), &request, &mut given, &more).expect("signed");
    assert!(
        text.ends_with(
            ",AdditionalHeaders=abc;zabc,Signature=4a4183c187c07c8947db7620deb0a6b38d9fbdd34187b6dbaccb316fa251212f"
        ),
        "{text}"
    );
}

#[test]
fn v4_presigned_urls_are_those_of_the_sdks() {
    let query = v4_query();
    let request = Request { method: "PUT", bucket: Some("bucket"), key: V4_KEY, query: &query };
    let given = v4_headers("application/octet-stream");
    for (signer, at, more, expected) in [
        (PLAIN, 1_702_781_677, &[][..], "a39966c61718be0d5b14e668088b3fa07601033f6518ac7b523100014269c0fe"),
        (WITH_TOKEN, 1_702_785_388, &[][..], "3817ac9d206cd6dfc90f1c09c00be45005602e55898f26f5ddb06d7892e1f8b5"),
        (
            PLAIN,
            1_702_783_809,
            &["ZAbc", "abc"][..],
            "6bd984bfe531afb6db1f7550983a741b103a8c58e5e14f83ea474c2322dfa2b7",
        ),
    ] {
        let url = v4::presign(&signer, seconds(at), Duration::from_secs(599), &request, &given, more);
        assert_eq!(value_of(&url, "x-oss-signature"), expected);
        // What a verifier does: the same, from the query as it came.
        let scope = v4::Scope::new(value_of(&url, "x-oss-date"), "cn-hangzhou");
        let text = v4::canonical_request(&request.with(&url, &given), more);
        let text = v4::string_to_sign(value_of(&url, "x-oss-date"), &scope, &text);
        assert_eq!(v4::signature("sk", &scope, &text), expected);
    }
}

/// 2026-11-20 09:11:08 GMT
const CAPTURED_AT: i64 = 1_795_165_868;

#[test]
fn signatures_captured_from_real_sdks_are_ours() {
    let at = seconds(CAPTURED_AT);
    let query = pairs(&[("partNumber", "1"), ("uploadId", "0004B9894A22E5B1888A1E29F8236E2D")]);
    let part = Request { method: "PUT", bucket: Some("bkt"), key: Some("dir/a+b c~é.bin"), query: &query };

    let mut given = HeaderMap::new();
    sign(SignatureVersion::V1, &PLAIN, at, &part, &mut given).expect("signed");
    assert_eq!(given[AUTHORIZATION], "OSS ak:uW7id5WCKeWXKq5lOPwCG9TOfKw=");
    assert_eq!(given["date"], "Fri, 20 Nov 2026 09:11:08 GMT");

    let mut given = HeaderMap::new();
    sign(SignatureVersion::V4, &PLAIN, at, &part, &mut given).expect("signed");
    assert_eq!(v4_signature_in(&given), "9fc62f5cd78395a10fa85ae56242716d7e02e8c378b3761a7c7c2ca0067b5ecb");

    let query = pairs(&[("partNumber", "1"), ("uploadId", "UP")]);
    let part = Request { query: &query, ..part };
    let none = HeaderMap::new();
    let expires = Duration::from_secs(600);
    let url = presign(SignatureVersion::V1, &PLAIN, at, expires, &part, &none);
    assert_eq!(value_of(&url, "Expires"), "1795166468");
    assert_eq!(value_of(&url, "Signature"), "MNUkWQBg4dAIm/2Q/enrxErvIqA=");
    let url = presign(SignatureVersion::V4, &PLAIN, at, expires, &part, &none);
    assert_eq!(value_of(&url, "x-oss-signature"), "77f5ce3b63535da204e4e02279ac6aec6f1e3fb4a5bd5fb3d33a657ce224c366");
}

#[test]
fn a_post_policy_is_signed_as_it_stands() {
    use base64::Engine as _;
    let policy = concat!(
        r#"{"expiration":"2026-12-01T12:00:00.000Z","conditions":[{"bucket":"bkt"},"#,
        r#"["content-length-range",1,1024],["eq","$key","a.txt"]]}"#
    );
    let field = base64::engine::general_purpose::STANDARD.encode(policy);
    assert_eq!(v1::signature("sk", &field), "qioV8yR+pZuFDaDq/G/uoc7pp7s=");
}

#[test]
fn secrets_stay_out_of_debug_output() {
    let signer = Signer { access_key_secret: "hush", security_token: Some("hush"), ..PLAIN };
    assert!(!format!("{signer:?}").contains("hush"));
    let mut given = HeaderMap::new();
    let request = Request { method: "GET", bucket: Some("bkt"), key: None, query: &[] };
    sign(SignatureVersion::V4, &signer, seconds(0), &request, &mut given).expect("signed");
    let shown = format!("{given:?}");
    assert!(!shown.contains("hush") && !shown.contains("Signature="), "{shown}");
}
