//! One attempt to deliver one event to one receiver.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use crate::domain::{EventId, Timestamp};
use crate::notify::config::WebhookConfig;
use crate::notify::sign::SigningKey;
use crate::units::Secret;

/// A receiver must have answered by then.
const TIMEOUT: Duration = Duration::from_secs(15);

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The receiver's status, if it answered.
    pub status: Option<u16>,
    /// What was wrong; none means delivered.
    pub error: Option<String>,
}

/// Sends events to the receivers that the operator configured.
#[derive(Clone, Debug)]
pub struct Notifier {
    client: Client,
    receivers: Arc<HashMap<String, (Url, SigningKey)>>,
}

impl Notifier {
    /// Checks every receiver's URL and secret; the error says which is wrong and why.
    pub fn new(config: &WebhookConfig) -> Result<Self, String> {
        let mut receivers = HashMap::new();
        let shared = config.secret.as_ref();
        if let Some(url) = &config.url {
            receivers.insert(url.clone(), receiver("webhook.url", url, shared)?);
        }
        for endpoint in &config.endpoints {
            let secret = endpoint.secret.as_ref().or(shared);
            receivers.insert(endpoint.url.clone(), receiver("webhook.endpoints", &endpoint.url, secret)?);
        }
        let client = Client::builder()
            .timeout(TIMEOUT)
            .redirect(Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(Guarded))
            .user_agent(concat!("chunkgate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| format!("the webhook client could not be made: {error}"))?;
        Ok(Self { client, receivers: Arc::new(receivers) })
    }

    /// The receivers' URLs, by which the ledger knows them.
    pub fn endpoints(&self) -> Vec<String> {
        let mut endpoints: Vec<String> = self.receivers.keys().cloned().collect();
        endpoints.sort();
        endpoints
    }

    /// Sends the event once. `at` goes into the signature.
    pub async fn attempt(&self, endpoint: &str, id: &EventId, body: &str, at: Timestamp) -> Attempt {
        let Some((url, key)) = self.receivers.get(endpoint) else {
            return Attempt { status: None, error: Some("this receiver is no longer configured".to_owned()) };
        };
        let timestamp = at.seconds();
        let sent = self
            .client
            .post(url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", id.as_str())
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", key.sign(id.as_str(), timestamp, body))
            .body(body.to_owned())
            .send()
            .await;
        // The answer's body is of no interest, however large it is.
        match sent.map(|answer| answer.status()) {
            Ok(status) if status.is_success() => Attempt { status: Some(status.as_u16()), error: None },
            Ok(status) => Attempt { status: Some(status.as_u16()), error: Some(answered(status)) },
            Err(error) => Attempt { status: None, error: Some(whole_story(&error.without_url())) },
        }
    }
}

fn answered(status: StatusCode) -> String {
    if status.is_redirection() {
        format!("it answered {status}; redirects are not followed")
    } else {
        format!("it answered {status}")
    }
}

fn whole_story(error: &reqwest::Error) -> String {
    let mut story = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        story.push_str(": ");
        story.push_str(&cause.to_string());
        source = cause.source();
    }
    story
}

fn receiver(key: &str, text: &str, secret: Option<&Secret>) -> Result<(Url, SigningKey), String> {
    let url = Url::parse(text).map_err(|error| format!("{key}: {text:?} is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{key}: a receiver is reached by http or https, not {}", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("{key}: leave user and password out of the URL: events are signed with webhook.secret"));
    }
    let literal = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    if literal.is_some_and(is_forbidden) {
        return Err(format!("{key}: {text} is a metadata or link-local address, which is never a receiver"));
    }
    let secret = secret.ok_or_else(|| {
        format!("{key}: events must be signed: set webhook.secret, as from: echo whsec_$(openssl rand -base64 32)")
    })?;
    let key = SigningKey::parse(secret).map_err(|reason| format!("webhook.secret {reason}"))?;
    Ok((url, key))
}

/// Metadata services and link-local addresses: no receiver of an operator's,
/// but what an attacker who steers a name would like to reach.
pub fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.octets() == [100, 100, 100, 200],
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some_and(|v4| is_forbidden(v4.into())),
    }
}

/// Resolves names to the addresses that are then connected to, without the
/// forbidden ones: there is no second look-up that could answer otherwise.
struct Guarded;

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guarded")
    }
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> = found.iter().copied().filter(|a| !is_forbidden(a.ip())).collect();
            if allowed.is_empty() && !found.is_empty() {
                return Err("the name leads to a metadata or link-local address, which is never a receiver".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> WebhookConfig {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        WebhookConfig { url: Some(url.to_owned()), secret: Some(secret), ..WebhookConfig::default() }
    }

    #[test]
    fn receivers_are_checked_at_the_start() {
        for good in ["http://127.0.0.1:9/hook", "https://10.0.0.8/hook", "http://[::1]/"] {
            assert!(Notifier::new(&config(good)).is_ok(), "{good}");
        }
        for bad in [
            "nonsense",
            "file:///etc/passwd",
            "gopher://example.com",
            "http://user:pass@example.com/",
            "http://169.254.169.254/latest",
            "http://100.100.100.200/",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.169.254]/",
        ] {
            assert!(Notifier::new(&config(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn events_are_signed_or_not_sent() {
        let unsigned = WebhookConfig { secret: None, ..config("http://127.0.0.1:9/") };
        assert!(Notifier::new(&unsigned).is_err_and(|e| e.contains("webhook.secret")));
    }
}
