//! Where OSS is, from what people paste: `oss-cn-beijing`, a URL, a bucket's
//! domain, an internal, dual-stack or acceleration endpoint, an address of a
//! test server. Pure.

use std::net::{IpAddr, Ipv6Addr};

use crate::store::oss::sign::{Query, encode_path, encode_query};

/// The domain of the public service.
const SERVICE: &str = "aliyuncs.com";
/// What every region's name begins with.
const REGION_STARTS: [&str; 7] = ["cn-", "us-", "ap-", "eu-", "me-", "na-", "rg-"];

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
    /// Understands `text`. `bucket` may be left out where the text is the
    /// bucket's domain. `cname` says that a host outside of the public
    /// service is bound to the bucket.
    pub fn parse(text: &str, bucket: Option<&str>, path_style: bool, cname: bool) -> Result<Self, NoEndpoint> {
        let written = Written::parse(text).map_err(NoEndpoint::Text)?;
        let host = completed(&written);
        let place = Place::of(&host);
        let bucket = agreed_bucket(bucket, place.pasted_bucket.as_deref()).map_err(NoEndpoint::Bucket)?;
        if !written.path.is_empty() && written.path != bucket {
            return Err(NoEndpoint::Text(format!("the endpoint {text:?} has a path: leave it out")));
        }
        let style = match (place.host_labels.is_some() || !cname, path_style || has_no_subdomains(&host)) {
            (false, false) => Style::Cname,
            (false, true) => {
                let advice = format!("the endpoint {text:?} cannot be both cname and path style");
                return Err(NoEndpoint::Text(advice));
            }
            (true, true) => Style::Path,
            (true, false) => Style::VirtualHost,
        };
        // A test server rarely has a certificate, the service always has.
        let scheme = written.scheme.unwrap_or(if has_no_subdomains(&host) { "http" } else { "https" });
        let host = place.host_labels.map_or(host, |labels| format!("{labels}.{SERVICE}"));
        let authority = written.port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        let endpoint = Self { scheme, authority, style, region: place.region, bucket };
        if endpoint.is_read_as_written() { Ok(endpoint) } else { Err(NoEndpoint::Text(no_host(text))) }
    }

    /// The URL of an object, or of the bucket without a key.
    pub fn url(&self, key: Option<&str>, query: &Query) -> String {
        let Self { scheme, authority, bucket, .. } = self;
        let key = encode_path(key.unwrap_or_default());
        let mut url = match self.style {
            Style::VirtualHost => format!("{scheme}://{bucket}.{authority}/{key}"),
            Style::Path => format!("{scheme}://{authority}/{bucket}/{key}"),
            Style::Cname => format!("{scheme}://{authority}/{key}"),
        };
        if !query.is_empty() {
            url.push('?');
            url.push_str(&encode_query(query));
        }
        url
    }

    /// Whether what makes the requests finds the same host in our URLs: `1.2`
    /// and `0x7f.1` are addresses to it.
    fn is_read_as_written(&self) -> bool {
        let address = self.address();
        let Some((host, _)) = split_port(&address) else { return false };
        let read = reqwest::Url::parse(&self.url(None, &[]));
        // Of one IPv6 address there are many spellings.
        read.is_ok_and(|url| url.host_str().is_some_and(|read| read == host || read.starts_with('[')))
    }

    /// Host and port, for the log.
    pub fn address(&self) -> String {
        let host = match self.style {
            Style::VirtualHost => format!("{}.{}", self.bucket, self.authority),
            Style::Path | Style::Cname => self.authority.clone(),
        };
        match split_port(&host) {
            Some((_, None)) if self.scheme == "https" => format!("{host}:443"),
            Some((_, None)) => format!("{host}:80"),
            Some((_, Some(_))) | None => host,
        }
    }
}

/// The region that an endpoint says, where it says one.
pub fn region_in(text: &str) -> Option<String> {
    Place::of(&completed(&Written::parse(text).ok()?)).region
}

/// People copy `oss-cn-hangzhou` from the console; the signature wants it bare.
pub fn bare_region(region: &str) -> String {
    let region = region.trim().to_ascii_lowercase();
    region.strip_prefix("oss-").map_or(region.clone(), ToOwned::to_owned)
}

/// The text, taken apart.
struct Written {
    scheme: Option<&'static str>,
    host: String,
    port: Option<u16>,
    path: String,
}

impl Written {
    fn parse(text: &str) -> Result<Self, String> {
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
            return Err(no_host(text));
        }
        Ok(Self { scheme, host, port, path: path.trim_end_matches('/').to_owned() })
    }
}

