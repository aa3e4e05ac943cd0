//! Signature V4: HMAC-SHA256 over a canonical request, with a key bound to
//! day and region, in hex.

use std::time::Duration;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, InvalidHeaderValue};
use sha2::{Digest as _, Sha256};

use super::{Request, Signable, Signer, encode_pair, encode_path, hmac_sha256};
use crate::domain::Timestamp;

pub use crate::store::remote::encode::timestamp;

/// The algorithm's name: what `Authorization` begins with, and the value of
/// `x-oss-signature-version`.
pub const ALGORITHM: &str = "OSS4-HMAC-SHA256";
/// The one thing that `x-oss-content-sha256` may say: V4 does not sign bodies.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
/// The longest life of a presigned URL.
pub const EXPIRES_MAX: Duration = Duration::from_secs(7 * 86_400);

const DATE_HEADER: HeaderName = HeaderName::from_static("x-oss-date");
const PAYLOAD_HEADER: HeaderName = HeaderName::from_static("x-oss-content-sha256");
const SIGNATURE_PARAMETER: &str = "x-oss-signature";

/// What a signing key is good for: one day, one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `20231216`
    pub date: String,
    /// `cn-hangzhou`
    pub region: String,
}

impl Scope {
    /// The scope of a signature made at `timestamp` (`20231216T162057Z`).
    pub fn new(timestamp: &str, region: &str) -> Self {
        Self { date: timestamp.get(..8).unwrap_or(timestamp).to_owned(), region: region.to_owned() }
    }

    /// `20231216/cn-hangzhou/oss/aliyun_v4_request`
    pub fn text(&self) -> String {
        format!("{}/{}/oss/aliyun_v4_request", self.date, self.region)
    }
}

/// Headers that are signed whenever they are there; others only when they are
/// named among the additional ones.
fn always_signed(name: &str) -> bool {
    name.starts_with("x-oss-") || name == "content-type" || name == "content-md5"
}

/// The additional headers as they are signed and announced: in lower case,
/// sorted, none of those that are signed anyway, joined by `;`.
pub fn additional_headers(names: &[&str]) -> String {
    let mut names: Vec<_> = names.iter().map(|n| n.trim().to_ascii_lowercase()).collect();
    names.retain(|name| !name.is_empty() && !always_signed(name));
    names.sort_unstable();
    names.dedup();
    names.join(";")
}

/// The canonical request. The query's `x-oss-signature` is left out;
/// `additional` names headers that are signed beyond the usual ones.
pub fn canonical_request(request: &Signable<'_>, additional: &[&str]) -> String {
    let additional = additional_headers(additional);
    let mut pairs: Vec<_> = request.query.iter().filter(|(name, _)| name != SIGNATURE_PARAMETER).collect();
    pairs.sort_by_cached_key(|(name, value)| (super::encode(name), super::encode(value)));
    let query: Vec<_> = pairs.iter().map(|(name, value)| encode_pair(name, value)).collect();
    format!(
        "{}\n{}\n{}\n{}\n{additional}\n{}",
        request.method,
        encode_path(&request.resource()),
        query.join("&"),
        request.header_lines(|name| always_signed(name) || additional.split(';').any(|a| a == name)),
        request.header(PAYLOAD_HEADER.as_str()).unwrap_or(UNSIGNED_PAYLOAD.into()),
    )
}

/// The string to sign: algorithm, `timestamp` (`20231216T162057Z`), scope and
/// the canonical request's digest.
pub fn string_to_sign(timestamp: &str, scope: &Scope, canonical_request: &str) -> String {
    let digest = hex::encode(Sha256::digest(canonical_request));
    format!("{ALGORITHM}\n{timestamp}\n{}\n{digest}", scope.text())
}

/// The signature of a string to sign; of a PostObject form, that string is
/// the `policy` field as it stands (base64).
pub fn signature(access_key_secret: &str, scope: &Scope, string_to_sign: &str) -> String {
    let key = hmac_sha256(format!("aliyun_v4{access_key_secret}").as_bytes(), &scope.date);
    let key = hmac_sha256(&key, &scope.region);
    let key = hmac_sha256(&key, "oss");
    let key = hmac_sha256(&key, "aliyun_v4_request");
    hex::encode(hmac_sha256(&key, string_to_sign))
}

/// Dates the headers and returns the value of `Authorization`.
pub(super) fn authorize(
    signer: &Signer<'_>,
    at: Timestamp,
    request: &Request<'_>,
    headers: &mut HeaderMap,
) -> Result<String, InvalidHeaderValue> {
    authorize_with(signer, at, request, headers, &[])
}

/// As `authorize`, with additional headers signed.
pub(super) fn authorize_with(
    signer: &Signer<'_>,
    at: Timestamp,
    request: &Request<'_>,
    headers: &mut HeaderMap,
    additional: &[&str],
) -> Result<String, InvalidHeaderValue> {
    let timestamp = timestamp(at);
    let scope = Scope::new(&timestamp, signer.region);
    headers.insert(DATE_HEADER, HeaderValue::from_str(&timestamp)?);
    headers.insert(PAYLOAD_HEADER, HeaderValue::from_static(UNSIGNED_PAYLOAD));
    let canonical = canonical_request(&request.with(request.query, headers), additional);
    let signature = signature(signer.access_key_secret, &scope, &string_to_sign(&timestamp, &scope, &canonical));
    let announced = match additional_headers(additional) {
        names if names.is_empty() => names,
        names => format!(",AdditionalHeaders={names}"),
    };
    let credential = format!("{}/{}", signer.access_key_id, scope.text());
    Ok(format!("{ALGORITHM} Credential={credential}{announced},Signature={signature}"))
}

/// The pairs of a presigned URL. More than seven days become seven.
pub(super) fn presign(
    signer: &Signer<'_>,
    at: Timestamp,
    expires_in: Duration,
    request: &Request<'_>,
    headers: &HeaderMap,
    additional: &[&str],
) -> Vec<(String, String)> {
    let timestamp = timestamp(at);
    let scope = Scope::new(&timestamp, signer.region);
    let mut query = request.query.to_vec();
    let mut add = |name: &str, value: String| query.push((name.to_owned(), value));
    add("x-oss-signature-version", ALGORITHM.to_owned());
    add("x-oss-date", timestamp.clone());
    add("x-oss-expires", expires_in.min(EXPIRES_MAX).as_secs().to_string());
    add("x-oss-credential", format!("{}/{}", signer.access_key_id, scope.text()));
    let announced = additional_headers(additional);
    if !announced.is_empty() {
        add("x-oss-additional-headers", announced);
    }
    if let Some(token) = signer.security_token {
        add("x-oss-security-token", token.to_owned());
    }
    let canonical = canonical_request(&request.with(&query, headers), additional);
    let signature = signature(signer.access_key_secret, &scope, &string_to_sign(&timestamp, &scope, &canonical));
    query.push((SIGNATURE_PARAMETER.to_owned(), signature));
    query
}
