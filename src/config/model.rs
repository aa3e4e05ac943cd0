//! What can be configured, and what it is without being configured.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::access::AuthConfig;
use crate::engine::{SweepConfig, UploadConfig};
use crate::http::{CorsConfig, HealthConfig, LimitsConfig};
use crate::ledger::DatabaseConfig;
use crate::logging::LogConfig;
use crate::notify::{HooksConfig, WebhookConfig};
use crate::store::StoreConfig;
use crate::units::Secret;

/// Everything that can be configured.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Where metrics and health details are.
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
    /// Questions that the application answers while a client waits.
    pub hooks: HooksConfig,
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
            hooks: HooksConfig::default(),
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
    /// The store is going to be used: all that it needs must be there.
    pub opens_store: bool,
}
