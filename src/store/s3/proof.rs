//! What shows that the store has the bytes that were sent: a checksum that it
//! computes, takes with the body and gives back, or the MD5 that its ETags are.
//! Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, checksum_combine};

use crate::store::remote::answer::Answer;
use crate::store::remote::xml::{Checksums, ListedPart};
use crate::store::s3::ProofConfig;

/// Our code of a store that shows nothing.
pub const NO_PROOF: &str = "NoProof";

/// How a part is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartProof {
    /// By a checksum behind the body.
    Checksum(Algorithm),
    /// The ETag is the MD5.
    Md5,
    /// By its size.
    Size,
}

/// Those that are tried, the best first. A size is no proof unless it is allowed.
pub const CANDIDATES: [PartProof; 4] = [
    PartProof::Checksum(Algorithm::Crc64Nvme),
    PartProof::Checksum(Algorithm::Crc32c),
    PartProof::Checksum(Algorithm::Crc32),
    PartProof::Md5,
];

impl PartProof {
    /// The one that is configured; none is to be found out.
    pub const fn configured(config: ProofConfig) -> Option<Self> {
        match config {
            ProofConfig::Auto => None,
            ProofConfig::Crc64nvme => Some(Self::Checksum(Algorithm::Crc64Nvme)),
            ProofConfig::Crc32c => Some(Self::Checksum(Algorithm::Crc32c)),
            ProofConfig::Crc32 => Some(Self::Checksum(Algorithm::Crc32)),
            ProofConfig::Md5 => Some(Self::Md5),
            ProofConfig::Size => Some(Self::Size),
        }
    }

    /// Its checksum, if it is one.
    pub const fn algorithm(self) -> Option<Algorithm> {
        match self {
            Self::Checksum(algorithm) => Some(algorithm),
            Self::Md5 | Self::Size => None,
        }
    }

    /// For the log and for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Checksum(algorithm) => algorithm.name(),
            Self::Md5 => "MD5",
            Self::Size => "size",
        }
    }
}

/// What was computed of a body while it went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A checksum.
    Checksum(Algorithm, u64),
    /// An MD5.
    Md5([u8; 16]),
    /// Nothing: its size is all there is.
    Size,
}

impl Sent {
    /// Whether this answer shows that the store has the same bytes.
    pub fn is_shown_by(&self, answer: &Answer) -> bool {
        match self {
            Self::Checksum(algorithm, ours) => {
                answer.header(algorithm.header()).and_then(|text| algorithm.parse(text)) == Some(*ours)
            }
            Self::Md5(ours) => answer.etag().is_some_and(|etag| etag.eq_ignore_ascii_case(&hex::encode(ours))),
            Self::Size => true,
        }
    }
}

/// The checksums of which a whole object's can be had from its parts'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// CRC-64/NVME: what S3 computes by itself. Not OSS's, which is CRC-64/XZ.
    Crc64Nvme,
    /// CRC-32C.
    Crc32c,
    /// CRC-32.
    Crc32,
}

