//! `/uploads`

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use uuid::Uuid;

use crate::domain::{Checksum, FileId, Refusal, Status, Timestamp, UploadId};
use crate::engine::create::{CreateUpload, Cut};
use crate::engine::inspect::UploadView;
use crate::http::auth::Caller;
use crate::http::problem::Problem;
use crate::http::{Api, FileIdPath, Parameters, body, encode};

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
    fn decode(self) -> Result<CreateUpload, Refusal> {
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
        })
    }
}

/// `POST /uploads`
pub async fn create(State(api): State<Api>, caller: Caller, body: Body) -> Result<Response, Problem> {
    let wanted: CreateBody = body::json(body, api.limits.body_idle_timeout).await?;
    let created = api.engine.create(&caller.owner, wanted.decode()?).await?;
    let status = if created.is_new { StatusCode::CREATED } else { StatusCode::OK };
    let view = api.engine.progress(created.upload).await?;
    Ok((status, Json(encode::view(&view))).into_response())
}

/// `GET /uploads/{fileId}`
pub async fn get(State(api): State<Api>, caller: Caller, FileIdPath(file_id): FileIdPath) -> Result<Response, Problem> {
    let view = api.engine.upload(&caller.owner, &file_id).await?;
    Ok(Json(encode::view(&view)).into_response())
}

/// `DELETE /uploads/{fileId}`
pub async fn abort(
    State(api): State<Api>,
    caller: Caller,
    FileIdPath(file_id): FileIdPath,
) -> Result<StatusCode, Problem> {
    api.engine.abort(&caller.owner, &file_id).await?;
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
    caller: Caller,
    Parameters(query): Parameters<ListQuery>,
) -> Result<Response, Problem> {
    let status = query.status.as_deref().map(parse_status).transpose()?;
    let after = query.cursor.as_deref().map(parse_cursor).transpose()?;
    let limit = parse_limit(query.limit.as_deref())?;
    // One more than asked for tells whether there is a next page.
    let mut uploads = api.engine.uploads(caller.listed.as_ref(), status, after, limit + 1).await?;
    let more = uploads.len() > limit as usize;
    uploads.truncate(limit as usize);
    let more = fit(&mut uploads) || more;
    let next = uploads.last().filter(|_| more).map(|last| cursor(last.upload.created_at, last.upload.id));
    let bodies: Vec<_> = uploads.iter().map(encode::view).collect();
    Ok(api.large_answers.json(&json!({"uploads": bodies, "nextCursor": next}))?)
}

/// About what one upload takes in a list beside its metadata.
const UPLOAD_BYTES: usize = 1 << 10;
/// What a page may take: many may be written at once, each to a slow reader.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// Ends a page early whose metadata would make it large. Whether there is more
/// is said by `nextCursor`, never by the length.
fn fit(uploads: &mut Vec<UploadView>) -> bool {
    let all = uploads.len();
    let mut bytes = 0;
    let fits = uploads.iter().take_while(|view| {
        let metadata = &view.upload.metadata;
        bytes += UPLOAD_BYTES + metadata.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        bytes <= PAGE_BYTES_MAX
    });
    let count = fits.count().max(1);
    uploads.truncate(count);
    count < all
}

fn parse_status(text: &str) -> Result<Status, Refusal> {
    Status::parse(text).ok_or_else(|| Refusal::InvalidParameter {
        name: "status",
        reason: format!("is one of {}", Status::ALL.map(Status::name).join(", ")),
    })
}

fn parse_limit(text: Option<&str>) -> Result<u32, Refusal> {
    let limit = text.map_or(Some(20), |text| text.parse().ok().filter(|limit| (1..=1000).contains(limit)));
    limit.ok_or_else(|| Refusal::InvalidParameter { name: "limit", reason: "is a number from 1 to 1000".to_owned() })
}

fn cursor(at: Timestamp, id: UploadId) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}.{id}", at.millis()))
}

fn parse_cursor(text: &str) -> Result<(Timestamp, UploadId), Refusal> {
    let read = || {
        let plain = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (millis, id) = plain.split_once('.')?;
        Some((Timestamp::from_millis(millis.parse().ok()?), UploadId(Uuid::parse_str(id).ok()?)))
    };
    read().ok_or_else(|| Refusal::InvalidParameter {
        name: "cursor",
        reason: "is not one that this gateway gave out: begin without it".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_given() {
        let (at, id) = (Timestamp::from_millis(1_795_255_740_007), UploadId(Uuid::from_u128(7)));
        assert_eq!(parse_cursor(&cursor(at, id)), Ok((at, id)));
        for wrong in ["", "!", "AAAA", "MS4y"] {
            assert!(parse_cursor(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_limit_is_one_to_a_thousand() {
        assert_eq!(parse_limit(None), Ok(20));
        assert_eq!(parse_limit(Some("1000")), Ok(1000));
        for wrong in ["0", "1001", "-1", "x", ""] {
            assert!(parse_limit(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
