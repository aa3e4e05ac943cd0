//! An issuer's published keys (RFC 7517): read when they are first needed,
//! again when they are old or a token names one that is not among them, and
//! kept while they cannot be read. Nobody whose key is known waits for that.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use jsonwebtoken::jwk::{Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::Mutex;
use tracing::warn;

use crate::clock::Clock;
use crate::domain::Refusal;

/// Keys are read again after this.
const FRESH_FOR: Duration = Duration::from_secs(600);
/// And never sooner than this, whatever tokens name.
const PAUSE: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(5);
const BYTES_MAX: usize = 1 << 20;
const KEYS_MAX: usize = 100;

/// The keys behind a URL. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Jwks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    url: String,
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    read: RwLock<Read>,
    /// One question at a time.
    asking: Mutex<()>,
}

#[derive(Debug, Default)]
struct Read {
    keys: Vec<Jwk>,
    /// When they were read, and when that was last tried, on the monotonic clock.
    read_at: Option<Duration>,
    tried_at: Option<Duration>,
    /// Whether the last try came to nothing: there may be keys that we do not know.
    has_failed: bool,
}

impl Jwks {
    /// Reads nothing yet.
    pub fn new(url: &str, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let valid = reqwest::Url::parse(url).is_ok_and(|url| {
            matches!(url.scheme(), "https" | "http") && url.username().is_empty() && url.password().is_none()
        });
        if !valid {
            return Err("must be a URL such as https://id.example.com/.well-known/jwks.json".to_owned());
        }
        let client = reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|error| format!("cannot be asked: {error}"))?;
        let shared = Shared { url: url.to_owned(), client, clock, read: RwLock::default(), asking: Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The key of this name, for this algorithm.
    pub async fn key(&self, id: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, Refusal> {
        let shared = &self.shared;
        let now = shared.clock.monotonic();
        if let Some(key) = shared.find(id, algorithm) {
            if !shared.is_fresh(now) && shared.asking.try_lock().is_ok() {
                let shared = shared.clone();
                tokio::spawn(async move { shared.ask(now).await });
            }
            return Ok(key);
        }
        shared.ask(now).await;
        match shared.find(id, algorithm) {
            Some(key) => Ok(key),
            None if shared.has_failed() => Err(Refusal::IssuerUnavailable),
            None => Err(Refusal::Unauthorized { reason: "the token names a key that its issuer does not publish" }),
        }
    }
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Read> {
        self.read.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Read> {
        self.read.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let read = self.read();
        let mut fit = read.keys.iter().filter(|key| fits(key, algorithm));
        let found = match id {
            Some(id) => fit.find(|key| key.common.key_id.as_deref() == Some(id)),
            // A token that names no key can only mean the one there is.
            None => fit.next().filter(|_| fit.next().is_none()),
        };
        found.and_then(|key| DecodingKey::from_jwk(key).ok())
    }

    fn is_fresh(&self, now: Duration) -> bool {
        self.read().read_at.is_some_and(|at| now < at + FRESH_FOR)
    }

    fn has_failed(&self) -> bool {
        self.read().has_failed
    }

    /// Reads the keys, unless somebody just has.
    async fn ask(&self, since: Duration) {
        let _one = self.asking.lock().await;
        let now = self.clock.monotonic();
        {
            let mut read = self.write();
            // Tried since the caller looked, or a moment before.
            if read.tried_at.is_some_and(|at| at >= since || now < at + PAUSE) {
                return;
            }
            read.tried_at = Some(now);
        }
        let downloaded = self.download().await;
        let mut read = self.write();
        read.has_failed = downloaded.is_err();
        match downloaded {
            Ok(keys) => {
                read.keys = keys;
                read.read_at = Some(now);
            }
            Err(error) => {
                warn!(url = self.url, error, "the issuer's keys could not be read; those that are known stay")
            }
        }
    }

    async fn download(&self) -> Result<Vec<Jwk>, String> {
        let mut answer = self.client.get(&self.url).send().await.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("answered {}", answer.status()));
        }
        let mut body = Vec::new();
        while let Some(frame) = answer.chunk().await.map_err(|error| error.to_string())? {
            if body.len() + frame.len() > BYTES_MAX {
                return Err(format!("answered more than {BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&frame);
        }
        let set: JwkSet = serde_json::from_slice(&body).map_err(|error| format!("answered no key set: {error}"))?;
        Ok(set.keys.into_iter().take(KEYS_MAX).collect())
    }
}

/// Whether a key may check signatures of this algorithm. One that says nothing
/// of its algorithm is for all that its type allows, which decoding compares.
fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let is_for_signatures = key.common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
    let named = key.common.key_algorithm.is_none_or(|named| named == KeyAlgorithm::from(algorithm));
    is_for_signatures && named && family(key) == Some(algorithm.family())
}

fn family(key: &Jwk) -> Option<jsonwebtoken::AlgorithmFamily> {
    DecodingKey::from_jwk(key).ok().map(|key| key.family())
}
