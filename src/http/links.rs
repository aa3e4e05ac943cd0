//! Links to a file that need no token: the store's own where it can make them,
//! else ours, bound to its method, path, owner and time.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse as _, Response};
use http::Method;
use http::request::Parts;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;

use crate::access::Link;
use crate::domain::{FileId, Owner, Refusal, Timestamp};
use crate::http::auth::{May, ReadFiles};
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
    let url = match api.engine.store().download_url(&download) {
        Some(url) => url,
        None => own(&api, &method, owner, &file_id, &disposition, expires_at),
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
    let link = Link { method: method.as_str(), owner, file_id, disposition: &disposition.of(""), expires };
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
        let link =
            Link { method: parts.method.as_str(), owner: &owner, file_id: &file_id, disposition: &shown, expires };
        api.links.check_link(&link, signature)?;
        Ok(Self { owner, file_id, disposition })
    }
}
