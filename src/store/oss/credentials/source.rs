//! Where credentials come from.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::asked::{ANSWER_BYTES_MAX, Asked, asked};
use super::files::{self, Text};
use super::sts::{self, Role};
use super::{Fetched, NoCredentials, metadata, said};
use crate::clock::Clock;
use crate::store::remote::request::chain;
use crate::units::Secret;

/// How long STS and the metadata service may take.
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
        /// The STS token that came with the two.
        token: Option<Text>,
    },
    /// A JSON file, replaced by whoever rotates them.
    File(PathBuf),
    /// A command that writes the same JSON.
    Command(String),
    /// A role that somebody with an access key may assume.
    AssumeRole {
        /// Who assumes it.
        by: Box<Self>,
        /// Which one.
        role: Role,
    },
    /// The role of a pod of ACK (RRSA).
    OidcRole {
        /// Who vouches for the token.
        provider: String,
        /// The file of the token, which Kubernetes replaces.
        token: PathBuf,
        /// Which role.
        role: Role,
    },
    /// The RAM role of the ECS instance that we run on.
    EcsRole {
        /// Where the metadata service is.
        endpoint: String,
        /// Which role; without it, the one that the instance has.
        role: Option<String>,
    },
}

/// What asking needs.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    pub(super) client: Client,
    pub(super) clock: Arc<dyn Clock>,
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
    /// What it is, for people.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Written { .. } => "static",
            Self::File(_) => "file",
            Self::Command(_) => "command",
            Self::AssumeRole { .. } => "assume_role",
            Self::OidcRole { .. } => "oidc_role",
            Self::EcsRole { .. } => "ecs_role",
        }
    }

    /// The id of an access key that is written here, and whether a token came with it.
    pub fn written_id(&self) -> Option<(&str, bool)> {
        match self {
            Self::Written { id: Text::Here(id), token, .. } => Some((id.expose(), token.is_some())),
            Self::Written { .. }
            | Self::File(_)
            | Self::Command(_)
            | Self::AssumeRole { .. }
            | Self::OidcRole { .. }
            | Self::EcsRole { .. } => None,
        }
    }

    /// How often it is worth a look whether there are others, although those
    /// that are here have no end: files cost nothing to read.
    pub(super) fn look_every(&self) -> Option<Duration> {
        const FILES: Duration = Duration::from_secs(1);
        match self {
            Self::Written { id, secret, token } => {
                let changes = id.changes() || secret.changes() || token.as_ref().is_some_and(Text::changes);
                changes.then_some(FILES)
            }
            Self::File(_) => Some(FILES),
            Self::Command(_) | Self::AssumeRole { .. } | Self::OidcRole { .. } | Self::EcsRole { .. } => None,
        }
    }

    /// Asks once.
    pub(super) async fn fetch(&self, tools: &Tools) -> Result<Fetched, NoCredentials> {
        let now = tools.clock.now();
        match self {
            Self::Written { id, secret, token } => {
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
            Self::AssumeRole { by, role } => {
                let by = Box::pin(by.fetch(tools)).await?.credentials;
                role.ask(tools, sts::assume_role(&by, role, now, &nonce(tools))).await
            }
            Self::OidcRole { provider, token, role } => {
                let token = Secret::new(files::read(token).await?.trim());
                role.ask(tools, sts::assume_role_with_oidc(provider, &token, role, now, &nonce(tools))).await
            }
            Self::EcsRole { endpoint, role } => metadata::fetch(&tools.client, endpoint, role.as_deref()).await,
        }
    }
}

impl Role {
    async fn ask(&self, tools: &Tools, form: String) -> Result<Fetched, NoCredentials> {
        const FORM: &str = "application/x-www-form-urlencoded";
        let request = tools.client.post(&self.endpoint).header("content-type", FORM).body(form);
        let Asked { status, text, now } = asked("STS", request.send().await).await?;
        if status.is_success() {
            return said::read(&text, now)
                .map_err(|why| NoCredentials::for_now("Sts", format!("the answer of {}: {why}", self.endpoint)));
        }
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let said = |name: &str| json.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let (code, request_id) = (said("Code"), said("RequestId"));
        let message = format!("{} refused {} (request id {request_id})", self.endpoint, self.arn);
        let for_now =
            status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || code.contains("Throttling");
        let code = if code.is_empty() { format!("Http{}", status.as_u16()) } else { code };
        // Its own sentence may repeat what we sent.
        Err(NoCredentials { code, message, is_transient: for_now })
    }
}

fn nonce(tools: &Tools) -> String {
    tools.clock.uuid_v4().to_string()
}

/// What a command writes. What it says beside that may be secret, and is not kept.
async fn output(command: &str) -> Result<String, NoCredentials> {
    let failed = |what: String| {
        NoCredentials::for_now("Command", format!("store.oss.credentials.command {what}; run it by hand to see why"))
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
