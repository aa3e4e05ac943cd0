//! Roles of RAM, which STS and the metadata service give out.

use std::path::PathBuf;

use async_trait::async_trait;
use http::header::HeaderMap;

use super::{metadata, remedy, sts};
use crate::store::credentials::{self, Ask, Fetched, NoCredentials, Role, Source, Tools, files, said};
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
        self.role.assumed_by(&self.by)
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
        let form = sts::assume_role(&by, &self.role, tools.clock.now(), &nonce(tools));
        self.role.ask(tools, HeaderMap::new(), form, said::read, sts::refusal).await
    }
}

#[async_trait]
impl Ask for OidcRole {
    fn kind(&self) -> &'static str {
        "oidc_role"
    }

    fn origin(&self) -> String {
        self.role.shown_token(&self.token)
    }

    fn remedy(&self, code: &str) -> String {
        remedy::oidc_role(&self.role, &self.token, code)
    }

    async fn fetch(&self, tools: &Tools) -> Result<Fetched, NoCredentials> {
        let token = Secret::new(files::read(&self.token).await?.trim());
        let now = tools.clock.now();
        let form = sts::assume_role_with_oidc(&self.provider, &token, &self.role, now, &nonce(tools));
        self.role.ask(tools, HeaderMap::new(), form, said::read, sts::refusal).await
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

fn nonce(tools: &Tools) -> String {
    tools.clock.uuid_v4().to_string()
}
