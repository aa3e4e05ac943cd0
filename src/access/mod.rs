//! Who is asking, and what they may do. Deny by default: without
//! authentication only this machine's own pages may ask; otherwise only who
//! holds a key of a back end, a token that a back end handed out, or one of the
//! application's own issuer.
//!
//! ```text
//! authorization ─ key ──────────────── everything, as anybody
//!               ├ token of ours ────── what its login was for  (authority)
//!               └ token of an issuer ─ what its claims say     (issuer, jwks)
//! ```

pub mod authority;
mod callback;
pub mod config;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
pub mod issuer;
pub mod jwks;
mod jwt;
mod link;
mod mac;
pub mod refresh;
pub mod terms;
pub mod token;

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tracing::Span;

use crate::domain::grant::Grant;
use crate::domain::{Owner, Refusal};
use crate::rotating::Rotating;

pub use authority::{AccessError, Authority, Login, Pair, by_hand};
pub use callback::{NotOss, OssCallbacks};
pub use config::{ApiKey, AuthConfig, AuthMethod, AuthMode, JwtConfig};
pub use issuer::Issuer;
pub use link::Link;

/// Who may ask.
pub enum Access {
    /// Everybody on this machine, as the owner `local`.
    Loopback,
    /// Everybody who can reach us, as the owner `local`: `--insecure-no-auth`.
    /// To administer takes one of these keys all the same.
    Anybody(Rotating<Vec<ApiKey>>),
    /// Who can prove who they are.
    Proven(Box<Proofs>),
}

/// What counts as a proof.
pub struct Proofs {
    /// The back ends' keys.
    pub keys: Rotating<Vec<ApiKey>>,
    /// Tokens that we hand out, if we do.
    pub authority: Option<Authority>,
    /// Those of the application's own issuer, if there is one.
    pub issuer: Option<Issuer>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "Loopback",
            Self::Anybody(_) => "Anybody",
            Self::Proven(_) => "Proven",
        })
    }
}

/// Who is asking, and whose uploads are meant.
#[derive(Clone, Debug)]
pub struct Caller {
    /// What they may do, and as whom.
    pub grant: Grant,
    /// Whose uploads a list spans; none is everybody's.
    pub listed: Option<Owner>,
    /// Whether it is the application behind rather than a browser.
    pub is_back_end: bool,
}

impl Caller {
    fn back_end(owner: Owner, listed: Option<Owner>) -> Self {
        Self { grant: Grant::all(owner), listed, is_back_end: true }
    }

    /// Refused unless it is the application behind.
    pub fn needs_key(&self) -> Result<(), Refusal> {
        if self.is_back_end { Ok(()) } else { Err(Refusal::InsufficientScope { needed: "an API key" }) }
    }

    fn bearer(grant: Grant) -> Self {
        Self { listed: Some(grant.owner.clone()), grant, is_back_end: false }
    }
}

impl Access {
    /// Who is asking: by the value of the Authorization header, and by whom
    /// they say they act for.
    pub async fn caller(&self, authorization: Option<&[u8]>, acts_for: Option<Owner>) -> Result<Caller, Refusal> {
        let proofs = match self {
            Self::Loopback | Self::Anybody(_) => return Ok(Caller::back_end(Owner::local(), Some(Owner::local()))),
            Self::Proven(proofs) => proofs,
        };
        let shown = bearer(authorization)?;
        if let Some(key) = known_key(&proofs.keys.get(), shown) {
            return Ok(match acts_for {
                Some(owner) => Caller::back_end(owner.clone(), Some(owner)),
                None => Caller::back_end(Owner::of_key(&key.name), None),
            });
        }
        let caller = Caller::bearer(proofs.token(shown).await?);
        match acts_for {
            Some(owner) if owner != caller.grant.owner => {
                Err(Refusal::InsufficientScope { needed: "an API key (?owner=)" })
            }
            _ => Ok(caller),
        }
    }

    /// Who wants to administer, which takes a key. On this machine alone, where
    /// nobody else is served, everybody may.
    pub async fn operator(&self, authorization: Option<&[u8]>) -> Result<Caller, Refusal> {
        match self {
            Self::Loopback | Self::Proven(_) => self.caller(authorization, None).await,
            Self::Anybody(keys) if keys.get().is_empty() => {
                Err(Refusal::Unauthorized { reason: "to administer takes an API key, and auth.api_keys has none" })
            }
            Self::Anybody(keys) => {
                let unknown = Refusal::Unauthorized { reason: "the key is not known" };
                let keys = keys.get();
                let key = known_key(&keys, bearer(authorization)?).ok_or(unknown)?;
                Ok(Caller::back_end(Owner::of_key(&key.name), None))
            }
        }
    }

    /// From now on, these keys.
    pub fn renew_keys(&self, keys: Vec<ApiKey>) {
        match self {
            Self::Loopback => {}
            Self::Anybody(known) => known.set(keys),
            Self::Proven(proofs) => proofs.keys.set(keys),
        }
    }

    /// From now on, the issuer's secrets are these.
    pub fn renew_issuer(&self, config: &JwtConfig) -> Result<(), String> {
        match self {
            Self::Loopback | Self::Anybody(_) => Ok(()),
            Self::Proven(proofs) => match &proofs.issuer {
                Some(issuer) => issuer.renew(config).map_err(|wrong| format!("{} {}", wrong.key, wrong.advice)),
                None => Ok(()),
            },
        }
    }

