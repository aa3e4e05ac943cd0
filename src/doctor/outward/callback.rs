//! Whom OSS tells of files that browsers put by forms: OSS is asked to tell of a
//! scratch object, which shows whether it gets there and whether its signature
//! does; and what OSS did not sign must be refused.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::receivers::shown;
use super::scratch::Scratch;
use super::target::{Target, Told};
use crate::doctor::course::Course;
use crate::doctor::net::Place;
use crate::doctor::report::Verdict;
use crate::notify::{Attempt, attempt_as};
use crate::store::oss::sign::callback::{KEY_URL_HEADER, SIGNATURE_HEADER};
use crate::store::{Heard, StoreError};

const CHECK: &str = "callback oss";
const CONTENT: &[u8] = b"chunkgate doctor: has OSS told of this?\n";
/// Whoever is told must have answered by then.
const PATIENCE: Duration = Duration::from_secs(5);
/// As long as one of OSS's, and nobody's.
const FORGED: [u8; 64] = [7; 64];
const SAID: &str = "bucket=doctor&object=doctor&size=0&etag=doctor";

const WHY: &str = "OSS answers the browser 203 CallbackFailed although the file is stored, and the gateway hears of it only \
                   when its sweeper looks, minutes later";
const OR_NOT: &str = "or remove store.oss.callback_url: the sweeper finds such files by itself";

/// Tries it, where OSS is to tell anybody.
pub(super) async fn check(course: &mut Course<'_>, target: &Target, scratch: &Scratch) {
    match &target.told {
        Told::Never => {}
        Told::Nobody => {
            let because = "store.oss.callback_url is not set: the sweeper looks for what browsers put by forms";
            course.tell(CHECK, &["configuration"], Verdict::skipped(because));
        }
        Told::Gateway { url, key_url } => {
            let tried = examine(&target.place, url, key_url, scratch);
            course.check(CHECK, &["permission to put"], tried).await;
        }
    }
}

async fn examine(store: &Place, url: &str, key_url: &str, scratch: &Scratch) -> Verdict {
    let Some((parsed, place)) = parse(url) else {
        let why = format!("store.oss.callback_url = {:?} is no URL", shown(url));
        return Verdict::failed(why, WHY, "set it to https://upload.example.com/callbacks/oss");
    };
    let (url, reach) = (shown(parsed.as_str()), reach(&place, is_of_public_oss(store).await).await);
    if let Reach::Never(what) = reach {
        return out_of_reach(url, &what);
    }
    let heard = match scratch.store.tell(&scratch.key("told"), CONTENT).await {
        Ok(Some(heard)) => heard,
        Ok(None) => return Verdict::skipped("this store tells nobody"),
        Err(error) => return not_taken(url, &error),
    };
    if let Some(failed) = judge_heard(url, &heard, &reach) {
        return failed;
    }
    judge_forgery(url, &attempt_as(parsed.as_str(), forged(key_url), SAID, PATIENCE).await, &reach)
}

fn parse(url: &str) -> Option<(reqwest::Url, Place)> {
    let parsed = reqwest::Url::parse(url).ok().filter(|url| ["http", "https"].contains(&url.scheme()))?;
    let place = Place::of_url(&parsed, "store.oss.callback_url")?;
    Some((parsed, place))
}

/// What is known of an address before it is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reach {
    /// The internet gets there, as far as can be seen.
    Public,
    /// It is one of a network of its own, as the store is that is near.
    Near(String),
    /// From here it is one of a network of its own; elsewhere its name may be another.
    Perhaps(String),
    /// OSS calls no such address.
    Never(String),
}

async fn reach(place: &Place, is_public_oss: bool) -> Reach {
    let literal = place.host.parse::<IpAddr>().ok();
    let found = addresses(place).await;
    judge_reach(&place.host, literal.is_some(), &found, is_public_oss)
}

fn judge_reach(host: &str, is_literal: bool, found: &[IpAddr], is_public_oss: bool) -> Reach {
    let is_named_local = host.eq_ignore_ascii_case("localhost");
    match found.iter().find(|address| !is_public(**address)) {
        // A name that nobody knows here is OSS's to find, or not to.
        None => Reach::Public,
        Some(address) => {
            let what = if is_literal { format!("{address} is") } else { format!("{host} is {address},") };
            let what = format!("{what} an address of a private network or of this machine");
            match (is_public_oss, is_literal || is_named_local) {
                (false, _) => Reach::Near(what),
                (true, true) => Reach::Never(what),
                (true, false) => Reach::Perhaps(what),
            }
        }
    }
}

