//! What a client says of an object beside its bytes, in headers or in the
//! fields of a form: pure.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::address::query_pairs;
use super::error::OssError;
use super::storage::{Acl, KeptHeaders, Precondition, Properties, Tags};

/// The most tags of an object.
const TAGS_MAX: usize = 10;
const STORAGE_CLASSES: [&str; 5] = ["Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive"];
const ENCRYPTIONS: [&str; 3] = ["AES256", "KMS", "SM4"];

/// `x-oss-forbid-overwrite`
pub(crate) fn precondition(headers: &HeaderMap) -> Precondition {
    let forbids = text(headers, "x-oss-forbid-overwrite").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    if forbids { Precondition::Absent } else { Precondition::None }
}

/// All of it.
pub(crate) fn properties(headers: &HeaderMap) -> Result<Properties, OssError> {
    one_of(headers, "x-oss-storage-class", &STORAGE_CLASSES, |name, value| {
        OssError::invalid_argument("The storage class is not one.", name, value)
    })?;
    one_of(headers, "x-oss-server-side-encryption", &ENCRYPTIONS, |name, value| {
        let message = "The encryption request you specified is not valid. Supported values: AES256, KMS, SM4.";
        OssError::new(StatusCode::BAD_REQUEST, "InvalidEncryptionAlgorithmError", message).detail(name, value)
    })?;
    Ok(Properties {
        headers: kept_headers(headers),
        tags: tags(text(headers, "x-oss-tagging").unwrap_or_default())?,
        acl: acl(headers, "x-oss-object-acl")?.unwrap_or_default(),
    })
}

fn one_of(
    headers: &HeaderMap,
    name: &'static str,
    allowed: &[&str],
    refusal: impl Fn(&'static str, &str) -> OssError,
) -> Result<(), OssError> {
    match text(headers, name) {
        Some(value) if !allowed.contains(&value) => Err(refusal(name, value)),
        Some(_) | None => Ok(()),
    }
}

/// The headers that come back with the object.
fn kept_headers(headers: &HeaderMap) -> KeptHeaders {
    const KEPT: [&str; 9] = [
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
        "x-oss-server-side-encryption",
        "x-oss-server-side-encryption-key-id",
        "x-oss-storage-class",
    ];
    let kept = |name: &HeaderName| KEPT.contains(&name.as_str()) || name.as_str().starts_with("x-oss-meta-");
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = headers.iter().filter(|(name, _)| kept(name));
    headers.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// `a=b&c=d`
pub(crate) fn tags(text: &str) -> Result<Tags, OssError> {
    checked(query_pairs(text))
}

/// Tags that may be set.
pub(crate) fn checked(tags: Tags) -> Result<Tags, OssError> {
    let distinct: std::collections::HashSet<&str> = tags.iter().map(|(name, _)| name.as_str()).collect();
    let fits = |(name, value): &(String, String)| (1..=128).contains(&name.len()) && value.len() <= 256;
    if tags.len() <= TAGS_MAX && distinct.len() == tags.len() && tags.iter().all(fits) {
        return Ok(tags);
    }
    let message =
        "Object tags: at most 10, each with a name of its own of at most 128 bytes and a value of at most 256.";
    Err(OssError::new(StatusCode::BAD_REQUEST, "InvalidTag", message))
}

/// An ACL in this header.
pub(crate) fn acl(headers: &HeaderMap, name: &'static str) -> Result<Option<Acl>, OssError> {
    let Some(value) = text(headers, name) else { return Ok(None) };
    let refused = || OssError::invalid_argument("no such acl exists", name, value);
    Acl::parse(value).ok_or_else(refused).map(Some)
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn what_is_known_is_kept_and_what_is_wrong_is_refused() {
        let given = headers(&[
            ("content-type", "text/html"),
            ("authorization", "secret"),
            ("x-oss-meta-who", "alice"),
            ("x-oss-storage-class", "IA"),
            ("x-oss-tagging", "a=1&b=%26"),
            ("x-oss-object-acl", "public-read"),
        ]);
        let properties = properties(&given).expect("all is well");
        let names: Vec<&str> = properties.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["content-type", "x-oss-meta-who", "x-oss-storage-class"]);
        assert_eq!(properties.tags[1], ("b".to_owned(), "&".to_owned()));
        assert_eq!(properties.acl, Acl::PublicRead);
        for (name, value, code) in [
            ("x-oss-storage-class", "Cheap", "InvalidArgument"),
            ("x-oss-server-side-encryption", "ROT13", "InvalidEncryptionAlgorithmError"),
            ("x-oss-tagging", "a=1&a=2", "InvalidTag"),
            ("x-oss-tagging", "=1", "InvalidTag"),
            ("x-oss-object-acl", "public", "InvalidArgument"),
        ] {
            let refused = super::properties(&headers(&[(name, value)])).expect_err(value);
            assert_eq!(refused.code, code, "{name}: {value}");
        }
    }
}
