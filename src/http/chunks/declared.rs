//! What a chunk's head and fields say of it, read strictly: what one reader
//! takes in one way and the next in another is refused by the first.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

use crate::domain::{Checksum, Crc64, Refusal};

/// A header that may come once: of two, nobody knows which is meant.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(Refusal::invalid(format!("the header {name} came more than once: send one")));
    }
    let text =
        value.map(|value| value.to_str().map_err(|_| Refusal::invalid(format!("the header {name} is not text"))));
    text.transpose()
}

/// Any whole number: which of them are chunks, the upload's plan says.
pub(in crate::http) fn parse_index(text: &str) -> Result<i128, Refusal> {
    whole_number(text).ok_or_else(|| Refusal::invalid(format!("chunkIndex is a whole number from 0, not {text:?}")))
}

/// A number as programs write it: digits without leading zeros, perhaps after
/// a minus. No `+3`, `03`, `-0` or ` 3`: what one reader takes for a number and
/// the next does not is refused by the first.
pub(in crate::http) fn whole_number(text: &str) -> Option<i128> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (!digits.starts_with('0') || text == "0");
    text.parse().ok().filter(|_| plain)
}

/// The checksums that a raw chunk's head declares.
pub(in crate::http) fn declared_checksums(headers: &HeaderMap) -> Result<Vec<Checksum>, Refusal> {
    let mut declared: Vec<Checksum> = content_digest(headers)?.into_iter().collect();
    if let Some(value) = single(headers, "content-md5")? {
        let digest = STANDARD.decode(value.trim()).ok().and_then(|bytes| bytes.try_into().ok());
        declared.push(Checksum::Md5(digest.ok_or_else(|| Refusal::invalid("Content-MD5 is the base64 of 16 bytes"))?));
    }
    if let Some(value) = single(headers, "x-checksum-crc64")? {
        let crc64 = Crc64::parse(value.trim());
        declared.push(Checksum::Crc64(
            crc64.ok_or_else(|| Refusal::invalid("X-Checksum-Crc64 is an unsigned decimal of 64 bits"))?,
        ));
    }
    Ok(declared)
}

/// RFC 9530: `sha-256=:…:`, perhaps among others, which are passed over. It may
/// be said again, in the same list or another line, but not differently.
fn content_digest(headers: &HeaderMap) -> Result<Option<Checksum>, Refusal> {
    let wrong = || Refusal::invalid("Content-Digest reads sha-256=:<base64 of 32 bytes>:");
    let mut found = None;
    for line in headers.get_all("content-digest") {
        for member in line.to_str().map_err(|_| wrong())?.split(',') {
            let (name, value) = member.trim().split_once('=').ok_or_else(wrong)?;
            if !name.eq_ignore_ascii_case("sha-256") {
                continue;
            }
            let encoded = value.strip_prefix(':').and_then(|v| v.strip_suffix(':')).ok_or_else(wrong)?;
            let digest = STANDARD.decode(encoded).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(wrong)?;
            let digest = Checksum::Sha256(digest);
            if found.replace(digest).is_some_and(|other| other != digest) {
                return Err(Refusal::invalid("Content-Digest has two sha-256 that differ: send one"));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of(lines: &[&str]) -> Result<Option<Checksum>, Refusal> {
        let name = http::HeaderName::from_static("content-digest");
        let lines = lines.iter().map(|line| (name.clone(), line.parse().expect("a value")));
        content_digest(&lines.collect())
    }

    #[test]
    fn content_digest_is_rfc_9530() {
        const ABC: &str = "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:";
        let other = format!("sha-256=:{}:", STANDARD.encode([0; 32]));
        let expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for good in [&[&format!("sha-512=:AA==:, {ABC}")[..]][..], &[ABC, ABC], &["md5=:AA==:", ABC]] {
            assert_eq!(digest_of(good).ok().flatten().map(|c| c.tagged()).as_deref(), Some(expected), "{good:?}");
        }
        assert_eq!(digest_of(&["md5=:AA==:"]), Ok(None));
        for wrong in ["sha-256", "sha-256=AA==", "sha-256=:AA==:", "sha-256=:!:"] {
            assert!(digest_of(&[wrong]).is_err() && digest_of(&[ABC, wrong]).is_err(), "{wrong}");
        }
        assert!(digest_of(&[ABC, &other]).is_err() && digest_of(&[&format!("{ABC}, {other}")]).is_err());
    }

    #[test]
    fn numbers_are_written_in_one_way() {
        for (text, number) in [("0", 0), ("7", 7), ("-1", -1), ("10000", 10_000)] {
            assert_eq!(whole_number(text), Some(number));
        }
        for wrong in ["", "-", "-0", "+0", "+3", "00", "007", "-01", "0\n", " 0", "0 ", "1e3", "0x1", "１"] {
            assert_eq!(whole_number(wrong), None, "{wrong:?}");
        }
    }
}
