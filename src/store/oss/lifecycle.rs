//! A bucket's lifecycle rules, as far as they are about uploads that nobody
//! finished: pure.

use serde::Deserialize;

use crate::store::Abandoned;
use crate::store::remote::xml::{Unreadable, read};

#[derive(Deserialize)]
struct Rules {
    #[serde(rename = "Rule", default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Rule {
    #[serde(default)]
    prefix: String,
    status: String,
    abort_multipart_upload: Option<Abort>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Abort {
    days: Option<u32>,
}

/// What becomes of multipart uploads of this key. A rule by date is over, or
/// will be: it keeps nothing clean.
pub fn abandoned(text: &str, key: &str) -> Result<Abandoned, Unreadable> {
    let rules: Rules = read(text, "LifecycleConfiguration")?;
    let applies = |rule: &Rule| rule.status == "Enabled" && key.starts_with(&rule.prefix);
    let days = |rule: Rule| rule.abort_multipart_upload?.days;
    let soonest = rules.rules.into_iter().filter(applies).filter_map(days).min();
    Ok(soonest.map_or(Abandoned::Kept, Abandoned::DroppedAfterDays))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soonest_rule_that_is_on_and_about_the_key_counts() {
        let rule = |prefix: &str, status: &str, what: &str| {
            format!("<Rule><ID>r</ID><Prefix>{prefix}</Prefix><Status>{status}</Status>{what}</Rule>")
        };
        let abort = |days: u32| format!("<AbortMultipartUpload><Days>{days}</Days></AbortMultipartUpload>");
        let of = |rules: &[String]| {
            let text = format!("<LifecycleConfiguration>{}</LifecycleConfiguration>", rules.concat());
            abandoned(&text, "uploads/a").expect("rules")
        };
        let expiry = "<Expiration><Days>30</Days></Expiration>";
        assert_eq!(of(&[]), Abandoned::Kept);
        assert_eq!(of(&[rule("uploads/", "Enabled", expiry)]), Abandoned::Kept);
        assert_eq!(of(&[rule("logs/", "Enabled", &abort(1)), rule("", "Disabled", &abort(2))]), Abandoned::Kept);
        let both = [rule("", "Enabled", &abort(7)), rule("uploads/", "Enabled", &abort(3))];
        assert_eq!(of(&both), Abandoned::DroppedAfterDays(3));
        assert!(abandoned("<html>", "a").is_err());
    }
}
