//! Links to a file that need no token: the store's own where it can make them,
//! else ours, bound to its method, path, owner and time.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use http::request::Parts;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::access::Link;
use crate::access::terms::WrittenTerms;
use crate::domain::grant::{Grant, Scopes};
use crate::domain::{FileId, Owner, Refusal, Terms, Timestamp};
use crate::engine::EngineError;
use crate::engine::forms::WantedForm;
use crate::http::auth::{May, ReadFiles, WriteUploads};
use crate::http::disposition::Disposition;
use crate::http::problem::Problem;
use crate::http::{Api, FileIdPath, Parameters, body};
use crate::store::Download;

/// How long a link may last: as long as stores let theirs.
const EXPIRES_IN_MAX: u64 = 7 * 24 * 3600;
/// The longest name that a link may give a file, in bytes.
const NAME_BYTES_MAX: usize = 255;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SignBody {
    expires_in: Option<u64>,
    method: Option<String>,
    download_name: Option<String>,
    #[serde(default)]
    inline: bool,
}

/// `POST /files/{fileId}/sign`
pub(super) async fn sign(
    State(api): State<Api>,
    caller: May<ReadFiles>,
    FileIdPath(file_id): FileIdPath,
    body: Body,
) -> Result<Response, Problem> {
    let wanted: SignBody = body::json(body, api.limits.body_idle_timeout).await?;
    let seconds = wanted.expires_in.unwrap_or(3600);
    if !(1..=EXPIRES_IN_MAX).contains(&seconds) {
        return Err(Refusal::invalid(format!("expiresIn is 1 to {EXPIRES_IN_MAX} seconds")).into());
    }
    let method = match wanted.method.as_deref() {
        None | Some("GET") => Method::GET,
        Some("HEAD") => Method::HEAD,
        Some(_) => return Err(Refusal::invalid("method is GET or HEAD").into()),
    };
    let name = wanted.download_name.filter(|name| !name.is_empty());
    if name.as_ref().is_some_and(|name| name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control)) {
        let reason = format!("downloadName is up to {NAME_BYTES_MAX} bytes without control characters");
        return Err(Refusal::invalid(reason).into());
    }
    let owner = caller.owner_of(&file_id);
    let file = api.engine.file(owner, &file_id).await?;
    let expires_in = Duration::from_secs(seconds);
    let expires_at = api.engine.clock().now().plus(expires_in);
    let disposition = Disposition { inline: wanted.inline, name };
    let download = Download {
        method: &method,
        key: &file.key,
        content_type: file.content_type.as_deref(),
        disposition: disposition.of(&file.file_name),
        expires_in,
    };
    let signed = api.engine.store().download_url(&download).await.map_err(EngineError::from)?;
    let (url, expires_at) = match signed {
        Some(signed) => (signed.url, api.engine.clock().now().plus(signed.expires_in)),
        None => (own(&api, &method, owner, &file_id, &disposition, expires_at), expires_at),
    };
    Ok(Json(json!({"url": url, "expiresAt": expires_at.rfc3339()})).into_response())
}

fn own(
    api: &Api,
    method: &Method,
    owner: &Owner,
    file_id: &FileId,
    disposition: &Disposition,
    expires_at: Timestamp,
) -> String {
    // Whole seconds, and none of them too early.
    let expires = expires_at.plus(Duration::from_millis(999)).seconds();
    let link = Link { method: method.as_str(), owner, file_id, says: &disposition.of(""), expires };
    let signature = api.links.sign_link(&link);
    let host = api.public_url.as_deref().unwrap_or("").trim_end_matches('/');
    let mut url = format!("{host}/files/{file_id}/content?owner={}&expires={expires}", encoded(owner.as_str()));
    if disposition.inline {
        url.push_str("&inline=true");
    }
    if let Some(name) = &disposition.name {
        url.push_str(&format!("&downloadName={}", encoded(name)));
    }
    url.push_str(&format!("&signature={signature}"));
    url
}

