//! `webhook.*`

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::units::{self, Secret};

/// Who is told that an upload has ended.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// Where events are sent; none sends none.
    pub url: Option<String>,
    /// Signs them (Standard Webhooks): `whsec_` and 24 to 64 bytes in base64.
    pub secret: Option<Secret>,
    /// The wait before the second attempt; doubled from there.
    #[serde(with = "units::duration")]
    pub retry_initial: Duration,
    /// More receivers. Each gets every event.
    pub endpoints: Vec<Endpoint>,
}

/// `[[webhook.endpoints]]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Where events are sent.
    pub url: String,
    /// Signs them; none uses `webhook.secret`.
    #[serde(default)]
    pub secret: Option<Secret>,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self { url: None, secret: None, retry_initial: Duration::from_secs(2), endpoints: Vec::new() }
    }
}

/// The bytes that events are signed with: a secret is `whsec_` and base64.
pub fn signing_key(secret: &Secret) -> Result<Vec<u8>, String> {
    const ADVICE: &str = "must be whsec_ and base64, as from: echo whsec_$(openssl rand -base64 32)";
    let digits = secret.expose().trim().strip_prefix("whsec_").ok_or(ADVICE)?;
    // With or without the padding: tools disagree about it.
    let bytes = STANDARD_NO_PAD.decode(digits.trim_end_matches('=')).map_err(|_| ADVICE)?;
    if bytes.is_empty() { Err(ADVICE.to_owned()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_base64_behind_its_prefix() {
        let key = |text: &str| signing_key(&Secret::new(text));
        assert_eq!(key("whsec_AQID"), Ok(vec![1, 2, 3]));
        assert_eq!(key("whsec_AQ=="), Ok(vec![1]));
        assert_eq!(key("whsec_AQ"), Ok(vec![1]));
        for wrong in ["", "whsec_", "AQID", "whsec_!", "secret"] {
            assert!(key(wrong).is_err(), "{wrong}");
        }
    }
}
