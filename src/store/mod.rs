//! The object stores, behind one trait. A store states numbers, not flags:
//! what it cannot do is an error, never a silent no-op, and every store runs
//! the one suite in `conformance`.

pub mod breaker;
pub mod config;
pub mod conformance;
pub mod connecting;
pub mod credentials;
pub mod deadline;
pub mod error;
pub mod faulty;
pub mod file;
pub mod guarded;
pub mod identification;
pub mod memory;
pub mod oss;
pub mod parts;
pub mod remote;
pub mod retry;
pub mod s3;

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;

use crate::domain::{Crc64, ObjectKey, Part, PartBounds, PartNumber, Plan, SessionId, Timestamp};

pub use config::{BreakerConfig, FileConfig, PoolConfig, StoreConfig, StoreKind};
pub use error::{BodyBroken, StoreError};
pub use identification::Identification;

/// The bytes of a part or an object on their way into a store. They end with
/// `Ok` only after all announced bytes passed and were verified; an error
/// means that they never will be, and the store must drop what it has.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, BodyBroken>> + Send>>;

/// The bytes of an object on their way out of a store.
pub type ObjectStream = Pin<Box<dyn Stream<Item = Result<Bytes, StoreError>> + Send>>;

/// What proves that a part in the store is the part that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The store computes CRC-64/XZ of each part and of the whole.
    Crc64Xz,
    /// The store takes another checksum with each part, and gives it back.
    Checksum(&'static str),
    /// The part's ETag is its MD5.
    Md5Etag,
    /// Only the size: by explicit permission of the operator.
    SizeOnly,
}

impl Proof {
    /// Whether the store lists our checksum of each part, so that whatever lists
    /// none is no part of it.
    pub const fn lists_crc64(self) -> bool {
        match self {
            Self::Crc64Xz => true,
            Self::Checksum(_) | Self::Md5Etag | Self::SizeOnly => false,
        }
    }

    /// Whether the store has shown that it has the bytes of our checksum. What
    /// proves them otherwise was compared where it is known: in `put_part`.
    pub fn is_given(self, theirs: Option<Crc64>, ours: Crc64) -> bool {
        match (theirs, self) {
            (Some(theirs), _) => theirs == ours,
            // No proof is no pass, where the store is one that gives it.
            (None, Self::Crc64Xz) => false,
            (None, Self::Checksum(_) | Self::Md5Etag | Self::SizeOnly) => true,
        }
    }
}

/// What a store can hold and how it proves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sizes and number of parts.
    pub parts: PartBounds,
    /// The largest object in one `put`, in bytes.
    pub put_bytes_max: u64,
    /// The largest object there can be, in bytes.
    pub object_bytes_max: u64,
    /// What a part carries as proof.
    pub proof: Proof,
    /// Whether clients can be given URLs at which they put parts without us.
    pub direct: bool,
}

/// What a multipart upload is begun with.
#[derive(Clone, Debug)]
pub struct Begin<'a> {
    /// Where the object will lie.
    pub key: &'a ObjectKey,
    /// MIME type of the object.
    pub content_type: Option<&'a str>,
    /// The plan if it is declared: a store that writes in place preallocates
    /// by it. None while it is still to be learnt.
    pub plan: Option<&'a Plan>,
    /// Whether clients will put parts without us.
    pub direct: bool,
}

/// An object that somebody is to read without us.
#[derive(Clone, Debug)]
pub struct Download<'a> {
    /// The one method.
    pub method: &'a http::Method,
    /// Where the object lies.
    pub key: &'a ObjectKey,
    /// MIME type.
    pub content_type: Option<&'a str>,
    /// The Content-Disposition that the reader gets.
    pub disposition: String,
    /// For how long.
    pub expires_in: Duration,
}

/// A request by which somebody puts a part without us: `PUT`, and no other
/// headers of the store's than these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPut {
    /// Where.
    pub url: String,
    /// Headers that the signature covers, and that must be sent.
    pub headers: Vec<(&'static str, &'static str)>,
    /// For how long: what was asked for, or less where the credentials that
    /// signed it end before.
    pub expires_in: Duration,
}

