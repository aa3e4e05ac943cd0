//! Tokens of the application's own issuer. Which algorithms and which keys
//! count is configured: nothing that a token says of itself chooses either.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, Header};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::access::config::{JwtAlgorithm, JwtConfig};
use crate::access::jwks::Jwks;
use crate::access::jwt;
use crate::access::terms::WrittenTerms;
use crate::clock::Clock;
use crate::domain::grant::{Grant, Scopes};
use crate::domain::{Owner, Refusal};
use crate::rotating::Rotating;

/// Clocks of issuers and ours may differ by so many seconds.
const SKEW: f64 = 30.0;

/// The issuer, as configured.
#[derive(Debug)]
pub struct Issuer {
    config: JwtConfig,
    clock: Arc<dyn Clock>,
    /// One or, while they rotate, several.
    secrets: Rotating<Vec<DecodingKey>>,
    /// By the one algorithm that it is for.
    public: Option<(Algorithm, DecodingKey)>,
    jwks: Option<Jwks>,
}

impl From<JwtAlgorithm> for Algorithm {
    fn from(algorithm: JwtAlgorithm) -> Self {
        match algorithm {
            JwtAlgorithm::HS256 => Self::HS256,
            JwtAlgorithm::RS256 => Self::RS256,
            JwtAlgorithm::ES256 => Self::ES256,
            JwtAlgorithm::EdDSA => Self::EdDSA,
        }
    }
}

/// What cannot be used in `auth.jwt`, by key.
#[derive(Debug, PartialEq, Eq)]
pub struct Misconfigured {
    /// `auth.jwt.public_key`
    pub key: &'static str,
    /// What to do about it.
    pub advice: String,
}

impl Issuer {
    /// Reads the keys that configuration has.
    pub fn new(config: &JwtConfig, clock: Arc<dyn Clock>) -> Result<Self, Misconfigured> {
        let wrong = |key, advice: &str| Err(Misconfigured { key, advice: advice.to_owned() });
        let uses = |algorithm| config.algorithms.contains(&algorithm);
        let needs_public = config.algorithms.iter().any(|algorithm| *algorithm != JwtAlgorithm::HS256);
        if config.algorithms.is_empty() {
            return wrong("auth.jwt.algorithms", "must name how tokens are signed: [\"RS256\"], HS256, ES256 or EdDSA");
        }
        if uses(JwtAlgorithm::HS256) != config.hs256_secret.is_some() {
            return wrong("auth.jwt.hs256_secret", "and HS256 among auth.jwt.algorithms need each other");
        }
        let secrets = secrets(config)?;
        if needs_public != (config.public_key.is_some() || config.jwks_url.is_some()) {
            let advice = "or auth.jwt.jwks_url must be set for RS256, ES256 and EdDSA, and for no other algorithm";
            return wrong("auth.jwt.public_key", advice);
        }
        if config.public_key.is_some() && config.jwks_url.is_some() {
            return wrong("auth.jwt.public_key", "and auth.jwt.jwks_url are two answers to one question: set one");
        }
        let public = match &config.public_key {
            Some(pem) => Some(public_key(pem, &config.algorithms)?),
            None => None,
        };
        let jwks = match &config.jwks_url {
            Some(url) => {
                let jwks = Jwks::new(url, clock.clone());
                Some(jwks.map_err(|advice| Misconfigured { key: "auth.jwt.jwks_url", advice })?)
            }
            None => None,
        };
        Ok(Self { config: config.clone(), clock, secrets: Rotating::new(secrets), public, jwks })
    }

    /// From now on, the secrets that this has.
    pub fn renew(&self, config: &JwtConfig) -> Result<(), Misconfigured> {
        self.secrets.set(secrets(config)?);
        Ok(())
    }

    /// What a token allows.
    pub async fn check(&self, token: &str, header: &Header) -> Result<Grant, Refusal> {
        let pinned = self.config.algorithms.iter().any(|algorithm| Algorithm::from(*algorithm) == header.alg);
        if !pinned {
            return Err(Refusal::Unauthorized {
                reason: "the token is signed in a way that auth.jwt.algorithms does not allow",
            });
        }
        let from_jwks;
        let key = match (header.alg, &self.public, &self.jwks) {
            (Algorithm::HS256, _, _) => {
                let secrets = self.secrets.get();
                let claims = secrets.iter().find_map(|secret| jwt::signed(token, secret, header.alg));
                return self.grant(&claims.ok_or(NOT_SIGNED)?);
            }
            (algorithm, Some((of, key)), _) if algorithm == *of => key,
            (algorithm, None, Some(jwks)) => {
                from_jwks = jwks.key(header.kid.as_deref(), algorithm).await?;
                &from_jwks
            }
            _ => return Err(NOT_SIGNED),
        };
        self.grant(&jwt::signed(token, key, header.alg).ok_or(NOT_SIGNED)?)
    }

