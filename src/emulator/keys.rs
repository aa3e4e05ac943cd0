//! The access keys that are accepted: the one of the configuration, and those
//! that come and go as those of STS do.

use std::str::FromStr;
use std::sync::{PoisonError, RwLock};

use super::access::{AccessKey, AccessKeys};
use crate::domain::Timestamp;
use crate::units::Secret;

/// An access key as STS gives it.
#[derive(Clone, Debug)]
pub struct GrantedKey {
    /// `STS.…`
    pub id: String,
    /// Its secret.
    pub secret: Secret,
    /// Nothing is accepted without it, if there is one.
    pub token: Option<Secret>,
    /// When it ends.
    pub expires: Option<Timestamp>,
}

impl FromStr for GrantedKey {
    type Err = String;

    /// `ID:SECRET:TOKEN`, and a time if it ends: `:2026-12-01T00:00:00Z`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut fields = text.splitn(4, ':').map(str::trim);
        let mut field = |what: &str| {
            fields
                .next()
                .filter(|field| !field.is_empty())
                .ok_or_else(|| format!("there is no {what}: ID:SECRET:TOKEN[:EXPIRES]"))
        };
        let (id, secret, token) = (field("id")?, field("secret")?, field("token")?);
        let expires = match fields.next() {
            None => None,
            Some(text) => {
                Some(Timestamp::parse_rfc3339(text).ok_or("it ends at no time such as 2026-12-01T00:00:00Z")?)
            }
        };
        Ok(Self { id: id.to_owned(), secret: Secret::new(secret), token: Some(Secret::new(token)), expires })
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Keys(RwLock<Vec<GrantedKey>>);

impl Keys {
    pub(crate) const fn new(keys: Vec<GrantedKey>) -> Self {
        Self(RwLock::new(keys))
    }

    /// From now on this one is accepted, in place of one with its id.
    pub(crate) fn grant(&self, key: GrantedKey) {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|known| known.id != key.id);
        keys.push(key);
    }

    /// From now on it is not.
    pub(crate) fn revoke(&self, id: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|known| known.id != id);
    }

    /// Asks something of those that are accepted now.
    pub(crate) fn with<T>(&self, region: &str, ask: impl FnOnce(&AccessKeys<'_>) -> T) -> T {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<AccessKey<'_>> = keys
            .iter()
            .map(|key| AccessKey {
                id: &key.id,
                secret: key.secret.expose(),
                region,
                token: key.token.as_ref().map(Secret::expose),
                expires: key.expires,
            })
            .collect();
        ask(&keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_sts_is_written_in_one_line() {
        let key: GrantedKey = "STS.1:secret:to/ken==:2026-12-01T00:00:00Z".parse().expect("a key");
        assert_eq!((key.id.as_str(), key.secret.expose()), ("STS.1", "secret"));
        assert_eq!(key.token.as_ref().map(Secret::expose), Some("to/ken=="));
        assert_eq!(key.expires.map(Timestamp::rfc3339).as_deref(), Some("2026-12-01T00:00:00.000Z"));
        assert!("a:b:c".parse::<GrantedKey>().is_ok_and(|key| key.expires.is_none()));
        for bad in ["", "a", "a:b", "a:b:", ":b:c", "a:b:c:tomorrow"] {
            assert!(bad.parse::<GrantedKey>().is_err(), "{bad}");
        }
        assert!(!format!("{key:?}").contains("secret\""));
    }

    #[test]
    fn keys_come_and_go() {
        let keys = Keys::new(vec![]);
        let ids = || keys.with("r", |keys| keys.iter().map(|key| key.id.to_owned()).collect::<Vec<_>>());
        keys.grant("a:b:c".parse().expect("a key"));
        keys.grant("a:x:y".parse().expect("a key"));
        assert_eq!(ids(), ["a"]);
        keys.revoke("a");
        assert!(ids().is_empty());
    }
}
