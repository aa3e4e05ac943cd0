//! What was found: pure.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// How one check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All is well.
    Ok,
    /// It works, but not as well as it could, or not for long.
    Warning,
    /// This is why uploads fail.
    Failed,
    /// It could not be tried, or there is nothing to be tried.
    Skipped,
}

/// What a check says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How it ended.
    pub status: Status,
    /// What is so.
    pub what: String,
    /// What follows from it.
    pub why: String,
    /// What to do: the very line to write, where there is one.
    pub fix: String,
}

impl Verdict {
    /// All is well.
    pub fn ok(what: impl Into<String>) -> Self {
        Self { status: Status::Ok, what: what.into(), why: String::new(), fix: String::new() }
    }

    /// It works, but.
    pub fn warning(what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { status: Status::Warning, what: what.into(), why: why.into(), fix: fix.into() }
    }

    /// It does not work.
    pub fn failed(what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { status: Status::Failed, what: what.into(), why: why.into(), fix: fix.into() }
    }

    /// It was not tried.
    pub fn skipped(because: impl Into<String>) -> Self {
        Self {
            status: Status::Skipped,
            what: format!("because {}", because.into()),
            why: String::new(),
            fix: String::new(),
        }
    }
}

/// A check that was made, or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Which one.
    pub check: &'static str,
    /// How it ended.
    pub status: Status,
    /// What is so.
    pub what: String,
    /// What follows from it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fix: String,
    /// How long it took.
    #[serde(rename = "milliseconds", serialize_with = "milliseconds")]
    pub took: Duration,
}

fn milliseconds<S: Serializer>(took: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
}

/// All that was found, in the order of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Each check.
    pub findings: Vec<Finding>,
}

impl Report {
    /// What failed first: all later failures may be its effects.
    pub fn first_cause(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.status == Status::Failed)
    }

    /// Whether nothing failed.
    pub fn is_well(&self) -> bool {
        self.first_cause().is_none()
    }

    /// How many checks ended so.
    pub fn count(&self, status: Status) -> usize {
        self.findings.iter().filter(|finding| finding.status == status).count()
    }

    /// For programs.
    pub fn to_json(&self) -> serde_json::Value {
        let status = if self.is_well() { Status::Ok } else { Status::Failed };
        serde_json::json!({"status": status, "firstCause": self.first_cause(), "findings": self.findings})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_the_cause() {
        let finding = |check, status| Finding {
            check,
            status,
            what: "w".to_owned(),
            why: String::new(),
            fix: String::new(),
            took: Duration::from_millis(7),
        };
        let well = Report { findings: vec![finding("dns", Status::Ok), finding("tls", Status::Warning)] };
        assert!(well.is_well() && well.to_json()["status"] == "ok" && well.to_json()["firstCause"].is_null());
        let ill = Report {
            findings: vec![
                finding("dns", Status::Ok),
                finding("tcp", Status::Failed),
                finding("tls", Status::Skipped),
                finding("database", Status::Failed),
            ],
        };
        assert_eq!(ill.first_cause().map(|finding| finding.check), Some("tcp"));
        let json = ill.to_json();
        assert_eq!((json["status"].as_str(), json["firstCause"]["check"].as_str()), (Some("failed"), Some("tcp")));
        assert_eq!(json["findings"][1]["milliseconds"], 7);
        assert_eq!(ill.count(Status::Failed), 2);
    }
}
