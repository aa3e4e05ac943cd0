//! Where S3 is, from what people paste: a region's name, a URL, a bucket's
//! domain, the address of a server of their own. Pure.

use crate::store::remote::endpoint::{Endpoint, NoEndpoint, Style, Written, has_no_subdomains};

/// The domains of AWS.
const AWS: [&str; 2] = ["amazonaws.com.cn", "amazonaws.com"];
/// Where R2's accounts are. Its one region is called `auto`.
const R2: &str = ".r2.cloudflarestorage.com";
/// A host that would do, for those who wrote something else.
const EXAMPLE: &str = "s3.eu-central-1.amazonaws.com";
/// What the region of a server that has only one is called.
pub const ONLY_REGION: &str = "us-east-1";

/// Understands `text`. `bucket` may be left out where the text is the bucket's
/// domain.
pub fn parse(text: &str, bucket: Option<&str>, path_style: bool) -> Result<Endpoint, NoEndpoint> {
    let written = Written::parse(text, EXAMPLE).map_err(NoEndpoint::Text)?;
    let host = completed(&written);
    let place = Place::of(&host);
    let pasted = place.pasted_bucket.as_deref().or(Some(&*written.path)).filter(|name| !name.is_empty());
    let bucket = agreed_bucket(bucket, pasted).map_err(NoEndpoint::Bucket)?;
    if !written.path.is_empty() && written.path != bucket {
        return Err(NoEndpoint::Text(format!("the endpoint {text:?} has a path: leave it out")));
    }
    let plain = has_no_subdomains(&host);
    // A certificate for *.host does not cover a.b.host.
    let style = if path_style || plain || bucket.contains('.') { Style::Path } else { Style::VirtualHost };
    // A server in a local network rarely has a certificate, services always have.
    let scheme = written.scheme.unwrap_or(if plain { "http" } else { "https" });
    let host = place.host.unwrap_or(host);
    let authority = written.port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
    Endpoint { scheme, authority, style, region: place.region, bucket }.read_as_written(text, EXAMPLE)
}

/// AWS's host of a region.
pub fn of_region(region: &str) -> String {
    format!("s3.{region}.{}", domain(region))
}

/// AWS's token service of a region.
pub fn sts_of_region(region: &str) -> String {
    format!("sts.{region}.{}", domain(region))
}

/// Whether it is AWS's.
pub fn is_aws(endpoint: &Endpoint) -> bool {
    AWS.iter().any(|domain| endpoint.authority.ends_with(domain))
}

/// Whether browsers may send it forms. R2 takes none.
pub fn takes_forms(endpoint: &Endpoint) -> bool {
    !endpoint.authority.ends_with(R2)
}

fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { AWS[0] } else { AWS[1] }
}

/// `eu-central-1` stands for AWS's host there.
fn completed(written: &Written) -> String {
    let host = &written.host;
    let is_name = written.port.is_none() && written.scheme.is_none() && !host.contains('.');
    let is_region = |name: &str| {
        let parts: Vec<&str> = name.split('-').collect();
        let number = parts.last().is_some_and(|last| last.len() == 1 && last.bytes().all(|b| b.is_ascii_digit()));
        number && parts.len() >= 3 && parts[0].len() == 2
    };
    if is_name && is_region(host) { of_region(host) } else { host.clone() }
}

/// What a host of a known service says.
#[derive(Default)]
struct Place {
    pasted_bucket: Option<String>,
    /// The host without the bucket.
    host: Option<String>,
    region: Option<String>,
}

impl Place {
    fn of(host: &str) -> Self {
        if host.ends_with(R2) {
            return Self { region: Some("auto".to_owned()), ..Self::default() };
        }
        let aws = AWS.iter().find_map(|domain| Some((host.strip_suffix(domain)?.strip_suffix('.')?, domain)));
        aws.and_then(|(labels, domain)| Self::of_aws(labels, domain)).unwrap_or_default()
    }

    /// `labels` is the host without the domain: `s3.eu-central-1`, `s3`,
    /// `bucket.s3.dualstack.eu-central-1`, `s3-accelerate`, `bucket.s3-eu-west-1`.
    fn of_aws(labels: &str, domain: &str) -> Option<Self> {
        let labels: Vec<&str> = labels.split('.').collect();
        let at = labels.iter().rposition(|label| *label == "s3" || label.starts_with("s3-"))?;
        let (bucket, own) = labels.split_at(at);
        let after = own[1..].iter().find(|label| **label != "dualstack").map(|label| (*label).to_owned());
        let within = own[0].strip_prefix("s3-").filter(|rest| !matches!(*rest, "" | "accelerate" | "fips"));
        let region = after.or(within.map(ToOwned::to_owned));
        let region = region.or_else(|| (own == ["s3"]).then(|| ONLY_REGION.to_owned()));
        let pasted_bucket = Some(bucket.join(".")).filter(|name| !name.is_empty());
        Some(Self { pasted_bucket, host: Some(format!("{}.{domain}", own.join("."))), region })
    }
}

