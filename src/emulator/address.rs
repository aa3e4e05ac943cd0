//! What a URL names: pure.

use percent_encoding::percent_decode_str;

use super::error::OssError;

/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 1023;

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// The service itself: its buckets.
    Service,
    /// `/-/stats`, the emulator's own: no bucket can be named `-`.
    Stats,
    /// `/-/callback_pub_key_v1.pem`, also its own.
    CallbackKey,
    /// A bucket.
    Bucket(String),
    /// An object.
    Object {
        /// Its bucket.
        bucket: String,
        /// Its key, decoded.
        key: String,
    },
}

/// Finds it by host and path. `{bucket}.anything` is a virtual host, whatever
/// that anything is (ali-oss sends `bkt.oss-cn-hangzhou.aliyuncs.com` to an IP
/// address); on other hosts the path begins with the bucket.
pub(crate) fn locate(our_bucket: &str, host: &str, path: &str) -> Result<Address, OssError> {
    let path = path.strip_prefix('/').unwrap_or(path);
    if let Some(bucket) = bucket_of_host(our_bucket, host) {
        return object_or_bucket(bucket, path);
    }
    // The slash after the bucket may come encoded: oss2 encodes every one in
    // a key, but not this one.
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    match (bucket, key) {
        ("", "") => Ok(Address::Service),
        ("-", "stats") => Ok(Address::Stats),
        ("-", "callback_pub_key_v1.pem") => Ok(Address::CallbackKey),
        ("", _) => Err(OssError::invalid_object_name()),
        _ => object_or_bucket(&decoded(bucket)?, key),
    }
}

fn object_or_bucket(bucket: &str, key: &str) -> Result<Address, OssError> {
    let bucket = bucket.to_owned();
    if key.is_empty() {
        return Ok(Address::Bucket(bucket));
    }
    let key = decoded(key)?;
    if valid_key(&key) { Ok(Address::Object { bucket, key }) } else { Err(OssError::invalid_object_name()) }
}

/// Whether an object can be called so.
pub(crate) fn valid_key(key: &str) -> bool {
    !key.is_empty() && key.len() <= KEY_BYTES_MAX && !key.starts_with(['/', '\\'])
}

/// The bucket that a virtual host names: ours before any host, another one
/// only where it cannot be a plain host name.
fn bucket_of_host<'a>(our_bucket: &'a str, host: &'a str) -> Option<&'a str> {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let (first, rest) = name.split_once('.')?;
    let service = rest == "localhost" || (rest.starts_with("oss-") && rest.ends_with(".aliyuncs.com"));
    (first == our_bucket || service).then_some(first)
}

fn decoded(text: &str) -> Result<String, OssError> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| OssError::invalid_object_name())?;
    Ok(decoded.into_owned())
}

/// The bucket and the key that `x-oss-copy-source` names: `/bucket/key`,
/// encoded, the key's slashes too or not.
pub(crate) fn copy_source(text: &str) -> Result<(String, String), OssError> {
    let path = text.split_once('?').map_or(text, |(path, _)| path);
    let path = decoded(path)?;
    match path.strip_prefix('/').unwrap_or(&path).split_once('/') {
        Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => Ok((bucket.to_owned(), key.to_owned())),
        Some(_) | None => {
            let message = "Copy Source must mention the source bucket and key: /sourcebucket/sourcekey";
            Err(OssError::invalid_argument(message, "x-oss-copy-source", text))
        }
    }
}

/// A query's pairs, decoded: `+` is a blank, as in a form.
pub(crate) fn query_pairs(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decode(k), decode(v))).collect()
}

/// The first value of a name.
pub(crate) fn value<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(bucket: &str, key: &str) -> Address {
        Address::Object { bucket: bucket.to_owned(), key: key.to_owned() }
    }

    #[test]
    fn hosts_and_paths_name_buckets_and_keys() {
        for (host, path, address) in [
            ("127.0.0.1:9000", "/", Address::Service),
            ("127.0.0.1:9000", "/-/stats", Address::Stats),
            ("127.0.0.1:9000", "/bkt", Address::Bucket("bkt".to_owned())),
            ("127.0.0.1:9000", "/bkt/", Address::Bucket("bkt".to_owned())),
            ("127.0.0.1:9000", "/bkt/a%2Fb%20c+d", object("bkt", "a/b c+d")),
            ("localhost", "/bkt/a/b", object("bkt", "a/b")),
            ("emulator.svc.cluster.local:80", "/other/a", object("other", "a")),
            ("bkt.localhost:9000", "/a//b", object("bkt", "a//b")),
            ("bkt.localhost:9000", "/-/stats", object("bkt", "-/stats")),
            ("bkt.oss-cn-hangzhou.aliyuncs.com", "/k", object("bkt", "k")),
            ("bkt.127.0.0.1", "/k", object("bkt", "k")),
            ("other.localhost", "/k", object("other", "k")),
            ("oss-cn-hangzhou.aliyuncs.com", "/", Address::Service),
            ("bkt.localhost", "/", Address::Bucket("bkt".to_owned())),
            ("bkt.localhost", "/%E6%8A%A5%E5%91%8A", object("bkt", "报告")),
        ] {
            assert_eq!(locate("bkt", host, path), Ok(address), "{host} {path}");
        }
    }

    #[test]
    fn invalid_keys_are_refused() {
        let long = format!("/bkt/{}", "k".repeat(1024));
        for path in ["/bkt//a", "/bkt/%2Fa", "/bkt/%5Ca", "/bkt/%FF", "//a", &long] {
            assert_eq!(locate("bkt", "localhost", path), Err(OssError::invalid_object_name()), "{path}");
        }
        assert!(locate("bkt", "localhost", &long[..long.len() - 1]).is_ok());
    }

    #[test]
    fn a_copy_names_bucket_and_key() {
        let named = |bucket: &str, key: &str| Ok((bucket.to_owned(), key.to_owned()));
        for text in ["/bkt/a%20b%2Fc", "bkt/a b/c", "/bkt/a%20b/c?versionId=1", "%2Fbkt%2Fa%20b%2Fc"] {
            assert_eq!(copy_source(text), named("bkt", "a b/c"), "{text}");
        }
        for text in ["", "/", "bkt", "/bkt/", "//k", "/bkt/%FF"] {
            assert!(copy_source(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_query_is_decoded() {
        let query = query_pairs("uploads&uploadId=A%2BB&prefix=a+b&x=&y=1=2&&");
        let expected = [("uploads", ""), ("uploadId", "A+B"), ("prefix", "a b"), ("x", ""), ("y", "1=2")];
        assert_eq!(query, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(value(&query, "uploadId"), Some("A+B"));
        assert_eq!(value(&query, "uploadid"), None);
    }
}
