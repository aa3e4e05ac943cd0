//! What a form may say: the policy of PostObject, read and held against the
//! form. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::error::OssError;
use crate::domain::Timestamp;

/// Fields that a policy must name where a form has them.
const NEEDED: [&str; 4] = ["x-oss-signature-version", "x-oss-credential", "x-oss-date", "x-oss-security-token"];

/// A policy.
#[derive(Debug)]
pub(crate) struct Policy {
    expires: Timestamp,
    conditions: Vec<Condition>,
    /// How long the file may be, in bytes.
    pub length: (u64, u64),
}

/// What must hold of a field.
#[derive(Debug)]
struct Condition {
    /// In lower case.
    field: String,
    test: Test,
    /// As the policy has it.
    text: String,
}

#[derive(Debug)]
enum Test {
    Is(String),
    BeginsWith(String),
    IsOneOf(Vec<String>),
    IsNoneOf(Vec<String>),
}

impl Test {
    fn holds(&self, value: &str) -> bool {
        match self {
            Self::Is(wanted) => value == wanted,
            Self::BeginsWith(wanted) => value.starts_with(wanted.as_str()),
            Self::IsOneOf(wanted) => wanted.iter().any(|wanted| wanted == value),
            Self::IsNoneOf(unwanted) => unwanted.iter().all(|unwanted| unwanted != value),
        }
    }
}

impl Policy {
    /// Reads the `policy` field.
    pub(crate) fn parse(field: &str) -> Result<Self, OssError> {
        #[derive(Deserialize)]
        struct Document {
            expiration: String,
            conditions: Vec<Value>,
        }
        let json = STANDARD.decode(field.trim()).map_err(|_| invalid("it is not base64"))?;
        let document: Document =
            serde_json::from_slice(&json).map_err(|_| invalid("Invalid JSON: it needs expiration and conditions"))?;
        let expires = Timestamp::parse_rfc3339(&document.expiration).ok_or_else(|| invalid("Invalid Expiration"))?;
        let mut policy = Self { expires, conditions: Vec::new(), length: (0, u64::MAX) };
        for condition in &document.conditions {
            policy.add(condition).ok_or_else(|| invalid(&format!("Invalid Condition: {condition}")))?;
        }
        Ok(policy)
    }

    fn add(&mut self, condition: &Value) -> Option<()> {
        let is = |name: &str, wanted: &str| Condition {
            field: name.trim_start_matches('$').to_ascii_lowercase(),
            test: Test::Is(wanted.to_owned()),
            text: serde_json::json!(["eq", format!("${}", name.trim_start_matches('$')), wanted]).to_string(),
        };
        if let Value::Object(pairs) = condition {
            for (name, wanted) in pairs {
                self.conditions.push(is(name, wanted.as_str()?));
            }
            return Some(());
        }
        let [kind, second, third] = condition.as_array()?.as_slice() else { return None };
        let kind = kind.as_str()?.to_ascii_lowercase();
        if kind == "content-length-range" {
            self.length = (second.as_u64()?, third.as_u64()?);
            return (self.length.0 <= self.length.1).then_some(());
        }
        let texts =
            || third.as_array()?.iter().map(|text| text.as_str().map(ToOwned::to_owned)).collect::<Option<Vec<_>>>();
        let test = match kind.as_str() {
            "eq" => Test::Is(third.as_str()?.to_owned()),
            "starts-with" => Test::BeginsWith(third.as_str()?.to_owned()),
            "in" => Test::IsOneOf(texts()?),
            "not-in" => Test::IsNoneOf(texts()?),
            _ => return None,
        };
        let field = second.as_str()?.trim_start_matches('$').to_ascii_lowercase();
        self.conditions.push(Condition { field, test, text: condition.to_string() });
        Some(())
    }

