//! `/chunks` and `/upload-chunk`

pub(super) mod declared;

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::domain::rules::{self, Declared};
use crate::domain::{Checksum, FileId, Geometry, Owner, Refusal};
use crate::engine::create::{CreateUpload, Cut};
use crate::engine::finish::Finished;
use crate::engine::hooks::Requester;
use crate::engine::put_chunk::PutChunk;
use crate::http::auth::{May, WriteUploads};
use crate::http::encode::{self, Shown};
use crate::http::form::{self, Length, Texts, Way};
use crate::http::problem::Problem;
use crate::http::uploads::BYTES_MAX;
use crate::http::{Api, Parameters, body};
use declared::{declared_checksums, parse_index, single, whole_number};

/// `PUT /chunks/{fileId}/{chunkIndex}`
pub async fn put(
    State(api): State<Api>,
    caller: May<WriteUploads>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Path((file_id, index)) = path.map_err(|rejection| undecodable(&rejection))?;
    put_raw(api, caller, &file_id, &index, &headers, body).await
}

/// What cannot be decoded (`%ff`) is no fileId, or no index.
fn undecodable(rejection: &PathRejection) -> Refusal {
    if let PathRejection::FailedToDeserializePathParams(error) = rejection
        && let ErrorKind::InvalidUtf8InPathParam { key } = error.kind()
        && key == "fileId"
    {
        return Refusal::InvalidFileId;
    }
    Refusal::invalid(rejection.body_text())
}

/// `PUT /chunks`, which one preflight serves for all chunks.
pub async fn put_by_headers(
    State(api): State<Api>,
    caller: May<WriteUploads>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let needed = |name: &'static str| {
        single(&headers, name)?.ok_or_else(|| Refusal::invalid(format!("PUT /chunks needs the header {name}")))
    };
    put_raw(api, caller, needed("x-file-id")?, needed("x-chunk-index")?, &headers, body).await
}

async fn put_raw(
    api: Api,
    caller: May<WriteUploads>,
    file_id: &str,
    index: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    body::refuse_encoding(headers)?;
    let file_id = FileId::parse(file_id)?;
    let put = PutChunk {
        owner: caller.owner_of(&file_id).clone(),
        terms: caller.grant.terms.clone(),
        file_id,
        index: parse_index(index)?,
        bytes: body::content_length(headers),
        checksums: declared_checksums(headers)?,
        body: body::incoming(body, api.limits.body_idle_timeout),
    };
    let stored = api.engine.put_chunk(put).await?;
    Ok(Json(encode::chunk_stored(&stored, false)).into_response())
}

/// `POST /chunks` and `POST /upload-chunk`
pub async fn post(
    State(api): State<Api>,
    caller: May<WriteUploads>,
    from: Requester,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    body::refuse_encoding(&headers)?;
    let derive = api.engine.settings().upload.derive_file_id;
    let judge = if derive { judge_deriving } else { judge };
    let mut form = form::read(&headers, body, api.limits.body_idle_timeout, &api.form_buffers, judge).await?;
    // Their room is given back before the file is waited for.
    let fields = ChunkFields::decode(&std::mem::take(&mut form.texts), &caller.grant.owner, derive)?;
    let owner = caller.owner_of(&fields.file_id).clone();
    let (upload, app) = match api.engine.known(&owner, &fields.file_id).await? {
        Some(upload) => {
            // What has ended is told so, whatever the form says of it.
            rules::closed(&upload.state).map_or(Ok(()), Err)?;
            rules::agrees(&upload, &fields.declared())?;
            (upload, None)
        }
        None => {
            let created = api.engine.create(&caller.grant, fields.creation(form.length, from)?).await?;
            (created.upload, created.app)
        }
    };
    let (bytes, body) = form.into_body(planned_bytes(&upload.geometry, fields.index), &api.form_buffers).await?;
    let put = PutChunk {
        owner,
        terms: caller.grant.terms.clone(),
        file_id: fields.file_id,
        index: fields.index,
        bytes,
        checksums: fields.checksums,
        body,
    };
    let mut stored = api.engine.put_chunk(put).await?;
    // A file of no bytes was complete before its one chunk came.
    stored.app = stored.app.or(app);
    Ok(Json(encode::chunk_stored(&stored, fields.derived)).into_response())
}

