//! The circuit breaker: a store that fails again and again is left alone for a
//! while, so that clients are told at once and the store can recover. Pure but
//! for its lock. Only failures of the store count: a client that is slow or
//! vanishes is none.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// While the store is tried again, one call in so long.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// What a call says of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It answered, whatever it said.
    Alive,
    /// It did not answer, or said that it cannot.
    Failing,
    /// Nothing: the client broke off.
    None,
}

/// What a sign has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Calls are held back from now on.
    Opened,
    /// They go through again.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Calls go through; so many in a row have failed.
    Closed { failures: u32 },
    /// None goes through before this time; then one at a time, to try.
    Open { until: Duration },
}

/// Counts failures in a row. Times are monotonic.
#[derive(Debug)]
pub struct Breaker {
    failures_max: u32,
    open_for: Duration,
    state: Mutex<State>,
}

impl Breaker {
    /// Opens after so many failures in a row, for so long.
    pub fn new(failures_max: u32, open_for: Duration) -> Self {
        Self { failures_max: failures_max.max(1), open_for, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Whether a call may go through now; else how long until one may.
    pub fn admit(&self, now: Duration) -> Result<(), Duration> {
        let mut state = self.state();
        match *state {
            State::Closed { .. } => Ok(()),
            State::Open { until } if now < until => Err(until - now),
            State::Open { .. } => {
                // This one tries. No others until it is back, or has taken too long.
                *state = State::Open { until: now + PROBE_EVERY };
                Ok(())
            }
        }
    }

    /// Takes note of how a call ended.
    pub fn note(&self, sign: Sign, now: Duration) -> Option<Change> {
        let mut state = self.state();
        let (next, change) = match (*state, sign) {
            (same, Sign::None) => (same, None),
            (State::Closed { .. }, Sign::Alive) => (State::Closed { failures: 0 }, None),
            (State::Open { .. }, Sign::Alive) => (State::Closed { failures: 0 }, Some(Change::Closed)),
            (State::Closed { failures }, Sign::Failing) if failures + 1 < self.failures_max => {
                (State::Closed { failures: failures + 1 }, None)
            }
            (State::Closed { .. }, Sign::Failing) => (State::Open { until: now + self.open_for }, Some(Change::Opened)),
            (State::Open { until }, Sign::Failing) => (State::Open { until: until.max(now + self.open_for) }, None),
        };
        *state = next;
        change
    }

    /// Whether calls are held back.
    pub fn is_open(&self) -> bool {
        matches!(*self.state(), State::Open { .. })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn failed(times: u32, at: Duration) -> Breaker {
        let breaker = Breaker::new(3, s(5));
        for _ in 0..times {
            breaker.note(Sign::Failing, at);
        }
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row() {
        let breaker = failed(2, s(0));
        assert_eq!((breaker.admit(s(0)), breaker.note(Sign::Alive, s(0))), (Ok(()), None));
        assert_eq!([(); 2].map(|()| breaker.note(Sign::Failing, s(0))), [None, None]);
        assert_eq!(breaker.note(Sign::Failing, s(1)), Some(Change::Opened));
        assert_eq!(breaker.admit(s(2)), Err(s(4)));
    }

    #[test]
    fn clients_that_break_off_never_open_it() {
        let breaker = failed(2, s(0));
        for _ in 0..1000 {
            assert_eq!(breaker.note(Sign::None, s(0)), None);
        }
        assert_eq!(breaker.admit(s(0)), Ok(()));
    }

    #[test]
    fn one_call_at_a_time_tries_and_a_success_closes_it() {
        let breaker = failed(3, s(0));
        assert_eq!(breaker.admit(s(5)), Ok(()));
        assert_eq!(breaker.admit(s(5)), Err(PROBE_EVERY), "the first is trying");
        // Its client is slow: another may try after a while.
        assert_eq!(breaker.admit(s(6)), Ok(()));
        assert_eq!(breaker.note(Sign::Failing, s(6)), None);
        assert_eq!(breaker.admit(s(7)), Err(s(4)));
        assert_eq!(breaker.admit(s(11)), Ok(()));
        assert_eq!(breaker.note(Sign::Alive, s(11)), Some(Change::Closed));
        assert_eq!((breaker.is_open(), breaker.admit(s(11))), (false, Ok(())));
    }

    #[test]
    fn a_late_failure_does_not_shorten_it() {
        let breaker = failed(3, s(0));
        breaker.note(Sign::Failing, s(4));
        assert_eq!(breaker.admit(s(5)), Err(s(4)));
    }
}
