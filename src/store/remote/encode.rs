//! Text as URLs and signatures have it. Pure.

use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;

use crate::domain::Timestamp;

/// Query pairs, decoded. An empty value and none at all are the same.
pub type Query = [(String, String)];

/// What signatures and URLs leave as it is: RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const ENCODED_PATH: &AsciiSet = &ENCODED.remove(b'/');

/// A name or value of a query, percent-encoded.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// A path, percent-encoded, its slashes left as they are.
pub fn encode_path(path: &str) -> String {
    utf8_percent_encode(path, ENCODED_PATH).to_string()
}

/// `a=b&c`, percent-encoded, in the order given.
pub fn encode_query(query: &Query) -> String {
    let pairs = query.iter().map(|(name, value)| encode_pair(name, value));
    pairs.collect::<Vec<_>>().join("&")
}

/// `name=value`, percent-encoded, or `name` for an empty value.
pub fn encode_pair(name: &str, value: &str) -> String {
    if value.is_empty() { encode(name) } else { format!("{}={}", encode(name), encode(value)) }
}

/// `20231216T162057Z`: the time in a signature.
pub fn timestamp(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_second(at.seconds()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The keyed hash of which both dialects' V4 signatures are made.
pub fn hmac_sha256(key: &[u8], text: &str) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}
