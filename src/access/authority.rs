//! Hands out tokens, and knows which of them still count: what every gateway
//! must agree on lies in the ledger, and each looks there every other second.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tracing::{info, warn};
use uuid::Uuid;

use crate::access::config::AuthConfig;
use crate::access::link::Link;
use crate::access::refresh::{self, RefreshToken, Use};
use crate::access::terms::{WrittenGrant, WrittenTerms};
use crate::access::token::{Claims, Key, Keys};
use crate::clock::Clock;
use crate::domain::grant::{Grant, Scopes};
use crate::domain::{Owner, Refusal, Timestamp};
use crate::ledger::{Family, KeySecret, Ledger, LedgerError, SigningKey};

/// How often the ledger is asked what other gateways have done: a token that
/// was revoked there counts for no longer than this and one question.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A new key signs nothing before every gateway knows it.
const SETTLES_AFTER: Duration = Duration::from_secs(60);
/// The longest that a link may last, or a token that is made by hand.
const LINKS_LAST: Duration = Duration::from_secs(7 * 24 * 3600);
/// Clocks of gateways may differ by so much.
const SKEW_MAX: Duration = Duration::from_secs(300);
/// The longest name of a device, in bytes.
const DEVICE_BYTES_MAX: usize = 128;

/// What a login is for.
#[derive(Clone, Debug)]
pub struct Login {
    /// Whose files the tokens open.
    pub subject: Owner,
    /// What the device calls itself.
    pub device: Option<String>,
    /// Which acts they allow.
    pub scopes: Scopes,
    /// What is locked in.
    pub terms: WrittenTerms,
}

/// An access token, and what the next one is got with.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// For requests.
    pub access: String,
    /// For `POST /auth/refresh`, once.
    pub refresh: String,
    /// How long the access token lasts.
    pub expires_in: Duration,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The client's request is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The ledger could not be asked.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The gateway's own tokens. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Authority {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    access_ttl: Duration,
    refresh_ttl: Duration,
    refresh_leeway: Duration,
    keys_last: Duration,
    /// As the ledger had them last.
    keys: RwLock<Arc<Keys>>,
    /// Families that ended, and when: as long as an access token of theirs may live.
    ended: RwLock<HashMap<Uuid, Timestamp>>,
}

impl Authority {
    /// Reads the keys, and makes the first if there is none.
    pub async fn open(ledger: Ledger, clock: Arc<dyn Clock>, config: &AuthConfig) -> Result<Self, LedgerError> {
        let shared = Shared {
            ledger,
            clock,
            access_ttl: config.access_ttl,
            refresh_ttl: config.refresh_ttl,
            refresh_leeway: config.refresh_leeway,
            keys_last: config.key_ttl,
            keys: RwLock::default(),
            ended: RwLock::default(),
        };
        let authority = Self { shared: Arc::new(shared) };
        authority.look().await?;
        Ok(authority)
    }

