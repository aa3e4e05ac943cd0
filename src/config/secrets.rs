//! Secrets that files have (`…_FILE`), looked at again while we run: a secret
//! that rotates needs no restart.

use std::ffi::OsString;

use super::environment::{Environment, read_file};
use super::{Config, ConfigError, Origin, Raw, Setting, Strictness};
use super::{check, merge, reference};

/// The files of secrets, with all that is needed to configure anew.
#[derive(Clone, Debug, Default)]
pub struct SecretFiles {
    settings: Vec<Setting>,
    environment: Environment,
    strictness: Strictness,
    files: Vec<Watched>,
}

#[derive(Clone)]
struct Watched {
    /// Which of the settings.
    setting: usize,
    path: OsString,
    /// What it said when it was last looked at, if that is not what is in effect.
    new: Option<String>,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Watched({})", self.path.to_string_lossy())
    }
}

impl SecretFiles {
    pub(super) fn of(settings: Vec<Setting>, environment: &Environment, strictness: Strictness) -> Self {
        let file = |(at, setting): (usize, &Setting)| {
            let Origin::Variable(name) = &setting.origin else { return None };
            let is_secret = reference::find(&setting.key).is_some_and(|key| key.secret);
            let path = environment.variable(name).filter(|_| is_secret && name.ends_with("_FILE"))?;
            Some(Watched { setting: at, path: path.clone(), new: None })
        };
        let files = settings.iter().enumerate().filter_map(file).collect();
        Self { settings, environment: environment.clone(), strictness, files }
    }

    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Reads them all. When some have changed, and have said the same twice, for
    /// several are hardly replaced at once: the configuration with what they say,
    /// or what is wrong with it; told once.
    pub fn look(&mut self) -> Option<Result<Config, ConfigError>> {
        let mut is_settled = true;
        for file in &mut self.files {
            // Whoever replaces a file may have it away for a moment.
            let Ok(text) = read_file(&file.path) else { continue };
            let in_effect = matches!(&self.settings[file.setting].value, Raw::Text(known) if *known == text);
            is_settled &= in_effect || file.new.as_ref() == Some(&text);
            file.new = Some(text).filter(|_| !in_effect);
        }
        if !is_settled || self.files.iter().all(|file| file.new.is_none()) {
            return None;
        }
        for file in &mut self.files {
            if let Some(text) = file.new.take() {
                self.settings[file.setting].value = Raw::Text(text);
            }
        }
        Some(self.configure())
    }

    fn configure(&self) -> Result<Config, ConfigError> {
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        let (config, origins) = merge::merge(self.settings.clone(), &mut problems);
        if problems.is_empty() {
            let given = check::Given { origins: &origins, environment: &self.environment, strictness: self.strictness };
            check::check(&config, given, &mut problems, &mut warnings);
        }
        if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) }
    }
}
