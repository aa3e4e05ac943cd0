//! The policy of a form by which a browser puts one object: what its fields may
//! be, as both dialects write it. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::domain::Timestamp;

/// What a form's signature covers beyond its fields.
#[derive(Clone, Copy, Debug)]
pub struct FormLimits<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// The longest file, in bytes.
    pub bytes_max: u64,
    /// Until when.
    pub expires: Timestamp,
}

/// The policy, in base64: each of these fields must be sent as it is.
pub fn policy<'a>(limits: FormLimits<'_>, fields: impl IntoIterator<Item = (String, &'a str)>) -> String {
    let mut conditions = vec![json!({"bucket": limits.bucket}), json!(["content-length-range", 0, limits.bytes_max])];
    conditions.extend(fields.into_iter().map(|(name, value)| json!(["eq", format!("${name}"), value])));
    let document = json!({"expiration": limits.expires.rfc3339(), "conditions": Value::Array(conditions)});
    STANDARD.encode(document.to_string())
}
