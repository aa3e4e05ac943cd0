//! Names of things. Each is valid by construction: what parses here needs no
//! second look further in.

use std::fmt;

use uuid::Uuid;

use crate::domain::refusal::Refusal;

/// The client's name for an upload and the file it becomes: 1–128 characters
/// of `A-Za-z0-9._~-`, not `.` or `..`. Means nothing outside its owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(String);

impl FileId {
    /// The longest fileId, in characters.
    pub const CHARS_MAX: usize = 128;

    /// Reads a fileId as a client sent it.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-');
        let valid =
            !text.is_empty() && text.len() <= Self::CHARS_MAX && text.bytes().all(plain) && text != "." && text != "..";
        if valid { Ok(Self(text.to_owned())) } else { Err(Refusal::InvalidFileId) }
    }

    /// One that the server makes: 128 random bits in hex.
    pub fn from_random(bits: u128) -> Self {
        Self(format!("{bits:032x}"))
    }

    /// As the client wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose uploads these are: `local`, `key:{name}`, or what a back end said
/// with `?owner=`. 1–256 characters, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(String);

impl Owner {
    /// The longest owner, in bytes.
    pub const BYTES_MAX: usize = 256;

    /// Reads an owner as a back end sent it.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() || text.len() > Self::BYTES_MAX || text.chars().any(char::is_control) {
            return Err(Refusal::InvalidParameter {
                name: "owner",
                reason: format!("is 1 to {} bytes without control characters", Self::BYTES_MAX),
            });
        }
        Ok(Self(text.to_owned()))
    }

    /// The one owner there is without authentication.
    pub fn local() -> Self {
        Self("local".to_owned())
    }

    /// Who owns nothing: no owner's text is empty, so none is this one.
    pub const fn nobody() -> Self {
        Self(String::new())
    }

    /// What an API key owns when it does not act for somebody else.
    pub fn of_key(name: &str) -> Self {
        Self(format!("key:{name}"))
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The ledger's own name for one upload. A fileId that is used again gets
/// another one, so that the remains of the old are never taken for the new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(pub Uuid);

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

/// The fencing token of one lease: whoever writes under a lease names it, and
/// a holder that was overtaken names one that is no longer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseToken(pub Uuid);

/// The store's name for a multipart upload that was begun (OSS: `uploadId`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(String);

impl SessionId {
    /// As the store said it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As the store said it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an object lies in its store: relative, `/` between segments, made by
/// the gateway from its template and never from a client's text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// The longest key, in bytes (OSS and S3 agree on 1023 and 1024).
    pub const BYTES_MAX: usize = 1023;

    /// A key that every store can hold: relative, no empty, `.` or `..` segment.
    pub fn parse(text: &str) -> Option<Self> {
        let segment = |s: &str| !s.is_empty() && s != "." && s != ".." && !s.chars().any(char::is_control);
        let valid = text.len() <= Self::BYTES_MAX && text.split('/').all(segment) && !text.contains('\\');
        valid.then(|| Self(text.to_owned()))
    }

    /// The key's text, without a leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A part's number in its multipart upload: 1–10 000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartNumber(u16);

impl PartNumber {
    /// The last number there is.
    pub const MAX: u16 = 10_000;
    /// The first number.
    pub const FIRST: Self = Self(1);

    /// The part with this number.
    pub fn new(number: u32) -> Option<Self> {
        u16::try_from(number).ok().filter(|n| (1..=Self::MAX).contains(n)).map(Self)
    }

    /// The part that holds the chunk with this index, where each chunk is one part.
    pub fn of_chunk(index: u32) -> Option<Self> {
        index.checked_add(1).and_then(Self::new)
    }

    /// 1–10 000.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The index of the chunk this part holds, where each chunk is one part.
    pub fn chunk_index(self) -> u32 {
        u32::from(self.0) - 1
    }
}

impl fmt::Display for PartNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of an event: the same in every attempt to deliver it (`webhook-id`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(String);

impl EventId {
    /// An id as the ledger kept it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As receivers see it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_id_is_plain_and_is_never_a_path() {
        for good in ["a", "...", "photo-1.2_~", &"x".repeat(128)] {
            assert!(FileId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "%2e", "报告", "a\0", &"x".repeat(129)] {
            assert!(FileId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_key_stays_below_its_root() {
        assert!(ObjectKey::parse("uploads/local/20261121/ab.bin").is_some());
        for bad in ["", "/a", "a/", "a//b", "../a", "a/./b", "a\\b", "a\nb"] {
            assert!(ObjectKey::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn part_numbers_begin_at_one_and_end_at_ten_thousand() {
        assert_eq!(PartNumber::of_chunk(0).map(PartNumber::get), Some(1));
        assert_eq!(PartNumber::of_chunk(9_999).map(PartNumber::get), Some(10_000));
        assert!(PartNumber::of_chunk(10_000).is_none());
        assert!(PartNumber::of_chunk(u32::MAX).is_none());
        assert!(PartNumber::new(0).is_none());
    }
}
