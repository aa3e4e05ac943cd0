//! One setting as it was written, before anybody knows whether it is valid.

use std::fmt;
use std::path::PathBuf;

use serde_json::Value as Json;

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a file, at a line where the format tells.
    File {
        /// As it was named.
        path: PathBuf,
        /// From 1.
        line: Option<usize>,
    },
    /// In this environment variable.
    Variable(String),
    /// With this flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A value as it was written.
#[derive(Clone, PartialEq)]
pub enum Raw {
    /// By a format that knows types.
    Typed(Json),
    /// As text that becomes what its key asks for: a number, a list, …
    Text(String),
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may be a secret.
        f.write_str("Raw(********)")
    }
}

/// One setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// `store.oss.bucket`
    pub key: String,
    /// As it was written.
    pub value: Raw,
    /// Where.
    pub origin: Origin,
}

impl Setting {
    /// A setting that was written as text.
    pub fn text(key: &str, value: &str, origin: Origin) -> Self {
        Self { key: key.to_owned(), value: Raw::Text(value.to_owned()), origin }
    }
}

impl Raw {
    /// What this may mean, the most literal reading first. Which of them is
    /// meant is decided by the type that takes one.
    pub(super) fn readings(&self) -> Vec<Json> {
        let text = match self {
            Self::Typed(json) => return vec![json.clone()],
            Self::Text(text) => text,
        };
        let mut readings = vec![Json::String(text.clone())];
        // Numbers and booleans; tables and lists of tables as JSON.
        readings.extend(serde_json::from_str::<Json>(text).ok().filter(|json| !json.is_string() && !json.is_null()));
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        readings.push(items.map(|item| Json::String(item.to_owned())).collect());
        readings
    }

    /// The value as it was written.
    pub(super) fn literal(&self) -> Json {
        match self {
            Self::Typed(json) => json.clone(),
            Self::Text(text) => Json::String(text.clone()),
        }
    }
}
