//! The way to a server, layer by layer: its name, a connection, the
//! certificate, the clock.

mod certificate;
pub(super) mod clock;
pub(super) mod cors;
pub(super) mod dns;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod query;
pub(super) mod tcp;
pub(super) mod tls;

use std::net::IpAddr;
use std::time::Duration;

use crate::clock::Clock;
use crate::doctor::course::Course;

/// Where a server is, and what is known of its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// TLS or not.
    pub(super) is_https: bool,
    /// Without brackets.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
    /// Its name elsewhere, where this one is for machines within one network only.
    pub(super) public_twin: Option<String>,
    /// The setting that says it.
    pub(super) setting: &'static str,
}

impl Place {
    /// From a URL: `http` or `https`, with a host.
    pub(super) fn of_url(url: &reqwest::Url, setting: &'static str) -> Option<Self> {
        Some(Self {
            is_https: url.scheme() == "https",
            host: url.host_str()?.trim_matches(['[', ']']).to_owned(),
            port: url.port_or_known_default()?,
            public_twin: None,
            setting,
        })
    }

    /// The start of its URLs.
    pub(super) fn base(&self) -> String {
        let scheme = if self.is_https { "https" } else { "http" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{scheme}://{host}:{}", self.port)
    }
}

/// Name, connection, certificate, clock; the addresses that take connections.
pub(super) async fn walk(
    course: &mut Course<'_>,
    place: &Place,
    clock: &dyn Clock,
    connect_timeout: Duration,
) -> Option<Vec<IpAddr>> {
    let resolvers = dns::resolvers();
    let found = course.learn("dns", &["configuration"], dns::check(place, &resolvers)).await;
    let found = found.unwrap_or_default();
    let open = course.learn("tcp", &["dns"], tcp::check(place, &found, connect_timeout)).await;
    if place.is_https {
        let first = open.iter().flatten().next().copied();
        course.check("tls", &["tcp"], tls::check(place, first, connect_timeout, clock)).await;
    }
    course.check("clock", &["tcp", "tls"], clock::check(place, clock)).await;
    open
}
