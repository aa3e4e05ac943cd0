//! Where a store is, and the URLs of what lies there. Pure.

use std::net::{IpAddr, Ipv6Addr};

use crate::store::remote::encode::{Query, encode_path, encode_query};

/// Where the bucket stands in a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `https://{bucket}.{host}/{key}`
    VirtualHost,
    /// `https://{host}/{bucket}/{key}`: test servers and addresses. The public
    /// service refuses it.
    Path,
    /// `https://{host}/{key}`: a domain bound to the bucket.
    Cname,
}

/// Why a text and a bucket's name make no endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoEndpoint {
    /// The text is at fault.
    Text(String),
    /// The bucket's name is.
    Bucket(String),
}

/// A place that answers for one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Host, with the port if one was given; the bucket is not in it unless
    /// the style is `Cname`.
    pub authority: String,
    /// Where the bucket stands.
    pub style: Style,
    /// The region, where the host says it.
    pub region: Option<String>,
    /// The bucket.
    pub bucket: String,
}

impl Endpoint {
    /// The URL of an object, or of the bucket without a key.
    pub fn url(&self, key: Option<&str>, query: &Query) -> String {
        let mut url = format!("{}://{}{}", self.scheme, self.whole_authority(), self.path(key));
        if !query.is_empty() {
            url.push('?');
            url.push_str(&encode_query(query));
        }
        url
    }

    /// The path of that URL, encoded.
    pub fn path(&self, key: Option<&str>) -> String {
        let key = encode_path(key.unwrap_or_default());
        match self.style {
            Style::VirtualHost | Style::Cname => format!("/{key}"),
            Style::Path => format!("/{}/{key}", self.bucket),
        }
    }

    /// Whom a request for such a URL is addressed to: its `Host`.
    pub fn host(&self) -> String {
        let authority = self.whole_authority();
        let understood = if self.scheme == "https" { 443 } else { 80 };
        match split_port(&authority) {
            Some((host, Some(port))) if port == understood => host.to_owned(),
            Some(_) | None => authority,
        }
    }

    fn whole_authority(&self) -> String {
        match self.style {
            Style::VirtualHost => format!("{}.{}", self.bucket, self.authority),
            Style::Path | Style::Cname => self.authority.clone(),
        }
    }

    /// The endpoint, if what makes the requests finds the same host in our URLs:
    /// `1.2` and `0x7f.1` are addresses to it.
    pub fn read_as_written(self, text: &str, example: &str) -> Result<Self, NoEndpoint> {
        let address = self.address();
        let read = reqwest::Url::parse(&self.url(None, &[])).ok();
        let same = split_port(&address).zip(read).is_some_and(|((host, _), url)| {
            // Of one IPv6 address there are many spellings.
            url.host_str().is_some_and(|read| read == host || read.starts_with('['))
        });
        if same { Ok(self) } else { Err(NoEndpoint::Text(no_host(text, example))) }
    }

    /// Host and port, for the log.
    pub fn address(&self) -> String {
        let host = self.whole_authority();
        match split_port(&host) {
            Some((_, None)) if self.scheme == "https" => format!("{host}:443"),
            Some((_, None)) => format!("{host}:80"),
            Some((_, Some(_))) | None => host,
        }
    }
}

/// The text, taken apart.
pub struct Written {
    /// `http` or `https`, where it says so.
    pub scheme: Option<&'static str>,
    /// In lower case; an IPv6 address in its brackets.
    pub host: String,
    /// The port, where it says one.
    pub port: Option<u16>,
    /// What follows, without slashes around it.
    pub path: String,
}

impl Written {
    /// `example` is a host that would do, for the message.
    pub fn parse(text: &str, example: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let (scheme, rest) = match trimmed.split_once("://") {
            None => (None, trimmed),
            Some((name, rest)) if name.eq_ignore_ascii_case("https") => (Some("https"), rest),
            Some((name, rest)) if name.eq_ignore_ascii_case("http") => (Some("http"), rest),
            Some((name, _)) => return Err(format!("the endpoint's scheme is http or https, not {name:?}")),
        };
        if rest.contains(['@', '?', '#']) {
            // Not repeated in the message: it may hold a password or a signature.
            return Err("the endpoint is a host, with scheme and port at most: no user, query or fragment".to_owned());
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = split_port(authority).ok_or_else(|| format!("the endpoint {text:?} has no valid port"))?;
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if host.is_empty() || !(is_ipv6(&host) || host.chars().all(allowed)) || host.contains("..") {
            return Err(no_host(text, example));
        }
        Ok(Self { scheme, host, port, path: path.trim_end_matches('/').to_owned() })
    }
}

/// In its brackets.
fn is_ipv6(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

fn no_host(text: &str, example: &str) -> String {
    format!("the endpoint {text:?} is not a host name such as {example}")
}

/// Host and port; an IPv6 address stays in its brackets.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let after_address = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[after_address..].rfind(':') {
        None => Some((authority, None)),
        Some(at) => {
            let (host, port) = authority.split_at(after_address + at);
            Some((host, Some(port[1..].parse().ok()?)))
        }
    }
}

/// Hosts below which nobody makes a subdomain per bucket: addresses,
/// `localhost`, names of containers.
pub fn has_no_subdomains(host: &str) -> bool {
    host.starts_with('[') || host.parse::<IpAddr>().is_ok() || !host.contains('.')
}
