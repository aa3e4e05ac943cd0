//! Whether a request is signed with one of our keys: pure. V1 and V4, in
//! headers, in the query of a presigned URL and in the fields of a form, with
//! the same functions that the client signs with.

use http::header::{AUTHORIZATION, DATE, HeaderName};
use http::{HeaderMap, StatusCode};
use std::time::{Duration, SystemTime};
use subtle::ConstantTimeEq as _;

use super::address::value;
use super::error::OssError;
use crate::domain::Timestamp;
use crate::store::oss::sign::{Query, Signable, TOKEN_HEADER, v1, v4};

/// How far a signature's time may lie from ours.
const SKEW_MAX: Duration = Duration::from_secs(15 * 60);

/// An access key.
#[derive(Clone, Copy)]
pub(crate) struct AccessKey<'a> {
    pub id: &'a str,
    pub secret: &'a str,
    /// V4 signatures are bound to it.
    pub region: &'a str,
    /// What STS gave with it: nothing is accepted without.
    pub token: Option<&'a str>,
    /// When STS takes it back.
    pub expires: Option<Timestamp>,
}

/// The keys that are accepted.
pub(crate) type AccessKeys<'a> = [AccessKey<'a>];

/// Whether nobody says who asks.
pub(crate) fn is_anonymous(headers: &HeaderMap, query: &Query) -> bool {
    let signed = ["x-oss-signature-version", "OSSAccessKeyId"].iter().any(|name| value(query, name).is_some());
    !signed && !headers.contains_key(AUTHORIZATION)
}

/// Whether a request is signed with a key of ours and in time.
pub(crate) fn verify(keys: &AccessKeys<'_>, now: Timestamp, request: &Signable<'_>) -> Result<(), OssError> {
    let authorization = header(request.headers, &AUTHORIZATION);
    let parameter = |name| value(request.query, name);
    match authorization {
        Some(text) => match (text.strip_prefix(v4::ALGORITHM), text.strip_prefix("OSS ")) {
            (Some(fields), _) => in_header_v4(keys, now, request, fields),
            (None, Some(credential)) => in_header_v1(keys, now, request, credential),
            (None, None) => Err(OssError::invalid_argument("Authorization header is invalid.", "Authorization", text)),
        },
        None if parameter("x-oss-signature-version").is_some() => in_query_v4(keys, now, request),
        None if parameter("OSSAccessKeyId").is_some() => in_query_v1(keys, now, request),
        None => Err(OssError::anonymous()),
    }
}

fn in_header_v1(
    keys: &AccessKeys<'_>,
    now: Timestamp,
    request: &Signable<'_>,
    credential: &str,
) -> Result<(), OssError> {
    let (id, signature) = credential
        .trim()
        .split_once(':')
        .ok_or_else(|| OssError::invalid_argument("Authorization header is invalid.", "Authorization", "OSS …"))?;
    let key = known(keys, id)?;
    in_possession(key, now, header(request.headers, &TOKEN_HEADER))?;
    let date = date_header(request.headers).ok_or_else(no_date)?;
    in_time(now, parse_http_date(date).ok_or_else(no_date)?)?;
    let expected = v1::string_to_sign(request, date);
    matches(key, signature, &v1::signature(key.secret, &expected), &expected, None)
}

fn in_query_v1(keys: &AccessKeys<'_>, now: Timestamp, request: &Signable<'_>) -> Result<(), OssError> {
    let parameter = |name: &'static str| value(request.query, name).filter(|text| !text.is_empty());
    let missing = || {
        OssError::access_denied(
            "Query-string authentication requires the Signature, Expires and OSSAccessKeyId parameters.",
        )
    };
    let (Some(id), Some(expires), Some(signature)) =
        (parameter("OSSAccessKeyId"), parameter("Expires"), parameter("Signature"))
    else {
        return Err(missing());
    };
    let key = known(keys, id)?;
    in_possession(key, now, value(request.query, "security-token"))?;
    let ends: i64 =
        expires.parse().map_err(|_| OssError::access_denied("Invalid date (should be seconds since epoch)."))?;
    let expected = v1::string_to_sign(request, expires);
    matches(key, signature, &v1::signature(key.secret, &expected), &expected, None)?;
    not_expired(now, Timestamp::from_millis(ends.saturating_mul(1000)))
}

