//! What a token locks in, as JSON: in `POST /auth/tokens`, in our own tokens
//! and in those of the application's issuer.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::grant::{Grant, KeyPrefix, Scopes, Terms};
use crate::domain::kind::Kinds;
use crate::domain::{FileId, Owner, Refusal, rules};

/// `{maxFileSize?, allowedTypes?, fileId?, keyPrefix?, metadata?}`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WrittenTerms {
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_file_size: Option<u64>,
    /// MIME types.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_types: Option<Vec<String>>,
    /// The one upload there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_id: Option<String>,
    /// A folder in the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_prefix: Option<String>,
    /// Pairs for every upload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
}

impl WrittenTerms {
    /// As they are written.
    pub fn of(terms: &Terms) -> Self {
        Self {
            max_file_size: terms.file_bytes_max,
            allowed_types: terms.kinds.as_ref().map(|kinds| kinds.as_slice().to_vec()),
            file_id: terms.file_id.as_ref().map(|id| id.as_str().to_owned()),
            key_prefix: terms.key_prefix.as_ref().map(|prefix| prefix.as_str().to_owned()),
            metadata: (!terms.metadata.is_empty()).then(|| terms.metadata.clone()),
        }
    }

    /// What they mean.
    pub fn read(&self) -> Result<Terms, Refusal> {
        let metadata = self.metadata.clone().unwrap_or_default();
        rules::check_metadata(&metadata)?;
        Ok(Terms {
            file_bytes_max: self.max_file_size,
            kinds: self.allowed_types.as_deref().map(Kinds::parse).transpose()?,
            file_id: self.file_id.as_deref().map(FileId::parse).transpose()?,
            key_prefix: self.key_prefix.as_deref().map(KeyPrefix::parse).transpose()?,
            metadata,
        })
    }
}

/// What a login is for, as our own tokens and the ledger have it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct WrittenGrant {
    /// Names with spaces between them.
    pub scope: String,
    /// What is locked in.
    #[serde(flatten)]
    pub terms: WrittenTerms,
}

impl WrittenGrant {
    /// What it lets this owner do.
    pub fn read(&self, owner: Owner) -> Result<Grant, Refusal> {
        let scopes = Scopes::parse(&self.scope).ok_or(Refusal::TokenMalformed { reason: "its scope is unknown" })?;
        Ok(Grant { owner, scopes, terms: Arc::new(self.terms.read()?) })
    }
}
