//! Straight to the store.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::engine::direct::SignedPart;
use crate::http::auth::{May, WriteUploads};
use crate::http::problem::Problem;
use crate::http::{Api, FileIdPath, body};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SignBody {
    chunk_indexes: Vec<i128>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SignedPartBody<'a> {
    chunk_index: u32,
    method: &'static str,
    url: &'a str,
    headers: BTreeMap<&'static str, &'static str>,
    expires_at: String,
}

/// `POST /uploads/{fileId}/parts/sign`
pub(super) async fn sign_parts(
    State(api): State<Api>,
    caller: May<WriteUploads>,
    FileIdPath(file_id): FileIdPath,
    body: Body,
) -> Result<Response, Problem> {
    let wanted: SignBody = body::json(body, api.limits.body_idle_timeout).await?;
    let owner = caller.owner_of(&file_id);
    let signed = api.engine.sign_parts(owner, &file_id, &caller.grant.terms, &wanted.chunk_indexes).await?;
    let part = |part: &SignedPart| {
        json!(SignedPartBody {
            chunk_index: part.index,
            method: "PUT",
            url: &part.put.url,
            headers: part.put.headers.iter().copied().collect(),
            expires_at: part.expires_at.rfc3339(),
        })
    };
    let parts: Vec<_> = signed.iter().map(part).collect();
    Ok(Json(json!({"parts": parts})).into_response())
}
