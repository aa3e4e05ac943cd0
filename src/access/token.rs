//! Access tokens: JWTs that we sign ourselves (HS256), short-lived, checked
//! without the database. Each carries the family that it belongs to.

use std::time::Duration;

use hmac::Mac as _;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::access::jwt;
use crate::access::link::Link;
use crate::access::terms::WrittenGrant;
use crate::domain::grant::Grant;
use crate::domain::{Owner, Refusal, Timestamp};
use crate::ledger::{self, KeySecret};

/// What our own tokens name as their issuer.
const ISSUER: &str = "chunkgate";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Claims {
    /// `chunkgate`
    pub iss: String,
    /// Whose files they are.
    pub sub: String,
    /// The family; none in a token that was made by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fam: Option<Uuid>,
    /// Seconds since the Unix epoch.
    pub iat: i64,
    /// The same.
    pub exp: i64,
    /// What for.
    #[serde(flatten)]
    pub grant: WrittenGrant,
}

/// A key that is ready to sign and to check.
pub struct Key {
    id: String,
    made_at: Timestamp,
    secret: KeySecret,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

impl From<&ledger::SigningKey> for Key {
    fn from(key: &ledger::SigningKey) -> Self {
        Self {
            id: key.id.clone(),
            made_at: key.created_at,
            secret: key.secret.clone(),
            encoding: EncodingKey::from_secret(&key.secret.0),
            decoding: DecodingKey::from_secret(&key.secret.0),
        }
    }
}

/// The keys there are, the newest last.
#[derive(Debug, Default)]
pub struct Keys(Vec<Key>);

impl FromIterator<Key> for Keys {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

impl Keys {
    /// Whether this is the name of one of them.
    pub fn have(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id == id)
    }

    /// A token that says this, signed with the newest key that was made before
    /// `settled`: the other gateways know it by then.
    pub fn sign(&self, claims: &Claims, settled: Timestamp) -> Option<String> {
        let key = self.settled(settled)?;
        let header = Header { kid: Some(key.id.clone()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, claims, &key.encoding).ok()
    }

    fn settled(&self, settled: Timestamp) -> Option<&Key> {
        self.0.iter().rev().find(|key| key.made_at <= settled).or(self.0.first())
    }

    /// A link's signature, with the key that `sign` takes.
    pub fn sign_link(&self, link: &Link<'_>, settled: Timestamp) -> Option<String> {
        let key = self.settled(settled)?;
        Some(format!("{}.{}", key.id, hex::encode(link.keyed(&key.secret).finalize().into_bytes())))
    }

    /// Whether this is the signature of the link by one of these.
    pub fn have_signed(&self, link: &Link<'_>, signature: &str) -> bool {
        let Some((key_id, digits)) = signature.split_once('.') else { return false };
        let (key, mac) = (self.0.iter().find(|key| key.id == key_id), hex::decode(digits));
        key.zip(mac.ok()).is_some_and(|(key, mac)| link.keyed(&key.secret).verify_slice(&mac).is_ok())
    }

    /// What a token says that one of these has signed. `now` decides whether
    /// it still counts.
    pub fn check(&self, token: &str, key_id: &str, now: Timestamp) -> Result<Claims, Refusal> {
        let key = self.0.iter().find(|key| key.id == key_id).ok_or(NOT_SIGNED)?;
        match jwt::signed::<Claims>(token, &key.decoding, Algorithm::HS256).ok_or(NOT_SIGNED)? {
            claims if claims.iss != ISSUER => Err(NOT_SIGNED),
            claims if claims.exp <= now.seconds() => Err(Refusal::TokenExpired { what: "access token" }),
            claims => Ok(claims),
        }
    }
}

const NOT_SIGNED: Refusal = Refusal::Unauthorized { reason: "the token was not signed by this gateway" };

impl Claims {
    /// Of a token that is made at this time and lasts so long.
    pub fn new(owner: &Owner, family: Option<Uuid>, at: Timestamp, lasts: Duration, grant: WrittenGrant) -> Self {
        let (iss, sub) = (ISSUER.to_owned(), owner.as_str().to_owned());
        Self { iss, sub, fam: family, iat: at.seconds(), exp: at.plus(lasts).seconds(), grant }
    }

