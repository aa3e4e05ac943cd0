//! Whom we send to: receivers that the operator configured, at addresses that
//! a receiver may have.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Url};

use crate::domain::Timestamp;
use crate::notify::sign::SigningKeys;
use crate::rotating::Rotating;
use crate::units::Secret;

/// How long a connection to a receiver is kept for the next message.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// A URL, and what everything that is sent there is signed with.
#[derive(Clone, Debug)]
pub(super) struct Receiver {
    url: Url,
    keys: Arc<Rotating<SigningKeys>>,
}

impl Receiver {
    /// Checks both; the error says what is wrong with the setting `key`.
    pub(super) fn new(key: &str, text: &str, secret: Option<&Secret>) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("{key}: {text:?} is not a URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("{key}: a receiver is reached by http or https, not {}", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!(
                "{key}: leave user and password out of the URL: events are signed with webhook.secret"
            ));
        }
        let literal = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        if literal.is_some_and(is_forbidden) {
            return Err(format!("{key}: {text} is a metadata or link-local address, which is never a receiver"));
        }
        let secret = secret.ok_or_else(|| {
            format!("{key}: events must be signed: set webhook.secret, as from: echo whsec_$(openssl rand -base64 32)")
        })?;
        Ok(Self { url, keys: Arc::new(Rotating::new(keys(secret)?)) })
    }

    /// From now on, messages are signed with this. All clones learn it.
    pub(super) fn renew(&self, secret: Option<&Secret>) -> Result<(), String> {
        self.keys.set(keys(secret.ok_or("webhook.secret is gone")?)?);
        Ok(())
    }

    /// A signed message for it.
    pub(super) fn message(&self, client: &Client, id: &str, at: Timestamp, body: &str) -> RequestBuilder {
        let timestamp = at.seconds();
        client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.keys.get().sign(id, timestamp, body))
            .body(body.to_owned())
    }
}

fn keys(secret: &Secret) -> Result<SigningKeys, String> {
    SigningKeys::parse(secret).map_err(|reason| format!("webhook.secret {reason}"))
}

/// A client for messages that are answered in this time.
pub(super) fn client(timeout: Duration) -> Result<Client, String> {
    Client::builder()
        .timeout(timeout)
        .redirect(Policy::none())
        // Many a server closes what is idle for longer, just when it is used again.
        .pool_idle_timeout(IDLE_TIMEOUT)
        .no_proxy()
        .dns_resolver(Arc::new(Guarded))
        .user_agent(concat!("chunkgate/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| format!("the webhook client could not be made: {error}"))
}

/// An error with all that led to it, without the URL.
pub(super) fn whole_story(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut story = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        story.push_str(": ");
        story.push_str(&cause.to_string());
        source = cause.source();
    }
    story
}

/// Metadata services and link-local addresses: no receiver of an operator's,
/// but what an attacker who steers a name would like to reach.
pub(super) fn is_forbidden(address: IpAddr) -> bool {
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
