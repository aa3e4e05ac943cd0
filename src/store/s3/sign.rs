//! AWS Signature Version 4, pure: what is signed of a request, and how.

use std::fmt;
use std::time::Duration;

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, InvalidHeaderValue};
use sha2::{Digest as _, Sha256};

use crate::domain::Timestamp;
use crate::store::remote::encode::{Query, encode, hmac_sha256, timestamp};

pub mod form;

/// The algorithm's name.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// What stands for the digest of a body that is not signed.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
/// The same of a body in chunks, with a checksum behind it.
pub const UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
/// The header that says which.
pub const PAYLOAD_HEADER: &str = "x-amz-content-sha256";
/// The service, as signatures name it.
pub const S3: &str = "s3";
/// The longest life of a presigned URL.
pub const EXPIRES_MAX: Duration = Duration::from_secs(7 * 86_400);

const DATE_HEADER: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Who signs.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// The access key's id.
    pub access_key_id: &'a str,
    /// The access key's secret.
    pub access_key_secret: &'a str,
    /// The token that came with the two.
    pub session_token: Option<&'a str>,
    /// `eu-central-1`
    pub region: &'a str,
    /// `s3`, or who else is asked.
    pub service: &'static str,
}

impl fmt::Debug for Signer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// A request, without its headers.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET`, `PUT`, …
    pub method: &'a str,
    /// The URL's path as it is sent: percent-encoded once.
    pub path: &'a str,
    /// The query's pairs, decoded.
    pub query: &'a Query,
}

/// Signs a request in its headers, all of which are covered: `host` must be
/// among them. The date, the token and `Authorization` are added.
pub fn sign(
    signer: &Signer<'_>,
    at: Timestamp,
    request: &Request<'_>,
    headers: &mut HeaderMap,
) -> Result<(), InvalidHeaderValue> {
    let timestamp = timestamp(at);
    headers.insert(DATE_HEADER, HeaderValue::from_str(&timestamp)?);
    let payload = headers.entry(PAYLOAD_HEADER).or_insert(HeaderValue::from_static(UNSIGNED_PAYLOAD)).clone();
    if let Some(token) = signer.session_token {
        headers.insert(TOKEN_HEADER, sensitive(token)?);
    }
    let payload = payload.to_str().unwrap_or(UNSIGNED_PAYLOAD);
    let (canonical, names) = canonical_request(request, request.query, headers, payload);
    let scope = Scope::new(&timestamp, signer);
    let signature = scope.signature(signer.access_key_secret, &timestamp, &canonical);
    let credential = format!("{}/{}", signer.access_key_id, scope.text());
    let authorization = format!("{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}");
    headers.insert(AUTHORIZATION, sensitive(&authorization)?);
    Ok(())
}

/// Signs a request in its query: the pairs of a URL that anybody may use until
/// it expires, seven days at most. `host` is the one that it is sent to.
pub fn presign(
    signer: &Signer<'_>,
    at: Timestamp,
    expires_in: Duration,
    request: &Request<'_>,
    host: &HeaderValue,
) -> Vec<(String, String)> {
    let timestamp = timestamp(at);
    let scope = Scope::new(&timestamp, signer);
    let mut query = request.query.to_vec();
    let mut add = |name: &str, value: String| query.push((name.to_owned(), value));
    add("X-Amz-Algorithm", ALGORITHM.to_owned());
    add("X-Amz-Credential", format!("{}/{}", signer.access_key_id, scope.text()));
    add("X-Amz-Date", timestamp.clone());
    add("X-Amz-Expires", expires_in.min(EXPIRES_MAX).as_secs().to_string());
    if let Some(token) = signer.session_token {
        add("X-Amz-Security-Token", token.to_owned());
    }
    add("X-Amz-SignedHeaders", "host".to_owned());
    let headers = HeaderMap::from_iter([(http::header::HOST, host.clone())]);
    let (canonical, _) = canonical_request(request, &query, &headers, UNSIGNED_PAYLOAD);
    let signature = scope.signature(signer.access_key_secret, &timestamp, &canonical);
    query.push(("X-Amz-Signature".to_owned(), signature));
    query
}

fn sensitive(text: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(text)?;
    value.set_sensitive(true);
    Ok(value)
}

/// What is hashed, and the names of the headers in it.
fn canonical_request(request: &Request<'_>, query: &Query, headers: &HeaderMap, payload: &str) -> (String, String) {
    let mut pairs: Vec<_> = query.iter().map(|(name, value)| (encode(name), encode(value))).collect();
    pairs.sort_unstable();
    let query: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    let line = |name: &&str| {
        let values = headers.get_all(*name).iter();
        let values: Vec<_> = values.map(|v| String::from_utf8_lossy(v.as_bytes().trim_ascii()).into_owned()).collect();
        format!("{name}:{}\n", values.join(","))
    };
    let lines: String = names.iter().map(line).collect();
    let names = names.join(";");
    let Request { method, path, .. } = request;
    (format!("{method}\n{path}\n{}\n{lines}\n{names}\n{payload}", query.join("&")), names)
}