impl Algorithm {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::Crc64Nvme, Self::Crc32c, Self::Crc32];

    /// The value of `x-amz-checksum-algorithm`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crc64Nvme => "CRC64NVME",
            Self::Crc32c => "CRC32C",
            Self::Crc32 => "CRC32",
        }
    }

    /// The header, and trailer, that carries it.
    pub const fn header(self) -> &'static str {
        match self {
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc32 => "x-amz-checksum-crc32",
        }
    }

    /// Its element in XML.
    pub const fn element(self) -> &'static str {
        match self {
            Self::Crc64Nvme => "ChecksumCRC64NVME",
            Self::Crc32c => "ChecksumCRC32C",
            Self::Crc32 => "ChecksumCRC32",
        }
    }

    /// As it is computed.
    pub const fn crc(self) -> CrcAlgorithm {
        match self {
            Self::Crc64Nvme => CrcAlgorithm::Crc64Nvme,
            Self::Crc32c => CrcAlgorithm::Crc32Iscsi,
            Self::Crc32 => CrcAlgorithm::Crc32IsoHdlc,
        }
    }

    const fn bytes(self) -> usize {
        match self {
            Self::Crc64Nvme => 8,
            Self::Crc32c | Self::Crc32 => 4,
        }
    }

    /// As headers have it: its bytes, the highest first, in base64.
    pub fn text(self, value: u64) -> String {
        STANDARD.encode(&value.to_be_bytes()[8 - self.bytes()..])
    }

    /// How long that is.
    pub const fn text_bytes(self) -> u64 {
        self.bytes().div_ceil(3) as u64 * 4
    }

    /// Reads it from a header. What S3 computes of parts' checksums ends in `-`
    /// and their number, and is not the whole's.
    pub fn parse(self, text: &str) -> Option<u64> {
        let bytes = STANDARD.decode(text.trim()).ok().filter(|bytes| bytes.len() == self.bytes())?;
        Some(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// The one of this kind.
    pub fn of(self, checksums: &Checksums) -> Option<&str> {
        match self {
            Self::Crc64Nvme => checksums.crc64nvme.as_deref(),
            Self::Crc32c => checksums.crc32c.as_deref(),
            Self::Crc32 => checksums.crc32.as_deref(),
        }
    }

    /// The checksum of the parts, joined; none if the store keeps none of one.
    pub fn joined(self, parts: &[ListedPart]) -> Option<u64> {
        let mut parts = parts.iter().map(|listed| Some((self.parse(self.of(&listed.checksums)?)?, listed.part.bytes)));
        let (first, _) = parts.next()??;
        parts.try_fold(first, |sum, part| {
            let (next, bytes) = part?;
            Some(checksum_combine(self.crc(), sum, next, bytes))
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::domain::{Part, PartNumber};

    #[test]
    fn checksums_are_written_as_s3_writes_them() {
        // The check values of the three, of "123456789".
        for (algorithm, text) in Algorithm::ALL.into_iter().zip(["rosUhgp5mIg=", "4waSgw==", "y/Q5Jg=="]) {
            let value = crc_fast::checksum(algorithm.crc(), b"123456789");
            assert_eq!(algorithm.text(value), text);
            assert_eq!(algorithm.parse(text), Some(value));
            assert_eq!(algorithm.text_bytes(), text.len() as u64);
            for wrong in ["", "AA", &format!("{text}-2"), "AAAAAA==AAAA"] {
                assert_eq!(algorithm.parse(wrong), None, "{wrong}");
            }
        }
    }

    #[test]
    fn the_parts_checksums_make_the_wholes() {
        let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        for algorithm in Algorithm::ALL {
            let listed = |(piece, number): (&[u8], u32)| {
                let text = Some(algorithm.text(crc_fast::checksum(algorithm.crc(), piece)));
                let number = PartNumber::new(number).expect("a number");
                let part = Part { number, bytes: piece.len() as u64, etag: "e".to_owned(), crc64: None };
                let checksums = match algorithm {
                    Algorithm::Crc64Nvme => Checksums { crc64nvme: text, ..Checksums::default() },
                    Algorithm::Crc32c => Checksums { crc32c: text, ..Checksums::default() },
                    Algorithm::Crc32 => Checksums { crc32: text, ..Checksums::default() },
                };
                ListedPart { part, checksums }
            };
            let mut parts: Vec<_> = bytes.chunks(30_011).zip(1..).map(listed).collect();
            assert_eq!(algorithm.joined(&parts), Some(crc_fast::checksum(algorithm.crc(), &bytes)));
            parts[1].checksums = Checksums::default();
            assert_eq!(algorithm.joined(&parts), None);
            assert_eq!(algorithm.joined(&[]), None);
        }
    }

    #[test]
    fn only_the_same_bytes_are_shown() {
        let answer = |name: &'static str, value: &str| Answer {
            status: StatusCode::OK,
            headers: HeaderMap::from_iter([(http::HeaderName::from_static(name), value.parse().expect("a value"))]),
            body: Bytes::new(),
        };
        let sent = Sent::Checksum(Algorithm::Crc32, 0xcbf4_3926);
        assert!(sent.is_shown_by(&answer("x-amz-checksum-crc32", "y/Q5Jg==")));
        assert!(!sent.is_shown_by(&answer("x-amz-checksum-crc32", "y/Q5JQ==")));
        assert!(!sent.is_shown_by(&answer("x-amz-checksum-crc32c", "y/Q5Jg==")), "no proof is no pass");
        let sent = Sent::Md5([0xab; 16]);
        assert!(sent.is_shown_by(&answer("etag", &format!("\"{}\"", "AB".repeat(16)))));
        assert!(!sent.is_shown_by(&answer("etag", "\"abab\"")));
        assert!(Sent::Size.is_shown_by(&answer("etag", "\"any\"")));
    }
}
