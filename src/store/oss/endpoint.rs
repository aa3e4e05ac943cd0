//! Where OSS is, from what people paste: `oss-cn-beijing`, a URL, a bucket's
//! domain, an internal, dual-stack or acceleration endpoint, an address of a
//! test server. Pure.

use crate::store::remote::endpoint::{Endpoint, NoEndpoint, Style, Written, has_no_subdomains};

/// The domain of the public service.
const SERVICE: &str = "aliyuncs.com";
/// A host of it, for those who wrote something else.
const EXAMPLE: &str = "oss-cn-hangzhou.aliyuncs.com";
/// What every region's name begins with.
const REGION_STARTS: [&str; 7] = ["cn-", "us-", "ap-", "eu-", "me-", "na-", "rg-"];

/// Understands `text`. `bucket` may be left out where the text is the
/// bucket's domain. `cname` says that a host outside of the public
/// service is bound to the bucket.
pub fn parse(text: &str, bucket: Option<&str>, path_style: bool, cname: bool) -> Result<Endpoint, NoEndpoint> {
    let written = Written::parse(text, EXAMPLE).map_err(NoEndpoint::Text)?;
    let host = completed(&written);
    let place = Place::of(&host);
    let bucket = agreed_bucket(bucket, place.pasted_bucket.as_deref()).map_err(NoEndpoint::Bucket)?;
    if !written.path.is_empty() && written.path != bucket {
        return Err(NoEndpoint::Text(format!("the endpoint {text:?} has a path: leave it out")));
    }
    if host.contains("accelerate-internal") || (host.contains("oss-accelerate") && host.contains("-internal.")) {
        let advice = "there is no internal acceleration endpoint: accelerate what comes from far away, and use the \
                      internal endpoint from within the region";
        return Err(NoEndpoint::Text(advice.to_owned()));
    }
    let style = match (place.host_labels.is_some() || !cname, path_style || has_no_subdomains(&host)) {
        (false, false) => Style::Cname,
        (false, true) => {
            let advice = format!("the endpoint {text:?} cannot be both cname and path style");
            return Err(NoEndpoint::Text(advice));
        }
        (true, true) if place.host_labels.is_some() => {
            let advice = format!("the endpoint {text:?} has buckets as subdomains: remove store.oss.path_style");
            return Err(NoEndpoint::Text(advice));
        }
        (true, true) => Style::Path,
        (true, false) => Style::VirtualHost,
    };
    // A test server rarely has a certificate, the service always has.
    let scheme = written.scheme.unwrap_or(if has_no_subdomains(&host) { "http" } else { "https" });
    let host = place.host_labels.map_or(host, |labels| format!("{labels}.{SERVICE}"));
    let authority = written.port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
    Endpoint { scheme, authority, style, region: place.region, bucket }.read_as_written(text, EXAMPLE)
}

/// Whether only machines of the region reach it.
pub fn is_internal(endpoint: &Endpoint) -> bool {
    endpoint.authority.split(['.', ':']).any(|label| label.ends_with("-internal"))
}

/// The region that an endpoint says, where it says one.
pub fn region_in(text: &str) -> Option<String> {
    Place::of(&completed(&Written::parse(text, EXAMPLE).ok()?)).region
}

/// People copy `oss-cn-hangzhou` from the console; the signature wants it bare.
pub fn bare_region(region: &str) -> String {
    let region = region.trim().to_ascii_lowercase();
    region.strip_prefix("oss-").map_or(region.clone(), ToOwned::to_owned)
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
        super::parse(text, Some("bkt"), false, false).expect(text)
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
        let cname = super::parse("files.example.com", Some("bkt"), false, true).expect("a domain");
        assert_eq!(cname.url(Some("a/b c"), &[]), "https://files.example.com/a/b%20c");
        // The same setting leaves the service's own hosts as they are.
        let service = super::parse("oss-cn-beijing-internal", Some("bkt"), false, true).expect("a host");
        assert_eq!(service.style, Style::VirtualHost);
        assert!(super::parse("files.example.com", Some("bkt"), true, true).is_err());
    }

    #[test]
    fn the_bucket_is_named_once_or_alike() {
        let pasted =
            super::parse("media-1.oss-cn-beijing.aliyuncs.com", None, false, false).expect("a bucket's domain");
        assert_eq!(pasted.bucket, "media-1");
        let other = super::parse("media-1.oss-cn-beijing.aliyuncs.com", Some("bkt"), false, false);
        let both = |e: &NoEndpoint| matches!(e, NoEndpoint::Bucket(e) if e.contains("media-1") && e.contains("bkt"));
        assert!(other.is_err_and(|e| both(&e)));
        let none = super::parse("oss-cn-beijing", None, false, false);
        assert!(none.is_err_and(|e| matches!(e, NoEndpoint::Bucket(_))));
        for bucket in ["Media", "a", "-ab", "ab-", "a.b.c", "a/b"] {
            assert!(super::parse("oss-cn-beijing", Some(bucket), false, false).is_err(), "{bucket}");
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
            assert!(super::parse(text, Some("bkt"), false, false).is_err(), "{text:?}");
        }
        let refused = super::parse("https://ak:hush@oss-cn-beijing.aliyuncs.com", Some("bkt"), false, false);
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