/// What a signing key is good for: one day, one region, one service.
struct Scope<'a> {
    date: &'a str,
    region: &'a str,
    service: &'a str,
}

impl<'a> Scope<'a> {
    fn new(timestamp: &'a str, signer: &Signer<'a>) -> Self {
        Self { date: timestamp.get(..8).unwrap_or(timestamp), region: signer.region, service: signer.service }
    }

    fn text(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.date, self.region, self.service)
    }

    fn signature(&self, access_key_secret: &str, timestamp: &str, canonical_request: &str) -> String {
        let digest = hex::encode(Sha256::digest(canonical_request));
        self.signed(access_key_secret, &format!("{ALGORITHM}\n{timestamp}\n{}\n{digest}", self.text()))
    }

    fn signed(&self, access_key_secret: &str, text: &str) -> String {
        let key = hmac_sha256(format!("AWS4{access_key_secret}").as_bytes(), self.date);
        let key = [self.region, self.service, "aws4_request"].iter().fold(key, |key, part| hmac_sha256(&key, part));
        hex::encode(hmac_sha256(&key, text))
    }
}

#[cfg(test)]
mod tests {
    use http::header::{DATE, HOST, RANGE};

    use super::*;

    // Amazon S3 API Reference, "Signature Calculations for the Authorization
    // Header" and "Authenticating Requests: Using Query Parameters".
    const SIGNER: Signer<'_> = Signer {
        access_key_id: "AKIAIOSFODNN7EXAMPLE",
        access_key_secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        session_token: None,
        region: "us-east-1",
        service: S3,
    };
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const BUCKET: HeaderValue = HeaderValue::from_static("examplebucket.s3.amazonaws.com");

    fn payload_header() -> HeaderName {
        HeaderName::from_static(PAYLOAD_HEADER)
    }

    fn at() -> Timestamp {
        Timestamp::parse_rfc3339("2013-05-24T00:00:00Z").expect("a time")
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    fn signed(method: &str, path: &str, query: &Query, more: &[(HeaderName, &'static str)]) -> String {
        let mut headers = HeaderMap::from_iter([(HOST, BUCKET), (payload_header(), HeaderValue::from_static(EMPTY))]);
        for (name, value) in more {
            headers.insert(name, HeaderValue::from_static(value));
        }
        sign(&SIGNER, at(), &Request { method, path, query }, &mut headers).expect("plain text");
        headers[AUTHORIZATION].to_str().expect("plain text").to_owned()
    }

    #[test]
    fn headers_are_signed_as_aws_shows_it() {
        assert_eq!(
            signed("GET", "/test.txt", &[], &[(RANGE, "bytes=0-9")]),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        let put = [
            (DATE, "Fri, 24 May 2013 00:00:00 GMT"),
            (HeaderName::from_static("x-amz-storage-class"), "REDUCED_REDUNDANCY"),
            (payload_header(), "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"),
        ];
        for (signature, of) in [
            (
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
                signed("PUT", "/test%24file.text", &[], &put),
            ),
            (
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
                signed("GET", "/", &[pair("lifecycle", "")], &[]),
            ),
            (
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
                signed("GET", "/", &[pair("prefix", "J"), pair("max-keys", "2")], &[]),
            ),
        ] {
            assert!(of.ends_with(&format!("Signature={signature}")), "{of}");
        }
    }

    #[test]
    fn urls_are_signed_as_aws_shows_it() {
        let request = Request { method: "GET", path: "/test.txt", query: &[] };
        let query = presign(&SIGNER, at(), Duration::from_secs(86_400), &request, &BUCKET);
        let signature = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
        assert_eq!(query.last(), Some(&pair("X-Amz-Signature", signature)));
        let token = Signer { session_token: Some("hush"), ..SIGNER };
        let query = presign(&token, at(), EXPIRES_MAX * 2, &request, &BUCKET);
        assert!(
            query.contains(&pair("X-Amz-Security-Token", "hush")) && query.contains(&pair("X-Amz-Expires", "604800"))
        );
        assert!(!format!("{token:?}").contains("hush"));
    }

    #[test]
    fn a_body_is_not_signed_unless_it_is_said_how() {
        let mut headers = HeaderMap::from_iter([(HOST, BUCKET)]);
        let token = Signer { session_token: Some("hush"), ..SIGNER };
        sign(&token, at(), &Request { method: "GET", path: "/", query: &[] }, &mut headers).expect("plain text");
        assert_eq!(headers[PAYLOAD_HEADER], UNSIGNED_PAYLOAD);
        assert!(headers[TOKEN_HEADER].is_sensitive() && headers[AUTHORIZATION].is_sensitive());
        assert!(!format!("{headers:?}").contains("hush"));
        let broken = Signer { access_key_id: "a\n", ..SIGNER };
        assert!(sign(&broken, at(), &Request { method: "GET", path: "/", query: &[] }, &mut headers).is_err());
    }
}
