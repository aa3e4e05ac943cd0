//! How often and how soon a call that can be repeated is repeated: as the
//! official SDKs do it, with exponential backoff and full jitter. Pure.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The longest pause before the second attempt, in the SDKs.
pub const BASE: Duration = Duration::from_millis(200);
/// The longest pause before any.
pub const CAP: Duration = Duration::from_secs(20);

/// How patient a client is.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// Attempts in all, at least one.
    pub attempts: u32,
    /// The longest pause before the second attempt; it doubles from there.
    pub base: Duration,
    /// The longest pause before any.
    pub cap: Duration,
}

impl Backoff {
    /// The SDKs' pauses, with this many attempts after the first.
    pub fn with_retries(retries: u32) -> Self {
        Self { attempts: retries.saturating_add(1), base: BASE, cap: CAP }
    }

    /// The pause after the `done`-th failed attempt (from 1), or none when
    /// that was the last. Full jitter: anything from nothing to the longest,
    /// so that those who failed together do not come back together.
    pub fn pause_after(&self, done: u32, random: u128) -> Option<Duration> {
        if done >= self.attempts {
            return None;
        }
        let doubled = 1u32.checked_shl(done.saturating_sub(1)).unwrap_or(u32::MAX);
        let longest = self.base.saturating_mul(doubled).min(self.cap);
        let micros = longest.as_micros().saturating_add(1);
        Some(Duration::from_micros(u64::try_from(random % micros).unwrap_or(0)))
    }
}

/// How many repetitions all calls together have left. When a store fails for
/// everybody, repeating everything would multiply its load just then.
#[derive(Debug)]
pub struct Budget(AtomicU32);

impl Budget {
    /// Repetitions in reserve.
    const RESERVE: u32 = 100;
    /// So many calls that succeed earn one repetition.
    const CALLS_EACH: u32 = 10;

    /// A full budget.
    pub const fn full() -> Self {
        Self(AtomicU32::new(Self::RESERVE * Self::CALLS_EACH))
    }

    /// How many are left.
    pub fn left(&self) -> u32 {
        self.0.load(Ordering::Relaxed) / Self::CALLS_EACH
    }

    /// Takes one repetition; false when none is left.
    pub fn take(&self) -> bool {
        let take = |left: u32| left.checked_sub(Self::CALLS_EACH);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// A call has succeeded. Whether that has earned anything.
    pub fn earn(&self) -> bool {
        let full = Self::RESERVE * Self::CALLS_EACH;
        // Mostly it is full, and nothing is written that other cores share.
        let earns = self.0.load(Ordering::Relaxed) < full;
        if earns {
            let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some((left + 1).min(full)));
        }
        earns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_earned_by_calls_that_succeed() {
        let budget = Budget::full();
        assert_eq!((0..1000).filter(|_| budget.take()).count(), 100);
        (0..9).for_each(|_| assert!(budget.earn()));
        assert!(!budget.take());
        budget.earn();
        assert!(budget.take() && !budget.take());
        assert_eq!((0..100_000).filter(|_| budget.earn()).count(), 1000);
        assert!(!budget.earn() && budget.left() == 100);
        assert_eq!((0..1000).filter(|_| budget.take()).count(), 100);
    }

    #[test]
    fn pauses_double_up_to_the_cap_and_end_with_the_attempts() {
        let backoff = Backoff::with_retries(11);
        let longest = |done| (0..2000u128).filter_map(|n| backoff.pause_after(done, n * 10_007)).max();
        assert!(longest(1) <= Some(BASE) && longest(1) > Some(BASE / 2));
        assert!(longest(3) <= Some(BASE * 4) && longest(3) > Some(BASE * 2));
        assert!((0..100).all(|n| backoff.pause_after(11, u128::MAX / (n + 1)) <= Some(CAP)));
        assert_eq!(backoff.pause_after(1, 0), Some(Duration::ZERO));
        assert_eq!(backoff.pause_after(12, 7), None);
    }

    #[test]
    fn there_is_always_one_attempt() {
        let backoff = Backoff::with_retries(0);
        assert_eq!(backoff.attempts, 1);
        assert_eq!(backoff.pause_after(1, 7), None);
        assert!(Backoff::with_retries(u32::MAX).pause_after(1_000, u128::MAX) <= Some(CAP));
    }
}
