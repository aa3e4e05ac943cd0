//! Hooks: questions that the application answers while the client waits.

use std::time::Duration;

use reqwest::{Client, Response, StatusCode};

use crate::domain::Timestamp;
use crate::notify::config::{HooksConfig, WebhookConfig};
use crate::notify::receiver::{Receiver, client, whole_story};

/// The application must have answered by then.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Which question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Whether an upload may begin, and where it goes.
    BeforeCreate,
    /// What the client is to be told of a file that is there.
    Completed,
}

impl Hook {
    /// As the question names itself.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeforeCreate => "before_create",
            Self::Completed => "completed",
        }
    }
}

/// What the application said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A success, and its body as it came; empty for 204.
    Yes(Vec<u8>),
    /// A 4xx, and its body.
    No(Vec<u8>),
}

/// Asks the application; by default, nobody.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    before_create: Option<(Client, Receiver)>,
    completed: Option<(Client, Receiver)>,
}

impl Hooks {
    /// Checks the URLs and the secret; the error says which is wrong and why.
    pub fn new(config: &HooksConfig, webhook: &WebhookConfig) -> Result<Self, String> {
        let receiver = |key: &str, url: &Option<String>| {
            let Some(url) = url else { return Ok(None) };
            Ok::<_, String>(Some((client(TIMEOUT)?, Receiver::new(key, url, webhook.secret.as_ref())?)))
        };
        Ok(Self {
            before_create: receiver("hooks.before_create.url", &config.before_create.url)?,
            completed: receiver("hooks.completed.url", &config.completed.url)?,
        })
    }

    /// From now on, questions are signed with the secret that this has.
    pub fn renew(&self, webhook: &WebhookConfig) -> Result<(), String> {
        for (_, receiver) in self.before_create.iter().chain(&self.completed) {
            receiver.renew(webhook.secret.as_ref())?;
        }
        Ok(())
    }

    fn asked(&self, hook: Hook) -> Option<&(Client, Receiver)> {
        match hook {
            Hook::BeforeCreate => self.before_create.as_ref(),
            Hook::Completed => self.completed.as_ref(),
        }
    }

    /// Whether there is somebody to ask.
    pub fn has(&self, hook: Hook) -> bool {
        self.asked(hook).is_some()
    }

    /// Asks once. None when there is nobody to ask; the error says why there
    /// is no answer.
    pub async fn ask(&self, hook: Hook, id: &str, at: Timestamp, body: &str) -> Option<Result<Reply, String>> {
        let (client, receiver) = self.asked(hook)?;
        Some(match receiver.message(client, id, at, body).send().await {
            Ok(answer) => reply(answer).await,
            Err(error) => Err(whole_story(error)),
        })
    }
}

async fn reply(mut answer: Response) -> Result<Reply, String> {
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(frame) = answer.chunk().await.map_err(whole_story)? {
        if body.len() + frame.len() > ANSWER_BYTES_MAX {
            return Err(format!("it answered more than {ANSWER_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&frame);
    }
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Err(format!("it answered {status}")),
        _ if status.is_success() => Ok(Reply::Yes(body)),
        _ if status.is_client_error() => Ok(Reply::No(body)),
        _ => Err(format!("it answered {status}")),
    }
}
