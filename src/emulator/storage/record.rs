//! What is kept of objects, uploads and parts: the JSON beside the bytes.

use serde::{Deserialize, Serialize};

use crate::domain::{Crc64, Timestamp};

/// The headers of an object that come back when it is read, by lower-case name.
pub(crate) type KeptHeaders = Vec<(String, String)>;

/// Pairs by which objects are found and billed.
pub(crate) type Tags = Vec<(String, String)>;

/// Who else may read or write an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Acl {
    /// As its bucket, which is private.
    #[default]
    Default,
    Private,
    PublicRead,
    PublicReadWrite,
}

impl Acl {
    /// As OSS writes it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Private => "private",
            Self::PublicRead => "public-read",
            Self::PublicReadWrite => "public-read-write",
        }
    }

    /// Reads what OSS writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let all = [Self::Default, Self::Private, Self::PublicRead, Self::PublicReadWrite];
        all.into_iter().find(|acl| acl.name() == text)
    }

    /// Whether anybody may read.
    pub(crate) const fn is_public(self) -> bool {
        matches!(self, Self::PublicRead | Self::PublicReadWrite)
    }
}

/// What a client says of an object beside its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Properties {
    pub headers: KeptHeaders,
    #[serde(default)]
    pub tags: Tags,
    #[serde(default)]
    pub acl: Acl,
}

/// Bytes of a file in `blobs/`, all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    /// The file's name.
    pub blob: BlobId,
    /// Its length in bytes.
    pub bytes: u64,
}

/// The random name of a file in `blobs/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct BlobId(pub u128);

impl From<BlobId> for String {
    fn from(id: BlobId) -> Self {
        format!("{:032x}", id.0)
    }
}

impl TryFrom<String> for BlobId {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u128::from_str_radix(&text, 16).map(Self)
    }
}

/// How an object came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ObjectType {
    /// By PutObject.
    Normal,
    /// By CompleteMultipartUpload.
    Multipart,
    /// By AppendObject: it can grow.
    Appendable,
}

impl ObjectType {
    /// `x-oss-object-type`
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Multipart => "Multipart",
            Self::Appendable => "Appendable",
        }
    }
}

/// An object. Its bytes are its segments', one after the other: completing an
/// upload moves no bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ObjectRecord {
    pub key: String,
    pub bytes: u64,
    /// Upper-case hex, without quotes; `MD5-N` for a multipart object.
    pub etag: String,
    pub crc64: u64,
    pub object_type: ObjectType,
    pub modified_millis: i64,
    #[serde(flatten)]
    pub properties: Properties,
    /// The upload that it was completed from: if that is still there when the
    /// emulator starts, it was killed between the two.
    pub upload_id: Option<String>,
    pub segments: Vec<Segment>,
}

/// A multipart upload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct UploadRecord {
    pub upload_id: String,
    pub key: String,
    pub initiated_millis: i64,
    #[serde(flatten)]
    pub properties: Properties,
    pub forbid_overwrite: bool,
}

/// A part of a multipart upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartRecord {
    pub number: u16,
    pub bytes: u64,
    /// The MD5 in upper-case hex, without quotes.
    pub etag: String,
    pub crc64: u64,
    pub modified_millis: i64,
    pub blob: BlobId,
}

impl ObjectRecord {
    /// When it was written.
    pub(crate) const fn modified(&self) -> Timestamp {
        Timestamp::from_millis(self.modified_millis)
    }

    /// A header that came with it, by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.properties.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// `Standard`, unless it was told otherwise.
    pub(crate) fn storage_class(&self) -> &str {
        self.header("x-oss-storage-class").unwrap_or("Standard")
    }

    /// Of all its bytes.
    pub(crate) const fn crc64(&self) -> Crc64 {
        Crc64(self.crc64)
    }
}

impl PartRecord {
    /// Of its bytes.
    pub(crate) const fn crc64(&self) -> Crc64 {
        Crc64(self.crc64)
    }
}
