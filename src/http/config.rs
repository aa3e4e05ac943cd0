//! `limits.*`, `cors.*` and `health.*`

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::{self, Rate};

/// What one gateway takes on.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// The largest file, in bytes; none is what the store can hold.
    #[serde(with = "units::optional_bytes")]
    pub max_file_size: Option<u64>,
    /// Open uploads per owner.
    pub max_open_uploads: u32,
    /// What the files and open uploads of one owner may take together, in bytes; none is any number.
    #[serde(with = "units::optional_bytes")]
    pub quota_bytes: Option<u64>,
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
    /// Proxies in front whose word on a client's address (`X-Forwarded-For`) counts.
    pub trusted_proxies: u32,
    /// Requests of one subject, and of one address that cannot say who it is; none is any number.
    pub rate: Option<Rate>,
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
            quota_bytes: None,
            max_concurrent_chunks: 256,
            queue_wait: Duration::from_secs(20),
            max_connections: None,
            header_timeout: Duration::from_secs(10),
            body_idle_timeout: Duration::from_secs(30),
            trusted_proxies: 0,
            rate: None,
            form_buffer: 8 << 20,
            drain_delay: Duration::ZERO,
            drain_deadline: Duration::from_secs(25),
        }
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
