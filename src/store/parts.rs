//! What joining parts takes: whether those to be joined are those that are
//! there. Pure, and the same for every store.

use md5::{Digest as _, Md5};

use crate::domain::Part;
use crate::store::{Joined, Shown, StoreError, StoredObject};

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

/// An object that these parts may have been joined into, by a call whose answer
/// nobody has: its ETag may show that it is they.
pub fn found(object: StoredObject, parts: &[Part]) -> Joined {
    let is_theirs = joined_etag(parts).is_some_and(|etag| object.etag.eq_ignore_ascii_case(&etag));
    Joined { object, shown: if is_theirs { Shown::TheseParts } else { Shown::Nothing } }
}

/// The ETag that S3 gives to joined parts whose ETags are MD5s: the MD5 of those,
/// and how many they are.
pub fn joined_etag(parts: &[Part]) -> Option<String> {
    let mut md5 = Md5::new();
    for part in parts {
        let etag = hex::decode(&part.etag).ok().filter(|etag| etag.len() == 16)?;
        md5.update(etag);
    }
    Some(format!("{}-{}", hex::encode(md5.finalize()), parts.len()))
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
    fn an_etag_of_the_parts_etags_shows_what_was_joined() {
        // Two parts, "hello " and "world".
        let of = |number, bytes: &[u8]| Part {
            bytes: bytes.len() as u64,
            crc64: Some(Crc64::of(bytes)),
            ..part(number, &hex::encode(Md5::digest(bytes)))
        };
        let parts = [of(1, b"hello "), of(2, b"world")];
        let shown = |etag: &str, parts: &[Part]| {
            let object = StoredObject { bytes: 11, etag: etag.to_owned(), crc64: None, content_type: None };
            found(object, parts).shown
        };
        let etag = joined_etag(&parts).expect("MD5s");
        assert!(etag.len() == 34 && etag.ends_with("-2"), "{etag}");
        assert_eq!(shown(&etag.to_uppercase(), &parts), Shown::TheseParts);
        assert_eq!(shown(&etag, &parts[..1]), Shown::Nothing);
        assert_eq!(shown("5eb63bbbe01eeed093cb22bb8f5acdc3-2", &parts), Shown::Nothing);
        assert_eq!(joined_etag(&[part(1, "no-md5")]), None);
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
