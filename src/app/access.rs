//! Who may ask, and the first key of a gateway that has none.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{AppError, ServeOptions, misconfigured};
use crate::access::{Access, ApiKey, AuthMethod, AuthMode, Authority, Issuer, Proofs};
use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::{Ledger, LedgerError};
use crate::rotating::Rotating;

/// Who may ask: as configured, and who holds a key that was made here.
pub(super) async fn access(
    config: &Config,
    options: ServeOptions,
    ledger: &Ledger,
    clock: &Arc<dyn Clock>,
    authority: &Authority,
) -> Result<Access, AppError> {
    match &config.auth.mode {
        AuthMode::None if options.insecure_no_auth => {
            Ok(Access::Anybody(Rotating::new(keys(config, options, ledger, &**clock).await?)))
        }
        AuthMode::None => Ok(Access::Loopback),
        AuthMode::AnyOf(_) => {
            let allows = |method| config.auth.mode.allows(method);
            let mut keys = Vec::new();
            if allows(AuthMethod::Keys) {
                keys = self::keys(config, options, ledger, &**clock).await?;
                if keys.is_empty() {
                    return Err(misconfigured(
                        "auth.mode needs keys, but there is none: set auth.api_keys, or start with --bootstrap-key",
                    ));
                }
            }
            let authority = allows(AuthMethod::Tokens).then(|| authority.clone());
            let issuer = if allows(AuthMethod::Jwt) {
                let issuer = Issuer::new(&config.auth.jwt, clock.clone());
                Some(issuer.map_err(|wrong| misconfigured(format!("{} {}", wrong.key, wrong.advice)))?)
            } else {
                None
            };
            Ok(Access::Proven(Box::new(Proofs { keys: Rotating::new(keys), authority, issuer })))
        }
    }
}

/// Those that are configured, and those that were made here; at the first start, perhaps a new one.
async fn keys(
    config: &Config,
    options: ServeOptions,
    ledger: &Ledger,
    clock: &dyn Clock,
) -> Result<Vec<ApiKey>, AppError> {
    if options.bootstrap_key && config.auth.api_keys.is_empty() {
        bootstrap(ledger, clock).await?;
    }
    known_keys(config, ledger).await.map_err(|error| AppError::Failed(error.to_string()))
}

/// Those that are configured, and those that were made here.
pub(super) async fn known_keys(config: &Config, ledger: &Ledger) -> Result<Vec<ApiKey>, LedgerError> {
    if config.auth.mode != AuthMode::None && !config.auth.mode.allows(AuthMethod::Keys) {
        return Ok(Vec::new());
    }
    let made = ledger.api_keys().await?.into_iter().map(|(name, sha256)| ApiKey::hashed(name, sha256));
    Ok(config.auth.api_keys.iter().cloned().chain(made).collect())
}

/// A key that nobody guesses: 256 random bits.
pub(super) fn random_key(clock: &dyn Clock) -> String {
    format!("ck_{:032x}{:032x}", clock.random(), clock.random())
}

/// Makes the first key and prints it: it is kept nowhere but as a hash.
async fn bootstrap(ledger: &Ledger, clock: &dyn Clock) -> Result<(), AppError> {
    let key = random_key(clock);
    let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
    let added = ledger.add_first_api_key("bootstrap", &hash, clock.now()).await;
    if added.map_err(|error| AppError::Failed(error.to_string()))? {
        println!("API key (shown once, keep it): {key}");
    }
    Ok(())
}
