//! Settings in environment variables: `CHUNKGATE_STORE__OSS__BUCKET`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;

use super::reference;
use super::{Origin, Problem, Setting};

const PREFIX: &str = "CHUNKGATE_";

/// Kubernetes writes these into every container, for a service called
/// `chunkgate`: they are not ours, and no key begins so.
const SERVICE_LINKS: [&str; 2] = ["CHUNKGATE_SERVICE_", "CHUNKGATE_PORT"];

/// What the store falls back to, when its own keys are not set.
const CREDENTIALS: [&str; 3] = ["OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"];

/// The environment, as an argument.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Many a secret is in there.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Environment {
    /// This process's own.
    pub fn of_process() -> Self {
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect()
    }

    /// A variable that is set and not empty, or the content of the file that
    /// the variable of the same name with `_FILE` behind it names. The file is
    /// read each time, so that a credential that rotates is seen.
    pub fn get(&self, name: &str) -> Option<String> {
        let own = self.0.get(name).and_then(|value| value.to_str()).filter(|value| !value.is_empty());
        own.map(ToOwned::to_owned).or_else(|| {
            let path = self.0.get(&format!("{name}_FILE")).filter(|path| !path.is_empty())?;
            fs::read_to_string(path).ok().map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
        })
    }
}

impl Environment {
    pub(super) fn variable(&self, name: &str) -> Option<&OsString> {
        self.0.get(name)
    }
}

impl<N: Into<String>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// The variable that sets a key.
pub(super) fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

/// Reads all variables that are ours. An empty one is as good as none.
pub(super) fn read(environment: &Environment) -> (Vec<Setting>, Vec<Problem>) {
    let mut settings = Vec::new();
    let mut problems = Vec::new();
    let ours = |name: &str| name.starts_with(PREFIX) && !SERVICE_LINKS.iter().any(|link| name.starts_with(link));
    for (name, value) in environment.0.iter().filter(|(name, value)| ours(name) && !value.is_empty()) {
        match read_one(name, value, environment) {
            Ok(setting) => settings.push(setting),
            Err(advice) => problems.push(Problem { subject: name.clone(), origin: None, advice }),
        }
    }
    problems.extend(CREDENTIALS.iter().filter_map(|name| {
        let name = format!("{name}_FILE");
        let path = environment.0.get(&name).filter(|path| !path.is_empty())?;
        let advice = read_file(path).err()?;
        Some(Problem { subject: name, origin: None, advice })
    }));
    (settings, problems)
}

fn read_one(name: &str, value: &OsString, environment: &Environment) -> Result<Setting, String> {
    let key_of = |name: &str| name[PREFIX.len()..].to_ascii_lowercase().replace("__", ".");
    let origin = Origin::Variable(name.to_owned());
    let secret = name.strip_suffix("_FILE").filter(|of| reference::find(&key_of(of)).is_some_and(|key| key.secret));
    let Some(of) = secret else {
        let text = value.to_str().ok_or("its value is not UTF-8")?;
        return Ok(Setting::text(&key_of(name), text, origin));
    };
    if environment.0.get(of).is_some_and(|value| !value.is_empty()) {
        return Err(format!("{of} is set too, and only one can count: remove one of them"));
    }
    Ok(Setting::text(&key_of(of), &read_file(value)?, origin))
}

pub(super) fn read_file(path: &OsString) -> Result<String, String> {
    let text =
        fs::read_to_string(path).map_err(|e| format!("the file {} cannot be read: {e}", path.to_string_lossy()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