/// A URL at which somebody reads an object without us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedGet {
    /// Where.
    pub url: String,
    /// For how long, as in `SignedPut`.
    pub expires_in: Duration,
}

/// A file that somebody is to send in a form, without us.
#[derive(Clone, Debug)]
pub struct FormAsk<'a> {
    /// Where its object will lie.
    pub key: &'a ObjectKey,
    /// MIME type; none lets the form say it.
    pub content_type: Option<&'a str>,
    /// The longest that it may be, in bytes.
    pub bytes_max: u64,
    /// For how long.
    pub expires_in: Duration,
}

/// A form for one file: these fields, and then `file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedForm {
    /// Where it is posted.
    pub url: String,
    /// Each exactly as it is.
    pub fields: Vec<(String, String)>,
    /// For how long, as in `SignedPut`.
    pub expires_in: Duration,
    /// Whether the store takes it only where nothing lies yet, so that it counts once.
    pub is_for_once: bool,
}

/// A multipart upload in the store.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Where the object will lie.
    pub key: &'a ObjectKey,
    /// The store's name for the multipart upload.
    pub session: &'a SessionId,
}

/// One part on its way in. For parts of a declared plan the store finds the
/// offset itself, from what `begin` was told.
pub struct NewPart {
    /// Its number.
    pub number: PartNumber,
    /// Exactly how many bytes `body` brings.
    pub bytes: u64,
    /// The bytes.
    pub body: Body,
}

impl fmt::Debug for NewPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewPart").field("number", &self.number).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// What the store said of a part it has taken durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPart {
    /// Without quotes.
    pub etag: String,
    /// Where the store computes it. The caller compares it with its own.
    pub crc64: Option<Crc64>,
}

/// What the store says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// Bytes.
    pub bytes: u64,
    /// Without quotes.
    pub etag: String,
    /// Where the store keeps it.
    pub crc64: Option<Crc64>,
    /// MIME type, where the store keeps it.
    pub content_type: Option<String>,
}

/// What a store shows of an object beyond its CRC-64: whether it is the parts
/// that it was to be joined from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It is, and nothing else.
    TheseParts,
    /// It is not.
    Others,
    /// Nothing is shown.
    Nothing,
}

/// An object that was joined from parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// It.
    pub object: StoredObject,
    /// What shows that it is they, where no CRC-64 does.
    pub shown: Shown,
}

impl From<StoredObject> for Joined {
    /// Of a store that keeps a CRC-64.
    fn from(object: StoredObject) -> Self {
        Self { object, shown: Shown::Nothing }
    }
}

/// An object, or a range of it, being read.
pub struct Reading {
    /// The whole object's properties.
    pub object: StoredObject,
    /// Exactly the bytes asked for.
    pub stream: ObjectStream,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("object", &self.object).finish_non_exhaustive()
    }
}

/// A multipart upload that the store lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUpload {
    /// Its object's key, as the store says it: it may be another deployment's.
    pub key: String,
    /// The store's name for it.
    pub session: SessionId,
    /// When it was begun, where the store says so.
    pub begun_at: Option<Timestamp>,
}

/// What becomes of multipart uploads that nobody finished, when nobody of ours
/// looks after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abandoned {
    /// The store is ours alone, and the sweeper is all that it takes.
    Swept,
    /// The store drops them itself, so many days old.
    DroppedAfterDays(u32),
    /// The store keeps them for good, and has them paid for.
    Kept,
}

/// What a store heard from somebody whom it told of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// That all is well.
    Well,
    /// This status, which is none of success.
    Status(u16),
    /// Nothing, or what it does not understand; in the store's words.
    Nothing(String),
}

