//! An upload, its chunks and parts, and the file it becomes.

use std::collections::BTreeMap;

use crate::domain::checksum::{Checksum, Crc64};
use crate::domain::ids::{FileId, LeaseToken, ObjectKey, Owner, PartNumber, SessionId, UploadId};
use crate::domain::plan::Geometry;
use crate::domain::time::Timestamp;

/// One upload, as the ledger knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The ledger's own id.
    pub id: UploadId,
    /// Whose it is.
    pub owner: Owner,
    /// The client's id, unique within its owner.
    pub file_id: FileId,
    /// The user's file name: data, never a path.
    pub file_name: String,
    /// MIME type, if the client said one.
    pub content_type: Option<String>,
    /// The client's own pairs, handed back in answers and events.
    pub metadata: BTreeMap<String, String>,
    /// How the file is cut.
    pub geometry: Geometry,
    /// The checksum of the whole file that the client declared.
    pub checksum: Option<Checksum>,
    /// Whether the last chunk starts the merge.
    pub auto_complete: bool,
    /// Where the object will lie; chosen once, at creation.
    pub key: ObjectKey,
    /// What is happening to it.
    pub state: State,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed, chunks aside.
    pub updated_at: Timestamp,
    /// When it is given up if no chunk comes.
    pub expires_at: Timestamp,
    /// What it has of its owner's bytes while it is open.
    pub reserved_bytes: u64,
    /// Whether clients were given URLs of the store to put parts at: then the
    /// store knows of chunks that the ledger does not.
    pub is_direct: bool,
}

/// The state of an upload, with what only that state has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Takes chunks.
    Open {
        /// The store's multipart upload, once the first chunk has begun it.
        session: Option<SessionId>,
    },
    /// Somebody is merging it.
    Completing {
        /// The store's multipart upload; none for a file of no bytes.
        session: Option<SessionId>,
        /// Who, and until when.
        lease: Lease,
    },
    /// Its object exists, and never changes again.
    Completed {
        /// The object's identity.
        object: Object,
    },
    /// It cannot become a file.
    Failed {
        /// Why not.
        failure: Failure,
    },
    /// The client gave it up.
    Aborted,
    /// No chunk came for `upload.expires_after`.
    Expired,
}

/// The right to merge one upload, for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Names this lease and no other: every write under it is conditional on it.
    pub token: LeaseToken,
}

/// A completed object's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The store's ETag, without quotes.
    pub etag: String,
    /// Bytes.
    pub bytes: u64,
    /// CRC-64/XZ of the whole. None where parts of it came straight to a store
    /// that keeps none.
    pub crc64: Option<Crc64>,
    /// When it was completed.
    pub completed_at: Timestamp,
}

/// Why an upload cannot become a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The store no longer knows the multipart upload, nor the object.
    UploadLost,
    /// The bytes are not those that were declared or acknowledged.
    IntegrityFailed,
}

impl Failure {
    /// The stable code in answers, events and the ledger.
    pub const fn code(self) -> &'static str {
        match self {
            Self::UploadLost => "upload_lost",
            Self::IntegrityFailed => "integrity_failed",
        }
    }

    /// Reads the code.
    pub fn parse(code: &str) -> Option<Self> {
        [Self::UploadLost, Self::IntegrityFailed].into_iter().find(|f| f.code() == code)
    }
}

/// The state's name alone, as clients, the ledger and filters say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// `State::Open`.
    Uploading,
    /// `State::Completing`.
    Completing,
    /// `State::Completed`.
    Completed,
    /// `State::Failed`.
    Failed,
    /// `State::Aborted`.
    Aborted,
    /// `State::Expired`.
    Expired,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Uploading, Self::Completing, Self::Completed, Self::Failed, Self::Aborted, Self::Expired];

    /// The name in JSON, filters and the ledger.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uploading => "uploading",
            Self::Completing => "completing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
            Self::Expired => "expired",
        }
    }

    /// Whether it has ended without a file: then its fileId is free again.
    pub const fn is_over(self) -> bool {
        match self {
            Self::Failed | Self::Aborted | Self::Expired => true,
            Self::Uploading | Self::Completing | Self::Completed => false,
        }
    }

    /// Reads the name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }
}

