//! `database.*`

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::{self, Secret};

/// Where the ledger lies and how many connections it may use.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseConfig {
    /// `sqlite://PATH` or `postgres://…`; none is `sqlite://{data_dir}/chunkgate.db`.
    pub url: Option<Secret>,
    /// The most connections.
    pub max_connections: u32,
    /// Connections kept when idle.
    pub min_connections: u32,
    /// How long a request waits for one before it gets 503.
    #[serde(with = "units::duration")]
    pub acquire_timeout: Duration,
    /// How long a surplus one stays idle.
    #[serde(with = "units::duration")]
    pub idle_timeout: Duration,
    /// How old one may become.
    #[serde(with = "units::duration")]
    pub max_lifetime: Duration,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            url: None,
            max_connections: 20,
            min_connections: 5,
            acquire_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            max_lifetime: Duration::from_secs(30 * 60),
        }
    }
}
