//! An upload that does not exist yet.

use std::collections::BTreeMap;

use serde_json::json;

use crate::domain::{Checksum, FileId, Geometry, ObjectKey, Owner, State, Timestamp, Upload, UploadId};
use crate::ledger::{size, written};

/// An upload that does not exist yet.
#[derive(Clone, Debug)]
pub struct NewUpload {
    /// The ledger's own id for it.
    pub id: UploadId,
    /// Whose it is.
    pub owner: Owner,
    /// The client's id, unique within its owner.
    pub file_id: FileId,
    /// The user's file name: data, never a path.
    pub file_name: String,
    /// MIME type, if the client said one.
    pub content_type: Option<String>,
    /// The client's own pairs.
    pub metadata: BTreeMap<String, String>,
    /// How the file is cut.
    pub geometry: Geometry,
    /// The checksum of the whole file that the client declared.
    pub checksum: Option<Checksum>,
    /// Whether the last chunk starts the merge.
    pub auto_complete: bool,
    /// Where the object will lie.
    pub key: ObjectKey,
    /// Where the key comes from.
    pub key_origin: KeyOrigin,
    /// What it takes of its owner's bytes, as far as that is known.
    pub reserved_bytes: u64,
    /// Now.
    pub at: Timestamp,
    /// When it is given up if no chunk comes.
    pub expires_at: Timestamp,
}

/// Where an upload's key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// From a template: it was drawn by lot, and is nobody else's.
    Drawn,
    /// From the application, letter by letter: it may be another's.
    Chosen {
        /// Whether there was an object under it just now.
        is_occupied: bool,
    },
}

impl KeyOrigin {
    /// Whether the application chose the key.
    pub const fn is_chosen(self) -> bool {
        matches!(self, Self::Chosen { .. })
    }
}

impl NewUpload {
    /// Whether there is an object already where its own is to lie.
    pub(super) const fn is_occupied(&self) -> bool {
        matches!(self.key_origin, KeyOrigin::Chosen { is_occupied: true })
    }

    /// The upload that comes of it, in the state it begins in.
    pub fn upload(&self, state: State) -> Upload {
        Upload {
            id: self.id,
            owner: self.owner.clone(),
            file_id: self.file_id.clone(),
            file_name: self.file_name.clone(),
            content_type: self.content_type.clone(),
            metadata: self.metadata.clone(),
            geometry: self.geometry,
            checksum: self.checksum,
            auto_complete: self.auto_complete,
            key: self.key.clone(),
            state,
            created_at: self.at,
            updated_at: self.at,
            expires_at: self.expires_at,
            reserved_bytes: self.reserved_bytes,
            is_direct: false,
        }
    }

    /// What every new row says, by the names of its columns.
    pub(super) fn row(&self) -> serde_json::Value {
        json!({
            "id": self.id.0.simple().to_string(),
            "owner": self.owner.as_str(),
            "file_id": self.file_id.as_str(),
            "file_name": self.file_name,
            "content_type": self.content_type,
            "metadata": written::metadata_json(&self.metadata),
            "total_chunks": self.geometry.count(),
            "chunk_bytes": self.geometry.chunk_bytes().map(size),
            "last_bytes": self.geometry.last_bytes().map(size),
            "file_bytes": self.geometry.total_bytes().map(size),
            "checksum": self.checksum.map(|checksum| checksum.tagged()),
            "auto_complete": self.auto_complete,
            "object_key": self.key.as_str(),
            "reserved_bytes": size(self.reserved_bytes),
            "created_at": self.at.millis(),
            "expires_at": self.expires_at.millis(),
        })
    }
}
