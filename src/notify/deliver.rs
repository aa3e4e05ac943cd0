//! One attempt to deliver one event to one receiver.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use reqwest::Client;

use crate::domain::event::EventKind;
use crate::domain::{EventId, Timestamp};
use crate::notify::config::WebhookConfig;
use crate::notify::receiver::{Receiver, client, whole_story};

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
    receivers: Arc<HashMap<String, Receiver>>,
    subscriptions: Arc<[Subscription]>,
}

/// A receiver's URL, by which the ledger knows it, and what it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// As configured.
    pub url: String,
    /// Its kinds of events.
    pub kinds: Vec<EventKind>,
}

impl Subscription {
    /// To all there is.
    pub fn to_all(url: &str) -> Self {
        Self { url: url.to_owned(), kinds: EventKind::ALL.to_vec() }
    }
}

impl Notifier {
    /// Checks every receiver's URL and secret; the error says which is wrong and why.
    pub fn new(config: &WebhookConfig) -> Result<Self, String> {
        let mut receivers = HashMap::new();
        let mut subscriptions = Vec::new();
        let shared = config.secret.as_ref();
        let first = config.url.as_ref().map(|url| ("webhook.url", url, shared, None));
        let more = config.endpoints.iter().map(|endpoint| {
            let secret = endpoint.secret.as_ref().or(shared);
            ("webhook.endpoints", &endpoint.url, secret, endpoint.events.as_ref())
        });
        for (key, url, secret, events) in first.into_iter().chain(more) {
            if receivers.insert(url.clone(), Receiver::new(key, url, secret)?).is_some() {
                return Err(format!("{key}: {url} is configured twice"));
            }
            let kinds = events.map_or(EventKind::ALL.to_vec(), |events| events.iter().map(|event| event.0).collect());
            subscriptions.push(Subscription { url: url.clone(), kinds });
        }
        Ok(Self { client: client(TIMEOUT)?, receivers: Arc::new(receivers), subscriptions: subscriptions.into() })
    }

    /// From now on, receivers' messages are signed with the secrets that this
    /// has. Receivers themselves stay as they are.
    pub fn renew(&self, config: &WebhookConfig) -> Result<(), String> {
        let shared = config.secret.as_ref();
        let first = config.url.as_ref().map(|url| (url, shared));
        let more = config.endpoints.iter().map(|endpoint| (&endpoint.url, endpoint.secret.as_ref().or(shared)));
        for (url, secret) in first.into_iter().chain(more) {
            if let Some(receiver) = self.receivers.get(url) {
                receiver.renew(secret)?;
            }
        }
        Ok(())
    }

    /// Who gets which events.
    pub fn subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }

    /// Sends the event once. `at` goes into the signature.
    pub async fn attempt(&self, endpoint: &str, id: &EventId, body: &str, at: Timestamp) -> Attempt {
        let Some(receiver) = self.receivers.get(endpoint) else {
            return Attempt { status: None, error: Some("this receiver is no longer configured".to_owned()) };
        };
        attempted(receiver.message(&self.client, id.as_str(), at, body).send().await)
    }
}

/// Sends a message once, as somebody else would: with these headers and no
/// signature of ours. It is answered in this time or not at all.
pub async fn attempt_as(url: &str, headers: HeaderMap, body: &str, timeout: Duration) -> Attempt {
    match client(timeout) {
        Ok(client) => attempted(client.post(url).headers(headers).body(body.to_owned()).send().await),
        Err(error) => Attempt { status: None, error: Some(error) },
    }
}

fn attempted(sent: Result<reqwest::Response, reqwest::Error>) -> Attempt {
    // The answer's body is of no interest, however large it is.
    match sent.map(|answer| answer.status()) {
        Ok(status) if status.is_success() => Attempt { status: Some(status.as_u16()), error: None },
        Ok(status) => Attempt { status: Some(status.as_u16()), error: Some(answered(status)) },
        Err(error) => Attempt { status: None, error: Some(whole_story(error)) },
    }
}

fn answered(status: StatusCode) -> String {
    if status.is_redirection() {
        format!("it answered {status}; redirects are not followed")
    } else {
        format!("it answered {status}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::config::{Announced, Endpoint};
    use crate::units::Secret;

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

    #[test]
    fn a_receiver_gets_what_it_asks_for() {
        let events = Some(vec![Announced(EventKind::Failed)]);
        let endpoint = Endpoint { url: "http://127.0.0.1:9/failed".to_owned(), secret: None, events };
        let both = WebhookConfig { endpoints: vec![endpoint], ..config("http://127.0.0.1:9/all") };
        let notifier = Notifier::new(&both).expect("a notifier");
        let kinds = |nth: usize| notifier.subscriptions()[nth].kinds.as_slice();
        assert_eq!((kinds(0), kinds(1)), (&EventKind::ALL[..], &[EventKind::Failed][..]));
        let twice = WebhookConfig { url: Some("http://127.0.0.1:9/failed".to_owned()), ..both };
        assert!(Notifier::new(&twice).is_err_and(|error| error.contains("twice")));
    }
}
