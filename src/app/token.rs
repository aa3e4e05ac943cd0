//! `chunkgate token`: keys and access tokens, made by hand.

use std::sync::Arc;
use std::time::Duration;

use clap::{ArgAction, Args};

use super::{AppError, misconfigured, of_open};
use crate::access::terms::WrittenTerms;
use crate::access::{ApiKey, AuthMethod, Login, by_hand};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::domain::{Owner, Refusal, Scopes};
use crate::ledger::Ledger;
use crate::units;

/// What an access token is to say.
#[derive(Clone, Debug, Args)]
pub struct WantedToken {
    /// Whose files it opens
    pub subject: String,
    /// How long it lasts, 7d at most [default: auth.access_ttl]
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    pub expires_in: Option<Duration>,
    /// What it is for: uploads:write, files:read, files:write [default: the first two]
    #[arg(long, value_name = "SCOPES")]
    pub scope: Option<String>,
    /// The largest file
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    pub max_file_size: Option<u64>,
    /// The kinds of files, such as image/*,application/pdf
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    pub allowed_types: Vec<String>,
    /// The one upload that it is for
    #[arg(long, value_name = "ID")]
    pub file_id: Option<String>,
    /// The folder of the store that its objects get into
    #[arg(long, value_name = "FOLDER")]
    pub key_prefix: Option<String>,
    /// Given to each upload; may be repeated
    #[arg(long, value_name = "KEY=VALUE", action = ArgAction::Append, value_parser = units::parse_pair)]
    pub metadata: Vec<(String, String)>,
}

/// A new key, which is printed and kept nowhere.
pub fn make_key(name: &str) -> Result<(), AppError> {
    let clock = SystemClock::new();
    let key = super::access::random_key(&clock);
    let known = ApiKey::parse(&format!("{name}:{key}")).map_err(misused)?;
    println!("key (shown once, for the back end): {key}");
    println!("for auth.api_keys:                  {name}:sha256:{}", hex::encode(known.sha256));
    println!("in the log and in the metrics:      {known}");
    Ok(())
}

/// A token signed with the gateways' own key.
pub async fn make_access_token(config: Config, wanted: &WantedToken) -> Result<(), AppError> {
    if !config.auth.mode.allows(AuthMethod::Tokens) {
        return Err(misconfigured("auth.mode has no \"tokens\": no gateway that is configured so takes one"));
    }
    let login = login(wanted)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let opened = Ledger::open_read_only(&config.database, config.database_url().expose(), clock.clone()).await;
    let ledger = opened.map_err(of_open)?;
    let keys = ledger.signing_keys().await;
    ledger.close().await;
    let keys = keys.map_err(|error| AppError::Failed(error.to_string()))?;
    let expires_in = wanted.expires_in.unwrap_or(config.auth.access_ttl);
    let token = by_hand(&keys, &login, expires_in, clock.now()).map_err(|refusal| misused(refusal.detail()))?;
    let token = token.ok_or_else(|| AppError::Failed("no gateway has made a key yet: start one first".to_owned()))?;
    println!("{token}");
    Ok(())
}

fn login(wanted: &WantedToken) -> Result<Login, AppError> {
    let subject = Owner::parse(&wanted.subject).map_err(|_| misused("the subject is 1 to 256 bytes of text"))?;
    let scopes = match &wanted.scope {
        None => Scopes::BROWSER,
        Some(text) => Scopes::parse(text).ok_or_else(|| misused(format!("--scope has some of {}", Scopes::ALL)))?,
    };
    let terms = WrittenTerms {
        max_file_size: wanted.max_file_size,
        allowed_types: Some(wanted.allowed_types.clone()).filter(|types| !types.is_empty()),
        file_id: wanted.file_id.clone(),
        key_prefix: wanted.key_prefix.clone(),
        metadata: Some(wanted.metadata.iter().cloned().collect()).filter(|_| !wanted.metadata.is_empty()),
    };
    terms.read().map_err(|refusal: Refusal| misused(refusal.detail()))?;
    Ok(Login { subject, device: None, scopes, terms })
}

fn misused(problem: impl std::fmt::Display) -> AppError {
    AppError::Configuration(problem.to_string())
}
