//! The way from check to check: each is timed, told as soon as it has ended,
//! and skipped when one that it needs did not end well.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::clock::Clock;
use crate::doctor::report::{Finding, Report, Status, Verdict};

/// Is told each finding as it is made.
pub type Listener<'a> = &'a (dyn Fn(&Finding) + Send + Sync);

/// The checks so far.
pub struct Course<'a> {
    clock: &'a dyn Clock,
    listener: Listener<'a>,
    findings: Vec<Finding>,
    /// Checks that did not end well, each with the failed one that is to blame.
    spoilt: HashMap<&'static str, &'static str>,
}

impl fmt::Debug for Course<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Course").field("findings", &self.findings).finish_non_exhaustive()
    }
}

impl<'a> Course<'a> {
    /// None so far.
    pub fn new(clock: &'a dyn Clock, listener: Listener<'a>) -> Self {
        Self { clock, listener, findings: Vec::new(), spoilt: HashMap::new() }
    }

    /// Makes a check, unless one that it needs failed.
    pub async fn check(&mut self, check: &'static str, needs: &[&'static str], made: impl Future<Output = Verdict>) {
        self.learn(check, needs, async { (made.await, None::<()>) }).await;
    }

    /// Makes a check that brings something that later ones use.
    pub async fn learn<T>(
        &mut self,
        check: &'static str,
        needs: &[&'static str],
        made: impl Future<Output = (Verdict, Option<T>)>,
    ) -> Option<T> {
        if let Some(failed) = self.hindrance(needs) {
            self.skip(check, failed);
            return None;
        }
        let began = self.clock.monotonic();
        // Checks are large, and there is one at a time.
        let (verdict, learnt) = Box::pin(made).await;
        self.find(check, verdict, self.clock.monotonic().saturating_sub(began));
        learnt
    }

    /// Tells what is known already, unless a check that it needs failed.
    pub fn tell(&mut self, check: &'static str, needs: &[&'static str], verdict: Verdict) {
        match self.hindrance(needs) {
            Some(failed) => self.skip(check, failed),
            None => self.find(check, verdict, Duration::ZERO),
        }
    }

    /// The failed check because of which one of these cannot be relied on.
    fn hindrance(&self, needs: &[&'static str]) -> Option<&'static str> {
        needs.iter().find_map(|need| self.spoilt.get(need).copied())
    }

    fn skip(&mut self, check: &'static str, failed: &'static str) {
        self.spoilt.insert(check, failed);
        self.find(check, Verdict::skipped(format!("{failed} failed")), Duration::ZERO);
    }

    fn find(&mut self, check: &'static str, verdict: Verdict, took: Duration) {
        if verdict.status == Status::Failed {
            self.spoilt.insert(check, check);
        }
        let Verdict { status, what, why, fix } = verdict;
        let finding = Finding { check, status, what, why, fix, took };
        (self.listener)(&finding);
        self.findings.push(finding);
    }

    /// All of them.
    pub fn end(self) -> Report {
        Report { findings: self.findings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::TestClock;
    use crate::domain::Timestamp;

    #[tokio::test]
    async fn what_needs_a_failure_is_skipped_and_names_it() {
        let clock = TestClock::at(Timestamp::from_millis(0));
        let mut course = Course::new(&clock, &|_| {});
        let good = async { (Verdict::ok("10.0.0.7"), Some(7)) };
        assert_eq!(course.learn("dns", &[], good).await, Some(7));
        course.check("tcp", &["dns"], async { Verdict::failed("refused", "", "") }).await;
        let never = async { (Verdict::ok("never"), Some(())) };
        assert_eq!(course.learn("tls", &["tcp"], never).await, None);
        course.tell("clock", &["tls"], Verdict::ok("never"));
        course.check("webhook", &[], async { Verdict::skipped("none is configured") }).await;
        // What there is nothing to be tried of hinders nobody.
        course.check("events", &["webhook"], async { Verdict::ok("yes") }).await;
        let report = course.end();
        let told: Vec<_> = report.findings.iter().map(|finding| (finding.status, finding.what.as_str())).collect();
        assert_eq!(told[1], (Status::Failed, "refused"));
        assert_eq!(told[2..4], [(Status::Skipped, "because tcp failed"); 2]);
        assert_eq!(told[5], (Status::Ok, "yes"));
    }
}
