//! The configuration: `chunkgate.toml` (or YAML, or JSON), then the
//! environment, then flags. Each module owns its own struct; this one sums
//! them.
//!
//! A source is read into settings, each of which remembers where it was
//! written; settings are tried one by one against the structs, so that all
//! mistakes are told at once, each with its place and its remedy.

mod check;
mod environment;
mod file;
mod merge;
mod print;
mod reference;
mod setting;
mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::engine::{SweepConfig, UploadConfig};
use crate::http::{AuthConfig, CorsConfig, HealthConfig, LimitsConfig};
use crate::ledger::DatabaseConfig;
use crate::logging::LogConfig;
use crate::notify::WebhookConfig;
use crate::store::StoreConfig;
use crate::units::Secret;

pub use environment::Environment;
pub use print::to_toml;
pub use reference::{KEYS, Key};
pub use setting::{Origin, Raw, Setting};

/// Everything that can be configured.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Where metrics, health details and dead letters are.
    pub admin_listen: SocketAddr,
    /// How clients reach the API: the start of every URL that is given out.
    pub public_url: Option<String>,
    /// Where the embedded database and the local store lie.
    pub data_dir: PathBuf,
    /// The log.
    pub log: LogConfig,
    /// The ledger.
    pub database: DatabaseConfig,
    /// The object store.
    pub store: StoreConfig,
    /// Uploads.
    pub upload: UploadConfig,
    /// The sweeper.
    pub sweep: SweepConfig,
    /// Webhooks.
    pub webhook: WebhookConfig,
    /// What one gateway takes on.
    pub limits: LimitsConfig,
    /// Who may do anything.
    pub auth: AuthConfig,
    /// Which pages may call the API.
    pub cors: CorsConfig,
    /// What health means here.
    pub health: HealthConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            admin_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            public_url: None,
            data_dir: PathBuf::from("./data"),
            log: LogConfig::default(),
            database: DatabaseConfig::default(),
            store: StoreConfig::default(),
            upload: UploadConfig::default(),
            sweep: SweepConfig::default(),
            webhook: WebhookConfig::default(),
            limits: LimitsConfig::default(),
            auth: AuthConfig::default(),
            cors: CorsConfig::default(),
            health: HealthConfig::default(),
        }
    }
}

impl Config {
    /// The ledger's URL: as configured, or a SQLite file in `data_dir`.
    pub fn database_url(&self) -> Secret {
        let beside = || Secret::new(format!("sqlite://{}", self.data_dir.join("chunkgate.db").display()));
        self.database.url.clone().unwrap_or_else(beside)
    }

    /// The local store's folder: as configured, or one in `data_dir`.
    pub fn file_store_dir(&self) -> PathBuf {
        self.store.file.dir.clone().unwrap_or_else(|| self.data_dir.join("objects"))
    }
}

/// What the command line says about how safe a configuration has to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Strictness {
    /// Listen beyond loopback although anybody could upload (`--insecure-no-auth`).
    pub insecure_no_auth: bool,
    /// A key is made at the first start (`--bootstrap-key`), so there is
    /// authentication even where none is configured.
    pub bootstrap_key: bool,
}

/// Where a configuration is read from. All of it comes in as arguments.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`. Without it, `chunkgate.toml`, `.yaml`, `.yml` or `.json` in `folder`.
    pub file: Option<PathBuf>,
    /// The working directory.
    pub folder: PathBuf,
    /// The environment.
    pub environment: Environment,
    /// What the flags set; the last of a key wins.
    pub flags: Vec<Setting>,
}

/// A configuration, and where each of its values was written.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Key → origin, of what is not a default.
    pub origins: BTreeMap<String, Origin>,
    /// What works, but is probably not meant.
    pub warnings: Vec<String>,
}

/// One mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong: the key and its value (masked if secret), or a file.
    pub subject: String,
    /// Where it was written, unless nobody wrote it.
    pub origin: Option<Origin>,
    /// Why it is wrong and what to do about it.
    pub advice: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subject)?;
        if let Some(origin) = &self.origin {
            write!(f, " ({origin})")?;
        }
        write!(f, ": {}", self.advice)
    }
}

/// All mistakes in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [only] => write!(f, "the configuration is wrong: {only}"),
            several => {
                write!(f, "{} things in the configuration are wrong:", several.len())?;
                several.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// Reads all sources, and tells all that is wrong with them.
pub fn load(sources: &Sources, strictness: Strictness) -> Result<Loaded, ConfigError> {
    let mut problems = Vec::new();
    let mut settings = Vec::new();
    for source in [
        file::read(sources.file.as_deref(), &sources.folder),
        environment::read(&sources.environment),
        (sources.flags.clone(), Vec::new()),
    ] {
        settings.extend(source.0);
        problems.extend(source.1);
    }
    if strictness.bootstrap_key && !settings.iter().any(|setting| setting.key == "auth.mode") {
        settings.push(Setting::text("auth.mode", "keys", Origin::Flag("--bootstrap-key".to_owned())));
    }
    let (config, origins) = merge::merge(settings, &mut problems);
    // Relations only make sense between values that are values.
    let mut warnings = Vec::new();
    if problems.is_empty() {
        check::check(&config, &origins, strictness, &mut problems, &mut warnings);
    }
    if problems.is_empty() { Ok(Loaded { config, origins, warnings }) } else { Err(ConfigError { problems }) }
}

#[cfg(test)]
mod tests;
