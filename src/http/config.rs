//! `limits.*`, `auth.*`, `cors.*` and `health.*`

use std::fmt;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::units;

/// What one gateway takes on.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// The largest file, in bytes; none is what the store can hold.
    #[serde(with = "units::optional_bytes")]
    pub max_file_size: Option<u64>,
    /// Open uploads per owner.
    pub max_open_uploads: u32,
    /// Chunks whose bodies are read at once; more of them wait.
    pub max_concurrent_chunks: usize,
    /// How long a chunk waits for its turn before it gets 503.
    #[serde(with = "units::duration")]
    pub queue_wait: Duration,
    /// Connections; none is 10000, or what the process's file descriptors allow.
    pub max_connections: Option<usize>,
    /// How long a client may take to send a request's head.
    #[serde(with = "units::duration")]
    pub header_timeout: Duration,
    /// How long a client may pause within a body.
    #[serde(with = "units::duration")]
    pub body_idle_timeout: Duration,
    /// How much of a form's file is held in memory when it comes before its
    /// text fields, in bytes.
    #[serde(with = "units::bytes")]
    pub form_buffer: u64,
    /// How long `/readyz` says no before the listener closes.
    #[serde(with = "units::duration")]
    pub drain_delay: Duration,
    /// How long requests in flight may take after that.
    #[serde(with = "units::duration")]
    pub drain_deadline: Duration,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_file_size: None,
            max_open_uploads: 1000,
            max_concurrent_chunks: 256,
            queue_wait: Duration::from_secs(20),
            max_connections: None,
            header_timeout: Duration::from_secs(10),
            body_idle_timeout: Duration::from_secs(30),
            form_buffer: 8 << 20,
            drain_delay: Duration::ZERO,
            drain_deadline: Duration::from_secs(25),
        }
    }
}

/// Who may do anything.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// How callers prove who they are.
    pub mode: AuthMode,
    /// The back ends' keys: `name:key`, or `name:sha256:hex`.
    pub api_keys: Vec<ApiKey>,
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
}

impl AuthMethod {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::Keys];

    /// As configuration writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
        }
    }

    /// Reads it.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }
}

impl AuthMode {
    /// Whether callers may prove themselves in this way.
    pub fn allows(&self, method: AuthMethod) -> bool {
        match self {
            Self::None => false,
            Self::AnyOf(methods) => methods.contains(&method),
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
            .map(|name| AuthMethod::parse(name).ok_or_else(|| format!("{name:?} is neither \"none\" nor \"keys\"")))
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
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its owner is `key:{name}`.
    pub name: String,
    /// SHA-256 of the key as it is sent.
    pub sha256: [u8; 32],
}

impl ApiKey {
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
        Ok(Self { name: name.to_owned(), sha256 })
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

/// Which pages may call the API from a browser.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct CorsConfig {
    /// `https://app.example.com`, `https://*.example.com` or `*`.
    pub allowed_origins: Vec<String>,
    /// Request headers beside those that the API itself reads.
    pub allowed_headers: Vec<String>,
}

/// What health means here.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// What else `/readyz` asks for; none of it by default, since a shared
    /// store that is away would take every gateway out of the load balancer.
    pub ready_requires: Vec<Dependency>,
}

/// What a gateway shares with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dependency {
    /// The ledger's database.
    Database,
    /// The object store.
    Store,
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
        assert!(read("\"jwt\"").is_err_and(|e| e.contains("\"jwt\"")));
        assert!(read("[\"none\", \"keys\"]").is_err());
    }
}
