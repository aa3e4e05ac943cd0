//! How far the store's clock is from ours, which its answers tell.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use http::header::{DATE, HeaderMap};

use crate::domain::Timestamp;

/// A difference of clocks that is not worth correcting: an answer's `Date` has
/// whole seconds, and took its time to arrive.
const SKEW_MIN: Duration = Duration::from_secs(30);

/// How far the store's clock is ahead of ours, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Skew(AtomicI64);

impl Skew {
    /// What time it is at the store.
    pub(super) fn of_store(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_millis(now.millis().saturating_add(self.0.load(Ordering::Relaxed)))
    }

    /// Learns from an answer's `Date`. Only for answers that followed their
    /// request at once: that of a streamed body says nothing but that it took long.
    pub(super) fn learn(&self, headers: &HeaderMap, now: Timestamp) {
        if let Some(skew) = skew(headers, now) {
            let before = self.0.swap(skew, Ordering::Relaxed);
            if before == 0 && skew != 0 {
                tracing::warn!(seconds = skew / 1000, "the store's clock differs from ours; signing by the store's");
            }
        }
    }
}

/// Milliseconds by which the store is ahead; 0 when the clocks agree.
fn skew(headers: &HeaderMap, now: Timestamp) -> Option<i64> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let date = date.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let skew = i64::try_from(date.as_millis()).ok()?.saturating_sub(now.millis());
    let matters = u128::from(skew.unsigned_abs()) >= SKEW_MIN.as_millis();
    Some(if matters { skew } else { 0 })
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::*;

    #[test]
    fn small_differences_of_clocks_are_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(skew(&headers, Timestamp::from_millis(0)), None);
        headers.insert(DATE, HeaderValue::from_static("Fri, 20 Nov 2026 09:11:08 GMT"));
        let date = 1_795_165_868_000;
        assert_eq!(skew(&headers, Timestamp::from_millis(date + 29_000)), Some(0));
        assert_eq!(skew(&headers, Timestamp::from_millis(date + 3_600_000)), Some(-3_600_000));
        assert_eq!(skew(&headers, Timestamp::from_millis(date - 86_400_000)), Some(86_400_000));
    }
}
