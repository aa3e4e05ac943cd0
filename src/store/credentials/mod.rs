//! Who we are to a store: where that is written or whom to ask, and how it is
//! kept fresh. `key`, `remedy` and `said` are pure; `source` and `role` ask; `keeper` asks once for
//! all who wait, and early enough. Whom else a store's own people ask (a token
//! service, an instance's metadata) is in that store's folder.

pub(in crate::store) mod asked;
pub(in crate::store) mod files;
mod keeper;
pub mod key;
mod remedy;
mod role;
pub(in crate::store) mod said;
mod source;

use std::fmt;
use std::time::Duration;

pub use files::Text;
pub use keeper::Keeper;
pub use remedy::remedy;
pub use role::Role;
pub use source::{Ask, Source, Tools};

use crate::store::StoreError;
use crate::store::error::Fault;
use crate::units::Secret;

/// Who we are to a store.
#[derive(Clone)]
pub struct Credentials {
    /// The access key's id.
    pub access_key_id: String,
    /// The access key's secret.
    pub access_key_secret: Secret,
    /// The token that came with the two, where they are temporary.
    pub security_token: Option<Secret>,
}

impl Credentials {
    /// Whether the two are one.
    pub fn are(&self, other: &Self) -> bool {
        let token = |of: &Self| of.security_token.as_ref().map(|token| token.expose().to_owned());
        self.access_key_id == other.access_key_id
            && self.access_key_secret.expose() == other.access_key_secret.expose()
            && token(self) == token(other)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(********)")
    }
}

/// Credentials as they came.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// They.
    pub credentials: Credentials,
    /// For how long from now they are good, where whoever gave them says so.
    pub life: Option<Duration>,
}

/// Why there are no credentials. Never repeats a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoCredentials {
    /// Whose code or which of ours: `NoPermission`, `Unreadable`, …
    pub code: String,
    /// What happened, and where.
    pub message: String,
    /// Whether asking again later may help.
    pub is_transient: bool,
    /// Which kind they should have been, once that is known.
    pub kind: Option<&'static str>,
    /// What to do about it, likewise.
    pub remedy: Option<Box<str>>,
}

impl NoCredentials {
    pub(in crate::store) fn for_now(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), is_transient: true, kind: None, remedy: None }
    }

    pub(in crate::store) fn for_good(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), is_transient: false, kind: None, remedy: None }
    }

    /// As an error of the call that needed them.
    pub fn of_call(&self, operation: &'static str) -> StoreError {
        let fault = self.fault(operation);
        if self.is_transient { StoreError::Unavailable(fault) } else { StoreError::Refused(fault) }
    }

    /// What is known of it.
    pub fn fault(&self, operation: &'static str) -> Fault {
        let kind = self.kind.map(|kind| format!(" ({kind})")).unwrap_or_default();
        let message = format!("no credentials for the store{kind}: {self}");
        let (code, remedy) = ("NoCredentials".to_owned(), self.remedy.clone());
        Fault { operation, code, message, remedy, ..Fault::default() }
    }
}

impl fmt::Display for NoCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}
