//! Several connections at once, as browsers have them.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;

use super::site::{Answer, Site};
use crate::clock::Clock;
use crate::doctor::report::Verdict;

/// As many as browsers open to one host.
const CONNECTIONS: usize = 6;
const HELD: Duration = Duration::from_secs(2);

/// Holds them all at once.
pub(super) async fn check(site: &Site, clock: &dyn Clock) -> Verdict {
    let began = clock.monotonic();
    let path = format!("/doctor?after={}", HELD.as_secs());
    let asked = (0..CONNECTIONS).map(|_| site.ask(site.request(Method::GET, &path)));
    let answers = join_all(asked).await;
    let took = clock.monotonic().saturating_sub(began);
    let passed = |answer: &&Result<_, String>| {
        answer.as_ref().is_ok_and(|answer: &Answer| answer.json["after"].is_u64() || answer.code() == "rate_limited")
    };
    let passed = answers.iter().filter(passed).count();
    judge(passed, took)
}

fn judge(passed: usize, took: Duration) -> Verdict {
    let why =
        "uploaders send several chunks at once, and those that are refused or wait look like a slow or broken line";
    let fix = "raise the limit for connections of one address (nginx: limit_conn), and let the proxy open as many to the gateway";
    if passed < CONNECTIONS {
        return Verdict::failed(format!("of {CONNECTIONS} connections at once {passed} are answered"), why, fix);
    }
    if took > HELD * 2 {
        let what = format!(
            "{CONNECTIONS} answers of {} s each take {} s: one waits for the other",
            HELD.as_secs(),
            took.as_secs()
        );
        return Verdict::failed(what, why, fix);
    }
    Verdict::ok(format!("{CONNECTIONS} connections are served at once"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Status;

    #[test]
    fn one_after_the_other_is_not_at_once() {
        assert_eq!(judge(6, Duration::from_millis(2500)).status, Status::Ok);
        assert_eq!(judge(6, Duration::from_secs(12)).status, Status::Failed);
        assert_eq!(judge(2, Duration::from_secs(2)).status, Status::Failed);
    }
}