    /// Keeps up with the other gateways, for as long as it runs.
    pub async fn run(&self) {
        let mut is_blind = false;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let looked = self.look().await;
            // Said once, not every other second.
            if let Err(error) = looked.as_ref().map_err(ToString::to_string)
                && !is_blind
            {
                warn!(error, "revoked tokens cannot be looked up; those revoked elsewhere still count here");
            }
            is_blind = looked.is_err();
        }
    }

    async fn look(&self) -> Result<(), LedgerError> {
        let Shared { ledger, clock, access_ttl, keys_last, .. } = &*self.shared;
        let now = clock.now();
        let mut keys = ledger.signing_keys().await?;
        let newest = keys.last().map(|key| key.created_at);
        if newest.is_none_or(|at| at.plus(*keys_last) <= now) {
            let id = format!("cg-{:016x}", clock.random() >> 64);
            let new = SigningKey { id, secret: secret(&**clock), created_at: now };
            if ledger.add_signing_key(&new, now.minus(*keys_last)).await? {
                info!(key = new.id, "a new key signs access tokens");
            }
            // What the old one signed last has ended by then.
            let last = LINKS_LAST.max(*access_ttl) + SETTLES_AFTER + SKEW_MAX;
            ledger.drop_signing_keys(now.minus(*keys_last + last)).await?;
            keys = ledger.signing_keys().await?;
        }
        let live = now.minus(*access_ttl + SKEW_MAX);
        let read = ledger.revoked_families(live).await?;
        *self.shared.keys.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(keys.iter().map(Key::from).collect());
        let mut ended = self.shared.ended.write().unwrap_or_else(PoisonError::into_inner);
        // Added to, for one may have ended here since the ledger was asked.
        ended.retain(|_, at| *at > live);
        ended.extend(read);
        Ok(())
    }

    fn keys(&self) -> Arc<Keys> {
        self.shared.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn has_ended(&self, family: Uuid) -> bool {
        self.shared.ended.read().unwrap_or_else(PoisonError::into_inner).contains_key(&family)
    }

    /// Whether a token of this key would be ours.
    pub fn signs_with(&self, key_id: &str) -> bool {
        self.keys().have(key_id)
    }

    /// What this access token allows. Asks no database.
    pub fn check(&self, token: &str, key_id: &str) -> Result<Grant, Refusal> {
        let claims = self.keys().check(token, key_id, self.shared.clock.now())?;
        if claims.fam.is_some_and(|family| self.has_ended(family)) {
            return Err(Refusal::TokenRevoked);
        }
        claims.grant()
    }

    /// The signature of a link.
    pub fn sign_link(&self, link: &Link<'_>) -> String {
        // There is a key: without one the gateway would not have started.
        self.keys().sign_link(link, self.shared.clock.now().minus(SETTLES_AFTER)).unwrap_or_default()
    }

    /// Whether a link is as it was signed, and its time is not over.
    pub fn check_link(&self, link: &Link<'_>, signature: &str) -> Result<(), Refusal> {
        if !self.keys().have_signed(link, signature) {
            return Err(Refusal::SignatureInvalid);
        }
        if link.expires <= self.shared.clock.now().seconds() { Err(Refusal::SignatureExpired) } else { Ok(()) }
    }

    /// A new family, and its first pair.
    pub async fn log_in(&self, login: Login) -> Result<Pair, AccessError> {
        login.terms.read()?;
        if login.device.as_ref().is_some_and(|device| device.is_empty() || device.len() > DEVICE_BYTES_MAX) {
            return Err(Refusal::invalid(format!("deviceId is 1 to {DEVICE_BYTES_MAX} bytes, or left out")).into());
        }
        let (clock, now) = (&self.shared.clock, self.shared.clock.now());
        let written = WrittenGrant { scope: login.scopes.to_string(), terms: login.terms };
        let family = Family {
            id: clock.uuid_v4(),
            owner: login.subject,
            device: login.device,
            secret: secret(&**clock),
            terms: serde_json::json!(written).to_string(),
            generation: 0,
            rotated_at: None,
            expires_at: now.plus(self.shared.refresh_ttl),
            created_at: now,
            is_revoked: false,
        };
        self.shared.ledger.add_family(&family).await?;
        self.pair(&family, now)
    }

    /// The pair that follows this refresh token.
    pub async fn refresh(&self, token: &str, device: Option<&str>) -> Result<Pair, AccessError> {
        /// Each time another request with the same token was first.
        const RACES_MAX: u32 = 4;
        let token = RefreshToken::parse(token).ok_or(MALFORMED)?;
        let Shared { ledger, clock, refresh_leeway, refresh_ttl, .. } = &*self.shared;
        for _ in 0..RACES_MAX {
            let Some(mut family) = ledger.family(token.family).await? else { return Err(UNKNOWN.into()) };
            let now = clock.now();
            match refresh::judge(&family, &token, device, now, *refresh_leeway)? {
                Use::Rotate => {
                    let expires_at = now.plus(*refresh_ttl);
                    if ledger.rotate_family(family.id, family.generation, now, expires_at).await? {
                        family =
                            Family { generation: family.generation + 1, rotated_at: Some(now), expires_at, ..family };
                        return self.pair(&family, now);
                    }
                }
                // The same to the letter: it says when the first use was, not this one.
                Use::Again => return self.pair(&family, family.rotated_at.unwrap_or(now)),
                Use::Reused => {
                    warn!(owner = %family.owner, "a refresh token was used twice: all that came of its login end");
                    self.end(family.id, now).await?;
                    return Err(Refusal::TokenReused.into());
                }
            }
        }
        Err(LedgerError::Unavailable("too many requests used this refresh token at once".to_owned()).into())
    }

    /// Ends the family of this refresh token, whichever of its generations it is.
    pub async fn revoke(&self, token: &str) -> Result<(), AccessError> {
        let token = RefreshToken::parse(token).ok_or(MALFORMED)?;
        let Some(family) = self.shared.ledger.family(token.family).await? else { return Err(UNKNOWN.into()) };
        if !token.is_genuine(&family.secret) {
            return Err(UNKNOWN.into());
        }
        Ok(self.end(family.id, self.shared.clock.now()).await?)
    }

    async fn end(&self, family: Uuid, now: Timestamp) -> Result<(), LedgerError> {
        self.shared.ledger.revoke_family(family, now).await?;
        self.shared.ended.write().unwrap_or_else(PoisonError::into_inner).insert(family, now);
        Ok(())
    }

    fn pair(&self, family: &Family, at: Timestamp) -> Result<Pair, AccessError> {
        let Shared { access_ttl, .. } = &*self.shared;
        let grant = serde_json::from_str(&family.terms).map_err(|_| corrupt(family))?;
        let claims = Claims::new(&family.owner, Some(family.id), at, *access_ttl, grant);
        let access = self.keys().sign(&claims, at.minus(SETTLES_AFTER)).ok_or_else(|| corrupt(family))?;
        let refresh = RefreshToken::mint(family.id, family.generation, &family.secret).text();
        Ok(Pair { access, refresh, expires_in: *access_ttl })
    }
}

/// An access token without a login, signed with one of these keys; none if
/// there is no key. It can neither be refreshed nor revoked.
pub fn by_hand(
    keys: &[SigningKey],
    login: &Login,
    expires_in: Duration,
    now: Timestamp,
) -> Result<Option<String>, Refusal> {
    if expires_in > LINKS_LAST {
        return Err(Refusal::invalid("an access token that is made by hand lasts 7d at most"));
    }
    login.terms.read()?;
    let grant = WrittenGrant { scope: login.scopes.to_string(), terms: login.terms.clone() };
    let claims = Claims::new(&login.subject, None, now, expires_in, grant);
    let keys: Keys = keys.iter().map(Key::from).collect();
    Ok(keys.sign(&claims, now.minus(SETTLES_AFTER)))
}

const MALFORMED: Refusal = Refusal::TokenMalformed { reason: "this is no refresh token of this gateway" };
const UNKNOWN: Refusal = Refusal::Unauthorized { reason: "the refresh token is not known" };

fn secret(clock: &dyn Clock) -> KeySecret {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&clock.random().to_be_bytes());
    bytes[16..].copy_from_slice(&clock.random().to_be_bytes());
    KeySecret(bytes)
}

fn corrupt(family: &Family) -> AccessError {
    let row = format!("id={}", family.id.simple());
    LedgerError::Corrupt { table: "token_families", column: "terms", row }.into()
}