fn encoded(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

/// Who reads what is in a file: by a token, or by a link.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) owner: Owner,
    pub(super) file_id: FileId,
    pub(super) disposition: Disposition,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LinkQuery {
    owner: Option<String>,
    expires: Option<String>,
    inline: Option<String>,
    download_name: Option<String>,
    signature: Option<String>,
}

impl FromRequestParts<Api> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let Parameters(query) = Parameters::<LinkQuery>::from_request_parts(parts, api).await?;
        let FileIdPath(file_id) = FileIdPath::from_request_parts(parts, api).await?;
        let Some(signature) = &query.signature else {
            let caller = May::<ReadFiles>::from_request_parts(parts, api).await?;
            let owner = caller.owner_of(&file_id).clone();
            return Ok(Self { owner, file_id, disposition: Disposition::default() });
        };
        let owner = query.owner.as_deref().and_then(|owner| Owner::parse(owner).ok());
        let expires = query.expires.as_deref().and_then(|expires| expires.parse().ok());
        let (Some(owner), Some(expires)) = (owner, expires) else { return Err(Refusal::SignatureInvalid.into()) };
        let disposition = Disposition { inline: query.inline.as_deref() == Some("true"), name: query.download_name };
        let shown = disposition.of("");
        let link = Link { method: parts.method.as_str(), owner: &owner, file_id: &file_id, says: &shown, expires };
        api.links.check_link(&link, signature)?;
        Ok(Self { owner, file_id, disposition })
    }
}

/// What a link to upload says, beside whose file it is.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct UploadLink {
    file_name: String,
    content_type: Option<String>,
    terms: WrittenTerms,
}

/// A link by which anybody may send one file through us, on the terms of
/// whoever asked for it.
pub(super) fn sign_upload(api: &Api, grant: &Grant, wanted: &WantedForm) -> Result<(String, Timestamp), Refusal> {
    api.engine.admit_small(grant, wanted)?;
    let file_id = grant.file_id_for(None)?.unwrap_or_else(|| FileId::from_random(api.engine.clock().random()));
    let terms =
        Terms { file_bytes_max: Some(wanted.bytes_max), file_id: Some(file_id.clone()), ..(*grant.terms).clone() };
    let says = UploadLink {
        file_name: wanted.file_name.clone(),
        content_type: wanted.content_type.clone(),
        terms: WrittenTerms::of(&terms),
    };
    let says = serde_json::to_string(&says).map_err(|_| Refusal::Internal)?;
    let expires_at = api.engine.clock().now().plus(wanted.expires_in);
    // Whole seconds, and none of them too early.
    let expires = expires_at.plus(Duration::from_millis(999)).seconds();
    let link = Link { method: "POST", owner: &grant.owner, file_id: &file_id, says: &says, expires };
    let signature = api.links.sign_link(&link);
    let host = api.public_url.as_deref().unwrap_or("").trim_end_matches('/');
    let (owner, file_name) = (encoded(grant.owner.as_str()), encoded(&wanted.file_name));
    let mut url = format!("{host}/files?owner={owner}&fileId={file_id}&fileName={file_name}");
    if let Some(mime) = &wanted.content_type {
        url.push_str(&format!("&contentType={}", encoded(mime)));
    }
    url.push_str(&format!("&says={}&expires={expires}&signature={signature}", URL_SAFE_NO_PAD.encode(&says)));
    Ok((url, expires_at))
}

/// Who sends a file in one request: by a token, or by a link.
#[derive(Debug)]
pub(super) struct Sender(pub(super) Grant);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UploadLinkQuery {
    owner: Option<String>,
    file_id: Option<String>,
    file_name: Option<String>,
    content_type: Option<String>,
    says: Option<String>,
    expires: Option<String>,
    signature: Option<String>,
}

impl FromRequestParts<Api> for Sender {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let Parameters(query) = Parameters::<UploadLinkQuery>::from_request_parts(parts, api).await?;
        let Some(signature) = &query.signature else {
            let caller = May::<WriteUploads>::from_request_parts(parts, api).await?;
            return Ok(Self(caller.grant.clone()));
        };
        let owner = query.owner.as_deref().and_then(|owner| Owner::parse(owner).ok());
        let file_id = query.file_id.as_deref().and_then(|id| FileId::parse(id).ok());
        let says = query.says.as_deref().and_then(|says| URL_SAFE_NO_PAD.decode(says).ok());
        let says = says.and_then(|says| String::from_utf8(says).ok());
        let expires = query.expires.as_deref().and_then(|expires| expires.parse().ok());
        let (Some(owner), Some(file_id), Some(says), Some(expires)) = (owner, file_id, says, expires) else {
            return Err(Refusal::SignatureInvalid.into());
        };
        let link = Link { method: parts.method.as_str(), owner: &owner, file_id: &file_id, says: &says, expires };
        api.links.check_link(&link, signature)?;
        let said: UploadLink = serde_json::from_str(&says).map_err(|_| Refusal::SignatureInvalid)?;
        // What stands beside it is what it says, or was edited.
        if query.file_name.as_ref() != Some(&said.file_name) || query.content_type != said.content_type {
            return Err(Refusal::SignatureInvalid.into());
        }
        api.rates.of_subject(&owner)?;
        let terms = said.terms.read()?;
        Ok(Self(Grant { owner, scopes: Scopes::UPLOAD, terms: Arc::new(terms) }))
    }
}
