//! Where a request comes from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, header};

use crate::engine::hooks::Requester;
use crate::http::Api;
use crate::serve::Peer;

/// The client's address: that of the connection, or what the outermost of the
/// proxies that are trusted has said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl FromRequestParts<Api> for ClientAddress {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Self::Rejection> {
        Ok(Self::of(parts, api.limits.trusted_proxies))
    }
}

impl ClientAddress {
    /// The client of a request that came through so many proxies of our own.
    pub fn of(parts: &Parts, trusted_proxies: u32) -> Self {
        // Only tests call routes without a listener.
        let peer = parts.extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
        Self(forwarded(&parts.headers, trusted_proxies).unwrap_or(peer).to_canonical())
    }

    /// What one client may choose among: of IPv6 it has a whole network.
    pub fn network(self) -> String {
        match self.0 {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
        }
    }
}

impl FromRequestParts<Api> for Requester {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Self::Rejection> {
        let ClientAddress(ip) = ClientAddress::of(parts, api.limits.trusted_proxies);
        let user_agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        Ok(Self { ip: Some(ip), user_agent: user_agent.map(ToOwned::to_owned) })
    }
}

/// Each proxy appends whom it has heard: the last entry is that of the
/// innermost, and what stands before those of ours anybody could have written.
fn forwarded(headers: &HeaderMap, trusted_proxies: u32) -> Option<IpAddr> {
    let nth = usize::try_from(trusted_proxies.checked_sub(1)?).ok()?;
    let entries: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .flat_map(|value| value.to_str().unwrap_or("").split(','))
        .map(str::trim)
        .collect();
    let entry = entries.iter().rev().nth(nth)?;
    let plain = entry.parse::<IpAddr>().ok();
    plain.or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "6.6.6.6, 1.2.3.4".parse().expect("a value"));
        headers.append("x-forwarded-for", "10.0.0.1".parse().expect("a value"));
        let ask = |trusted| forwarded(&headers, trusted).map(|address| address.to_string());
        assert_eq!(ask(0), None);
        assert_eq!(ask(1).as_deref(), Some("10.0.0.1"));
        assert_eq!(ask(2).as_deref(), Some("1.2.3.4"));
        assert_eq!(ask(4), None);
        assert_eq!(forwarded(&HeaderMap::new(), 1), None);
    }

    #[test]
    fn a_client_has_a_whole_ipv6_network() {
        let network = |text: &str| ClientAddress(text.parse().expect("an address")).network();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), network("2001:db8:1:2:ffff::"));
        assert_ne!(network("2001:db8:1:2::"), network("2001:db8:1:3::"));
        assert_eq!(network("1.2.3.4"), "1.2.3.4");
    }
}
