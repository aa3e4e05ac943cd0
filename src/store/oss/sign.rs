//! OSS's signatures, pure: what is signed of a request, and how. The client
//! signs with these functions and the emulator verifies with the same ones;
//! the vectors in the tests come from the official SDKs.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, InvalidHeaderValue};
use sha1::Sha1;

use crate::domain::Timestamp;
use crate::store::oss::SignatureVersion;

pub use crate::store::remote::encode::{Query, encode, encode_pair, encode_path, encode_query, hmac_sha256};

pub mod callback;
pub mod form;
pub mod v1;
pub mod v4;

/// The header that carries an STS token in signed requests.
pub const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-oss-security-token");

/// Who signs.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// The access key's id.
    pub access_key_id: &'a str,
    /// The access key's secret.
    pub access_key_secret: &'a str,
    /// The STS token that came with the two.
    pub security_token: Option<&'a str>,
    /// `cn-hangzhou`; V1 does without it.
    pub region: &'a str,
}

impl fmt::Debug for Signer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// What is signed of a request. The URL's style makes no difference: bucket
/// and key are always covered.
#[derive(Clone, Copy, Debug)]
pub struct Signable<'a> {
    /// `GET`, `PUT`, …
    pub method: &'a str,
    /// None when buckets are listed.
    pub bucket: Option<&'a str>,
    /// Decoded, without a leading slash; none for calls on the bucket.
    pub key: Option<&'a str>,
    /// The query's pairs, decoded.
    pub query: &'a Query,
    /// All headers; each signature picks those it covers.
    pub headers: &'a HeaderMap,
}

impl Signable<'_> {
    /// `/bucket/key`, `/bucket/` or `/`, not encoded.
    fn resource(&self) -> String {
        match (self.bucket, self.key) {
            (None, _) => "/".to_owned(),
            (Some(bucket), key) => format!("/{bucket}/{}", key.unwrap_or_default()),
        }
    }

    /// The value of a header as text; several of one name are joined.
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut values = self.headers.get_all(name).iter().map(|v| trimmed(v.as_bytes()));
        let first = values.next()?;
        Some(values.fold(first, |all, next| Cow::Owned(format!("{all},{next}"))))
    }

    /// `name:value\n` of each header that `covers` picks, sorted by name.
    fn header_lines(&self, covers: impl Fn(&str) -> bool) -> String {
        let mut names: Vec<&str> = self.headers.keys().map(HeaderName::as_str).filter(|name| covers(name)).collect();
        names.sort_unstable();
        names.iter().map(|name| format!("{name}:{}\n", self.header(name).unwrap_or_default())).collect()
    }
}

fn trimmed(value: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(value.trim_ascii())
}

/// Signs a request in its headers: what `headers` holds already is covered as
/// the version says, and the date, the token and `Authorization` are added.
pub fn sign(
    version: SignatureVersion,
    signer: &Signer<'_>,
    at: Timestamp,
    request: &Request<'_>,
    headers: &mut HeaderMap,
) -> Result<(), InvalidHeaderValue> {
    if let Some(token) = signer.security_token {
        let mut value = HeaderValue::from_str(token)?;
        value.set_sensitive(true);
        headers.insert(TOKEN_HEADER, value);
    }
    let authorization = match version {
        SignatureVersion::V1 => v1::authorize(signer, at, request, headers)?,
        SignatureVersion::V4 => v4::authorize(signer, at, request, headers)?,
    };
    let mut value = HeaderValue::from_str(&authorization)?;
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
    Ok(())
}

/// Signs a request in its query: the pairs of a URL that anybody may use
/// until it expires, with exactly these headers if any are given. V4 takes no
/// more than seven days.
pub fn presign(
    version: SignatureVersion,
    signer: &Signer<'_>,
    at: Timestamp,
    expires_in: Duration,
    request: &Request<'_>,
    headers: &HeaderMap,
) -> Vec<(String, String)> {
    match version {
        SignatureVersion::V1 => v1::presign(signer, at, expires_in, request, headers),
        SignatureVersion::V4 => v4::presign(signer, at, expires_in, request, headers, &[]),
    }
}

/// A request to be signed, without its headers.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET`, `PUT`, …
    pub method: &'a str,
    /// The bucket.
    pub bucket: Option<&'a str>,
    /// The key, decoded, without a leading slash.
    pub key: Option<&'a str>,
    /// The query's pairs, decoded.
    pub query: &'a Query,
}

impl<'a> Request<'a> {
    /// With its headers, ready to be signed.
    pub const fn with<'b>(&self, query: &'b Query, headers: &'b HeaderMap) -> Signable<'b>
    where
        'a: 'b,
    {
        Signable { method: self.method, bucket: self.bucket, key: self.key, query, headers }
    }
}

pub(super) fn hmac_sha1(key: &[u8], text: &str) -> [u8; 20] {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests;
