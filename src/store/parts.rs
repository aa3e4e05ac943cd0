//! What joining parts takes: whether those to be joined are those that are
//! there. Pure, and the same for every store.

use crate::domain::Part;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Crc64, PartNumber};

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
}