async fn addresses(place: &Place) -> Vec<IpAddr> {
    let found = tokio::net::lookup_host((place.host.as_str(), place.port)).await;
    found.into_iter().flatten().map(|address| address.ip()).collect()
}

/// Aliyun's, or somewhere on the internet; a test server is beside us.
async fn is_of_public_oss(store: &Place) -> bool {
    // Internal endpoints have private addresses, and OSS behind them.
    store.host.ends_with(".aliyuncs.com") || addresses(store).await.into_iter().any(is_public)
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let is_shared = v4.octets()[0] == 100 && v4.octets()[1] & 0b1100_0000 == 64;
            !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4 == Ipv4Addr::UNSPECIFIED || is_shared)
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_public(v4.into()),
            None => !(v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local()),
        },
    }
}

fn out_of_reach(url: &str, what: &str) -> Verdict {
    Verdict::failed(
        format!("{url}: {what}; OSS calls from the public internet"),
        WHY,
        format!(
            "set store.oss.callback_url to the public address of this gateway, such as \
             https://upload.example.com/callbacks/oss, {OR_NOT}"
        ),
    )
}

/// The object itself was not taken.
fn not_taken(url: &str, error: &StoreError) -> Verdict {
    Verdict::failed(
        format!("{url}: the store does not take an object of which it is to tell there: {error}"),
        "no browser can send a file by a form (POST /uploads/sign)",
        format!("correct store.oss.callback_url: a URL on the public internet, {OR_NOT}"),
    )
}

/// A gateway answers 400 to OSS: it knows the signature, and of no form that has
/// put a scratch object. All else is something else.
fn judge_heard(url: &str, heard: &Heard, reach: &Reach) -> Option<Verdict> {
    let answered = |status: u16| format!("{url}: OSS is answered {status}");
    let (what, fix) = match heard {
        Heard::Status(400) => return None,
        Heard::Well => {
            return Some(Verdict::failed(
                format!("{url}: somebody who is no gateway takes OSS's word for a file of nobody's"),
                "browsers are told that all is well, and the gateway hears of a file only when its sweeper looks, minutes \
                 later",
                "let POST /callbacks/oss through to the gateway itself",
            ));
        }
        Heard::Nothing(said) => match reach {
            Reach::Perhaps(what) | Reach::Never(what) => return Some(out_of_reach(url, what)),
            Reach::Public | Reach::Near(_) => (
                format!("{url}: OSS gets no answer ({})", said.trim_end_matches('.')),
                format!(
                    "start the gateway if it is not running; let the internet through to POST /callbacks/oss on its \
                     public listener (DNS, security group, certificate), {OR_NOT}"
                ),
            ),
        },
        Heard::Status(status @ 401) => (
            answered(*status),
            "pass path, query, body and the headers authorization and x-oss-pub-key-url on as they came: OSS signs \
             them; ask for no login there; and set store.oss.callback_url to the path that the gateway gets"
                .to_owned(),
        ),
        Heard::Status(status @ 300..=399) => {
            (answered(*status), "set store.oss.callback_url to the address that it redirects to".to_owned())
        }
        Heard::Status(status @ (404 | 405)) => (
            answered(*status),
            "let store.oss.callback_url end in /callbacks/oss, have it set in the gateway that answers there, too, and \
             pass that path on"
                .to_owned(),
        ),
        Heard::Status(status @ 500) => (
            answered(*status),
            "see the gateway's own log; it needs its database, and gosspublic.alicdn.com for OSS's public key".to_owned(),
        ),
        Heard::Status(status @ (502..=504)) => {
            (answered(*status), "what stands in front does not reach the gateway: check where it forwards to".to_owned())
        }
        Heard::Status(status) => {
            (answered(*status), "let OSS through to POST /callbacks/oss: a firewall or a login may stand there".to_owned())
        }
    };
    Some(Verdict::failed(what, WHY, fix))
}

