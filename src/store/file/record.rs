//! The record that makes bytes in a file a part: fixed in size, checksummed,
//! written after the bytes and made durable by the same sync.
//!
//! One sync for both means that, while it has not returned, a power cut can
//! leave the record on the disk without all of the bytes. A record therefore
//! carries the machine's boot: one of this boot vouches for what every reader
//! of this boot sees, one of a former boot is only believed once the bytes
//! were read and found to have its CRC-64.

use crate::clock::Clock;
use crate::domain::{Crc64, Part, PartNumber};
use crate::store::file::layout::{self, RECORD_BYTES};

const MAGIC: [u8; 8] = *b"cgpart01";

/// From one start of the machine (not of the process) to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Boot(pub(super) u128);

impl Boot {
    /// The present one. Where the kernel does not name it, every start of the
    /// process counts as one.
    pub(super) fn current(clock: &dyn Clock) -> Self {
        let named = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let parsed = named.and_then(|text| u128::from_str_radix(&text.trim().replace('-', ""), 16).ok());
        Self(parsed.unwrap_or_else(|| clock.random()))
    }
}

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The part's number.
    pub(super) number: PartNumber,
    /// Its bytes.
    pub(super) bytes: u64,
    /// Their checksum.
    pub(super) crc64: Crc64,
    /// When it was written.
    pub(super) boot: Boot,
}

impl Record {
    /// As it is written.
    pub(super) fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut written = [0; RECORD_BYTES];
        written[0..8].copy_from_slice(&MAGIC);
        written[8..10].copy_from_slice(&self.number.get().to_le_bytes());
        written[16..24].copy_from_slice(&self.bytes.to_le_bytes());
        written[24..32].copy_from_slice(&self.crc64.0.to_le_bytes());
        written[32..48].copy_from_slice(&self.boot.0.to_le_bytes());
        let sum = Crc64::of(&written[..56]).0;
        written[56..64].copy_from_slice(&sum.to_le_bytes());
        written
    }

    /// Reads it. None when there is none, or it is damaged or torn.
    pub(super) fn decode(written: &[u8; RECORD_BYTES]) -> Option<Self> {
        let word = |at: usize| written[at..at + 8].try_into().ok().map(u64::from_le_bytes);
        if written[0..8] != MAGIC || word(56)? != Crc64::of(&written[..56]).0 {
            return None;
        }
        Some(Self {
            number: PartNumber::new(u32::from(u16::from_le_bytes([written[8], written[9]])))?,
            bytes: word(16)?,
            crc64: Crc64(word(24)?),
            boot: Boot(u128::from(word(32)?) | u128::from(word(40)?) << 64),
        })
    }

    /// The part it makes.
    pub(super) fn part(&self) -> Part {
        Part {
            number: self.number,
            bytes: self.bytes,
            etag: layout::etag(self.crc64, self.bytes),
            crc64: Some(self.crc64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_or_not_at_all() {
        let record = Record {
            number: PartNumber::new(10_000).expect("a number"),
            bytes: 5 << 30,
            crc64: Crc64(u64::MAX - 3),
            boot: Boot(0x1234_5678_9abc_def0_0fed_cba9_8765_4321),
        };
        let written = record.encode();
        assert_eq!(Record::decode(&written), Some(record));
        for bit in 0..RECORD_BYTES * 8 {
            let mut damaged = written;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::decode(&damaged), None, "bit {bit}");
        }
        for torn in 0..RECORD_BYTES {
            let mut damaged = written;
            damaged[torn..].fill(0);
            assert_eq!(Record::decode(&damaged), None, "torn at {torn}");
        }
        assert_eq!(Record::decode(&[0; RECORD_BYTES]), None);
    }
}
