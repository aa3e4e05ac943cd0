//! A bucket's lifecycle rules, as far as they are about uploads that nobody
//! finished, as OSS and as S3 write them: pure.

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
    /// OSS's; and S3's, of old.
    prefix: Option<String>,
    /// S3's.
    #[serde(default)]
    filter: Filter,
    status: String,
    #[serde(alias = "AbortIncompleteMultipartUpload")]
    abort_multipart_upload: Option<Abort>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Filter {
    prefix: Option<String>,
    /// Tags and sizes, which no upload has before it is finished.
    tag: Option<serde::de::IgnoredAny>,
    and: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Abort {
    /// None where OSS has a date: such a rule is over, or will be, and keeps
    /// nothing clean.
    #[serde(alias = "DaysAfterInitiation")]
    days: Option<u32>,
}

/// What becomes of multipart uploads of this key.
pub fn abandoned(text: &str, key: &str) -> Result<Abandoned, Unreadable> {
    let rules: Rules = read(text, "LifecycleConfiguration")?;
    let applies = |rule: &Rule| {
        let prefix = rule.filter.prefix.as_ref().or(rule.prefix.as_ref()).map_or("", String::as_str);
        let is_of_keys = rule.filter.tag.is_none() && rule.filter.and.is_none();
        rule.status == "Enabled" && is_of_keys && key.starts_with(prefix)
    };
    let days = |rule: Rule| rule.abort_multipart_upload?.days;
    let soonest = rules.rules.into_iter().filter(applies).filter_map(days).min();
    Ok(soonest.map_or(Abandoned::Kept, Abandoned::DroppedAfterDays))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rules: &[String]) -> Abandoned {
        let text = format!("<LifecycleConfiguration>{}</LifecycleConfiguration>", rules.concat());
        abandoned(&text, "uploads/a").expect("rules")
    }

    fn rule(which: &str, status: &str, what: &str) -> String {
        format!("<Rule><ID>r</ID>{which}<Status>{status}</Status>{what}</Rule>")
    }

    #[test]
    fn the_soonest_rule_of_oss_that_is_on_and_about_the_key_counts() {
        let rule = |prefix: &str, status: &str, what: &str| rule(&format!("<Prefix>{prefix}</Prefix>"), status, what);
        let abort = |days: u32| format!("<AbortMultipartUpload><Days>{days}</Days></AbortMultipartUpload>");
        let expiry = "<Expiration><Days>30</Days></Expiration>";
        assert_eq!(of(&[]), Abandoned::Kept);
        assert_eq!(of(&[rule("uploads/", "Enabled", expiry)]), Abandoned::Kept);
        assert_eq!(of(&[rule("logs/", "Enabled", &abort(1)), rule("", "Disabled", &abort(2))]), Abandoned::Kept);
        let both = [rule("", "Enabled", &abort(7)), rule("uploads/", "Enabled", &abort(3))];
        assert_eq!(of(&both), Abandoned::DroppedAfterDays(3));
        assert!(abandoned("<html>", "a").is_err());
    }

    #[test]
    fn the_soonest_rule_of_s3_that_is_on_and_about_the_key_counts() {
        let rule = |which: &str, status: &str, days: u32| {
            let abort = format!("<DaysAfterInitiation>{days}</DaysAfterInitiation>");
            rule(which, status, &format!("<AbortIncompleteMultipartUpload>{abort}</AbortIncompleteMultipartUpload>"))
        };
        let filter = |prefix: &str| format!("<Filter><Prefix>{prefix}</Prefix></Filter>");
        assert_eq!(of(&[]), Abandoned::Kept);
        assert_eq!(of(&[rule(&filter("logs/"), "Enabled", 1), rule("<Filter/>", "Disabled", 2)]), Abandoned::Kept);
        assert_eq!(of(&[rule("<Filter/>", "Enabled", 9)]), Abandoned::DroppedAfterDays(9));
        let old = rule("<Prefix>uploads/</Prefix>", "Enabled", 3);
        assert_eq!(of(&[old, rule(&filter("uploads/"), "Enabled", 8)]), Abandoned::DroppedAfterDays(3));
        let tagged = "<Filter><And><Prefix></Prefix><Tag><Key>a</Key><Value>b</Value></Tag></And></Filter>";
        assert_eq!(of(&[rule(tagged, "Enabled", 1)]), Abandoned::Kept);
        assert!(abandoned("<html>", "a").is_err());
    }
}
