//! The composition root: opens what a command needs and runs it.

use crate::config::Config;

/// What the command line says about one run of the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServeOptions {
    /// Make a key at the first start when none is configured, and print it once.
    pub bootstrap_key: bool,
}

/// Why a command ended otherwise than well.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// What was configured cannot be used: exit code 2.
    #[error("{0}")]
    Configuration(String),
    /// It failed while it ran: exit code 1.
    #[error("{0}")]
    Failed(String),
}

fn later<T>(what: &str) -> Result<T, AppError> {
    Err(AppError::Failed(format!("{what} is not there yet")))
}

/// Serves until told to stop, then drains.
pub async fn serve(_config: Config, _options: ServeOptions) -> Result<(), AppError> {
    later("serve")
}

/// Brings the database's schema up to this program's.
pub async fn migrate(_config: Config) -> Result<(), AppError> {
    later("migrate")
}

/// Cleans up once what was left behind, or only says what it would.
pub async fn sweep(_config: Config, _dry_run: bool) -> Result<(), AppError> {
    later("sweep")
}
