//! Pages of lists: how long, and where each begins.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::domain::{Refusal, Timestamp, UploadId};

/// About what one entry takes in a list beside its metadata.
const ENTRY_BYTES: usize = 1 << 10;
/// What a page may take: many may be written at once, each to a slow reader.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// Ends a page early whose metadata would make it large. Whether there is more
/// is said by `nextCursor`, never by the length.
pub(super) fn fit<T>(entries: &mut Vec<T>, metadata: impl Fn(&T) -> &BTreeMap<String, String>) -> bool {
    let all = entries.len();
    let mut bytes = 0;
    let fits = entries.iter().take_while(|entry| {
        bytes += ENTRY_BYTES + metadata(entry).iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        bytes <= PAGE_BYTES_MAX
    });
    let count = fits.count().max(1);
    entries.truncate(count);
    count < all
}

/// `limit=`
pub(super) fn limit(text: Option<&str>) -> Result<u32, Refusal> {
    let limit = text.map_or(Some(20), |text| text.parse().ok().filter(|limit| (1..=1000).contains(limit)));
    limit.ok_or_else(|| Refusal::InvalidParameter { name: "limit", reason: "is a number from 1 to 1000".to_owned() })
}

/// `page=`, from 1.
pub(super) fn number(text: &str) -> Result<u64, Refusal> {
    let number = text.parse().ok().filter(|number| (1..=1_000_000_000).contains(number));
    number.ok_or_else(|| Refusal::InvalidParameter { name: "page", reason: "is a number from 1".to_owned() })
}

/// `since=` and `until=`
pub(super) fn time(name: &'static str, text: &str) -> Result<Timestamp, Refusal> {
    let reason = "is a time such as 2026-11-21T10:09:00Z".to_owned();
    Timestamp::parse_rfc3339(text).ok_or(Refusal::InvalidParameter { name, reason })
}

/// What `nextCursor` says after this entry.
pub(super) fn cursor(at: Timestamp, id: UploadId) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}.{id}", at.millis()))
}

/// `cursor=`
pub(super) fn after(text: &str) -> Result<(Timestamp, UploadId), Refusal> {
    let read = || {
        let plain = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (millis, id) = plain.split_once('.')?;
        Some((Timestamp::from_millis(millis.parse().ok()?), UploadId(Uuid::parse_str(id).ok()?)))
    };
    read().ok_or_else(unknown_cursor)
}

/// What is no cursor of ours.
pub(super) fn unknown_cursor() -> Refusal {
    let reason = "is not one that this gateway gave out: begin without it".to_owned();
    Refusal::InvalidParameter { name: "cursor", reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_given() {
        let (at, id) = (Timestamp::from_millis(1_795_255_740_007), UploadId(Uuid::from_u128(7)));
        assert_eq!(after(&cursor(at, id)), Ok((at, id)));
        for wrong in ["", "!", "AAAA", "MS4y"] {
            assert!(after(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_limit_is_one_to_a_thousand() {
        assert_eq!(limit(None), Ok(20));
        assert_eq!(limit(Some("1000")), Ok(1000));
        for wrong in ["0", "1001", "-1", "x", ""] {
            assert!(limit(Some(wrong)).is_err(), "{wrong}");
        }
        assert_eq!(number("5000"), Ok(5000));
        for wrong in ["0", "-1", "x", "", "1000000001"] {
            assert!(number(wrong).is_err(), "{wrong}");
        }
    }
}
