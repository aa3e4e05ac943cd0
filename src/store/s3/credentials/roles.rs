//! Roles that STS gives out.

use std::path::PathBuf;

use async_trait::async_trait;
use http::header::{HOST, HeaderMap, HeaderValue};
use reqwest::Url;
use sha2::{Digest as _, Sha256};

use super::{remedy, sts};
use crate::domain::Timestamp;
use crate::store::credentials::{self, Ask, Credentials, Fetched, NoCredentials, Role, Source, Tools, files};
use crate::store::s3::sign::{self, PAYLOAD_HEADER, Request, Signer};
use crate::units::Secret;

/// A role that somebody with an access key may assume.
#[derive(Debug)]
pub(super) struct AssumeRole {
    /// Who assumes it.
    pub(super) by: Source,
    /// Which one.
    pub(super) role: Role,
    /// The region that the question is signed for.
    pub(super) region: String,
}

/// A role that whoever has a token of somebody else's may assume: a pod of
/// Kubernetes (IRSA).
#[derive(Debug)]
pub(super) struct WebIdentity {
    /// The file of the token, which Kubernetes replaces.
    pub(super) token: PathBuf,
    /// Which role.
    pub(super) role: Role,
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
        let form = sts::assume_role(&self.role);
        let headers = signed(&self.role.endpoint, &self.region, &by, tools.clock.now(), &form);
        let headers =
            headers.ok_or_else(|| NoCredentials::for_good("Sts", "the access key cannot stand in a header"))?;
        let read = |text: &str, now| sts::read("AssumeRole", text, now);
        self.role.ask(tools, headers, form, read, sts::refusal).await
    }
}

#[async_trait]
impl Ask for WebIdentity {
    fn kind(&self) -> &'static str {
        "web_identity"
    }

    fn origin(&self) -> String {
        self.role.shown_token(&self.token)
    }

    fn remedy(&self, code: &str) -> String {
        remedy::web_identity(&self.role, &self.token, code)
    }

    async fn fetch(&self, tools: &Tools) -> Result<Fetched, NoCredentials> {
        let token = Secret::new(files::read(&self.token).await?.trim());
        let form = sts::assume_role_with_web_identity(&self.role, &token);
        let read = |text: &str, now| sts::read("AssumeRoleWithWebIdentity", text, now);
        self.role.ask(tools, HeaderMap::new(), form, read, sts::refusal).await
    }
}

/// The headers of a signed question.
fn signed(endpoint: &str, region: &str, by: &Credentials, at: Timestamp, form: &str) -> Option<HeaderMap> {
    let url = Url::parse(endpoint).ok()?;
    let host = url
        .port()
        .map_or_else(|| url.host_str().map(ToOwned::to_owned), |port| Some(format!("{}:{port}", url.host_str()?)))?;
    let digest = hex::encode(Sha256::digest(form));
    let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_str(&host).ok()?)]);
    headers.insert(PAYLOAD_HEADER, HeaderValue::from_str(&digest).ok()?);
    let signer = Signer {
        access_key_id: &by.access_key_id,
        access_key_secret: by.access_key_secret.expose(),
        session_token: by.security_token.as_ref().map(Secret::expose),
        region,
        service: "sts",
    };
    sign::sign(&signer, at, &Request { method: "POST", path: url.path(), query: &[] }, &mut headers).ok()?;
    Some(headers)
}
