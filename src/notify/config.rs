//! `webhook.*` and `hooks.*`

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::event::EventKind;
use crate::units::{self, Secret};

/// Who is told that an upload has ended.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// Where events are sent; none sends none.
    pub url: Option<String>,
    /// Signs them (Standard Webhooks): `whsec_` and 24 to 64 bytes in base64;
    /// several with spaces between them while they rotate.
    pub secret: Option<Secret>,
    /// The wait before the second attempt; doubled from there.
    #[serde(with = "units::duration")]
    pub retry_initial: Duration,
    /// More receivers.
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
    /// Which events; none is all.
    #[serde(default)]
    pub events: Option<Vec<Announced>>,
}

/// A kind of event, as configuration writes it: `upload.completed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced(pub EventKind);

impl<'de> Deserialize<'de> for Announced {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        let known = || EventKind::ALL.map(EventKind::name).join(", ");
        EventKind::parse(&name).map(Self).ok_or_else(|| D::Error::custom(format!("{name:?} is none of {}", known())))
    }
}

impl Serialize for Announced {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0.name())
    }
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self { url: None, secret: None, retry_initial: Duration::from_secs(2), endpoints: Vec::new() }
    }
}

/// When the application is asked, and waited for. What it is asked is signed
/// with `webhook.secret`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HooksConfig {
    /// Before an upload is made: it may refuse, and choose the key.
    pub before_create: HookConfig,
    /// After a file is recorded: what it answers goes to the client.
    pub completed: HookConfig,
}

/// One of the hooks.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HookConfig {
    /// Whom to ask; none asks nobody.
    pub url: Option<String>,
}