/// How long this chunk has to be, as far as the plan is known.
fn planned_bytes(geometry: &Geometry, index: i128) -> Option<u64> {
    let index = u32::try_from(index).ok()?;
    match geometry {
        Geometry::Fixed(plan) => plan.bytes_of(index),
        Geometry::Learning(learning) => learning.chunk_bytes.filter(|_| index < learning.count - 1),
    }
}

/// A file streams once it is known which chunk of which upload it is.
fn judge(fields: &BTreeMap<String, String>) -> Way {
    match (fields.contains_key("fileId"), fields.contains_key("chunkIndex")) {
        (true, true) => Way::Stream,
        // The fields come first, as they should; the one is lacking.
        (false, true) => Way::HoldOr(Refusal::FileIdRequired),
        (_, false) => Way::Hold,
    }
}

fn judge_deriving(fields: &BTreeMap<String, String>) -> Way {
    let derivable = ["chunkIndex", "totalChunks", "fileName"].iter().all(|name| fields.contains_key(*name));
    if derivable { Way::Stream } else { judge(fields) }
}

/// The fields of a chunk's form.
struct ChunkFields {
    file_id: FileId,
    derived: bool,
    index: i128,
    count: Option<u64>,
    total_bytes: Option<u64>,
    chunk_bytes: Option<u64>,
    file_name: Option<String>,
    content_type: Option<String>,
    auto_complete: Option<bool>,
    checksums: Vec<Checksum>,
}

impl ChunkFields {
    fn decode(texts: &Texts, owner: &Owner, derive: bool) -> Result<Self, Refusal> {
        let text = |name: &str| texts.fields.get(name).map(String::as_str).filter(|text| !text.is_empty());
        let number = |name: &str| match text(name).map(|text| u64::try_from(whole_number(text).unwrap_or(-1))) {
            None => Ok(None),
            Some(Ok(value)) if value <= BYTES_MAX => Ok(Some(value)),
            Some(_) => Err(Refusal::invalid(format!("{name} is a whole number from 0"))),
        };
        let count = number("totalChunks")?;
        let file_name = text("fileName").map(ToOwned::to_owned);
        let (file_id, derived) = match (text("fileId"), derive) {
            (Some(text), _) => (FileId::parse(text)?, false),
            (None, true) => (derived_file_id(owner, file_name.as_deref(), count)?, true),
            (None, false) => return Err(Refusal::FileIdRequired),
        };
        let index = text("chunkIndex").ok_or_else(|| Refusal::invalid("the form has no chunkIndex"))?;
        Ok(Self {
            file_id,
            derived,
            index: parse_index(index)?,
            count,
            total_bytes: number("fileSize")?,
            chunk_bytes: number("chunkSize")?,
            file_name,
            content_type: text("contentType").map(ToOwned::to_owned),
            auto_complete: text("autoComplete").map(parse_bool).transpose()?,
            checksums: text("checksum").map(Checksum::parse_tagged).transpose()?.into_iter().collect(),
        })
    }

    fn declared(&self) -> Declared<'_> {
        Declared { total_bytes: self.total_bytes, chunk_bytes: self.chunk_bytes, count: self.count, checksum: None }
    }

    /// The upload that an unknown fileId's form creates.
    fn creation(&self, length: Length, from: Requester) -> Result<CreateUpload, Refusal> {
        let needed = |name: &str| {
            Refusal::invalid(format!("the form has no {name}, which the first chunk of an upload must bring"))
        };
        let count = self.count.ok_or_else(|| needed("totalChunks"))?;
        let is_empty = count <= 1 && self.total_bytes.is_none_or(|bytes| bytes == 0) && length == Length::Exact(0);
        let cut = if is_empty {
            Cut::Declared { total_bytes: 0, chunk_bytes: self.chunk_bytes, count: Some(count) }
        } else if count == 0 {
            return Err(Refusal::TotalChunksOutOfRange { given: 0, expected: Some((1, 10_000)) });
        } else {
            Cut::Form { count, chunk_bytes: self.chunk_bytes, total_bytes: self.total_bytes }
        };
        // Refused before an upload is made that nobody could fill.
        if self.index < 0 || self.index >= i128::from(count.max(1)) {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            return Err(Refusal::ChunkIndexOutOfRange { index: self.index, count });
        }
        Ok(CreateUpload {
            file_id: Some(self.file_id.clone()),
            file_name: self.file_name.clone().ok_or_else(|| needed("fileName"))?,
            content_type: self.content_type.clone(),
            metadata: BTreeMap::new(),
            checksum: None,
            auto_complete: self.auto_complete,
            restart: false,
            cut,
            from,
        })
    }
}

