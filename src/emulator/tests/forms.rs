//! PostObject, as browsers send it.

use super::*;
use crate::store::oss::sign::{v1, v4};

/// A form in the order that it is given; the file comes last.
pub(super) fn form(fields: &[(&str, &str)], file_name: &str, file: &str) -> http::Request<Body> {
    let mut body = String::new();
    for (name, value) in fields {
        body.push_str(&format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"));
    }
    body.push_str(&format!(
        "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{file_name}\"\r\nContent-Type: text/plain\r\n\r\n\
         {file}\r\n--b\r\nContent-Disposition: form-data; name=\"submit\"\r\n\r\nGo\r\n--b--\r\n"
    ));
    let request = http::Request::builder().method("POST").uri("/").header(HOST, "bkt.localhost:9000");
    request.header(CONTENT_TYPE, "multipart/form-data; boundary=b").body(Body::from(body)).expect("a form")
}

pub(super) fn policy(conditions: &str) -> String {
    STANDARD.encode(format!("{{\"expiration\":\"2026-11-21T11:00:00Z\",\"conditions\":[{conditions}]}}"))
}

fn signed_v1(policy: &str) -> [(&'static str, String); 3] {
    [("policy", policy.to_owned()), ("OSSAccessKeyId", "ak".to_owned()), ("Signature", v1::signature("sk", policy))]
}

async fn post(bucket: &Bucket, signed: &[(&'static str, String)], more: &[(&str, &str)], file: &str) -> Answer {
    let signed = signed.iter().map(|(name, value)| (*name, value.as_str()));
    let fields: Vec<(&str, &str)> = signed.chain(more.iter().copied()).collect();
    bucket.send(form(&fields, "é.txt", file)).await
}

#[tokio::test]
async fn a_form_with_a_signed_policy_is_an_object() {
    let bucket = Bucket::new();
    let signed = signed_v1(&policy("[\"starts-with\",\"$key\",\"user/\"],[\"content-length-range\",2,9]"));
    let more = [("key", "user/${filename}"), ("x-oss-meta-who", "alice"), ("Cache-Control", "no-cache")];
    let answer = post(&bucket, &signed, &more, "hello").await;
    assert_eq!((answer.outcome(), answer.header("x-oss-hash-crc64ecma").is_empty()), ((204, ""), false));
    let answer = bucket.call("GET", "user/é.txt", "").await;
    assert_eq!((answer.text(), answer.header("content-type")), ("hello", "text/plain"));
    assert_eq!((answer.header("x-oss-meta-who"), answer.header("cache-control")), ("alice", "no-cache"));

    let key = ("key", "user/a");
    let answer = post(&bucket, &signed, &[key, ("success_action_status", "201")], "hello").await;
    assert_eq!((answer.status.as_u16(), answer.element("Key")), (201, "user/a"));
    let answer =
        post(&bucket, &signed, &[key, ("success_action_redirect", "https://app.example/done?x=1")], "hello").await;
    assert_eq!(answer.status, 303);
    let location = answer.header("location");
    assert!(location.starts_with("https://app.example/done?x=1&bucket=bkt&key=user%2Fa&etag=%22"), "{location}");

    for (more, file, expected) in [
        (vec![("key", "other/a")], "hello", (403, "AccessDenied")),
        (vec![key], "much too long", (400, "EntityTooLarge")),
        (vec![key], "x", (400, "EntityTooSmall")),
        (vec![], "hello", (400, "InvalidArgument")),
        (vec![key, ("x-oss-forbid-overwrite", "true")], "hello", (409, "FileAlreadyExists")),
        (vec![key, ("callback", "?")], "hello", (400, "InvalidArgument")),
        (vec![key, ("x-oss-security-token", "t")], "hello", (403, "InvalidSecurityToken")),
    ] {
        assert_eq!(post(&bucket, &signed, &more, file).await.outcome(), expected, "{more:?}");
    }
    let mut wrong = signed.clone();
    wrong[2].1 = "x".to_owned();
    assert_eq!(post(&bucket, &wrong, &[key], "hello").await.outcome(), (403, "SignatureDoesNotMatch"));
    assert_eq!(post(&bucket, &[], &[key], "hello").await.outcome(), (403, "AccessDenied"));
    bucket.clock.advance(Duration::from_secs(3600));
    assert_eq!(post(&bucket, &signed, &[key], "hello").await.outcome(), (403, "AccessDenied"));
    assert_eq!(bucket.call("GET", "user/a", "").await.text(), "hello");
}

#[tokio::test]
async fn a_policy_of_v4_names_what_it_is_signed_with() {
    let bucket = Bucket::new();
    let scope = v4::Scope::new("20261121T100900Z", "cn-hangzhou");
    let fields = |policy: String| {
        [
            ("x-oss-signature-version", v4::ALGORITHM.to_owned()),
            ("x-oss-credential", format!("ak/{}", scope.text())),
            ("x-oss-date", "20261121T100900Z".to_owned()),
            ("x-oss-signature", v4::signature("sk", &scope, &policy)),
            ("policy", policy),
            ("key", "a".to_owned()),
        ]
    };
    let named = fields(String::new())[..3].iter().map(|(n, v)| format!("{{\"{n}\":\"{v}\"}}")).collect::<Vec<_>>();
    assert_eq!(post(&bucket, &fields(policy(&named.join(","))), &[], "x").await.outcome(), (204, ""));
    let answer = post(&bucket, &fields(policy("")), &[], "x").await;
    assert_eq!((answer.outcome(), answer.header("x-oss-ec")), ((403, "AccessDenied"), "0006-00000228"));
}

#[tokio::test]
async fn what_is_no_form_is_refused() {
    let bucket = Bucket::new();
    for (body, expected) in
        [("", "MalformedPOSTRequest"), ("--b\r\n", "MalformedPOSTRequest"), ("--b--\r\n", "InvalidArgument")]
    {
        let mut request = form(&[], "", "");
        *request.body_mut() = Body::from(body);
        assert_eq!(bucket.send(request).await.outcome(), (400, expected), "{body:?}");
    }
    let mut request = form(&[], "", "");
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("multipart/form-data"));
    assert_eq!(bucket.send(request).await.outcome(), (400, "MalformedPOSTRequest"));
}
