//! What is said of a configuration that does not make a store. Pure.

use std::fmt;

/// One mistake in a store's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The key to change.
    pub key: &'static str,
    /// Why, and into what. Never repeats a secret.
    pub advice: String,
}

impl Mistake {
    /// A mistake in this setting.
    pub fn new(key: &'static str, advice: impl Into<String>) -> Self {
        Self { key, advice: advice.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.advice)
    }
}

/// All of them in one line.
pub fn told(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A setting that says something.
pub fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.trim().is_empty())
}

/// A variable that says something.
pub fn in_environment(env: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    env(name).filter(|value| !value.trim().is_empty())
}