fn agreed_bucket(configured: Option<&str>, pasted: Option<&str>) -> Result<String, String> {
    let configured = configured.map(str::trim).filter(|name| !name.is_empty());
    let bucket = match (configured, pasted) {
        (None, None) => return Err("must be set: the endpoint does not say it".to_owned()),
        (Some(configured), Some(pasted)) if configured != pasted => {
            return Err(format!("{configured:?} is not the bucket that the endpoint names: that is {pasted:?}"));
        }
        (Some(name), _) | (None, Some(name)) => name,
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    let valid = (3..=63).contains(&bucket.len())
        && bucket.bytes().all(plain)
        && !bucket.starts_with(['-', '.'])
        && !bucket.ends_with(['-', '.'])
        && !bucket.contains("..");
    if valid {
        Ok(bucket.to_owned())
    } else {
        Err(format!("{bucket:?} is not a bucket's name: 3 to 63 of a-z, 0-9, - and ., a letter or digit at the ends"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_paste_is_understood() {
        for (text, url, region) in [
            ("s3.eu-central-1.amazonaws.com", "https://bkt.s3.eu-central-1.amazonaws.com/k", Some("eu-central-1")),
            (" EU-central-1 ", "https://bkt.s3.eu-central-1.amazonaws.com/k", Some("eu-central-1")),
            ("cn-north-1", "https://bkt.s3.cn-north-1.amazonaws.com.cn/k", Some("cn-north-1")),
            (
                "https://bkt.s3.us-gov-west-1.amazonaws.com/",
                "https://bkt.s3.us-gov-west-1.amazonaws.com/k",
                Some("us-gov-west-1"),
            ),
            ("s3.amazonaws.com", "https://bkt.s3.amazonaws.com/k", Some("us-east-1")),
            ("bkt.s3-eu-west-1.amazonaws.com", "https://bkt.s3-eu-west-1.amazonaws.com/k", Some("eu-west-1")),
            (
                "s3.dualstack.eu-west-1.amazonaws.com",
                "https://bkt.s3.dualstack.eu-west-1.amazonaws.com/k",
                Some("eu-west-1"),
            ),
            ("s3-fips.us-west-2.amazonaws.com", "https://bkt.s3-fips.us-west-2.amazonaws.com/k", Some("us-west-2")),
            ("s3-accelerate.amazonaws.com", "https://bkt.s3-accelerate.amazonaws.com/k", None),
            ("https://abc.r2.cloudflarestorage.com/bkt", "https://bkt.abc.r2.cloudflarestorage.com/k", Some("auto")),
            ("minio:9000", "http://minio:9000/bkt/k", None),
            ("http://127.0.0.1:9000/bkt/", "http://127.0.0.1:9000/bkt/k", None),
            ("https://[::1]:9000", "https://[::1]:9000/bkt/k", None),
            ("s3.example.com", "https://bkt.s3.example.com/k", None),
        ] {
            let endpoint = parse(text, Some("bkt"), false).expect(text);
            assert_eq!(endpoint.url(Some("k"), &[]), url, "{text}");
            assert_eq!(endpoint.region.as_deref(), region, "{text}");
        }
        let by_path = parse("minio.example.com", Some("bkt"), true).expect("a host");
        assert_eq!(by_path.url(Some("a b"), &[]), "https://minio.example.com/bkt/a%20b");
        let dotted = parse("eu-west-1", Some("a.b.c"), false).expect("a bucket with dots");
        assert_eq!(dotted.url(None, &[]), "https://s3.eu-west-1.amazonaws.com/a.b.c/");
    }

    #[test]
    fn a_host_header_has_no_port_that_is_understood() {
        let host = |text| parse(text, Some("bkt"), false).expect(text).host();
        assert_eq!(host("https://s3.example.com:443"), "bkt.s3.example.com");
        assert_eq!(host("http://s3.example.com:443"), "bkt.s3.example.com:443");
        assert_eq!(host("127.0.0.1:80"), "127.0.0.1");
        assert_eq!(host("https://[::1]:9000"), "[::1]:9000");
    }

    #[test]
    fn the_bucket_is_named_once_or_alike() {
        assert_eq!(parse("media.s3.eu-west-1.amazonaws.com", None, false).map(|e| e.bucket), Ok("media".to_owned()));
        assert_eq!(parse("http://10.0.0.7:9000/media", None, false).map(|e| e.bucket), Ok("media".to_owned()));
        let of = |text, bucket| parse(text, bucket, false);
        assert!(
            matches!(of("media.s3.amazonaws.com", Some("bkt")), Err(NoEndpoint::Bucket(why)) if why.contains("media"))
        );
        assert!(matches!(of("minio:9000", None), Err(NoEndpoint::Bucket(_))));
        for bucket in ["Media", "a", "-ab", "ab.", "a..b", "a/b"] {
            assert!(of("eu-west-1", Some(bucket)).is_err(), "{bucket}");
        }
        for text in ["", "ftp://minio", "a b", "minio:http", "128.0", "https://ak:hush@minio"] {
            let refused = of(text, Some("bkt")).expect_err(text);
            assert!(!format!("{refused:?}").contains("hush"));
        }
    }
}
