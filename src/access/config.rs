//! Who may do anything: `auth.*`.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, counter};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::units::{self, Rate, Secret};

/// Who may do anything.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// How callers prove who they are.
    pub mode: AuthMode,
    /// The back ends' keys: `name:key`, or `name:sha256:hex`.
    pub api_keys: Vec<ApiKey>,
    /// How long an access token lasts.
    #[serde(with = "units::duration")]
    pub access_ttl: Duration,
    /// How long a refresh token lasts.
    #[serde(with = "units::duration")]
    pub refresh_ttl: Duration,
    /// How long after its first use a refresh token still gets the same device the same pair.
    #[serde(with = "units::duration")]
    pub refresh_leeway: Duration,
    /// Refreshes of one login.
    pub refresh_rate: Rate,
    /// How long a key signs access tokens before a new one does.
    #[serde(with = "units::duration")]
    pub key_ttl: Duration,
    /// The tokens of the application's own issuer.
    pub jwt: JwtConfig,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            mode: AuthMode::None,
            api_keys: Vec::new(),
            access_ttl: Duration::from_secs(15 * 60),
            refresh_ttl: Duration::from_secs(7 * 24 * 3600),
            refresh_leeway: Duration::from_secs(10),
            refresh_rate: Rate { count: 30, per: Duration::from_secs(60) },
            key_ttl: Duration::from_secs(30 * 24 * 3600),
            jwt: JwtConfig::default(),
        }
    }
}

/// Tokens of the application's own issuer.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct JwtConfig {
    /// How they may be signed: HS256, RS256, ES256, EdDSA. No other is taken, whatever a token says.
    pub algorithms: Vec<JwtAlgorithm>,
    /// The secret that HS256 tokens are signed with, 32 bytes at least.
    pub hs256_secret: Option<Secret>,
    /// The issuer's public key, as PEM.
    pub public_key: Option<String>,
    /// Where the issuer publishes its keys.
    pub jwks_url: Option<String>,
    /// What `iss` must be.
    pub issuer: Option<String>,
    /// What must be in `aud`.
    pub audience: Option<String>,
    /// The claim that names the owner.
    pub owner_claim: String,
}

impl Default for JwtConfig {
    fn default() -> Self {
        Self {
            algorithms: Vec::new(),
            hs256_secret: None,
            public_key: None,
            jwks_url: None,
            issuer: None,
            audience: None,
            owner_claim: "sub".to_owned(),
        }
    }
}

impl JwtConfig {
    /// Whether anything is said of an issuer.
    pub fn is_set(&self) -> bool {
        !self.algorithms.is_empty()
            || self.hs256_secret.is_some()
            || self.public_key.is_some()
            || self.jwks_url.is_some()
            || self.issuer.is_some()
            || self.audience.is_some()
    }
}

/// How a token may be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256.
    HS256,
    /// RSA PKCS#1 v1.5 with SHA-256.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

/// How callers prove who they are: `none`, or a list of ways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// They do not: everybody is the owner `local`. Loopback only.
    #[default]
    None,
    /// In one of these ways.
    AnyOf(Vec<AuthMethod>),
}

/// One way to prove who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// `Authorization: Bearer ck_…`, one of `auth.api_keys` or the bootstrap key.
    Keys,
    /// The same, and access tokens that back ends hand out to browsers.
    Tokens,
    /// Tokens of the application's own issuer, by `auth.jwt`.
    Jwt,
}

impl AuthMethod {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Keys, Self::Tokens, Self::Jwt];

    /// As configuration writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Tokens => "tokens",
            Self::Jwt => "jwt",
        }
    }

    /// Reads it.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }
}

impl AuthMode {
    /// Whether callers may prove themselves in this way. Tokens are handed out
    /// to who holds a key, so there are keys where there are tokens.
    pub fn allows(&self, method: AuthMethod) -> bool {
        match self {
            Self::None => false,
            Self::AnyOf(methods) => {
                methods.contains(&method) || (method == AuthMethod::Keys && methods.contains(&AuthMethod::Tokens))
            }
        }
    }

    /// Reads `none`, or names of ways.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let names: Vec<&str> = names.into_iter().map(str::trim).collect();
        if names == ["none"] {
            return Ok(Self::None);
        }
        let methods = names
            .iter()
            .map(|name| {
                AuthMethod::parse(name)
                    .ok_or_else(|| format!("{name:?} is none of \"none\", \"keys\", \"tokens\" and \"jwt\""))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if methods.is_empty() {
            return Err("an empty list lets nobody in: write \"none\" or [\"keys\"]".to_owned());
        }
        Ok(Self::AnyOf(methods))
    }
}

impl<'de> Deserialize<'de> for AuthMode {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected \"none\" or a list such as [\"keys\"]")]
        enum Written {
            One(String),
            List(Vec<String>),
        }
        match Written::deserialize(from)? {
            Written::One(names) => Self::parse(names.split(',')),
            Written::List(names) => Self::parse(names.iter().map(String::as_str)),
        }
        .map_err(D::Error::custom)
    }
}

