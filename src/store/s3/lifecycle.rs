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
    /// As rules were written of old.
    prefix: Option<String>,
    #[serde(default)]
    filter: Filter,
    status: String,
    abort_incomplete_multipart_upload: Option<Abort>,
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
    days_after_initiation: Option<u32>,
}

/// What becomes of multipart uploads of this key.
pub fn abandoned(text: &str, key: &str) -> Result<Abandoned, Unreadable> {
    let rules: Rules = read(text, "LifecycleConfiguration")?;
    let applies = |rule: &Rule| {
        let prefix = rule.filter.prefix.as_ref().or(rule.prefix.as_ref()).map_or("", String::as_str);
        let is_of_keys = rule.filter.tag.is_none() && rule.filter.and.is_none();
        rule.status == "Enabled" && is_of_keys && key.starts_with(prefix)
    };
    let days = |rule: Rule| rule.abort_incomplete_multipart_upload?.days_after_initiation;
    let soonest = rules.rules.into_iter().filter(applies).filter_map(days).min();
    Ok(soonest.map_or(Abandoned::Kept, Abandoned::DroppedAfterDays))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soonest_rule_that_is_on_and_about_the_key_counts() {
        let rule = |which: &str, status: &str, days: u32| {
            let abort = format!("<DaysAfterInitiation>{days}</DaysAfterInitiation>");
            let abort = format!("<AbortIncompleteMultipartUpload>{abort}</AbortIncompleteMultipartUpload>");
            format!("<Rule><ID>r</ID>{which}<Status>{status}</Status>{abort}</Rule>")
        };
        let of = |rules: &[String]| {
            let text = format!("<LifecycleConfiguration>{}</LifecycleConfiguration>", rules.concat());
            abandoned(&text, "uploads/a").expect("rules")
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