    fn grant(&self, claims: &Map<String, Value>) -> Result<Grant, Refusal> {
        // A time may have a fraction (RFC 7519 §2).
        let now = self.clock.now().seconds() as f64;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let seconds = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => {
                value.as_f64().map(Some).ok_or(Refusal::TokenMalformed { reason: "a time of the token is no number" })
            }
        };
        match seconds("exp")? {
            None => return Err(Refusal::TokenMalformed { reason: "the token has no exp" }),
            Some(exp) if exp + SKEW <= now => return Err(Refusal::TokenExpired { what: "token" }),
            Some(_) => {}
        }
        if seconds("nbf")?.is_some_and(|nbf| nbf - SKEW > now) {
            return Err(Refusal::Unauthorized { reason: "the token is not valid yet (nbf)" });
        }
        if self.config.issuer.is_some() && text("iss") != self.config.issuer.as_deref() {
            return Err(Refusal::Unauthorized { reason: "the token is of another issuer (iss)" });
        }
        if let Some(audience) = &self.config.audience {
            let is_ours = match claims.get("aud") {
                Some(Value::String(one)) => one == audience,
                Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(audience)),
                _ => false,
            };
            if !is_ours {
                return Err(Refusal::Unauthorized { reason: "the token is for another audience (aud)" });
            }
        }
        let owner = text(&self.config.owner_claim).and_then(|owner| Owner::parse(owner).ok());
        let owner = owner
            .ok_or(Refusal::TokenMalformed { reason: "the token does not say whose it is (auth.jwt.owner_claim)" })?;
        let terms = WrittenTerms::deserialize(Value::Object(claims.clone())).ok();
        let terms = terms.and_then(|terms| terms.read().ok()).ok_or(Refusal::TokenMalformed {
            reason: "the token's maxFileSize, allowedTypes, fileId, keyPrefix or metadata cannot be read",
        })?;
        Ok(Grant { owner, scopes: scopes(claims), terms: Arc::new(terms) })
    }
}

/// Of `scope` (RFC 8693) or `scp`, text or list. A token that says nothing of
/// scopes is a browser's.
fn scopes(claims: &Map<String, Value>) -> Scopes {
    match claims.get("scope").or_else(|| claims.get("scp")) {
        None => Scopes::BROWSER,
        Some(Value::String(names)) => Scopes::known_among(names.split_ascii_whitespace()),
        Some(Value::Array(names)) => Scopes::known_among(names.iter().filter_map(Value::as_str)),
        Some(_) => Scopes::known_among([]),
    }
}

const NOT_SIGNED: Refusal =
    Refusal::Unauthorized { reason: "the token was not signed by the issuer that is configured" };

/// Each line is one.
fn secrets(config: &JwtConfig) -> Result<Vec<DecodingKey>, Misconfigured> {
    let text = config.hs256_secret.as_ref().map_or("", |secret| secret.expose());
    let lines = text.lines().filter(|line| !line.is_empty()).map(|line| match line.len() {
        0..32 => Err(Misconfigured {
            key: "auth.jwt.hs256_secret",
            advice: "must have 32 bytes at least, as from: openssl rand -hex 32".to_owned(),
        }),
        _ => Ok(DecodingKey::from_secret(line.as_bytes())),
    });
    let secrets: Vec<DecodingKey> = lines.collect::<Result<_, _>>()?;
    if secrets.is_empty() && config.hs256_secret.is_some() {
        return Err(Misconfigured { key: "auth.jwt.hs256_secret", advice: "is empty".to_owned() });
    }
    Ok(secrets)
}

fn public_key(pem: &str, algorithms: &[JwtAlgorithm]) -> Result<(Algorithm, DecodingKey), Misconfigured> {
    let read = [
        (JwtAlgorithm::RS256, DecodingKey::from_rsa_pem(pem.as_bytes())),
        (JwtAlgorithm::ES256, DecodingKey::from_ec_pem(pem.as_bytes())),
        (JwtAlgorithm::EdDSA, DecodingKey::from_ed_pem(pem.as_bytes())),
    ];
    let mut fits = read.into_iter().filter_map(|(algorithm, key)| Some((algorithm, key.ok()?)));
    match fits.next() {
        Some((algorithm, key)) if algorithms.contains(&algorithm) => Ok((algorithm.into(), key)),
        Some((algorithm, _)) => Err(Misconfigured {
            key: "auth.jwt.public_key",
            advice: format!("is for {algorithm:?}, which auth.jwt.algorithms does not have"),
        }),
        None => Err(Misconfigured {
            key: "auth.jwt.public_key",
            advice: "must be an RSA, P-256 or Ed25519 public key as PEM: -----BEGIN PUBLIC KEY-----".to_owned(),
        }),
    }
}
