//! Whether a callback is OSS's: signed with a key that OSS publishes. The key
//! has 512 bits and its signatures MD5: whoever is let in here may be anybody
//! with some patience, and what is said is to be confirmed.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use rsa::RsaPublicKey;
use rsa::pkcs8::DecodePublicKey as _;
use tokio::sync::Mutex;

use crate::store::oss::sign::callback;

/// Where OSS publishes its keys, slash included.
const PUBLISHED: [&str; 2] = ["https://gosspublic.alicdn.com/", "http://gosspublic.alicdn.com/"];
const TIMEOUT: Duration = Duration::from_secs(3);
/// The longest key document, in bytes.
const KEY_BYTES_MAX: usize = 16 << 10;
/// Keys that are remembered.
const KEYS_MAX: usize = 8;

/// Why a callback is not taken for OSS's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotOss {
    /// It is not signed, or not as OSS signs.
    Forged(&'static str),
    /// The key cannot be had.
    NoKey(String),
}

/// Who checks them.
#[derive(Debug)]
pub struct OssCallbacks {
    /// What OSS was told to call: path and query are signed.
    target: String,
    /// Where else keys may come from: a test's.
    key_url: Option<String>,
    client: reqwest::Client,
    keys: Mutex<Vec<(String, RsaPublicKey)>>,
}

impl OssCallbacks {
    /// For callbacks to this URL.
    pub fn new(url: &str, key_url: Option<&str>) -> Result<Self, String> {
        let url = reqwest::Url::parse(url).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
        let url =
            url.ok_or("must be the URL at which OSS reaches this gateway: https://upload.example.com/callbacks/oss")?;
        let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let client = reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|error| format!("cannot be checked: {error}"))?;
        Ok(Self { target, key_url: key_url.map(ToOwned::to_owned), client, keys: Mutex::default() })
    }

    /// Whether OSS says this.
    pub async fn check(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), NotOss> {
        let decoded = |name| headers.get(name).and_then(|value| STANDARD.decode(value.as_bytes()).ok());
        let signature = decoded(callback::SIGNATURE_HEADER).ok_or(NotOss::Forged("it has no signature"))?;
        let url = decoded(callback::KEY_URL_HEADER).and_then(|url| String::from_utf8(url).ok());
        let url = url.ok_or(NotOss::Forged("it does not say where its key is"))?;
        let published = PUBLISHED.iter().any(|prefix| url.starts_with(prefix));
        if !published && self.key_url.as_deref() != Some(&url) {
            return Err(NotOss::Forged("its key is not one of OSS's"));
        }
        let key = self.key(&url).await.map_err(NotOss::NoKey)?;
        let is_signed = callback::verify(&key, &signature, &self.target, body);
        is_signed.then_some(()).ok_or(NotOss::Forged("its signature is wrong"))
    }

    /// The key at this URL, asked for once.
    async fn key(&self, url: &str) -> Result<RsaPublicKey, String> {
        let mut keys = self.keys.lock().await;
        if let Some((_, key)) = keys.iter().find(|(known, _)| known == url) {
            return Ok(key.clone());
        }
        let mut answer = self.client.get(url).send().await.map_err(|error| format!("{url}: {error}"))?;
        if !answer.status().is_success() {
            return Err(format!("{url}: {}", answer.status()));
        }
        let mut document = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| format!("{url}: {error}"))? {
            document.extend_from_slice(&piece);
            if document.len() > KEY_BYTES_MAX {
                return Err(format!("{url}: is no key"));
            }
        }
        let pem = String::from_utf8_lossy(&document);
        let key = RsaPublicKey::from_public_key_pem(pem.trim()).map_err(|error| format!("{url}: {error}"))?;
        // OSS has two; more are somebody's game with names below its own.
        if keys.len() >= KEYS_MAX {
            keys.remove(0);
        }
        keys.push((url.to_owned(), key.clone()));
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(signature: &str, key_url: &str) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).expect("a value");
        let pairs = [
            (callback::SIGNATURE_HEADER, value(signature)),
            (callback::KEY_URL_HEADER, value(&STANDARD.encode(key_url))),
        ];
        pairs.into_iter().map(|(name, value)| (http::HeaderName::from_static(name), value)).collect()
    }

    #[tokio::test]
    async fn a_key_comes_from_oss_or_is_not_asked_for() {
        let callbacks = OssCallbacks::new("https://upload.example.com/callbacks/oss", None).expect("a URL");
        for url in [
            "https://gosspublic.alicdn.com.evil.example/key.pem",
            "https://evil.example/https://gosspublic.alicdn.com/",
            "ftp://gosspublic.alicdn.com/key.pem",
            "http://127.0.0.1:1/key.pem",
        ] {
            let refused = callbacks.check(&headers("eA==", url), b"").await;
            assert_eq!(refused, Err(NotOss::Forged("its key is not one of OSS's")), "{url}");
        }
        let unsigned = callbacks.check(&HeaderMap::new(), b"").await;
        assert_eq!(unsigned, Err(NotOss::Forged("it has no signature")));
        let own = OssCallbacks::new("http://a/b", Some("http://127.0.0.1:1/key.pem")).expect("a URL");
        let nobody = own.check(&headers("eA==", "http://127.0.0.1:1/key.pem"), b"").await;
        assert!(matches!(nobody, Err(NotOss::NoKey(_))), "{nobody:?}");
        assert!(OssCallbacks::new("upload.example.com", None).is_err());
    }
}