    /// Whether the form keeps to it. `field` is one of its fields by its
    /// lower-case name.
    pub(crate) fn check<'f>(&self, now: Timestamp, field: impl Fn(&str) -> Option<&'f str>) -> Result<(), OssError> {
        if now > self.expires {
            return Err(denied("Policy expired.").ec("0006-00000226"));
        }
        let broken = self.conditions.iter().find(|c| !c.test.holds(field(&c.field).unwrap_or_default()));
        if let Some(broken) = broken {
            return Err(denied(&format!("Policy Condition failed: {}", broken.text)).ec("0006-00000227"));
        }
        let named = |name: &str| self.conditions.iter().any(|condition| condition.field == name);
        match NEEDED.iter().find(|name| field(name).is_some() && !named(name)) {
            Some(name) => Err(denied(&format!("Extra input fields: {name}")).ec("0006-00000228")),
            None => Ok(()),
        }
    }
}

fn invalid(why: &str) -> OssError {
    OssError::new(StatusCode::BAD_REQUEST, "InvalidPolicyDocument", format!("Invalid Policy: {why}."))
        .ec("0006-00000201")
}

fn denied(why: &str) -> OssError {
    OssError::access_denied(format!("Invalid according to Policy: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: &str) -> Result<Policy, &'static str> {
        Policy::parse(&STANDARD.encode(json)).map_err(|error| error.code)
    }

    #[test]
    fn a_form_keeps_to_each_condition() {
        let policy = policy(
            "{\"expiration\":\"2026-12-01T12:00:00.000Z\",\"conditions\":[{\"bucket\":\"bkt\"},\
             [\"content-length-range\",1,1024],[\"starts-with\",\"$key\",\"user/\"],\
             [\"in\",\"$Content-Type\",[\"image/png\",\"image/jpeg\"]],[\"not-in\",\"$cache-control\",[\"no-cache\"]]]}",
        );
        let policy = policy.expect("a policy");
        assert_eq!(policy.length, (1, 1024));
        let good = [("bucket", "bkt"), ("key", "user/a"), ("content-type", "image/png")];
        let checked = |changed: (&'static str, &'static str), now: &str| {
            let now = Timestamp::parse_rfc3339(now).expect("a time");
            let field = |name: &str| {
                let changed = Some(changed).filter(|(n, _)| *n == name);
                changed.or_else(|| good.into_iter().find(|(n, _)| *n == name)).map(|(_, value)| value)
            };
            policy.check(now, field).map_err(|error| error.message.into_owned())
        };
        let now = "2026-12-01T11:00:00Z";
        assert_eq!(checked(("x", ""), now), Ok(()));
        let late = checked(("x", ""), "2026-12-01T12:00:01Z").expect_err("late");
        assert_eq!(late, "Invalid according to Policy: Policy expired.");
        for (changed, named) in [
            (("bucket", "other"), "[\"eq\",\"$bucket\",\"bkt\"]"),
            (("key", "use/a"), "[\"starts-with\",\"$key\",\"user/\"]"),
            (("content-type", "text/html"), "$Content-Type"),
            (("cache-control", "no-cache"), "$cache-control"),
            (("x-oss-credential", "c"), "Extra input fields: x-oss-credential"),
        ] {
            let refused = checked(changed, now).expect_err(named);
            assert!(refused.contains(named), "{refused}");
        }
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        let with = |condition: &str| {
            policy(&format!("{{\"expiration\":\"2026-12-01T12:00:00Z\",\"conditions\":[{condition}]}}"))
        };
        assert!(with("").is_ok());
        for bad in
            ["1", "[\"eq\",\"$key\"]", "[\"like\",\"$key\",\"a\"]", "[\"content-length-range\",2,1]", "{\"key\":1}"]
        {
            assert_eq!(with(bad).err(), Some("InvalidPolicyDocument"), "{bad}");
        }
        for bad in ["", "{}", "{\"expiration\":\"tomorrow\",\"conditions\":[]}", "{\"conditions\":[]}"] {
            assert_eq!(policy(bad).err(), Some("InvalidPolicyDocument"), "{bad}");
        }
        assert_eq!(Policy::parse("?").err().map(|error| error.code), Some("InvalidPolicyDocument"));
    }
}
