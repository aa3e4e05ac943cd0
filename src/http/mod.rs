//! The HTTP API.

pub mod config;

pub use config::{ApiKey, AuthConfig, AuthMethod, AuthMode, CorsConfig, Dependency, HealthConfig, LimitsConfig};
