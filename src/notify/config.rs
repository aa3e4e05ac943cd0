//! `webhook.*`

use std::time::Duration;

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
