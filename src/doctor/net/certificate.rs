//! When a certificate ends (X.509, DER): as much of it as that takes. Pure.

use crate::domain::Timestamp;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `notAfter`; None of what is no certificate.
pub(super) fn not_after(der: &[u8]) -> Option<Timestamp> {
    // Certificate { tbsCertificate { [0] version, serial, signature, issuer, validity { notBefore, notAfter …
    let (certificate, _) = element(der, SEQUENCE)?;
    let (tbs, _) = element(certificate, SEQUENCE)?;
    let tbs = element(tbs, VERSION).map_or(tbs, |(_, rest)| rest);
    let (_, rest) = element(tbs, INTEGER)?;
    let (_, rest) = element(rest, SEQUENCE)?;
    let (_, rest) = element(rest, SEQUENCE)?;
    let (validity, _) = element(rest, SEQUENCE)?;
    let (_, rest) = time(validity)?;
    let (text, _) = time(rest)?;
    timestamp(std::str::from_utf8(text).ok()?)
}

/// The content of the element with this tag that comes first, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (bytes, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            (length.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    if found == tag { rest.split_at_checked(bytes) } else { None }
}

fn time(der: &[u8]) -> Option<(&[u8], &[u8])> {
    element(der, UTC_TIME).or_else(|| element(der, GENERALIZED_TIME))
}

/// `261120091108Z` or `20261120091108Z`.
fn timestamp(text: &str) -> Option<Timestamp> {
    let digits = text.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = match digits.len() {
        // RFC 5280 §4.1.2.5.1: two digits are of 1950 to 2049.
        12 if digits >= "5" => format!("19{digits}"),
        12 => format!("20{digits}"),
        14 => digits.to_owned(),
        _ => return None,
    };
    let part = |from: usize, to: usize| &digits[from..to];
    let text =
        format!("{}-{}-{}T{}:{}:{}Z", part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 12), part(12, 14));
    Timestamp::parse_rfc3339(&text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The beginning of a certificate with these two times.
    fn certificate(before: &str, after: &str) -> Vec<u8> {
        let wrapped = |tag: u8, content: &[u8]| {
            let mut der = vec![tag, 0x81, u8::try_from(content.len()).expect("short")];
            der.extend_from_slice(content);
            der
        };
        let time = |text: &str| wrapped(if text.len() == 13 { UTC_TIME } else { GENERALIZED_TIME }, text.as_bytes());
        let validity = wrapped(SEQUENCE, &[time(before), time(after)].concat());
        let fields = [
            wrapped(VERSION, &[2, 1, 2]),
            wrapped(INTEGER, &[7]),
            wrapped(SEQUENCE, &[]),
            wrapped(SEQUENCE, b"issuer"),
            validity,
        ];
        wrapped(SEQUENCE, &wrapped(SEQUENCE, &fields.concat()))
    }

    #[test]
    fn the_end_is_read() {
        let end = |after: &str| not_after(&certificate("200101000000Z", after)).map(Timestamp::rfc3339);
        assert_eq!(end("261120091108Z").as_deref(), Some("2026-11-20T09:11:08.000Z"));
        assert_eq!(end("20601120091108Z").as_deref(), Some("2060-11-20T09:11:08.000Z"));
        assert_eq!(end("501120091108Z").as_deref(), Some("1950-11-20T09:11:08.000Z"));
        assert_eq!(end("2x1120091108Z"), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_not(text in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..80) {
            let _ = not_after(&text);
            let whole = certificate("200101000000Z", "261120091108Z");
            let _ = not_after(&whole[..cut.min(whole.len())]);
        }
    }
}
