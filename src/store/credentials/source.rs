//! Where credentials come from.

use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Client;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::asked::ANSWER_BYTES_MAX;
use super::files::{self, Text};
use super::{Fetched, NoCredentials, said};
use crate::clock::Clock;
use crate::store::identification::shortened;
use crate::store::remote::request::chain;

/// How long a service that gives out credentials may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a command may take: it may have to ask somebody, too.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// Where credentials come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// As they are written: in the configuration or in the environment, here
    /// or in files that these name.
    Written {
        /// The access key's id.
        id: Text,
        /// Its secret.
        secret: Text,
        /// The token that came with the two, where they are temporary.
        token: Option<Text>,
        /// The setting, the variable or the file that names the key, for people.
        origin: String,
        /// Whether the environment does, and not the configuration.
        is_in_environment: bool,
    },
    /// A JSON file, replaced by whoever rotates them.
    File(PathBuf),
    /// A command that writes the same JSON.
    Command(String),
    /// Whoever gives them out, as the store's own people know.
    Asked(Arc<dyn Ask>),
}

/// Somebody who gives out credentials when they are asked: a token service, an
/// instance's metadata.
#[async_trait]
pub trait Ask: fmt::Debug + Send + Sync {
    /// What it is, for people: as the kind of credentials is called.
    fn kind(&self) -> &'static str;

    /// Where it is, and for whom it is asked, for people.
    fn origin(&self) -> String;

    /// What to do about a failure with this code.
    fn remedy(&self, code: &str) -> String;

    /// Asks once.
    async fn fetch(&self, tools: &Tools) -> Result<Fetched, NoCredentials>;
}

/// What asking needs.
#[derive(Clone, Debug)]
pub struct Tools {
    /// For services that answer over HTTP.
    pub client: Client,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl Tools {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Result<Self, String> {
        let client = Client::builder()
            .timeout(ANSWER_TIMEOUT)
            .connect_timeout(ANSWER_TIMEOUT / 2)
            // It is asked once in a long while.
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("chunkgate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| format!("no HTTP client for credentials: {}", chain(&error)))?;
        Ok(Self { client, clock })
    }
}

impl Source {
    /// What it is, for people: as `credentials.kind` calls it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Written { is_in_environment: true, .. } => "environment",
            Self::Written { is_in_environment: false, .. } => "static",
            Self::File(_) => "file",
            Self::Command(_) => "command",
            Self::Asked(ask) => ask.kind(),
        }
    }

    /// Where it is, for people. No secret, and not the command, which may have one.
    pub fn origin(&self) -> String {
        match self {
            Self::Written { origin, .. } => origin.clone(),
            Self::File(path) => path.display().to_string(),
            Self::Command(_) => "credentials.command".to_owned(),
            Self::Asked(ask) => ask.origin(),
        }
    }

    /// The same, with the key if that is written here.
    pub fn key_and_origin(&self) -> String {
        match self {
            Self::Written { id: Text::Here(id), origin, .. } => format!("{} of {origin}", shortened(id.expose())),
            Self::Written { .. } | Self::File(_) | Self::Command(_) | Self::Asked(_) => self.origin(),
        }
    }

    /// How often it is worth a look whether there are others, although those
    /// that are here have no end: files cost nothing to read.
    pub(super) fn look_every(&self) -> Option<Duration> {
        const FILES: Duration = Duration::from_secs(1);
        match self {
            Self::Written { id, secret, token, .. } => {
                let changes = id.changes() || secret.changes() || token.as_ref().is_some_and(Text::changes);
                changes.then_some(FILES)
            }
            Self::File(_) => Some(FILES),
            Self::Command(_) | Self::Asked(_) => None,
        }
    }

    /// Asks once.
    pub(in crate::store) async fn fetch(&self, tools: &Tools) -> Result<Fetched, NoCredentials> {
        let now = tools.clock.now();
        match self {
            Self::Written { id, secret, token, .. } => {
                let credentials = files::settled(id, secret, token.as_ref()).await?;
                Ok(Fetched { credentials, life: None })
            }
            Self::File(path) => {
                let text = files::read(path).await?;
                // Somebody may be writing it just now.
                said::read(&text, now)
                    .map_err(|why| NoCredentials::for_now("Unreadable", format!("the file {}: {why}", path.display())))
            }
            Self::Command(command) => {
                let text = output(command).await?;
                said::read(&text, now)
                    .map_err(|why| NoCredentials::for_good("Command", format!("what the command writes: {why}")))
            }
            Self::Asked(ask) => ask.fetch(tools).await,
        }
    }
}

/// What a command writes. What it says beside that may be secret, and is not kept.
async fn output(command: &str) -> Result<String, NoCredentials> {
    let failed = |what: String| {
        NoCredentials::for_now(
            "Command",
            format!("the command of credentials.command {what}; run it by hand to see why"),
        )
    };
    let mut shell = Command::new("sh");
    let shell = shell.arg("-c").arg(command).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = shell.kill_on_drop(true).spawn().map_err(|e| failed(format!("does not start: {e}")))?;
    let mut text = String::new();
    let read = async {
        if let Some(stdout) = child.stdout.take() {
            stdout.take(ANSWER_BYTES_MAX).read_to_string(&mut text).await?;
        }
        child.wait().await
    };
    let status = timeout(COMMAND_TIMEOUT, read).await;
    let status = status.map_err(|_| failed(format!("does not end within {} s", COMMAND_TIMEOUT.as_secs())))?;
    let status = status.map_err(|e| failed(format!("cannot be read: {e}")))?;
    if status.success() { Ok(text) } else { Err(failed(format!("ended with {status}"))) }
}