    /// What they allow.
    pub fn grant(&self) -> Result<Grant, Refusal> {
        let malformed = |_| Refusal::TokenMalformed { reason: "the token says nothing that this gateway understands" };
        self.grant.read(Owner::parse(&self.sub).map_err(malformed)?).map_err(malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::terms::WrittenTerms;
    use crate::domain::grant::{Scope, Scopes};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_795_000_000_000 + seconds * 1000)
    }

    fn key(id: &str, byte: u8, seconds: i64) -> Key {
        let secret = KeySecret([byte; 32]);
        Key::from(&ledger::SigningKey { id: id.to_owned(), secret, created_at: at(seconds) })
    }

    fn claims() -> Claims {
        Claims {
            iss: ISSUER.to_owned(),
            sub: "u7".to_owned(),
            fam: Some(Uuid::from_u128(7)),
            iat: at(0).seconds(),
            exp: at(900).seconds(),
            grant: WrittenGrant {
                scope: "uploads:write".to_owned(),
                terms: WrittenTerms { max_file_size: Some(10), ..WrittenTerms::default() },
            },
        }
    }

    fn key_of(token: &str) -> String {
        jsonwebtoken::decode_header(token).ok().and_then(|header| header.kid).unwrap_or_default()
    }

    #[test]
    fn a_token_is_checked_as_it_was_signed() {
        let keys = Keys::from_iter([key("a", 1, 0)]);
        let token = keys.sign(&claims(), at(0)).expect("signed");
        assert_eq!(keys.check(&token, &key_of(&token), at(899)), Ok(claims()));
        assert_eq!(keys.check(&token, "a", at(900)), Err(Refusal::TokenExpired { what: "access token" }));
        let grant = claims().grant().expect("a grant");
        assert!(grant.allows(Scope::UploadsWrite).is_ok() && grant.allows(Scope::FilesRead).is_err());
        assert_eq!(grant.terms.file_bytes_max, Some(10));
        // Whatever is edited, it is not ours any more.
        let other = Keys::from_iter([key("a", 2, 0)]);
        assert_eq!(other.check(&token, "a", at(1)), Err(NOT_SIGNED));
        let all = WrittenGrant { scope: Scopes::ALL.to_string(), terms: WrittenTerms::default() };
        let widened = Claims { grant: all, ..claims() };
        let body = other.sign(&widened, at(0)).expect("signed");
        let parts = |token: &str| token.split('.').map(ToOwned::to_owned).collect::<Vec<_>>();
        let mixed = [&parts(&body)[..2], &parts(&token)[2..]].concat();
        assert_eq!(keys.check(&mixed.join("."), "a", at(1)), Err(NOT_SIGNED));
        assert_eq!(keys.check(&token, "b", at(1)), Err(NOT_SIGNED));
    }

    #[test]
    fn a_new_key_signs_when_all_know_it_and_the_old_still_counts() {
        let both = Keys::from_iter([key("a", 1, 0), key("b", 2, 100)]);
        let settle = Duration::from_secs(60);
        let token = both.sign(&claims(), at(110).minus(settle)).expect("signed");
        assert_eq!(key_of(&token), "a");
        let later = both.sign(&claims(), at(161).minus(settle)).expect("signed");
        assert_eq!(key_of(&later), "b");
        assert!(both.check(&token, "a", at(200)).is_ok() && both.check(&later, "b", at(200)).is_ok());
        // The first key there is has nobody to wait for.
        let only = Keys::from_iter([key("a", 1, 0)]);
        assert!(only.sign(&claims(), at(0).minus(settle)).is_some());
    }
}
