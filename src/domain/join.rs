//! The CRC-64 of an object, from those of its parts.

use crate::domain::checksum::Crc64;
use crate::domain::upload::Part;

/// The CRC-64 of pieces that follow one another, each given with its length
/// in bytes.
///
/// The checksum of what came before moves past the next piece by one
/// multiplication, by x to the power of that piece's bits. Pieces of one size
/// share that power, so that 10 000 of them take well under a millisecond,
/// where combining pair by pair takes a second.
pub fn joined(pieces: impl IntoIterator<Item = (Crc64, u64)>) -> Crc64 {
    let (mut sum, mut shift) = (Crc64::EMPTY.0, (0, X0));
    for (crc64, bytes) in pieces {
        if shift.0 != bytes {
            shift = (bytes, past(bytes));
        }
        sum = times(shift.1, sum) ^ crc64.0;
    }
    Crc64(sum)
}

/// The CRC-64 of parts that follow one another; none if one of them has none.
pub fn joined_crc64(parts: &[Part]) -> Option<Crc64> {
    let all_have_one = parts.iter().all(|part| part.crc64.is_some());
    all_have_one.then(|| joined(parts.iter().filter_map(|part| Some((part.crc64?, part.bytes)))))
}

// Polynomials over GF(2) modulo that of CRC-64/XZ, in its bit order: the
// highest bit is x^0. After Mark Adler's crc32_combine in zlib 1.2.12.

/// The generator, without its x^64.
const MODULUS: u64 = 0xC96C_5795_D787_0F42;
/// 1.
const X0: u64 = 1 << 63;
/// x to the powers of 2^3, 2^4, …, 2^66: past 1, 2, 4, … bytes.
const POWERS: [u64; 64] = powers();

const fn powers() -> [u64; 64] {
    let mut powers = [0; 64];
    // x^1, squared three times: x^8.
    let mut power = X0 >> 1;
    let mut squared = 0;
    while squared < 3 + powers.len() {
        if squared >= 3 {
            powers[squared - 3] = power;
        }
        power = times(power, power);
        squared += 1;
    }
    powers
}

/// The product of two polynomials.
const fn times(a: u64, mut b: u64) -> u64 {
    let (mut product, mut rest) = (0, a);
    while rest != 0 {
        if rest & X0 != 0 {
            product ^= b;
        }
        rest <<= 1;
        b = if b & 1 == 0 { b >> 1 } else { b >> 1 ^ MODULUS };
    }
    product
}

/// x to the power of the bits in this many bytes.
fn past(bytes: u64) -> u64 {
    let set = POWERS.iter().enumerate().filter(|(bit, _)| bytes >> bit & 1 == 1);
    set.fold(X0, |product, (_, &power)| times(power, product))
}

#[cfg(test)]
mod tests {
    use crc_fast::{CrcAlgorithm, checksum_combine};
    use proptest::prelude::*;

    use super::*;
    use crate::domain::PartNumber;

    fn part(number: u32, etag: &str) -> Part {
        let number = PartNumber::new(number).expect("a part number");
        Part { number, bytes: 10, etag: etag.to_owned(), crc64: Some(Crc64(7)) }
    }

    proptest! {
        #[test]
        fn the_parts_checksums_make_the_wholes(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..12)) {
            let piece = |(bytes, n): (&Vec<u8>, u32)| Part {
                bytes: bytes.len() as u64,
                crc64: Some(Crc64::of(bytes)),
                ..part(n, "any")
            };
            let parts: Vec<Part> = pieces.iter().zip(1..).map(piece).collect();
            prop_assert_eq!(joined_crc64(&parts), Some(Crc64::of(&pieces.concat())));
        }

        #[test]
        fn long_parts_are_passed_like_short_ones(first: u64, second: u64, bytes in 0..5u64 << 30) {
            let parts = [
                Part { crc64: Some(Crc64(first)), ..part(1, "any") },
                Part { crc64: Some(Crc64(second)), bytes, ..part(2, "any") },
            ];
            prop_assert_eq!(joined_crc64(&parts), Some(Crc64(checksum_combine(CrcAlgorithm::Crc64Xz, first, second, bytes))));
        }
    }

    #[test]
    fn a_part_without_a_checksum_leaves_the_whole_without_one() {
        assert_eq!(joined_crc64(&[part(1, "a"), Part { crc64: None, ..part(2, "b") }]), None);
        assert_eq!(joined_crc64(&[]), Some(Crc64::EMPTY));
    }
}