impl State {
    /// The state's name.
    pub const fn status(&self) -> Status {
        match self {
            Self::Open { .. } => Status::Uploading,
            Self::Completing { .. } => Status::Completing,
            Self::Completed { .. } => Status::Completed,
            Self::Failed { .. } => Status::Failed,
            Self::Aborted => Status::Aborted,
            Self::Expired => Status::Expired,
        }
    }
}

impl Chunk {
    /// Whether both are the same bytes: by their checksums or, where one has
    /// none, as the same part of the store.
    pub fn is_same(&self, other: &Self) -> bool {
        let by_checksum = self.crc64.zip(other.crc64).map(|(one, other)| one == other);
        self.bytes == other.bytes && by_checksum.unwrap_or_else(|| self.etag.eq_ignore_ascii_case(&other.etag))
    }
}

impl Upload {
    /// The multipart upload that chunks go into, while there is one.
    pub const fn session(&self) -> Option<&SessionId> {
        match &self.state {
            State::Open { session } | State::Completing { session, .. } => session.as_ref(),
            State::Completed { .. } | State::Failed { .. } | State::Aborted | State::Expired => None,
        }
    }

    /// The file that a completed upload is.
    pub fn file(&self) -> Option<File> {
        match &self.state {
            State::Completed { object } => Some(self.file_with(object.clone())),
            State::Open { .. } | State::Completing { .. } | State::Failed { .. } | State::Aborted | State::Expired => {
                None
            }
        }
    }

    /// The file that this upload is with its object. A digest other than CRC-64
    /// is verified only where one chunk was all of it: chunks come in any order.
    pub fn file_with(&self, object: Object) -> File {
        let declared = self.checksum.map(|checksum| match checksum {
            Checksum::Crc64(declared) => (checksum, object.crc64 == Some(declared)),
            Checksum::Md5(_) | Checksum::Sha256(_) => (checksum, self.geometry.count() <= 1 && !self.is_direct),
        });
        File {
            id: self.id,
            owner: self.owner.clone(),
            file_id: self.file_id.clone(),
            file_name: self.file_name.clone(),
            content_type: self.content_type.clone(),
            metadata: self.metadata.clone(),
            key: self.key.clone(),
            object,
            declared,
        }
    }
}

/// A chunk that was acknowledged to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// From 0.
    pub index: u32,
    /// Its length.
    pub bytes: u64,
    /// Its checksum, computed by us while it passed, or by the store. None of one
    /// that came straight to a store that keeps none.
    pub crc64: Option<Crc64>,
    /// The store's ETag of the part that is this chunk.
    pub etag: String,
}

/// A part that an upload's object is made of, as the ledger knows it or as the
/// store lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// 1–10 000.
    pub number: PartNumber,
    /// Its length.
    pub bytes: u64,
    /// The store's ETag, without quotes.
    pub etag: String,
    /// Its CRC-64/XZ. The ledger knows it of all that passed a gateway; a store
    /// that does not list it proves its parts by their ETags.
    pub crc64: Option<Crc64>,
}

/// A recorded chunk, as far as a client that comes back must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its index.
    pub index: u32,
    /// Its length.
    pub bytes: u64,
}

/// How much of an upload is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Recorded chunks.
    pub chunks: u32,
    /// Bytes in them.
    pub bytes: u64,
}

/// A file that is there: a completed upload, or one that came in one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The ledger's own id: that of the upload it comes from.
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
    /// Where its bytes lie.
    pub key: ObjectKey,
    /// Their identity.
    pub object: Object,
    /// A digest that the client declared, and whether we verified it: the
    /// server must have seen the bytes in order.
    pub declared: Option<(Checksum, bool)>,
}