fn parse_bool(text: &str) -> Result<bool, Refusal> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Refusal::invalid("autoComplete is true or false")),
    }
}

/// An id made of what the form says, for pages that make none.
fn derived_file_id(owner: &Owner, file_name: Option<&str>, count: Option<u64>) -> Result<FileId, Refusal> {
    let (Some(file_name), Some(count)) = (file_name, count) else { return Err(Refusal::FileIdRequired) };
    let mut hash = Sha256::new();
    // Lengths first: no two inputs run into each other.
    for field in [owner.as_str(), file_name, &count.to_string()] {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field);
    }
    FileId::parse(&format!("derived-{}", hex::encode(&hash.finalize()[..16])))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChunksQuery {
    file_id: Option<String>,
    view: Option<String>,
}

/// `GET /chunks?fileId=`
pub(super) async fn get(
    State(api): State<Api>,
    caller: May<WriteUploads>,
    Parameters(query): Parameters<ChunksQuery>,
) -> Result<Response, Problem> {
    let file_id = FileId::parse(query.file_id.as_deref().unwrap_or(""))?;
    let shown = match query.view.as_deref() {
        None => Shown::Received,
        Some("all") => Shown::All,
        Some("ranges") => Shown::Ranges,
        Some(_) => {
            let reason = "is all or ranges, or left out".to_owned();
            return Err(Refusal::InvalidParameter { name: "view", reason }.into());
        }
    };
    Ok(match api.engine.chunks(caller.owner_of(&file_id), &file_id).await? {
        Some(view) => api.large_answers.json(&encode::chunks(&view, shown))?,
        // Nothing has been received; a 404 would be a permanent error to several uploaders.
        None => Json(json!({
            "fileId": file_id.as_str(), "status": "none", "uploadedChunks": 0, "chunks": [], "missing": [],
        }))
        .into_response(),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CompleteBody {
    file_id: String,
}

/// `POST /chunks/complete`
pub async fn complete(State(api): State<Api>, caller: May<WriteUploads>, body: Body) -> Result<Response, Problem> {
    let wanted: CompleteBody = body::json(body, api.limits.body_idle_timeout).await?;
    let file_id = FileId::parse(&wanted.file_id)?;
    match api.engine.complete(caller.owner_of(&file_id), &file_id).await? {
        Finished::Completed(completed) => Ok(Json(encode::completed(&completed)).into_response()),
        Finished::Missing(missing) => Err(Refusal::ChunksMissing { missing }.into()),
        Finished::Failed(refusal) => Err(refusal.into()),
        Finished::Later => {
            let headers = [(header::RETRY_AFTER, "1")];
            Ok((StatusCode::ACCEPTED, headers, Json(json!({"status": "completing"}))).into_response())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_id_depends_on_all_it_is_made_of() {
        let id = |owner: &str, name: &str, count| {
            derived_file_id(&Owner::parse(owner).expect("an owner"), Some(name), Some(count)).expect("an id")
        };
        assert_eq!(id("a", "b.bin", 3), id("a", "b.bin", 3));
        assert_ne!(id("a", "b.bin", 3), id("ab", ".bin", 3));
        assert_ne!(id("a", "b.bin", 3), id("a", "b.bin", 4));
    }
}
