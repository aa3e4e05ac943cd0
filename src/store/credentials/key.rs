//! The access key as it is configured, each store's under names of its own, each
//! of its texts falling back to the environment. Pure.

use std::path::{Path, PathBuf};

use super::{Source, Text};
use crate::store::remote::setup::{Mistake, given, in_environment};
use crate::units::Secret;

/// The environment, by name.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a store calls its settings.
#[derive(Debug)]
pub struct Names {
    /// `store.oss.access_key_id`
    pub id: &'static str,
    /// `store.oss.access_key_secret`
    pub secret: &'static str,
    /// `store.oss.credentials.kind`
    pub kind: &'static str,
    /// `store.oss.credentials.file`
    pub file: &'static str,
    /// `store.oss.credentials.command`
    pub command: &'static str,
    /// `OSS_ACCESS_KEY_ID`
    pub id_variable: &'static str,
    /// `OSS_ACCESS_KEY_SECRET`
    pub secret_variable: &'static str,
    /// `OSS_SESSION_TOKEN`
    pub token_variable: &'static str,
}

/// The access key that is configured, if there is any.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// What its settings are called.
    pub names: &'static Names,
    /// Its id.
    pub id: Option<&'a str>,
    /// Its secret.
    pub secret: Option<&'a Secret>,
    /// The token that came with the two.
    pub token: Option<&'a Secret>,
}

impl<'a> Key<'a> {
    /// None of it: all of it comes from the environment.
    pub const fn unwritten(names: &'static Names) -> Self {
        Self { names, id: None, secret: None, token: None }
    }

    /// Whether some of it is configured.
    pub fn is_written(&self) -> bool {
        let secret = |secret: Option<&Secret>| given(secret.map(Secret::expose)).is_some();
        given(self.id).is_some() || secret(self.secret) || secret(self.token)
    }

    /// It, or what of it is missing.
    pub fn source(&self, env: Env<'_>) -> Result<Source, Vec<Mistake>> {
        let Names { id, secret, kind, id_variable, secret_variable, token_variable, .. } = self.names;
        let here = |text: Option<&str>| given(text).map(|text| Text::Here(Secret::new(text.trim())));
        let own_id = here(self.id);
        // A token belongs to its key: one of the environment is not mixed with a configured key.
        let token = match (&own_id, here(self.token.map(Secret::expose))) {
            (None, None) => variable(env, token_variable),
            (_, own) => own,
        };
        let is_in_environment = own_id.is_none();
        let own_id = own_id.or_else(|| variable(env, id_variable));
        let own_secret = here(self.secret.map(Secret::expose)).or_else(|| variable(env, secret_variable));
        match (own_id, own_secret) {
            (Some(own_id), Some(secret)) => {
                let origin = match (is_in_environment, &own_id) {
                    (false, _) => (*id).to_owned(),
                    (true, Text::Here(_)) => (*id_variable).to_owned(),
                    (true, Text::InFile(path)) => format!("{} ({id_variable}_FILE)", path.display()),
                };
                Ok(Source::Written { id: own_id, secret, token, origin, is_in_environment })
            }
            (own_id, own_secret) => {
                let place = kind.trim_end_matches(".kind");
                let no_id = own_id.is_none().then(|| {
                    let advice =
                        format!("must be set, here or as {id_variable}; or say in {place} where it comes from");
                    Mistake::new(id, advice)
                });
                let advice = || Mistake::new(secret, format!("must be set, here or as {secret_variable}"));
                Err(no_id.into_iter().chain(own_secret.is_none().then(advice)).collect())
            }
        }
    }

    /// It is said to be elsewhere: nothing of it may be here.
    pub fn elsewhere(&self) -> Result<(), Vec<Mistake>> {
        if !self.is_written() {
            return Ok(());
        }
        let advice = format!(
            "says that the access key is elsewhere, but {} or its neighbours are set: remove one of the two",
            self.names.id
        );
        Err(vec![Mistake::new(self.names.kind, advice)])
    }
}

impl Names {
    /// A file that somebody replaces.
    pub fn of_file(&self, path: Option<&PathBuf>) -> Result<Source, Vec<Mistake>> {
        let advice = "must be set for credentials.kind = \"file\"";
        path.cloned().map(Source::File).ok_or_else(|| vec![Mistake::new(self.file, advice)])
    }

    /// A command.
    pub fn of_command(&self, command: Option<&str>) -> Result<Source, Vec<Mistake>> {
        let advice = "must be set for credentials.kind = \"command\"";
        let command = given(command).map(|command| Source::Command(command.to_owned()));
        command.ok_or_else(|| vec![Mistake::new(self.command, advice)])
    }
}

/// What the variable says, or the file that its neighbour names: that is read
/// again when it changes.
pub fn variable(env: Env<'_>, name: &str) -> Option<Text> {
    let in_file = in_environment(env, &format!("{name}_FILE")).map(|path| Text::InFile(Path::new(&path).to_owned()));
    in_file.or_else(|| in_environment(env, name).map(|text| Text::Here(Secret::new(text.trim()))))
}
