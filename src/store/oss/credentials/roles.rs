//! Roles of RAM, which STS and the metadata service give out.

use std::path::PathBuf;

use async_trait::async_trait;
use reqwest::StatusCode;

use super::sts::{self, Role};
use super::{metadata, remedy};
use crate::store::credentials::asked::{Asked, asked};
use crate::store::credentials::{self, Ask, Fetched, NoCredentials, Source, Tools, files, said};
use crate::units::Secret;

/// A role that somebody with an access key may assume.
#[derive(Debug)]
pub(super) struct AssumeRole {
    /// Who assumes it.
    pub(super) by: Source,
    /// Which one.
    pub(super) role: Role,
}

/// The role of a pod of ACK (RRSA).
#[derive(Debug)]
pub(super) struct OidcRole {
    /// Who vouches for the token.
    pub(super) provider: String,
    /// The file of the token, which Kubernetes replaces.
    pub(super) token: PathBuf,
    /// Which role.
    pub(super) role: Role,
}

/// The RAM role of the ECS instance that we run on.
#[derive(Debug)]
pub(super) struct EcsRole {
    /// Where the metadata service is.
    pub(super) endpoint: String,
    /// Which role; without it, the one that the instance has.
    pub(super) role: Option<String>,
}

#[async_trait]
impl Ask for AssumeRole {
    fn kind(&self) -> &'static str {
        "assume_role"
    }

    fn origin(&self) -> String {
        format!("{} for {}, which {} assumes", self.role.endpoint, self.role.arn, self.by.key_and_origin())
    }

    fn remedy(&self, code: &str) -> String {
        // The key's own files.
        if code == "Unreadable" {
            return credentials::remedy(&self.by, code);
        }
        remedy::assume_role(&self.role, code)
    }

    async fn fetch(&self, tools: &Tools) -> Result<Fetched, NoCredentials> {
        let by = self.by.fetch(tools).await?.credentials;
        ask(&self.role, tools, sts::assume_role(&by, &self.role, tools.clock.now(), &nonce(tools))).await
    }
}

#[async_trait]
impl Ask for OidcRole {
    fn kind(&self) -> &'static str {
        "oidc_role"
    }

    fn origin(&self) -> String {
        format!("{} for {}, by the token in {}", self.role.endpoint, self.role.arn, self.token.display())
    }

    fn remedy(&self, code: &str) -> String {
        remedy::oidc_role(&self.role, &self.token, code)
    }

    async fn fetch(&self, tools: &Tools) -> Result<Fetched, NoCredentials> {
        let token = Secret::new(files::read(&self.token).await?.trim());
        let now = tools.clock.now();
        let form = sts::assume_role_with_oidc(&self.provider, &token, &self.role, now, &nonce(tools));
        ask(&self.role, tools, form).await
    }
}

#[async_trait]
impl Ask for EcsRole {
    fn kind(&self) -> &'static str {
        "ecs_role"
    }

    fn origin(&self) -> String {
        let role =
            self.role.as_deref().map_or_else(|| "the instance's RAM role".to_owned(), |r| format!("RAM role {r}"));
        format!("{} for {role}", self.endpoint)
    }

    fn remedy(&self, code: &str) -> String {
        remedy::ecs_role(&self.endpoint, code)
    }

    async fn fetch(&self, tools: &Tools) -> Result<Fetched, NoCredentials> {
        metadata::fetch(&tools.client, &self.endpoint, self.role.as_deref()).await
    }
}

async fn ask(role: &Role, tools: &Tools, form: String) -> Result<Fetched, NoCredentials> {
    const FORM: &str = "application/x-www-form-urlencoded";
    let request = tools.client.post(&role.endpoint).header("content-type", FORM).body(form);
    let Asked { status, text, now } = asked("STS", request.send().await).await?;
    if status.is_success() {
        return said::read(&text, now)
            .map_err(|why| NoCredentials::for_now("Sts", format!("the answer of {}: {why}", role.endpoint)));
    }
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let said = |name: &str| json.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let (code, request_id) = (said("Code"), said("RequestId"));
    let message = format!("{} refused {} (request id {request_id})", role.endpoint, role.arn);
    let for_now = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || code.contains("Throttling");
    let code = if code.is_empty() { format!("Http{}", status.as_u16()) } else { code };
    // Its own sentence may repeat what we sent.
    Err(NoCredentials { code, message, is_transient: for_now, kind: None, remedy: None })
}

fn nonce(tools: &Tools) -> String {
    tools.clock.uuid_v4().to_string()
}