/// `Credential=…, Signature=…, AdditionalHeaders=…`, in whatever order and
/// with whatever blanks: every SDK has its own.
fn in_header_v4(keys: &AccessKeys<'_>, now: Timestamp, request: &Signable<'_>, fields: &str) -> Result<(), OssError> {
    let field = |name: &str| {
        let pairs = fields.split(',').filter_map(|field| field.trim().split_once('='));
        pairs.into_iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    };
    let invalid = || OssError::invalid_argument("Authorization header is invalid.", "Authorization", v4::ALGORITHM);
    let (credential, signature) = field("Credential").zip(field("Signature")).ok_or_else(invalid)?;
    let payload = request.headers.get("x-oss-content-sha256").and_then(|v| v.to_str().ok());
    if payload != Some(v4::UNSIGNED_PAYLOAD) {
        let message = "x-oss-content-sha256 should be UNSIGNED-PAYLOAD.";
        return Err(OssError::invalid_argument(message, "x-oss-content-sha256", payload.unwrap_or_default()));
    }
    let signed_at = match date_header(request.headers) {
        Some(text) => parse_timestamp(text).or_else(|| parse_http_date(text)).ok_or_else(no_date)?,
        None => return Err(no_date()),
    };
    let timestamp = v4::timestamp(signed_at);
    let (key, scope) = scope_of(keys, credential, &timestamp)?;
    in_possession(key, now, header(request.headers, &TOKEN_HEADER))?;
    in_time(now, signed_at)?;
    let additional: Vec<&str> = field("AdditionalHeaders").unwrap_or_default().split(';').collect();
    compare_v4(key, request, &timestamp, &scope, &additional, signature)
}

fn in_query_v4(keys: &AccessKeys<'_>, now: Timestamp, request: &Signable<'_>) -> Result<(), OssError> {
    let parameter = |name: &'static str| {
        let text = value(request.query, name).filter(|text| !text.is_empty());
        text.ok_or_else(|| OssError::invalid_argument(format!("Missing {name} in the query."), name, ""))
    };
    let algorithm = parameter("x-oss-signature-version")?;
    if algorithm != v4::ALGORITHM {
        return Err(OssError::invalid_argument(
            "The signature version is not supported.",
            "x-oss-signature-version",
            algorithm,
        ));
    }
    let (credential, timestamp, expires, signature) = (
        parameter("x-oss-credential")?,
        parameter("x-oss-date")?,
        parameter("x-oss-expires")?,
        parameter("x-oss-signature")?,
    );
    let signed_at = parse_timestamp(timestamp).ok_or_else(no_date)?;
    let life = expires
        .parse()
        .ok()
        .map(Duration::from_secs)
        .filter(|life| (1..=v4::EXPIRES_MAX.as_secs()).contains(&life.as_secs()));
    let life = life.ok_or_else(|| {
        let message = "x-oss-expires should be a number of seconds between 1 and 604800.";
        OssError::invalid_argument(message, "x-oss-expires", expires)
    })?;
    let (key, scope) = scope_of(keys, credential, timestamp)?;
    in_possession(key, now, value(request.query, TOKEN_HEADER.as_str()))?;
    let additional: Vec<&str> =
        value(request.query, "x-oss-additional-headers").unwrap_or_default().split(';').collect();
    compare_v4(key, request, timestamp, &scope, &additional, signature)?;
    if signed_at.since(now) > SKEW_MAX {
        return Err(OssError::access_denied("Request is not valid yet."));
    }
    not_expired(now, signed_at.plus(life))
}

fn compare_v4(
    key: AccessKey<'_>,
    request: &Signable<'_>,
    timestamp: &str,
    scope: &v4::Scope,
    additional: &[&str],
    signature: &str,
) -> Result<(), OssError> {
    let canonical = v4::canonical_request(request, additional);
    let expected = v4::string_to_sign(timestamp, scope, &canonical);
    matches(key, signature, &v4::signature(key.secret, scope, &expected), &expected, Some(&canonical))
}

/// Reads `{id}/{day}/{region}/oss/aliyun_v4_request`.
fn scope_of<'k>(
    keys: &AccessKeys<'k>,
    credential: &str,
    timestamp: &str,
) -> Result<(AccessKey<'k>, v4::Scope), OssError> {
    let invalid = |message: &'static str| OssError::invalid_argument(message, "Credential", credential);
    let fields: Vec<&str> = credential.split('/').collect();
    let [id, day, region, product, request] = fields[..] else {
        return Err(invalid("Invalid Credential in Authorization header."));
    };
    let key = known(keys, id)?;
    if region != key.region {
        return Err(invalid("Invalid signing region in Authorization header.").ec("0002-00000226"));
    }
    if product != "oss" {
        return Err(invalid("Invalid signing product in Authorization header.").ec("0002-00000227"));
    }
    let scope = v4::Scope::new(timestamp, region);
    if request != "aliyun_v4_request" || day != scope.date {
        return Err(invalid("Invalid signing date in Authorization header."));
    }
    Ok((key, scope))
}

fn known<'k>(keys: &AccessKeys<'k>, id: &str) -> Result<AccessKey<'k>, OssError> {
    keys.iter().find(|key| key.id == id).copied().ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> OssError {
    let message = "The OSS Access Key Id you provided does not exist in our records.";
    OssError::new(StatusCode::FORBIDDEN, "InvalidAccessKeyId", message).ec("0002-00000902").detail("OSSAccessKeyId", id)
}

