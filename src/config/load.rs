//! From all sources to one configuration, or to all that is wrong with it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Config, ConfigError, Environment, Origin, Setting, Strictness};
use super::{SecretFiles, check, environment, file, merge};

/// Where a configuration is read from. All of it comes in as arguments.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`. Without it, `chunkgate.toml`, `.yaml`, `.yml` or `.json` in `folder`.
    pub file: Option<PathBuf>,
    /// The working directory.
    pub folder: PathBuf,
    /// The environment.
    pub environment: Environment,
    /// What the flags set; the last of a key wins.
    pub flags: Vec<Setting>,
}

/// A configuration, and where each of its values was written.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Key → origin, of what is not a default.
    pub origins: BTreeMap<String, Origin>,
    /// What works, but is probably not meant.
    pub warnings: Vec<String>,
    /// Secrets that files have, which may change.
    pub secrets: SecretFiles,
}

/// Reads all sources, and tells all that is wrong with them.
pub fn load(sources: &Sources, strictness: Strictness) -> Result<Loaded, ConfigError> {
    let mut problems = Vec::new();
    let mut settings = Vec::new();
    for source in [
        file::read(sources.file.as_deref(), &sources.folder),
        environment::read(&sources.environment),
        (sources.flags.clone(), Vec::new()),
    ] {
        settings.extend(source.0);
        problems.extend(source.1);
    }
    if strictness.bootstrap_key && !settings.iter().any(|setting| setting.key == "auth.mode") {
        settings.push(Setting::text("auth.mode", "keys", Origin::Flag("--bootstrap-key".to_owned())));
    }
    let secrets = SecretFiles::of(settings.clone(), &sources.environment, strictness);
    let (config, origins) = merge::merge(settings, &mut problems);
    // Relations only make sense between values that are values.
    let mut warnings = Vec::new();
    if problems.is_empty() {
        let given = check::Given { origins: &origins, environment: &sources.environment, strictness };
        check::check(&config, given, &mut problems, &mut warnings);
    }
    if problems.is_empty() { Ok(Loaded { config, origins, warnings, secrets }) } else { Err(ConfigError { problems }) }
}
