//! Checksums: CRC-64/XZ, which every chunk carries end to end, and the
//! digests that clients may declare beside it.

use std::fmt;

use crc_fast::{CrcAlgorithm, Digest};

use crate::domain::refusal::Refusal;

/// A CRC-64/XZ value (ECMA-182 polynomial, reflected): what OSS calls
/// `x-oss-hash-crc64ecma`. Written as an unsigned decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Crc64(pub u64);

impl Crc64 {
    /// The checksum of no bytes at all.
    pub const EMPTY: Self = Self(0);

    /// The checksum of bytes that lie together.
    pub fn of(bytes: &[u8]) -> Self {
        Self(crc_fast::checksum(CrcAlgorithm::Crc64Xz, bytes))
    }

    /// Reads the unsigned decimal of a header or a database.
    pub fn parse(text: &str) -> Option<Self> {
        // `u64::from_str` takes a leading `+`, which no checksum has.
        (!text.starts_with('+')).then(|| text.parse().ok().map(Self)).flatten()
    }
}

impl fmt::Display for Crc64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A CRC-64/XZ that is computed while bytes pass.
pub struct Crc64Stream(Digest);

impl Crc64Stream {
    /// Nothing has passed yet.
    pub fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc64Xz))
    }

    /// These bytes pass.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all that has passed so far.
    pub fn value(&self) -> Crc64 {
        Crc64(self.0.finalize())
    }
}

impl Default for Crc64Stream {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Crc64Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crc64Stream({})", self.value())
    }
}

/// The algorithms in which a client may declare a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumAlgorithm {
    /// CRC-64/XZ, always computed.
    Crc64,
    /// MD5, computed when declared.
    Md5,
    /// SHA-256, computed when declared.
    Sha256,
}

impl ChecksumAlgorithm {
    /// `crc64`, `md5` or `sha256`, in lower case.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "crc64" => Some(Self::Crc64),
            "md5" => Some(Self::Md5),
            "sha256" => Some(Self::Sha256),
            _ => None,
        }
    }

    /// The name in JSON and forms.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crc64 => "crc64",
            Self::Md5 => "md5",
            Self::Sha256 => "sha256",
        }
    }
}

/// A checksum that a client declared, of one chunk or of a whole file.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// CRC-64/XZ.
    Crc64(Crc64),
    /// MD5.
    Md5([u8; 16]),
    /// SHA-256.
    Sha256([u8; 32]),
}

impl Checksum {
    /// From an algorithm's name and its value: decimal for crc64, hex for the others.
    pub fn parse(algorithm: &str, value: &str) -> Result<Self, Refusal> {
        let Some(algorithm) = ChecksumAlgorithm::parse(algorithm) else {
            return Err(Refusal::invalid(format!(
                "the checksum algorithm {algorithm:?} is not known: use sha256, md5 or crc64"
            )));
        };
        let parsed = match algorithm {
            ChecksumAlgorithm::Crc64 => Crc64::parse(value).map(Self::Crc64),
            ChecksumAlgorithm::Md5 => hex::decode(value).ok().and_then(|v| v.try_into().ok()).map(Self::Md5),
            ChecksumAlgorithm::Sha256 => hex::decode(value).ok().and_then(|v| v.try_into().ok()).map(Self::Sha256),
        };
        parsed.ok_or_else(|| {
            Refusal::invalid(match algorithm {
                ChecksumAlgorithm::Crc64 => "a crc64 checksum is an unsigned decimal of 64 bits",
                ChecksumAlgorithm::Md5 => "an md5 checksum is 32 hex digits",
                ChecksumAlgorithm::Sha256 => "a sha256 checksum is 64 hex digits",
            })
        })
    }

    /// From `sha256:<hex>`, `md5:<hex>` or `crc64:<decimal>`, as forms carry it.
    pub fn parse_tagged(text: &str) -> Result<Self, Refusal> {
        let (algorithm, value) = text
            .split_once(':')
            .ok_or_else(|| Refusal::invalid("a checksum reads sha256:<hex>, md5:<hex> or crc64:<decimal>"))?;
        Self::parse(algorithm, value)
    }

    /// `sha256:<hex>` and the like, as `parse_tagged` reads it.
    pub fn tagged(&self) -> String {
        format!("{}:{}", self.algorithm().name(), self.value())
    }

    /// Which algorithm.
    pub const fn algorithm(&self) -> ChecksumAlgorithm {
        match self {
            Self::Crc64(_) => ChecksumAlgorithm::Crc64,
            Self::Md5(_) => ChecksumAlgorithm::Md5,
            Self::Sha256(_) => ChecksumAlgorithm::Sha256,
        }
    }

    /// The value alone: decimal for crc64, lower-case hex for the others.
    pub fn value(&self) -> String {
        match self {
            Self::Crc64(crc) => crc.to_string(),
            Self::Md5(digest) => hex::encode(digest),
            Self::Sha256(digest) => hex::encode(digest),
        }
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tagged())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn crc_64_is_the_variant_that_oss_speaks() {
        // reference: oss-protocol.md, "Limits … Integrity".
        assert_eq!(Crc64::of(b"123456789"), Crc64(0x995d_c9bb_df19_39fa));
        let words = b"This is a test of the emergency broadcast system.";
        assert_eq!(Crc64::of(words), Crc64(0x27db_187f_c15b_bc72));
        assert_eq!(Crc64::of(b""), Crc64::EMPTY);
    }

    #[test]
    fn a_declared_checksum_is_read_and_written_alike() {
        for text in [
            "crc64:18446744073709551615",
            "md5:900150983cd24fb0d6963f7d28e17f72",
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ] {
            assert_eq!(Checksum::parse_tagged(text).expect(text).tagged(), text);
        }
        for text in ["", "crc64", "crc64:", "crc64:+1", "crc64:18446744073709551616", "md5:00", "sha1:00", "sha256:zz"]
        {
            assert!(Checksum::parse_tagged(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn bytes_that_pass_in_pieces_make_the_same_checksum(bytes in prop::collection::vec(any::<u8>(), 0..4096), cut in 0usize..4096) {
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            let mut stream = Crc64Stream::new();
            stream.update(head);
            stream.update(tail);
            prop_assert_eq!(stream.value(), Crc64::of(&bytes));
        }
    }
}
