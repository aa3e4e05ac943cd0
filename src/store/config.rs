//! `store.*`

pub mod oss;
pub mod s3;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units;

pub use oss::OssConfig;
pub use s3::S3Config;

/// Which store, and how patiently it is spoken to.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Which of them.
    pub kind: StoreKind,
    /// The local folder.
    pub file: FileConfig,
    /// Aliyun OSS.
    pub oss: OssConfig,
    /// AWS S3 and its like.
    pub s3: S3Config,
    /// For name look-up, TCP and TLS together.
    #[serde(with = "units::duration")]
    pub connect_timeout: Duration,
    /// From the last byte of a request to the first of its answer.
    #[serde(with = "units::duration")]
    pub first_byte_timeout: Duration,
    /// How long the store may leave bytes unread or an answer unfinished.
    /// Waiting for a slow client does not count.
    #[serde(with = "units::duration")]
    pub idle_timeout: Duration,
    /// How often a call is repeated that can be.
    pub retries: u32,
    /// Connections kept.
    pub pool: PoolConfig,
    /// When a failing store is left alone.
    pub breaker: BreakerConfig,
}

/// The stores there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// A local folder, for one gateway.
    #[default]
    File,
    /// Aliyun OSS, or what speaks its dialect.
    Oss,
    /// AWS S3, or what speaks its dialect.
    S3,
}

/// `store.file.*`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileConfig {
    /// The folder; none is `{data_dir}/objects`.
    pub dir: Option<PathBuf>,
}

/// `store.pool.*`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConfig {
    /// Idle connections kept.
    pub max_idle: usize,
    /// How long one is kept.
    #[serde(with = "units::duration")]
    pub idle_timeout: Duration,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            kind: StoreKind::default(),
            file: FileConfig::default(),
            oss: OssConfig::default(),
            s3: S3Config::default(),
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            retries: 3,
            pool: PoolConfig::default(),
            breaker: BreakerConfig::default(),
        }
    }
}

/// `store.breaker.*`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// Failures in a row after which the store is left alone.
    pub failures: u32,
    /// For how long.
    #[serde(with = "units::duration")]
    pub open_for: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures: 20, open_for: Duration::from_secs(5) }
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self { max_idle: 100, idle_timeout: Duration::from_secs(90) }
    }
}