/// OSS is heard; whoever is not OSS must not be.
fn judge_forgery(url: &str, forged: &Attempt, reach: &Reach) -> Verdict {
    let what = match forged {
        Attempt { error: None, .. } => {
            return Verdict::failed(
                format!("{url} takes what OSS has not signed"),
                "anybody can make it look for files that are not there",
                "let POST /callbacks/oss through to the gateway itself, which checks the signature",
            );
        }
        Attempt { status: Some(401), .. } => {
            format!("{url}: OSS gets there, its signature is known, and a wrong one is refused")
        }
        Attempt { error: Some(error), .. } => {
            format!("{url}: OSS gets there, and its signature is known; this machine does not get there ({error})")
        }
    };
    match reach {
        Reach::Near(why) => Verdict::warning(
            format!("{what}; {why}"),
            "a test server beside it gets there; OSS itself calls from the public internet",
            "for OSS itself, set store.oss.callback_url to the public address of this gateway",
        ),
        Reach::Public | Reach::Perhaps(_) | Reach::Never(_) => Verdict::ok(what),
    }
}

fn forged(key_url: &str) -> HeaderMap {
    let headers = [(SIGNATURE_HEADER, STANDARD.encode(FORGED)), (KEY_URL_HEADER, STANDARD.encode(key_url))];
    let form = ("content-type", "application/x-www-form-urlencoded".to_owned());
    let pairs = headers.into_iter().chain([form]);
    pairs
        .filter_map(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Status;

    #[test]
    fn oss_calls_no_private_address() {
        let of = |host: &str, found: &[&str], is_public_oss: bool| {
            let found: Vec<IpAddr> = found.iter().map(|text| text.parse().expect("an address")).collect();
            judge_reach(host, host.parse::<IpAddr>().is_ok(), &found, is_public_oss)
        };
        for address in
            ["10.0.0.8", "127.0.0.1", "192.168.1.2", "172.16.0.1", "100.64.3.4", "169.254.1.1", "fd00::1", "::1"]
        {
            assert!(matches!(of(address, &[address], true), Reach::Never(_)), "{address}");
            assert!(matches!(of(address, &[address], false), Reach::Near(_)), "{address}");
        }
        assert!(matches!(of("localhost", &["127.0.0.1"], true), Reach::Never(_)));
        // Names may have other addresses elsewhere: OSS decides.
        assert!(matches!(of("upload.example.com", &["10.0.0.8"], true), Reach::Perhaps(_)));
        assert_eq!(of("upload.example.com", &["47.98.1.2"], true), Reach::Public);
        assert_eq!(of("100.128.0.1", &["100.128.0.1"], true), Reach::Public);
        assert_eq!(of("unknown.example.com", &[], true), Reach::Public);
    }

    #[test]
    fn what_oss_hears_tells_who_answers() {
        let of = |heard: Heard, reach: Reach| judge_heard("u", &heard, &reach);
        assert!(of(Heard::Status(400), Reach::Public).is_none(), "a gateway that knows of no such form");
        for (heard, fix) in [
            (Heard::Well, "gateway itself"),
            (Heard::Nothing("Error status : -1.".to_owned()), "security group"),
            (Heard::Status(401), "as they came"),
            (Heard::Status(404), "/callbacks/oss"),
            (Heard::Status(301), "redirects"),
            (Heard::Status(500), "gosspublic.alicdn.com"),
            (Heard::Status(502), "forwards"),
            (Heard::Status(403), "firewall"),
        ] {
            let verdict = of(heard, Reach::Public).expect("a finding");
            assert!(verdict.status == Status::Failed && verdict.fix.contains(fix), "{verdict:?}");
        }
        let private = of(Heard::Nothing("no".to_owned()), Reach::Perhaps("it is 10.0.0.8".to_owned()));
        assert!(private.is_some_and(|verdict| verdict.what.contains("10.0.0.8")));
    }

    #[test]
    fn a_forgery_is_refused_or_the_finding() {
        let answered =
            |status: Option<u16>, error: Option<&str>| Attempt { status, error: error.map(ToOwned::to_owned) };
        let of = |attempt: &Attempt, reach: Reach| judge_forgery("u", attempt, &reach).status;
        let refused = answered(Some(401), Some("it answered 401"));
        assert_eq!(of(&refused, Reach::Public), Status::Ok);
        assert_eq!(of(&refused, Reach::Near("loopback".to_owned())), Status::Warning);
        assert_eq!(of(&answered(None, Some("no route")), Reach::Public), Status::Ok, "OSS gets there, we need not");
        assert_eq!(of(&answered(Some(200), None), Reach::Public), Status::Failed);
    }
}
