//! Small files from the browser without the gateway, and what the store says
//! of them; where the store takes none, by a link of our own.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tracing::warn;

use crate::access::{NotOss, OssCallbacks};
use crate::domain::{ObjectKey, Refusal};
use crate::engine::forms::{GivenForm, WantedForm};
use crate::engine::hooks::Requester;
use crate::http::auth::{May, WriteUploads};
use crate::http::problem::Problem;
use crate::http::{Api, body, encode, links};

/// How long a form may be sent, at most.
const EXPIRES_IN_MAX: u64 = 7 * 24 * 3600;
/// What a file is called whose name nobody said.
const NAMELESS: &str = "file";
/// The longest callback, in bytes.
const CALLBACK_BYTES_MAX: usize = 64 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SignBody {
    file_name: Option<String>,
    max_file_size: u64,
    content_type: Option<String>,
    expires_in: u64,
}

/// `POST /uploads/sign`
pub(super) async fn sign(
    State(api): State<Api>,
    caller: May<WriteUploads>,
    from: Requester,
    body: Body,
) -> Result<Response, Problem> {
    let wanted: SignBody = body::json(body, api.limits.body_idle_timeout).await?;
    if !(1..=EXPIRES_IN_MAX).contains(&wanted.expires_in) {
        return Err(Refusal::invalid(format!("expiresIn is 1 to {EXPIRES_IN_MAX} seconds")).into());
    }
    let wanted = WantedForm {
        file_name: wanted.file_name.filter(|name| !name.is_empty()).unwrap_or_else(|| NAMELESS.to_owned()),
        content_type: wanted.content_type.filter(|mime| !mime.is_empty()),
        bytes_max: wanted.max_file_size,
        expires_in: Duration::from_secs(wanted.expires_in),
        from,
    };
    let grant = &caller.grant;
    if !api.engine.store().limits().direct {
        let (url, expires_at) = links::sign_upload(&api, grant, &wanted)?;
        let answer =
            json!({"method": "POST", "url": url, "fields": {}, "headers": {}, "expiresAt": expires_at.rfc3339()});
        return Ok(Json(answer).into_response());
    }
    let GivenForm { file_id, form, expires_at } = api.engine.sign_form(grant, wanted).await?;
    let fields: serde_json::Map<_, _> = form.fields.into_iter().map(|(name, value)| (name, value.into())).collect();
    let answer = json!({
        "method": "POST",
        "url": form.url,
        "fields": fields,
        "headers": {},
        "expiresAt": expires_at.rfc3339(),
        "fileId": file_id.as_str(),
    });
    Ok(Json(answer).into_response())
}

/// `POST /callbacks/oss`: OSS says that a form's file is there. What it gets to
/// hear goes on to the browser.
pub(super) async fn oss_callback(State(api): State<Api>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let callbacks: Arc<OssCallbacks> = api.callbacks.clone().ok_or(Refusal::NotFound)?;
    let said = said(&api, body).await?;
    match callbacks.check(&headers, &said).await {
        Ok(()) => {}
        Err(NotOss::Forged(reason)) => return Err(Refusal::Unauthorized { reason }.into()),
        // Not heard: the sweeper looks for its file.
        Err(NotOss::NoKey(reason)) => {
            let cause = format!("OSS's public key cannot be had: {reason}");
            return Err(Problem { refusal: Refusal::Internal, cause: Some(cause.into()) });
        }
    }
    let key = object_key(&said)
        .ok_or_else(|| Refusal::invalid("the callback names no object: callbackBody has object=${object}"))?;
    match api.engine.form_arrived(&key).await {
        Ok(Some(file)) => Ok((StatusCode::OK, Json(json!({"file": encode::file(&file)}))).into_response()),
        Ok(None) => {
            warn!(%key, "a callback is about an object that no form of ours has put");
            Err(Refusal::invalid("no form of this gateway has put this object").into())
        }
        // Not recorded yet: the sweeper looks for it.
        Err(error) => Err(Problem { refusal: Refusal::Internal, cause: Some(format!("{key}: {error}").into()) }),
    }
}

async fn said(api: &Api, body: Body) -> Result<Vec<u8>, Refusal> {
    let mut frames = body::incoming(body, api.limits.body_idle_timeout);
    let mut said = Vec::new();
    while let Some(frame) = frames.next().await {
        said.extend_from_slice(&frame.map_err(body::interrupted)?);
        if said.len() > CALLBACK_BYTES_MAX {
            return Err(Refusal::invalid("a callback is short"));
        }
    }
    Ok(said)
}

/// `object=…&size=…`, as `store.oss` asks OSS to put it.
fn object_key(said: &[u8]) -> Option<ObjectKey> {
    let said = std::str::from_utf8(said).ok()?;
    let object = said.split('&').find_map(|pair| pair.strip_prefix("object="))?;
    let object = percent_encoding::percent_decode_str(&object.replace('+', " ")).decode_utf8().ok()?.into_owned();
    ObjectKey::parse(&object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_names_its_object() {
        let key = |said: &str| object_key(said.as_bytes()).map(|key| key.as_str().to_owned());
        assert_eq!(key("bucket=b&object=uploads%2Fa%2Fb.png&size=1").as_deref(), Some("uploads/a/b.png"));
        for said in ["", "object=", "size=1", "object=%ff", "object=%2Fa"] {
            assert_eq!(key(said), None, "{said}");
        }
    }
}