    /// Our own tokens, where there are any.
    pub fn authority(&self) -> Option<&Authority> {
        match self {
            Self::Loopback | Self::Anybody(_) => None,
            Self::Proven(proofs) => proofs.authority.as_ref(),
        }
    }
}

fn bearer(authorization: Option<&[u8]>) -> Result<&str, Refusal> {
    let header = authorization.ok_or(Refusal::Unauthorized { reason: "there is no key or token" })?;
    let malformed = Refusal::TokenMalformed { reason: "the Authorization header is not Bearer and a key or token" };
    if header.len() < 8 || !header[..7].eq_ignore_ascii_case(b"bearer ") {
        return Err(malformed);
    }
    std::str::from_utf8(header[7..].trim_ascii()).map_err(|_| malformed)
}

/// All keys are compared, whichever matches: how long it takes tells nothing.
/// Which one it is shows in the request's log lines and is counted.
fn known_key<'a>(keys: &'a [ApiKey], shown: &str) -> Option<&'a ApiKey> {
    let hash = Sha256::digest(shown.as_bytes());
    let mut found = None;
    for known in keys {
        if bool::from(known.sha256.ct_eq(&hash[..])) {
            found = Some(known);
        }
    }
    if let Some(key) = found {
        Span::current().record("key", tracing::field::display(key));
        key.is_used();
    }
    found
}

impl Proofs {
    async fn token(&self, shown: &str) -> Result<Grant, Refusal> {
        if shown.starts_with("cr_") {
            return Err(Refusal::Unauthorized {
                reason: "this is a refresh token, which only POST /auth/refresh takes",
            });
        }
        if shown.starts_with("ck_") || (self.authority.is_none() && self.issuer.is_none()) {
            return Err(Refusal::Unauthorized { reason: "the key is not known" });
        }
        let malformed = Refusal::TokenMalformed { reason: "this is neither a key nor a token" };
        let header = jsonwebtoken::decode_header(shown).map_err(|_| malformed)?;
        let key_id = header.kid.as_deref().unwrap_or_default();
        match (&self.authority, &self.issuer) {
            (Some(authority), _) if authority.signs_with(key_id) => authority.check(shown, key_id),
            (_, Some(issuer)) => issuer.check(shown, &header).await,
            (_, None) => Err(Refusal::Unauthorized { reason: "the token was not signed by this gateway" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_name_their_owner() {
        let keys =
            vec![ApiKey::parse("shop:ck_secret").expect("a key"), ApiKey::parse("blog:ck_other").expect("a key")];
        let access = Access::Proven(Box::new(Proofs { keys: Rotating::new(keys), authority: None, issuer: None }));
        let ask = async |value: &str, owner: Option<&str>| {
            let owner = owner.map(|owner| Owner::parse(owner).expect("an owner"));
            access.caller(Some(value.as_bytes()), owner).await
        };
        assert_eq!(ask("Bearer ck_other", None).await.map(|c| c.grant.owner.to_string()), Ok("key:blog".to_owned()));
        assert!(ask("bearer ck_secret", None).await.is_ok_and(|c| c.listed.is_none()));
        assert_eq!(ask("Bearer ck_secret", Some("u/7")).await.map(|c| c.grant.owner.to_string()), Ok("u/7".to_owned()));
        let twins = vec![ApiKey::parse("shop:ck_old").expect("a key"), ApiKey::parse("shop:ck_new").expect("a key")];
        let twins = Access::Proven(Box::new(Proofs { keys: Rotating::new(twins), authority: None, issuer: None }));
        for key in [&b"Bearer ck_old"[..], b"Bearer ck_new"] {
            let owner = twins.caller(Some(key), None).await.map(|caller| caller.grant.owner.to_string());
            assert_eq!(owner, Ok("key:shop".to_owned()), "one caller's old key and new one");
        }
        for wrong in ["Bearer nonsense", "Bearer ", "Basic ck_secret", "ck_secret", "", "Bearer a.b.c"] {
            assert!(ask(wrong, None).await.is_err(), "{wrong}");
        }
        assert!(access.caller(None, None).await.is_err());
    }

    #[tokio::test]
    async fn who_administers_beyond_this_machine_holds_a_key() {
        let keys = || vec![ApiKey::parse("shop:ck_secret").expect("a key")];
        let proven = Access::Proven(Box::new(Proofs { keys: Rotating::new(keys()), authority: None, issuer: None }));
        for access in [proven, Access::Anybody(Rotating::new(keys()))] {
            assert!(access.operator(Some(b"Bearer ck_secret")).await.is_ok_and(|caller| caller.is_back_end));
            for wrong in [None, Some(&b"Bearer ck_other"[..]), Some(b"ck_secret"), Some(b"Bearer ")] {
                assert!(access.operator(wrong).await.is_err(), "{access:?} {wrong:?}");
            }
        }
        assert!(Access::Anybody(Rotating::new(Vec::new())).operator(Some(b"Bearer ck_secret")).await.is_err());
        assert!(Access::Loopback.operator(None).await.is_ok_and(|caller| caller.is_back_end));
    }
}
