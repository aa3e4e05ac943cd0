//! What joining parts takes: whether those to be joined are those that are
//! there, and the CRC-64 of the whole. Pure, and the same for every store.

use crate::domain::{Crc64, Part};
use crate::store::StoreError;

/// Compares the parts that `complete` was given with those that are stored:
/// the numbers given run from 1 without a gap, and each part is stored with
/// the same size, ETag and, where both sides know it, CRC-64. Parts stored
/// beyond those given are no objection: they are left out of the object.
pub fn verify(given: &[Part], stored: &[Part]) -> Result<(), StoreError> {
    gapless(given)?;
    // Both ascend, so one walk compares them all.
    let mut stored = stored.iter().peekable();
    for part in given {
        while stored.next_if(|s| s.number < part.number).is_some() {}
        let differs = match stored.peek() {
            Some(found) if found.number == part.number => difference(part, found),
            Some(_) | None => Some("it is not stored"),
        };
        if let Some(what) = differs {
            return Err(StoreError::PartsDiffer(format!("part {}: {what}", part.number)));
        }
    }
    Ok(())
}

/// The numbers run 1, 2, 3, …: what `complete` may be given at all. A store
/// that would join parts 1 and 3 is not asked to.
pub fn gapless(given: &[Part]) -> Result<(), StoreError> {
    if given.is_empty() {
        return Err(StoreError::PartsDiffer("there are no parts to join".to_owned()));
    }
    let misplaced = given.iter().zip(1u32..).find(|(part, expected)| u32::from(part.number.get()) != *expected);
    match misplaced {
        None => Ok(()),
        Some((part, expected)) => {
            Err(StoreError::PartsDiffer(format!("part {} stands where part {expected} belongs", part.number)))
        }
    }
}

fn difference(given: &Part, found: &Part) -> Option<&'static str> {
    if given.bytes != found.bytes {
        Some("its size differs")
    } else if given.etag != found.etag {
        Some("its ETag differs")
    } else if given.crc64.zip(found.crc64).is_some_and(|(a, b)| a != b) {
        Some("its CRC-64 differs")
    } else {
        None
    }
}

/// The CRC-64 of parts that follow one another; none if one of them has none.
///
/// The checksum of what came before moves past the next part by one
/// multiplication, by x to the power of that part's bits. Parts of one size
/// share that power, so that 10 000 of them take well under a millisecond,
/// where `Crc64::followed_by` on each would take seconds.
pub fn joined_crc64(parts: &[Part]) -> Option<Crc64> {
    let (mut sum, mut shift) = (Crc64::EMPTY.0, (0, X0));
    for part in parts {
        if shift.0 != part.bytes {
            shift = (part.bytes, past(part.bytes));
        }
        sum = times(shift.1, sum) ^ part.crc64?.0;
    }
    Some(Crc64(sum))
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
    use proptest::prelude::*;

    use super::*;
    use crate::domain::PartNumber;

    fn part(number: u32, etag: &str) -> Part {
        let number = PartNumber::new(number).expect("a part number");
        Part { number, bytes: 10, etag: etag.to_owned(), crc64: Some(Crc64(7)) }
    }

    #[test]
    fn only_what_is_stored_is_joined() {
        let stored = [part(1, "a"), part(2, "b"), part(4, "d")];
        assert!(verify(&stored[..2], &stored).is_ok(), "parts beyond those given are left out");
        let refused = |given: &[Part], why: &str| {
            let error = verify(given, &stored).expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        };
        refused(&[], "no parts");
        refused(&[part(2, "b")], "part 2 stands where part 1 belongs");
        refused(&[part(1, "a"), part(2, "b"), part(4, "d")], "part 4 stands where part 3");
        refused(&[part(1, "a"), part(2, "b"), part(3, "c")], "part 3: it is not stored");
        refused(&[part(1, "x")], "ETag");
        refused(&[Part { bytes: 11, ..part(1, "a") }], "size");
        refused(&[Part { crc64: Some(Crc64(8)), ..part(1, "a") }], "CRC-64");
        assert!(verify(&[Part { crc64: None, ..part(1, "a") }], &stored).is_ok());
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
            prop_assert_eq!(joined_crc64(&parts), Some(Crc64(first).followed_by(Crc64(second), bytes)));
        }
    }

    #[test]
    fn a_part_without_a_checksum_leaves_the_whole_without_one() {
        assert_eq!(joined_crc64(&[part(1, "a"), Part { crc64: None, ..part(2, "b") }]), None);
        assert_eq!(joined_crc64(&[]), Some(Crc64::EMPTY));
    }
}
