//! The application's say: before an upload begins, and once its file is there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;
use tracing::{error, warn};

use crate::domain::event::{EventKind, Subject};
use crate::domain::{File, FileId, Owner, Refusal, rules};
use crate::engine::gate::Passage;
use crate::engine::keys::Shape;
use crate::engine::{Engine, EngineError};
use crate::ledger::{KeyOrigin, NewUpload};
use crate::notify::envelope::{self, Beginning};
use crate::notify::{Hook, Reply};

/// So much of what the application says to a client is passed on, in characters.
const DETAIL_MAX: usize = 1000;

/// Whose request an upload begins with, as the application is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requester {
    /// As far as the proxies in front are believed.
    pub ip: Option<IpAddr>,
    /// What the browser calls itself.
    pub user_agent: Option<String>,
}

/// A file that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Completed {
    /// The file.
    pub file: File,
    /// Whether it has just been recorded, rather than found.
    pub is_new: bool,
    /// What the application says of a new one.
    pub app: Option<Value>,
}

impl Completed {
    /// One that was there before.
    pub fn found(file: File) -> Self {
        Self { file, is_new: false, app: None }
    }
}

/// Of the requests that would begin one upload, one at a time asks the
/// application: the others then find what it has begun.
pub(super) type Alone<'e> = Passage<'e, (Owner, FileId)>;

/// What `before_create` answers, where it says more than yes.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Consent {
    object_key: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
}

/// What it answers where it says no.
#[derive(Debug, Deserialize)]
struct Objection {
    detail: String,
}

impl Engine {
    /// Nobody else asks the application about this fileId until this is
    /// dropped. None where nobody asks it, or nobody else can.
    pub(super) async fn alone(&self, owner: &Owner, file_id: Option<&FileId>) -> Result<Option<Alone<'_>>, Refusal> {
        match file_id.filter(|_| self.shared.settings.hooks.has(Hook::BeforeCreate)) {
            Some(file_id) => self.shared.asking.pass((owner.clone(), file_id.clone())).await.map(Some),
            None => Ok(None),
        }
    }

    /// The new upload as the application wants it, if it wants it. Those who
    /// wait for a silent one are told with the one who asked.
    pub(super) async fn consented(
        &self,
        new: NewUpload,
        from: &Requester,
        alone: Option<&mut Alone<'_>>,
    ) -> Result<NewUpload, EngineError> {
        let consented = self.ask_consent(new, from).await;
        if let (Err(EngineError::Refused(refusal @ Refusal::HookUnavailable)), Some(alone)) = (&consented, alone) {
            alone.fail(refusal.clone());
        }
        consented
    }

    async fn ask_consent(&self, new: NewUpload, from: &Requester) -> Result<NewUpload, EngineError> {
        let hook = Hook::BeforeCreate;
        if !self.shared.settings.hooks.has(hook) {
            return Ok(new);
        }
        let body = envelope::before_create(&Beginning {
            owner: new.owner.as_str(),
            file_id: new.file_id.as_str(),
            file_name: &new.file_name,
            file_size: new.geometry.total_bytes(),
            chunk_size: new.geometry.chunk_bytes(),
            total_chunks: new.geometry.count(),
            content_type: new.content_type.as_deref(),
            metadata: &new.metadata,
            ip: from.ip,
            user_agent: from.user_agent.as_deref(),
        });
        match self.ask(hook, &body).await {
            Some(Ok(Reply::Yes(answer))) if answer.is_empty() => Ok(new),
            Some(Ok(Reply::Yes(answer))) => self.as_wanted(new, &answer).map_err(|reason| {
                error!(hook = hook.name(), reason, "the application's answer cannot be used");
                Refusal::HookUnavailable.into()
            }),
            Some(Ok(Reply::No(answer))) => {
                let objection = serde_json::from_slice(&answer).map(|Objection { detail }| detail);
                let detail = objection.unwrap_or_else(|_| "the application does not take this file".to_owned());
                let detail = detail.chars().filter(|c| !c.is_control()).take(DETAIL_MAX).collect();
                Err(Refusal::RefusedByApplication { detail }.into())
            }
            Some(Err(_)) => Err(Refusal::HookUnavailable.into()),
            None => Ok(new),
        }
    }

    fn as_wanted(&self, mut new: NewUpload, answer: &[u8]) -> Result<NewUpload, String> {
        let consent: Consent = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
        if let Some(metadata) = consent.metadata {
            new.metadata.extend(metadata);
            rules::check_metadata(&new.metadata).map_err(|refusal| refusal.detail())?;
        }
        if let Some(template) = consent.object_key {
            let shape = Shape::new(&template, None, &new.owner, &new.file_name, new.at);
            let drawn = self.draw(&shape, new.at).ok_or_else(|| format!("objectKey is no key: {template}"))?;
            // The id as well: the other one may go to the next upload, with its key.
            (new.id, new.key) = (drawn.id, drawn.key);
            if !template.contains("{random}") {
                new.key_origin = KeyOrigin::Chosen { is_occupied: false };
            }
        }
        Ok(new)
    }

    /// What the application tells the client of a file that has just been
    /// recorded. Without an answer the webhook still comes.
    pub(super) async fn app(&self, file: &File) -> Option<Value> {
        let hook = Hook::Completed;
        if !self.shared.settings.hooks.has(hook) {
            return None;
        }
        let (at, bucket) = (file.object.completed_at, self.shared.store.bucket());
        let event = envelope::body(EventKind::Completed, at, bucket, &Subject::File(file));
        match self.ask(hook, &envelope::completed(&event)).await? {
            Ok(Reply::Yes(answer)) if answer.is_empty() => None,
            Ok(Reply::Yes(answer)) => {
                let read = serde_json::from_slice(&answer);
                read.inspect_err(|error| warn!(hook = hook.name(), %error, "the application's answer is no JSON")).ok()
            }
            Ok(Reply::No(_)) => {
                warn!(hook = hook.name(), file = %file.id, "the application refused the event of a file that is there");
                None
            }
            Err(_) => None,
        }
    }

    async fn ask(&self, hook: Hook, body: &str) -> Option<Result<Reply, String>> {
        let clock = &self.shared.clock;
        let id = format!("hook_{}", clock.uuid_v7().simple());
        let reply = self.shared.settings.hooks.ask(hook, &id, clock.now(), body).await?;
        let outcome = if reply.is_ok() { "answered" } else { "failed" };
        metrics::counter!("chunkgate_hooks_total", "hook" => hook.name(), "outcome" => outcome).increment(1);
        if let Err(reason) = &reply {
            warn!(hook = hook.name(), reason, "the application did not answer");
        }
        Some(reply)
    }
}
