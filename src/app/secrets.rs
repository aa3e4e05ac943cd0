//! Secrets that rotate: their files are looked at, and whoever uses one gets
//! the new one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::{error, info};

use super::access::known_keys;
use crate::access::Access;
use crate::config::{Config, Environment, SecretFiles};
use crate::engine::Engine;
use crate::notify::{Hooks, Notifier};

/// How often the files are looked at. What they say counts once it is there
/// for as long.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The files, and who uses what they say.
#[derive(Clone)]
pub(super) struct Rotation {
    pub(super) files: Arc<Mutex<SecretFiles>>,
    pub(super) engine: Engine,
    pub(super) notifier: Notifier,
    pub(super) hooks: Hooks,
    pub(super) access: Arc<Access>,
}

impl Rotation {
    /// Looks, for good.
    pub(super) async fn run(&self) {
        if self.files.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return;
        }
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let files = self.files.clone();
            let look = move || files.lock().unwrap_or_else(PoisonError::into_inner).look();
            match tokio::task::spawn_blocking(look).await {
                Ok(Some(Ok(config))) => self.take(&config).await,
                Ok(Some(Err(problem))) => {
                    error!(%problem, "a secret's file has changed, and cannot be used: the old one stays")
                }
                Ok(None) | Err(_) => {}
            }
        }
    }

    /// Each takes what is its own; what cannot be taken leaves the rest alone.
    async fn take(&self, config: &Config) {
        let environment = Environment::of_process();
        // First: the keys are in the database, too.
        let database = self.engine.ledger().renew(config.database_url().expose());
        let keys = known_keys(config, self.engine.ledger()).await;
        let taken = [
            database.map_err(|error| error.to_string()),
            self.engine.store().renew(&config.store, &|name| environment.get(name)),
            self.notifier.renew(&config.webhook),
            self.hooks.renew(&config.webhook),
            keys.map(|keys| self.access.renew_keys(keys)).map_err(|error| error.to_string()),
            self.access.renew_issuer(&config.auth.jwt),
        ];
        let failed: Vec<String> = taken.into_iter().filter_map(Result::err).collect();
        if failed.is_empty() {
            info!("secrets were read anew from their files");
        } else {
            error!(problem = failed.join("; "), "a secret's file has changed, and cannot be used: the old one stays");
        }
    }
}