impl Serialize for AuthMode {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => to.serialize_str("none"),
            Self::AnyOf(methods) => to.collect_seq(methods.iter().map(|method| method.name())),
        }
    }
}

/// A back end's key. Only its hash is kept; it cannot be printed.
#[derive(Clone)]
pub struct ApiKey {
    /// Its owner is `key:{name}`.
    pub name: String,
    /// SHA-256 of the key as it is sent.
    pub sha256: [u8; 32],
    /// Counts the requests that show it; looked up once, for it is asked of each.
    requests: OnceLock<Counter>,
}

impl ApiKey {
    /// A key whose hash is known.
    pub const fn hashed(name: String, sha256: [u8; 32]) -> Self {
        Self { name, sha256, requests: OnceLock::new() }
    }

    /// Reads `name:key` or `name:sha256:hex`. Errors do not repeat the key.
    pub fn parse(text: &str) -> Result<Self, String> {
        const WRITTEN: &str = "an API key is written name:key or name:sha256:<64 hex digits>";
        let (name, key) = text.trim().split_once(':').ok_or(WRITTEN)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            return Err(format!("{WRITTEN}; a name is 1 to 64 of A-Z a-z 0-9 . _ -"));
        }
        if key.is_empty() || key.bytes().any(|b| !b.is_ascii_graphic()) {
            return Err(format!("{WRITTEN}; {name:?} has an empty key, or one that no HTTP header can carry"));
        }
        let sha256 = match key.strip_prefix("sha256:") {
            None => Sha256::digest(key.as_bytes()).into(),
            Some(digits) => hex::decode(digits)
                .ok()
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or_else(|| format!("{WRITTEN}; the hash of {name:?} is not 64 hex digits"))?,
        };
        Ok(Self::hashed(name.to_owned(), sha256))
    }

    /// It was shown: an old key that nobody uses any more can go.
    pub fn is_used(&self) {
        let labels = || [("name", self.name.clone()), ("fingerprint", self.fingerprint())];
        self.requests.get_or_init(|| counter!("chunkgate_api_key_requests_total", &labels())).increment(1);
    }

    /// What tells it from others of its name, for logs and metrics: the first 32
    /// bits of its hash.
    pub fn fingerprint(&self) -> String {
        hex::encode(&self.sha256[..4])
    }
}

impl PartialEq for ApiKey {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.sha256) == (&other.name, other.sha256)
    }
}

impl Eq for ApiKey {}

/// `name/fingerprint`
impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.fingerprint())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:********", self.name)
    }
}

impl<'de> Deserialize<'de> for ApiKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

impl Serialize for ApiKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{self:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_as_its_hash_and_never_printed() {
        let plain = ApiKey::parse("app:ck_123").expect("plain");
        let hashed = ApiKey::parse(&format!("app:sha256:{}", hex::encode(plain.sha256))).expect("hashed");
        assert_eq!(plain, hashed);
        assert_eq!(format!("{plain:?}"), "app:********");
        assert_eq!(plain.to_string(), format!("app/{}", &hex::encode(plain.sha256)[..8]));
        for wrong in ["", "app", "app:", ":key", "a b:key", "app:sha256:abc", "app:k\u{e9}y"] {
            let error = ApiKey::parse(wrong).expect_err(wrong);
            assert!(!error.contains("abc") && !error.contains("k\u{e9}y"), "{error}");
        }
    }

    #[test]
    fn a_mode_is_none_or_a_list() {
        let read = |json: &str| serde_json::from_str::<AuthMode>(json).map_err(|e| e.to_string());
        assert_eq!(read("\"none\""), Ok(AuthMode::None));
        assert_eq!(read("[\"keys\"]"), Ok(AuthMode::AnyOf(vec![AuthMethod::Keys])));
        assert_eq!(read("\"keys\""), Ok(AuthMode::AnyOf(vec![AuthMethod::Keys])));
        assert!(read("[]").is_err_and(|e| e.contains("empty list")));
        assert!(read("\"oidc\"").is_err_and(|e| e.contains("\"oidc\"")));
        let both = read("[\"tokens\", \"jwt\"]").expect("a mode");
        assert!(both.allows(AuthMethod::Keys) && both.allows(AuthMethod::Jwt));
        assert!(!read("[\"jwt\"]").expect("a mode").allows(AuthMethod::Keys));
        assert!(read("[\"none\", \"keys\"]").is_err());
    }
}
