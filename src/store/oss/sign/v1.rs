//! Signature V1: HMAC-SHA1 over a few headers and the resource, base64.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{DATE, HeaderValue, InvalidHeaderValue};

use super::{Request, Signable, Signer, hmac_sha1};
use crate::domain::Timestamp;

/// The query names that are part of the resource; `x-oss-*` are, too. Others
/// (`max-parts`, `encoding-type`, `prefix`, …) are not signed.
const SUBRESOURCES: [&str; 61] = [
    "acl",
    "append",
    "asyncFetch",
    "bucketInfo",
    "callback",
    "callback-var",
    "cloudboxes",
    "cname",
    "comp",
    "continuation-token",
    "cors",
    "delete",
    "encryption",
    "endTime",
    "group",
    "img",
    "inventory",
    "inventoryId",
    "lifecycle",
    "link",
    "live",
    "location",
    "logging",
    "metaQuery",
    "objectInfo",
    "objectMeta",
    "partNumber",
    "policy",
    "position",
    "qos",
    "qosInfo",
    "referer",
    "regionList",
    "replication",
    "replicationLocation",
    "replicationProgress",
    "requestPayment",
    "resourceGroup",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "security-token",
    "sequential",
    "startTime",
    "stat",
    "status",
    "style",
    "styleName",
    "symlink",
    "tagging",
    "transferAcceleration",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// The names in a presigned query that carry the signature itself.
const CARRIERS: [&str; 3] = ["OSSAccessKeyId", "Expires", "Signature"];

/// What is signed. `date` is the `Date` (or `x-oss-date`) header's value, or
/// the `Expires` of a presigned query.
pub fn string_to_sign(request: &Signable<'_>, date: &str) -> String {
    let header = |name| request.header(name).unwrap_or_default();
    format!(
        "{}\n{}\n{}\n{date}\n{}{}",
        request.method,
        header("content-md5"),
        header("content-type"),
        request.header_lines(|name| name.starts_with("x-oss-")),
        resource(request),
    )
}

/// `/bucket/key?acl&partNumber=1`: raw, its sub-resources sorted.
fn resource(request: &Signable<'_>) -> String {
    let covered = |name: &str| SUBRESOURCES.contains(&name) || name.starts_with("x-oss-");
    let mut pairs: Vec<_> = request.query.iter().filter(|(name, _)| covered(name)).collect();
    pairs.sort_unstable();
    let mut resource = request.resource();
    for (i, (name, value)) in pairs.into_iter().enumerate() {
        resource.push(if i == 0 { '?' } else { '&' });
        resource.push_str(name);
        if !value.is_empty() {
            resource.push('=');
            resource.push_str(value);
        }
    }
    resource
}

/// The signature of a string to sign; of a PostObject form, that string is
/// the `policy` field as it stands (base64).
pub fn signature(access_key_secret: &str, string_to_sign: &str) -> String {
    STANDARD.encode(hmac_sha1(access_key_secret.as_bytes(), string_to_sign))
}

/// `Wed, 28 Dec 2022 10:27:41 GMT`
pub fn http_date(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_second(at.seconds()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Dates the headers and returns the value of `Authorization`.
pub(super) fn authorize(
    signer: &Signer<'_>,
    at: Timestamp,
    request: &Request<'_>,
    headers: &mut HeaderMap,
) -> Result<String, InvalidHeaderValue> {
    let date = http_date(at);
    headers.insert(DATE, HeaderValue::from_str(&date)?);
    let text = string_to_sign(&request.with(request.query, headers), &date);
    Ok(format!("OSS {}:{}", signer.access_key_id, signature(signer.access_key_secret, &text)))
}

/// The pairs of a presigned URL.
pub(super) fn presign(
    signer: &Signer<'_>,
    at: Timestamp,
    expires_in: Duration,
    request: &Request<'_>,
    headers: &HeaderMap,
) -> Vec<(String, String)> {
    let expires = at.plus(expires_in).seconds().to_string();
    let mut query = request.query.to_vec();
    if let Some(token) = signer.security_token {
        query.push(("security-token".to_owned(), token.to_owned()));
    }
    let text = string_to_sign(&request.with(&query, headers), &expires);
    let signature = signature(signer.access_key_secret, &text);
    for (name, value) in CARRIERS.into_iter().zip([signer.access_key_id.to_owned(), expires, signature]) {
        query.push((name.to_owned(), value));
    }
    query
}
