//! What can go wrong in a store, told apart by what the caller can do about it.

use std::fmt;
use std::sync::Arc;

/// Our code for a call that credentials were refused to which have been
/// replaced since: the store is well.
pub const RENEWED: &str = "CredentialsRenewed";

/// The body given to a store broke off: the client vanished, stalled, sent
/// too much or too little, or other bytes than it declared. Why exactly is
/// known to whoever made the body; the store only drops what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyBroken;

impl fmt::Display for BodyBroken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body broke off")
    }
}

impl std::error::Error for BodyBroken {}

/// An error of a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The body broke off before its end; nothing was stored.
    #[error("the body broke off")]
    Body,
    /// There is no such multipart upload: never taken for "finished".
    #[error("the store has no such multipart upload")]
    NoSuchUpload,
    /// There is no such object.
    #[error("the store has no such object")]
    NoSuchObject,
    /// The parts given to `complete` are not those in the store.
    #[error("the store's parts are not those to be joined: {0}")]
    PartsDiffer(String),
    /// No space is left.
    #[error("the store has no space left")]
    Full,
    /// Worth trying again later: a time-out, a reset, a busy or failing store.
    #[error("the store is unavailable: {0}")]
    Unavailable(Fault),
    /// Not worth trying again: credentials, permissions, a wrong bucket, or a
    /// request that the store will never take.
    #[error("the store refused: {0}")]
    Refused(Fault),
}

/// What is known of a failed call, for the log: operation, place, code, request id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// `UploadPart`, `ListParts`, …
    pub operation: &'static str,
    /// `host:port`, where the store is one that is reached over a network.
    pub address: Option<Arc<str>>,
    /// The store's code (`SlowDown`, `AccessDenied`), or ours for what has none
    /// (`ConnectTimeout`, `FirstByteTimeout`, `IdleTimeout`, `ConnectionReset`).
    pub code: String,
    /// The store's sentence, or the error's.
    pub message: String,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The store's request id, for its support.
    pub request_id: Option<Box<str>>,
    /// What to do about it, where the code tells.
    pub remedy: Option<Box<str>>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.operation)?;
        if let Some(address) = &self.address {
            write!(f, " at {address}")?;
        }
        write!(f, ": {}", self.code)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        if let Some(status) = self.status {
            write!(f, " (status {status})")?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " (request id {id})")?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl StoreError {
    /// With the store's address, so that the log says whom we spoke to.
    #[must_use]
    pub fn at(mut self, address: &Arc<str>) -> Self {
        match &mut self {
            Self::Unavailable(fault) | Self::Refused(fault) => fault.address = Some(address.clone()),
            Self::Body | Self::NoSuchUpload | Self::NoSuchObject | Self::PartsDiffer(_) | Self::Full => {}
        }
        self
    }

    /// Whether it is not known what the store did, or the store is away.
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// Whether the same call may succeed later, unchanged.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Full => true,
            Self::Body | Self::NoSuchUpload | Self::NoSuchObject | Self::PartsDiffer(_) | Self::Refused(_) => false,
        }
    }
}