/// In its brackets.
fn is_ipv6(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

fn no_host(text: &str) -> String {
    format!("the endpoint {text:?} is not a host name such as oss-cn-hangzhou.{SERVICE}")
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

/// `oss-cn-beijing` and `cn-beijing` stand for hosts of the service.
fn completed(written: &Written) -> String {
    let host = &written.host;
    let is_region = |name: &str| REGION_STARTS.iter().any(|start| name.starts_with(start));
    let short = !host.contains('.') && written.port.is_none();
    match host.strip_prefix("oss-") {
        Some(rest) if short && (is_region(rest) || rest.starts_with("accelerate")) => format!("{host}.{SERVICE}"),
        None if short && written.scheme.is_none() && is_region(host) => format!("oss-{host}.{SERVICE}"),
        Some(_) | None => host.clone(),
    }
}

/// What a host of the public service says.
struct Place {
    pasted_bucket: Option<String>,
    /// The host's labels before the service's domain, without the bucket.
    host_labels: Option<String>,
    region: Option<String>,
}

impl Place {
    /// Of a whole host; one that is not the service's says nothing.
    fn of(host: &str) -> Self {
        match host.strip_suffix(SERVICE).and_then(|rest| rest.strip_suffix('.')) {
            Some(labels) => Self::of_service(labels),
            None => Self { pasted_bucket: None, host_labels: None, region: None },
        }
    }

    /// `labels` is the host without `.aliyuncs.com`: `oss-cn-beijing`,
    /// `bucket.oss-cn-beijing-internal`, `cn-beijing.oss`, `oss-accelerate`, …
    fn of_service(labels: &str) -> Self {
        let labels: Vec<&str> = labels.split('.').collect();
        let (before, own, region) = match labels.as_slice() {
            [before @ .., region, "oss"] => (before, format!("{region}.oss"), Some(*region)),
            [before @ .., last] => (before, (*last).to_owned(), last.strip_prefix("oss-")),
            [] => (&[][..], String::new(), None),
        };
        let region = region.filter(|name| !name.starts_with("accelerate") && *name != "internal");
        let region = region.map(|name| name.strip_suffix("-internal").unwrap_or(name).to_owned());
        // `s3.oss-cn-beijing` is the same place in another dialect; no bucket's
        // name is that short.
        let pasted_bucket = Some(before.join(".")).filter(|name| !name.is_empty() && name != "s3");
        Self { pasted_bucket, host_labels: Some(own), region }
    }
}

/// Hosts below which nobody makes a subdomain per bucket: addresses,
/// `localhost`, names of containers.
fn has_no_subdomains(host: &str) -> bool {
    host.starts_with('[') || host.parse::<IpAddr>().is_ok() || !host.contains('.')
}

fn agreed_bucket(configured: Option<&str>, pasted: Option<&str>) -> Result<String, String> {
    let configured = configured.map(str::trim).filter(|name| !name.is_empty());
    let bucket = match (configured, pasted) {
        (None, None) => return Err("must be set: the endpoint does not say it".to_owned()),
        (Some(configured), Some(pasted)) if configured != pasted => {
            return Err(format!("{configured:?} is not the bucket whose domain the endpoint is: that is {pasted:?}"));
        }
        (Some(name), _) | (None, Some(name)) => name,
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let valid = (3..=63).contains(&bucket.len())
        && bucket.bytes().all(plain)
        && !bucket.starts_with('-')
        && !bucket.ends_with('-');
    if valid {
        Ok(bucket.to_owned())
    } else {
        Err(format!("{bucket:?} is not a bucket's name: 3 to 63 of a-z, 0-9 and -, the - not at the ends"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Endpoint {
        Endpoint::parse(text, Some("bkt"), false, false).expect(text)
    }

    #[test]
    fn what_people_paste_is_understood() {
        for (text, url, region) in [
            ("oss-cn-beijing", "https://bkt.oss-cn-beijing.aliyuncs.com/k", Some("cn-beijing")),
            ("cn-beijing", "https://bkt.oss-cn-beijing.aliyuncs.com/k", Some("cn-beijing")),
            (" OSS-cn-Beijing.aliyuncs.com/ ", "https://bkt.oss-cn-beijing.aliyuncs.com/k", Some("cn-beijing")),
            ("http://oss-cn-beijing", "http://bkt.oss-cn-beijing.aliyuncs.com/k", Some("cn-beijing")),
            (
                "https://bkt.oss-eu-central-1.aliyuncs.com",
                "https://bkt.oss-eu-central-1.aliyuncs.com/k",
                Some("eu-central-1"),
            ),
            ("oss-cn-hangzhou-internal", "https://bkt.oss-cn-hangzhou-internal.aliyuncs.com/k", Some("cn-hangzhou")),
            (
                "bkt.oss-us-west-1-internal.aliyuncs.com",
                "https://bkt.oss-us-west-1-internal.aliyuncs.com/k",
                Some("us-west-1"),
            ),
            ("cn-hangzhou.oss.aliyuncs.com", "https://bkt.cn-hangzhou.oss.aliyuncs.com/k", Some("cn-hangzhou")),
            ("bkt.cn-hangzhou.oss.aliyuncs.com", "https://bkt.cn-hangzhou.oss.aliyuncs.com/k", Some("cn-hangzhou")),
            ("s3.oss-cn-shenzhen.aliyuncs.com", "https://bkt.oss-cn-shenzhen.aliyuncs.com/k", Some("cn-shenzhen")),
            ("oss-accelerate", "https://bkt.oss-accelerate.aliyuncs.com/k", None),
            ("oss-accelerate-overseas.aliyuncs.com", "https://bkt.oss-accelerate-overseas.aliyuncs.com/k", None),
            ("127.0.0.1:9000", "http://127.0.0.1:9000/bkt/k", None),
            ("http://127.0.0.1:9000/bkt/", "http://127.0.0.1:9000/bkt/k", None),
            ("https://[::1]:9000", "https://[::1]:9000/bkt/k", None),
            ("localhost:9000", "http://localhost:9000/bkt/k", None),
            ("emulator:9000", "http://emulator:9000/bkt/k", None),
            ("oss.example.com", "https://bkt.oss.example.com/k", None),
        ] {
            let endpoint = parse(text);
            assert_eq!(endpoint.url(Some("k"), &[]), url, "{text}");
            assert_eq!(endpoint.region.as_deref(), region, "{text}");
            assert_eq!(region_in(text).as_deref(), region, "{text}");
        }
    }

    #[test]
    fn an_address_has_its_port() {
        for (text, address) in [
            ("oss-cn-beijing", "bkt.oss-cn-beijing.aliyuncs.com:443"),
            ("http://oss-cn-beijing", "bkt.oss-cn-beijing.aliyuncs.com:80"),
            ("127.0.0.1:9000", "127.0.0.1:9000"),
            ("https://[::1]", "[::1]:443"),
        ] {
            assert_eq!(parse(text).address(), address);
        }
    }

    #[test]
    fn a_custom_domain_has_no_bucket_in_it() {
        let cname = Endpoint::parse("files.example.com", Some("bkt"), false, true).expect("a domain");
        assert_eq!(cname.url(Some("a/b c"), &[]), "https://files.example.com/a/b%20c");
        // The same setting leaves the service's own hosts as they are.
        let service = Endpoint::parse("oss-cn-beijing-internal", Some("bkt"), false, true).expect("a host");
        assert_eq!(service.style, Style::VirtualHost);
        assert!(Endpoint::parse("files.example.com", Some("bkt"), true, true).is_err());
    }

    #[test]
    fn the_bucket_is_named_once_or_alike() {
        let pasted =
            Endpoint::parse("media-1.oss-cn-beijing.aliyuncs.com", None, false, false).expect("a bucket's domain");
        assert_eq!(pasted.bucket, "media-1");
        let other = Endpoint::parse("media-1.oss-cn-beijing.aliyuncs.com", Some("bkt"), false, false);
        let both = |e: &NoEndpoint| matches!(e, NoEndpoint::Bucket(e) if e.contains("media-1") && e.contains("bkt"));
        assert!(other.is_err_and(|e| both(&e)));
        let none = Endpoint::parse("oss-cn-beijing", None, false, false);
        assert!(none.is_err_and(|e| matches!(e, NoEndpoint::Bucket(_))));
        for bucket in ["Media", "a", "-ab", "ab-", "a.b.c", "a/b"] {
            assert!(Endpoint::parse("oss-cn-beijing", Some(bucket), false, false).is_err(), "{bucket}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused_and_secrets_are_not_repeated() {
        for text in [
            "",
            "ftp://oss-cn-beijing",
            "https://",
            "a b",
            "localhost:http",
            "oss-cn-beijing.aliyuncs.com/key.png",
            "a..b",
            "[::1",
            "[a b]:80",
            "[\t::1]",
            "128.0",
            "0x7f.1:9000",
            "xn--a",
        ] {
            assert!(Endpoint::parse(text, Some("bkt"), false, false).is_err(), "{text:?}");
        }
        let refused = Endpoint::parse("https://ak:hush@oss-cn-beijing.aliyuncs.com", Some("bkt"), false, false);
        assert!(refused.is_err_and(|e| !format!("{e:?}").contains("hush")));
    }

    #[test]
    fn keys_and_queries_are_encoded() {
        let query = [("uploads".to_owned(), String::new()), ("prefix".to_owned(), "a/ä+".to_owned())];
        assert_eq!(
            parse("localhost:1").url(Some("dir/a+b c~é.bin"), &query),
            "http://localhost:1/bkt/dir/a%2Bb%20c~%C3%A9.bin?uploads&prefix=a%2F%C3%A4%2B"
        );
    }
}
