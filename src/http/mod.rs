//! The HTTP API.

pub mod config;
pub mod page;

pub use config::{ApiKey, AuthConfig, AuthMethod, AuthMode, CorsConfig, Dependency, HealthConfig, LimitsConfig};
