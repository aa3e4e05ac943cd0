//! One question to one name server, and its answer (RFC 1035 §4): pure.

use std::net::Ipv4Addr;

/// What a name server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// These addresses, perhaps behind other names. None is a name without such.
    Addresses(Vec<Ipv4Addr>),
    /// NXDOMAIN.
    NoSuchName,
    /// It could not, or would not: its response code.
    Failed(u8),
}

const HEADER_BYTES: usize = 12;
const NAME_BYTES_MAX: usize = 253;

/// The question for a name's IPv4 addresses. None of what is no name.
pub(super) fn question(id: u16, name: &str) -> Option<Vec<u8>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return None;
    }
    let mut text = Vec::with_capacity(HEADER_BYTES + name.len() + 6);
    text.extend_from_slice(&id.to_be_bytes());
    // Recursion is wanted; one question.
    text.extend_from_slice(&[0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        text.push(length);
        text.extend_from_slice(label.as_bytes());
    }
    // Its end; type A, class IN.
    text.extend_from_slice(&[0, 0, 1, 0, 1]);
    Some(text)
}

/// Reads the answer to the question with this id; None of anything else.
pub(super) fn read(id: u16, text: &[u8]) -> Option<Said> {
    let word = |at: usize| Some(u16::from_be_bytes([*text.get(at)?, *text.get(at + 1)?]));
    let is_answer = word(2)? & 0x8000 != 0;
    if word(0)? != id || !is_answer {
        return None;
    }
    match text[3] & 0x0f {
        0 => {}
        3 => return Some(Said::NoSuchName),
        code => return Some(Said::Failed(code)),
    }
    let mut at = HEADER_BYTES;
    for _ in 0..word(4)? {
        at = after_name(text, at)? + 4;
    }
    let mut addresses = Vec::new();
    for _ in 0..word(6)? {
        at = after_name(text, at)?;
        let (kind, bytes) = (word(at)?, usize::from(word(at + 8)?));
        let data = text.get(at + 10..at + 10 + bytes)?;
        if let (1, &[a, b, c, d]) = (kind, data) {
            addresses.push(Ipv4Addr::new(a, b, c, d));
        }
        at += 10 + bytes;
    }
    Some(Said::Addresses(addresses))
}

/// Where a name ends: after its labels, or after a pointer to more of them.
fn after_name(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *text.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length if length & 0xc0 == 0 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer to `question`, with a name that leads to another and its address.
    fn answer(code: u8) -> Vec<u8> {
        let mut text = question(7, "a.example.com").expect("a name");
        text[2] = 0x81;
        text[3] = 0x80 | code;
        text[7] = 2;
        // CNAME, by a pointer to the question's name; then A.
        text.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 4, 1, b'b', 0xc0, 14]);
        text.extend_from_slice(&[1, b'b', 0xc0, 14, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 7]);
        text
    }

    #[test]
    fn answers_are_read() {
        assert_eq!(read(7, &answer(0)), Some(Said::Addresses(vec![Ipv4Addr::new(10, 0, 0, 7)])));
        assert_eq!(read(7, &answer(3)), Some(Said::NoSuchName));
        assert_eq!(read(7, &answer(2)), Some(Said::Failed(2)));
        assert_eq!(read(8, &answer(0)), None);
        let question = question(7, "a.example.com.").expect("a name");
        assert_eq!(read(7, &question), None, "a question is no answer");
        assert_eq!(&question[12..], b"\x01a\x07example\x03com\x00\x00\x01\x00\x01");
    }

    #[test]
    fn what_is_no_name_is_not_asked_for() {
        for name in ["", ".", "a..b", &"x".repeat(64), &"x.".repeat(200)] {
            assert_eq!(question(1, name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_not(text in proptest::collection::vec(any::<u8>(), 0..600), cut in 0usize..80) {
            let _ = read(7, &text);
            let whole = answer(0);
            let _ = read(7, &whole[..cut.min(whole.len())]);
        }
    }
}
