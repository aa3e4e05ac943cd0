//! `/uploads`

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use crate::domain::{Checksum, FileId, Refusal, Status};
use crate::engine::create::{CreateUpload, Cut};
use crate::engine::hooks::Requester;
use crate::http::auth::{May, WriteUploads};
use crate::http::problem::Problem;
use crate::http::{Api, FileIdPath, Parameters, body, encode, pages};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateBody {
    file_id: Option<String>,
    file_name: String,
    file_size: u64,
    chunk_size: Option<u64>,
    total_chunks: Option<u64>,
    content_type: Option<String>,
    #[serde(default, deserialize_with = "object")]
    checksum: Option<ChecksumBody>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
    auto_complete: Option<bool>,
    #[serde(default)]
    restart: bool,
}

#[derive(Deserialize)]
struct ChecksumBody {
    algorithm: String,
    value: String,
}

/// A struct within a struct, which serde would take a list for as well.
fn object<'de, T: DeserializeOwned, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    let object = Option::<serde_json::Map<_, _>>::deserialize(from)?;
    object.map(|object| serde_json::from_value(object.into()).map_err(D::Error::custom)).transpose()
}

/// The largest number of bytes that a database's integer holds.
pub const BYTES_MAX: u64 = i64::MAX as u64;

impl CreateBody {
    fn decode(self, from: Requester) -> Result<CreateUpload, Refusal> {
        if self.file_size > BYTES_MAX || self.chunk_size.is_some_and(|bytes| bytes > BYTES_MAX) {
            return Err(Refusal::invalid("fileSize and chunkSize are whole numbers of bytes below 2^63"));
        }
        Ok(CreateUpload {
            file_id: self.file_id.as_deref().map(FileId::parse).transpose()?,
            file_name: self.file_name,
            content_type: self.content_type.filter(|mime| !mime.is_empty()),
            metadata: self.metadata.unwrap_or_default(),
            checksum: self.checksum.map(|c| Checksum::parse(&c.algorithm, &c.value)).transpose()?,
            auto_complete: self.auto_complete,
            restart: self.restart,
            cut: Cut::Declared { total_bytes: self.file_size, chunk_bytes: self.chunk_size, count: self.total_chunks },
            from,
        })
    }
}

/// `POST /uploads`
pub async fn create(
    State(api): State<Api>,
    caller: May<WriteUploads>,
    from: Requester,
    body: Body,
) -> Result<Response, Problem> {
    let wanted: CreateBody = body::json(body, api.limits.body_idle_timeout).await?;
    let created = api.engine.create(&caller.grant, wanted.decode(from)?).await?;
    let status = if created.is_new { StatusCode::CREATED } else { StatusCode::OK };
    let view = api.engine.progress(created.upload).await?;
    Ok((status, Json(encode::told(encode::view(&view), &created.app))).into_response())
}

/// `GET /uploads/{fileId}`
pub async fn get(
    State(api): State<Api>,
    caller: May<WriteUploads>,
    FileIdPath(file_id): FileIdPath,
) -> Result<Response, Problem> {
    let view = api.engine.upload(caller.owner_of(&file_id), &file_id).await?;
    Ok(Json(encode::view(&view)).into_response())
}

/// `DELETE /uploads/{fileId}`
pub async fn abort(
    State(api): State<Api>,
    caller: May<WriteUploads>,
    FileIdPath(file_id): FileIdPath,
) -> Result<StatusCode, Problem> {
    api.engine.abort(caller.owner_of(&file_id), &file_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    status: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
}

/// `GET /uploads`
pub(super) async fn list(
    State(api): State<Api>,
    caller: May<WriteUploads>,
    Parameters(query): Parameters<ListQuery>,
) -> Result<Response, Problem> {
    let status = query.status.as_deref().map(parse_status).transpose()?;
    let after = query.cursor.as_deref().map(pages::after).transpose()?;
    let limit = pages::limit(query.limit.as_deref())?;
    // One more than asked for tells whether there is a next page.
    let mut uploads = match &caller.grant.terms.file_id {
        // A token for one upload lists that one, and nothing comes after it.
        Some(_) if after.is_some() => Vec::new(),
        Some(only) => api.engine.upload_listed(&caller.grant.owner, only, status).await?,
        None => api.engine.uploads(caller.listed.as_ref(), status, after, limit + 1).await?,
    };
    let more = uploads.len() > limit as usize;
    uploads.truncate(limit as usize);
    let more = pages::fit(&mut uploads, |view| &view.upload.metadata) || more;
    let next = uploads.last().filter(|_| more).map(|last| pages::cursor(last.upload.created_at, last.upload.id));
    let bodies: Vec<_> = uploads.iter().map(encode::view).collect();
    Ok(api.large_answers.json(&json!({"uploads": bodies, "nextCursor": next}))?)
}

pub(super) fn parse_status(text: &str) -> Result<Status, Refusal> {
    Status::parse(text).ok_or_else(|| Refusal::InvalidParameter {
        name: "status",
        reason: format!("is one of {}", Status::ALL.map(Status::name).join(", ")),
    })
}
