//! Which credentials are in use, where they come from, and until when they are
//! good.

use std::time::Duration;

use crate::doctor::report::Verdict;
use crate::domain::Timestamp;
use crate::store::{Identification, StoreError};

/// Whoever gives out credentials that end sooner is late with others.
const LIFE_MIN: Duration = Duration::from_secs(60);

/// Who we are, for people.
pub(super) fn describe(identified: Option<&Identification>, now: Timestamp) -> String {
    let Some(Identification { kind, key, origin, is_temporary, life_left, .. }) = identified else {
        return "nobody".to_owned();
    };
    let lasts = match (life_left, is_temporary) {
        (Some(left), _) => format!("good until {}, {}", now.plus(*left).rfc3339(), in_words(*left)),
        (None, true) => "temporary (STS): when its token ends is not written in it".to_owned(),
        (None, false) => "permanent".to_owned(),
    };
    format!("{key} from {origin} ({kind}), {lasts}")
}

fn in_words(left: Duration) -> String {
    match left.as_secs() {
        seconds @ 0..120 => format!("{seconds} s from now"),
        seconds => format!("{} min from now", seconds / 60),
    }
}

/// There are none.
pub(super) fn absent(error: &StoreError) -> Verdict {
    let why = "no request can be signed: uploads get 503";
    match error {
        StoreError::Unavailable(fault) | StoreError::Refused(fault) => {
            let fix = fault.remedy.as_deref().unwrap_or("look at the settings of the store's credentials");
            Verdict::failed(fault.message.clone(), why, fix)
        }
        StoreError::Body
        | StoreError::NoSuchUpload
        | StoreError::NoSuchObject
        | StoreError::PartsDiffer(_)
        | StoreError::Full => {
            Verdict::failed(error.to_string(), why, "look at the settings of the store's credentials")
        }
    }
}

/// The store takes them: whether it will go on.
pub(super) fn judge(identified: &Identification, taken: Verdict) -> Verdict {
    if let Some(fault) = &identified.failing {
        return Verdict::warning(
            format!("{}; others cannot be had: {}", taken.what, fault.message),
            "when these end, uploads get 503",
            fault.remedy.as_deref().unwrap_or("look at the settings of the store's credentials"),
        );
    }
    if identified.life_left.is_some_and(|left| left < LIFE_MIN) {
        return Verdict::warning(
            taken.what,
            format!(
                "whoever gives them out ({}) has no others yet: when these end, uploads get 503",
                identified.origin
            ),
            "let them be replaced while there is a third of their life left, or five minutes",
        );
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Status;
    use crate::store::error::Fault;

    const NOW: Timestamp = Timestamp::from_millis(1_795_165_868_000); // 2026-11-20T09:11:08Z

    fn session(seconds: u64, failing: Option<Fault>) -> Identification {
        Identification {
            kind: "assume_role",
            key: "STS.NUyk…".to_owned(),
            origin: "https://sts.example for acs:ram::1:role/r".to_owned(),
            is_temporary: true,
            life_left: Some(Duration::from_secs(seconds)),
            failing,
        }
    }

    #[test]
    fn credentials_are_told_with_their_kind_their_origin_and_their_end() {
        let told = describe(Some(&session(3600, None)), NOW);
        let whole = "STS.NUyk… from https://sts.example for acs:ram::1:role/r (assume_role), good until \
                     2026-11-20T10:11:08.000Z, 60 min from now";
        assert_eq!(told, whole);
        let forever = Identification { is_temporary: false, life_left: None, ..session(1, None) };
        assert!(describe(Some(&forever), NOW).ends_with(", permanent"));
        let unsaid = Identification { life_left: None, ..session(1, None) };
        assert!(describe(Some(&unsaid), NOW).contains("when its token ends is not written in it"));
    }

    #[test]
    fn what_ends_and_has_no_successor_is_a_warning() {
        let of = |identified: &Identification| judge(identified, Verdict::ok("the store takes them"));
        assert_eq!(of(&session(3600, None)).status, Status::Ok);
        assert_eq!(of(&session(9, None)).status, Status::Warning);
        let fault = Fault { message: "STS is away".to_owned(), remedy: Some("let it out".into()), ..Fault::default() };
        let failing = of(&session(3600, Some(fault.clone())));
        assert!(failing.status == Status::Warning && failing.what.contains("STS is away"), "{failing:?}");
        assert_eq!(failing.fix, "let it out");
        let none = absent(&StoreError::Unavailable(fault));
        assert_eq!((none.status, none.what.as_str(), none.fix.as_str()), (Status::Failed, "STS is away", "let it out"));
    }
}
