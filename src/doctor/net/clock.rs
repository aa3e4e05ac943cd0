//! The clocks: ours and the server's.

use std::time::{Duration, SystemTime};

use http::header::DATE;

use super::Place;
use crate::clock::Clock;
use crate::doctor::report::Verdict;
use crate::domain::Timestamp;

const PATIENCE: Duration = Duration::from_secs(10);
/// A signature from further away is refused, by OSS and by S3.
const REFUSED: Duration = Duration::from_secs(15 * 60);
/// Nearer, nobody cares: a date has whole seconds, and took its time to arrive.
const UNNOTICED: Duration = Duration::from_secs(30);

/// Asks for the server's date.
pub(in crate::doctor) async fn check(place: &Place, clock: &dyn Clock) -> Verdict {
    let client =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(PATIENCE).build();
    let answer = match client {
        Ok(client) => client.head(place.base()).send().await,
        Err(error) => Err(error),
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            return Verdict::failed(
                format!("{} takes connections and answers no request: {}", place.host, error.without_url()),
                "nothing that is sent there is answered",
                format!(
                    "check what {} names: is it a web server, and does it speak http or https there?",
                    place.setting
                ),
            );
        }
    };
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
    let theirs = date.and_then(|date| httpdate::parse_http_date(date).ok());
    let theirs = theirs.and_then(|date| date.duration_since(SystemTime::UNIX_EPOCH).ok());
    let Some(theirs) = theirs else { return Verdict::ok("the server tells no date to compare with") };
    judge(clock.now(), Timestamp::from_millis(i64::try_from(theirs.as_millis()).unwrap_or(i64::MAX)))
}

fn judge(ours: Timestamp, theirs: Timestamp) -> Verdict {
    let (ahead, behind) = (ours.since(theirs), theirs.since(ours));
    let (off, direction) = if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") };
    if off < UNNOTICED {
        return Verdict::ok(format!("this machine's clock agrees with the server's ({} s)", off.as_secs()));
    }
    let what = format!("this machine's clock is {} s {direction} the server's", off.as_secs());
    let fix = "set the clock, and keep it: timedatectl set-ntp true (chrony or systemd-timesyncd)";
    if off < REFUSED {
        let why = "signatures, signed URLs and tokens begin and end at other times than meant";
        return Verdict::warning(what, why, fix);
    }
    let why = "a signature that is 15 minutes off is refused (RequestTimeTooSkewed); signed URLs, tokens and webhooks \
               are born expired, or not yet valid";
    Verdict::failed(what, why, fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Status;

    #[test]
    fn an_hour_is_too_much_and_a_second_is_nothing() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        assert_eq!(judge(at(0), at(1)).status, Status::Ok);
        assert_eq!(judge(at(100), at(0)).status, Status::Warning);
        let hour = judge(at(3600), at(0));
        assert!(hour.status == Status::Failed && hour.what.contains("3600 s ahead of"), "{hour:?}");
        assert!(judge(at(0), at(3600)).what.contains("3600 s behind"));
    }
}
