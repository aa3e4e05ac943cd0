//! Roles that STS gives out.

use std::path::PathBuf;

use async_trait::async_trait;
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use reqwest::{StatusCode, Url};
use sha2::{Digest as _, Sha256};

use super::remedy;
use super::sts::{self, Role};
use crate::domain::Timestamp;
use crate::store::credentials::asked::{Asked, asked};
use crate::store::credentials::{self, Ask, Credentials, Fetched, NoCredentials, Source, Tools, files};
use crate::store::s3::sign::{self, PAYLOAD_HEADER, Request, Signer};
use crate::units::Secret;

/// A role that somebody with an access key may assume.
#[derive(Debug)]
pub(super) struct AssumeRole {
    /// Who assumes it.
    pub(super) by: Source,
    /// Which one.
    pub(super) role: Role,
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
        let form = sts::assume_role(&self.role);
        let headers = signed(&self.role, &by, tools.clock.now(), &form);
        let headers =
            headers.ok_or_else(|| NoCredentials::for_good("Sts", "the access key cannot stand in a header"))?;
        ask("AssumeRole", &self.role, tools, headers, form).await
    }
}

#[async_trait]
impl Ask for WebIdentity {
    fn kind(&self) -> &'static str {
        "web_identity"
    }

    fn origin(&self) -> String {
        format!("{} for {}, by the token in {}", self.role.endpoint, self.role.arn, self.token.display())
    }

    fn remedy(&self, code: &str) -> String {
        remedy::web_identity(&self.role, &self.token, code)
    }

    async fn fetch(&self, tools: &Tools) -> Result<Fetched, NoCredentials> {
        let token = Secret::new(files::read(&self.token).await?.trim());
        let form = sts::assume_role_with_web_identity(&self.role, &token);
        ask("AssumeRoleWithWebIdentity", &self.role, tools, HeaderMap::new(), form).await
    }
}

/// The headers of a signed question.
fn signed(role: &Role, by: &Credentials, at: Timestamp, form: &str) -> Option<HeaderMap> {
    let url = Url::parse(&role.endpoint).ok()?;
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
        region: &role.region,
        service: "sts",
    };
    sign::sign(&signer, at, &Request { method: "POST", path: url.path(), query: &[] }, &mut headers).ok()?;
    Some(headers)
}

async fn ask(
    action: &str,
    role: &Role,
    tools: &Tools,
    mut headers: HeaderMap,
    form: String,
) -> Result<Fetched, NoCredentials> {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    let sent = tools.client.post(&role.endpoint).headers(headers).body(form).send().await;
    let Asked { status, text, now } = asked("STS", sent).await?;
    if status.is_success() {
        return sts::read(action, &text, now)
            .map_err(|why| NoCredentials::for_now("Sts", format!("the answer of {}: {why}", role.endpoint)));
    }
    let (code, request_id) = sts::refusal(&text);
    // Its own sentence may repeat what we sent.
    let message = format!("{} refused {} (request id {request_id})", role.endpoint, role.arn);
    let is_transient =
        status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || code.contains("Throttling");
    let code = if code.is_empty() { format!("Http{}", status.as_u16()) } else { code };
    Err(NoCredentials { code, message, is_transient, kind: None, remedy: None })
}
