//! How often somebody may ask: each subject, and each address that cannot say
//! who it is.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::domain::{Owner, Refusal};
use crate::http::address::ClientAddress;
use crate::units::Rate;

/// Failures to say who one is, per address, where nothing else is said: far
/// more than pages with old tokens need, far fewer than guessing does.
const FAILURES: Rate = Rate { count: 600, per: std::time::Duration::from_secs(60) };
/// How often those who have not asked for long are forgotten.
const FORGET_EVERY: u32 = 4096;

/// All rates of a listener.
#[derive(Debug)]
pub(super) struct Rates {
    subjects: Option<Limiter>,
    failures: Limiter,
    refreshes: Limiter,
}

impl Rates {
    /// `limits.rate` and `auth.refresh_rate`.
    pub(super) fn new(of_subjects: Option<Rate>, of_refreshes: Rate) -> Self {
        Self {
            subjects: of_subjects.map(|rate| Limiter::new(rate, "requests of one subject")),
            failures: Limiter::new(of_subjects.unwrap_or(FAILURES), "requests of one address without a valid token"),
            refreshes: Limiter::new(of_refreshes, "refreshes of one login"),
        }
    }

    /// A request of this subject.
    pub(super) fn of_subject(&self, owner: &Owner) -> Result<(), Refusal> {
        self.subjects.as_ref().map_or(Ok(()), |limiter| limiter.take(owner.as_str()))
    }

    /// A request of somebody who could not say who they are.
    pub(super) fn of_failures(&self, address: &ClientAddress) -> Result<(), Refusal> {
        self.failures.take(&address.network())
    }

    /// A use of a refresh token, whichever of its login.
    pub(super) fn of_refreshes(&self, token: &str) -> Result<(), Refusal> {
        let login = token.split('.').next().unwrap_or_default();
        self.refreshes.take(&login[..login.floor_char_boundary(64)])
    }
}

#[derive(Debug)]
struct Limiter {
    limiter: DefaultKeyedRateLimiter<String>,
    /// `100/s, requests of one subject`
    name: String,
    taken: AtomicU32,
}

impl Limiter {
    fn new(rate: Rate, of: &str) -> Self {
        let count = NonZeroU32::new(rate.count).unwrap_or(NonZeroU32::MIN);
        // One comes back every so often; as many as the rate says may come at once.
        let quota = Quota::with_period(rate.per / count.get()).unwrap_or(Quota::per_second(count));
        let limiter = RateLimiter::keyed(quota.allow_burst(count));
        Self { limiter, name: format!("{rate}, {of}"), taken: AtomicU32::new(0) }
    }

    fn take(&self, key: &str) -> Result<(), Refusal> {
        if self.taken.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        self.limiter.check_key(&key.to_owned()).map_err(|until| Refusal::RateLimited {
            limit: self.name.clone(),
            wait: until.wait_time_from(DefaultClock::default().now()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_has_a_rate_of_its_own() {
        let rates = Rates::new(Some(Rate { count: 3, per: Duration::from_secs(3600) }), FAILURES);
        let (a, b) = (Owner::parse("a").expect("an owner"), Owner::parse("b").expect("an owner"));
        for _ in 0..3 {
            assert_eq!(rates.of_subject(&a), Ok(()));
        }
        let refused = rates.of_subject(&a).expect_err("one too many");
        assert!(
            matches!(&refused, Refusal::RateLimited { wait, .. } if *wait > Duration::from_secs(1000)),
            "{refused:?}"
        );
        assert!(refused.detail().contains("3/h"), "{refused}");
        assert_eq!(rates.of_subject(&b), Ok(()));
        assert_eq!(Rates::new(None, FAILURES).of_subject(&a), Ok(()));
    }

    #[test]
    fn refreshes_of_one_login_share_a_rate() {
        let rates = Rates::new(None, Rate { count: 2, per: Duration::from_secs(3600) });
        assert!(rates.of_refreshes("cr_a.0.x").is_ok() && rates.of_refreshes("cr_a.1.y").is_ok());
        assert!(rates.of_refreshes("cr_a.2.z").is_err() && rates.of_refreshes("cr_b.0.x").is_ok());
        assert!(rates.of_refreshes(&"报".repeat(1000)).is_ok());
    }
}