/// An object store with multipart uploads.
///
/// A call that returns an error has either done nothing or done all of what
/// it was asked for, and the caller cannot know which: that is what
/// `list_parts` and `head` are for.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// `file`, `oss`, `s3`, `memory`: for logs and metrics.
    fn kind(&self) -> &'static str;

    /// Where objects end up, for people and events: the bucket, or the folder's name.
    fn bucket(&self) -> &str;

    /// What it can hold.
    fn limits(&self) -> Limits;

    /// Begins a multipart upload. Each call begins another one.
    async fn begin(&self, begin: Begin<'_>) -> Result<SessionId, StoreError>;

    /// Puts one part, durably, over one of the same number if there is any.
    /// When `part.body` breaks, nothing becomes a part and the error is
    /// `StoreError::Body`.
    async fn put_part(&self, target: Target<'_>, part: NewPart) -> Result<StoredPart, StoreError>;

    /// All parts, in ascending order. `NoSuchUpload` when there is none.
    async fn list_parts(&self, target: Target<'_>) -> Result<Vec<Part>, StoreError>;

    /// Joins exactly these parts, ascending and gapless, into the object, and
    /// forgets the multipart upload. An object of that key is replaced.
    async fn complete(&self, target: Target<'_>, parts: &[Part]) -> Result<Joined, StoreError>;

    /// Drops the multipart upload and its parts. Also `Ok` when there is none.
    async fn abort(&self, target: Target<'_>) -> Result<(), StoreError>;

    /// Puts a small object in one request, durably, replacing one of that key.
    async fn put(
        &self,
        key: &ObjectKey,
        content_type: Option<&str>,
        bytes: u64,
        body: Body,
    ) -> Result<StoredObject, StoreError>;

    /// The object's properties; `None` when there is no such object.
    async fn head(&self, key: &ObjectKey) -> Result<Option<StoredObject>, StoreError>;

    /// The object's bytes, or those of a range that lies within it.
    /// `NoSuchObject` when there is none.
    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Reading, StoreError>;

    /// Removes the object. Also `Ok` when there is none.
    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError>;

    /// All multipart uploads whose key begins with `prefix`.
    async fn list_uploads(&self, prefix: &str) -> Result<Vec<ListedUpload>, StoreError>;

    /// Whether it can be used right now, and if not, why: for `/healthz`.
    async fn check(&self) -> Result<(), StoreError>;

    /// What the store itself does about multipart uploads of such a key that
    /// nobody finishes: for the doctor.
    async fn abandoned(&self, _key: &ObjectKey) -> Result<Abandoned, StoreError> {
        let (operation, code) = ("Lifecycle", "NotSupported".to_owned());
        Err(StoreError::Refused(error::Fault { operation, code, ..error::Fault::default() }))
    }

    /// Puts a small object, and has the store tell of it whoever is configured to
    /// be told; what it heard from there, for the doctor. None where it tells nobody.
    async fn tell(&self, _key: &ObjectKey, _body: &'static [u8]) -> Result<Option<Heard>, StoreError> {
        Ok(None)
    }

    /// Who we are to it, after asking for credentials where they are given out:
    /// for the doctor. None for a store that asks nobody who they are.
    async fn identify(&self) -> Result<Option<Identification>, StoreError> {
        Ok(None)
    }

    /// What is configured of its credentials has changed: from now on, these.
    /// `env` is asked for what the configuration leaves open. A store that
    /// knows no credentials has nothing to change.
    fn renew(&self, config: &StoreConfig, env: &dyn Fn(&str) -> Option<String>) -> Result<(), String>;

    /// A URL at which anybody may read an object for a while, where the store
    /// has such.
    async fn download_url(&self, download: &Download<'_>) -> Result<Option<SignedGet>, StoreError>;

    /// How anybody may put this part for a while, where `Limits::direct` says
    /// that they may. Nothing bounds what they send: `list_parts` tells.
    async fn sign_part(
        &self,
        target: Target<'_>,
        number: PartNumber,
        expires_in: Duration,
    ) -> Result<Option<SignedPut>, StoreError>;

    /// A form by which anybody may put this object for a while: the store takes
    /// nothing larger and, where it can, writes nothing over. None where it has no
    /// such.
    async fn sign_form(&self, _ask: &FormAsk<'_>) -> Result<Option<SignedForm>, StoreError> {
        Ok(None)
    }
}

/// A body of bytes that are all here already.
pub fn body_of(bytes: impl Into<Bytes>) -> Body {
    let bytes = bytes.into();
    Box::pin(futures_util::stream::iter((!bytes.is_empty()).then_some(Ok(bytes))))
}
