//! What a use case answers when it does not do what it was asked for.

use crate::domain::Refusal;
use crate::ledger::LedgerError;
use crate::store::StoreError;

/// A refusal, or a failure of what lies below. Logged once, where it becomes
/// an answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The request was refused: the client's matter.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The store failed.
    #[error(transparent)]
    Store(Box<StoreError>),
    /// What cannot be, was.
    #[error("{0}")]
    Broken(String),
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        // Boxed: it names all that is known of the call, and results are moved about.
        Self::Store(Box::new(error))
    }
}

impl EngineError {
    /// What the client is told.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal.clone(),
            Self::Ledger(error) => of_ledger(error),
            Self::Store(error) => of_store(error),
            Self::Broken(_) => Refusal::Internal,
        }
    }

    /// Whether the same may succeed later, unchanged, and nobody knows whether
    /// it has already.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_unavailable(),
            Self::Ledger(error) => error.is_unavailable() || error.is_full(),
            Self::Refused(_) | Self::Broken(_) => false,
        }
    }

    /// Whether it belongs into the log: failures do, refusals are the client's.
    pub const fn is_failure(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}

fn of_ledger(error: &LedgerError) -> Refusal {
    if error.is_full() {
        Refusal::StorageFull
    } else if error.is_unavailable() {
        Refusal::DatabaseUnavailable
    } else {
        Refusal::Internal
    }
}

fn of_store(error: &StoreError) -> Refusal {
    match error {
        StoreError::Full => Refusal::StorageFull,
        StoreError::Unavailable(_) => Refusal::StoreUnavailable { reason: "the object store did not answer" },
        StoreError::Refused(_) => {
            Refusal::StoreUnavailable { reason: "the object store refused the gateway; its log says why" }
        }
        StoreError::Body => Refusal::invalid("the body broke off: send the chunk again"),
        StoreError::NoSuchUpload => Refusal::UploadLost,
        StoreError::NoSuchObject => Refusal::FileNotFound,
        StoreError::PartsDiffer(_) => {
            Refusal::StoreUnavailable { reason: "the object store does not have the parts it acknowledged" }
        }
    }
}