/// Whether the token is the one that STS gave with the key, and not too old.
fn in_possession(key: AccessKey<'_>, now: Timestamp, token: Option<&str>) -> Result<(), OssError> {
    let forbidden = |code, message: &'static str| OssError::new(StatusCode::FORBIDDEN, code, message);
    match (key.token, token.filter(|token| !token.is_empty())) {
        (None, None) => Ok(()),
        (Some(_), None) => Err(unknown(key.id)),
        (Some(ours), Some(theirs)) if ours.as_bytes().ct_eq(theirs.as_bytes()).into() => {
            if key.expires.is_none_or(|expires| now < expires) {
                return Ok(());
            }
            let message = "The security token you provided has expired.";
            Err(forbidden("SecurityTokenExpired", message).ec("0002-00000007"))
        }
        (None | Some(_), Some(_)) => {
            let message = "The security token you provided is invalid.";
            Err(forbidden("InvalidSecurityToken", message).ec("0002-00000008"))
        }
    }
}

/// Whether a form's policy, as it stands (base64), is signed with a key of
/// ours. `field` is a form's field by its lower-case name.
pub(crate) fn verify_policy<'f>(
    keys: &AccessKeys<'_>,
    now: Timestamp,
    policy: &str,
    field: impl Fn(&str) -> Option<&'f str>,
) -> Result<(), OssError> {
    let token = field(TOKEN_HEADER.as_str());
    if let Some(version) = field("x-oss-signature-version") {
        if version != v4::ALGORITHM {
            let message = "The signature version is not supported.";
            return Err(OssError::invalid_argument(message, "x-oss-signature-version", version));
        }
        let needed =
            |name| field(name).ok_or_else(|| OssError::invalid_argument(format!("{name} is missing."), name, ""));
        let (credential, timestamp) = (needed("x-oss-credential")?, needed("x-oss-date")?);
        let (key, scope) = scope_of(keys, credential, timestamp)?;
        in_possession(key, now, token)?;
        // The policy itself says until when, for at most as long as a presigned URL.
        let signed_at = parse_timestamp(timestamp).ok_or_else(no_date)?;
        not_expired(now, signed_at.plus(v4::EXPIRES_MAX))?;
        return matches(key, needed("x-oss-signature")?, &v4::signature(key.secret, &scope, policy), policy, None);
    }
    let (Some(id), Some(signature)) = (field("ossaccesskeyid"), field("signature")) else {
        let message = "The form has a policy, but neither OSSAccessKeyId and Signature nor x-oss-signature-version.";
        return Err(OssError::invalid_argument(message, "OSSAccessKeyId", ""));
    };
    let key = known(keys, id)?;
    in_possession(key, now, token)?;
    matches(key, signature, &v1::signature(key.secret, policy), policy, None)
}

fn matches(
    key: AccessKey<'_>,
    provided: &str,
    expected: &str,
    string_to_sign: &str,
    canonical_request: Option<&str>,
) -> Result<(), OssError> {
    if provided.as_bytes().ct_eq(expected.as_bytes()).into() {
        return Ok(());
    }
    let message = "The request signature we calculated does not match the signature you provided. Check your key and \
                   signing method.";
    let error = OssError::new(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", message)
        .ec("0002-00000040")
        .detail("OSSAccessKeyId", key.id)
        .detail("SignatureProvided", provided)
        .detail("StringToSign", string_to_sign)
        .detail("StringToSignBytes", spaced_hex(string_to_sign));
    Err(match canonical_request {
        Some(text) => error.detail("CanonicalRequest", text).detail("CanonicalRequestBytes", spaced_hex(text)),
        None => error,
    })
}

fn spaced_hex(text: &str) -> String {
    text.bytes().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(" ")
}

fn in_time(now: Timestamp, signed_at: Timestamp) -> Result<(), OssError> {
    if now.since(signed_at).max(signed_at.since(now)) <= SKEW_MAX {
        return Ok(());
    }
    let message = "The difference between the request time and the current time is too large.";
    Err(OssError::new(StatusCode::FORBIDDEN, "RequestTimeTooSkewed", message)
        .ec("0002-00000504")
        .detail("MaxAllowedSkewMilliseconds", SKEW_MAX.as_millis().to_string())
        .detail("RequestTime", signed_at.rfc3339())
        .detail("ServerTime", now.rfc3339()))
}

fn not_expired(now: Timestamp, ends: Timestamp) -> Result<(), OssError> {
    if now <= ends {
        return Ok(());
    }
    Err(OssError::access_denied("Request has expired.")
        .detail("Expires", ends.rfc3339())
        .detail("ServerTime", now.rfc3339()))
}

fn no_date() -> OssError {
    OssError::access_denied("OSS authentication requires a valid Date.")
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Browsers and proxies own `Date`: `x-oss-date` goes before it.
fn date_header(headers: &HeaderMap) -> Option<&str> {
    header(headers, &HeaderName::from_static("x-oss-date")).or_else(|| header(headers, &DATE))
}

/// `20231216T162057Z`
fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    let at = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp::from_millis(at.timestamp().as_millisecond()))
}

/// `Wed, 28 Dec 2022 10:27:41 GMT`
pub(crate) fn parse_http_date(text: &str) -> Option<Timestamp> {
    let since = httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(Timestamp::from_millis)
}

#[cfg(test)]
mod tests;
