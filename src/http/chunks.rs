//! `/chunks` and `/upload-chunk`

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::domain::rules::{self, Declared};
use crate::domain::{Checksum, Crc64, FileId, Owner, Refusal};
use crate::engine::create::{CreateUpload, Cut};
use crate::engine::finish::Finished;
use crate::engine::put_chunk::PutChunk;
use crate::http::auth::Caller;
use crate::http::encode::{self, Shown};
use crate::http::form::{self, FileForm, Way};
use crate::http::problem::Problem;
use crate::http::uploads::BYTES_MAX;
use crate::http::{Api, Parameters, body};

/// `PUT /chunks/{fileId}/{chunkIndex}`
pub async fn put(
    State(api): State<Api>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Path((file_id, index)) = path.map_err(|rejection| Refusal::invalid(rejection.body_text()))?;
    put_raw(api, caller, &file_id, &index, &headers, body).await
}

/// `PUT /chunks`, which one preflight serves for all chunks.
pub async fn put_by_headers(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let text = |name: &'static str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| Refusal::invalid(format!("PUT /chunks needs the header {name}")))
    };
    let (file_id, index) = (text("x-file-id")?.to_owned(), text("x-chunk-index")?.to_owned());
    put_raw(api, caller, &file_id, &index, &headers, body).await
}

async fn put_raw(
    api: Api,
    caller: Caller,
    file_id: &str,
    index: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    body::refuse_encoding(headers)?;
    let put = PutChunk {
        owner: caller.owner,
        file_id: FileId::parse(file_id)?,
        index: parse_index(index)?,
        bytes: body::content_length(headers),
        checksums: declared_checksums(headers)?,
        body: body::incoming(body, api.limits.body_idle_timeout),
    };
    let stored = api.engine.put_chunk(put).await?;
    Ok(Json(encode::chunk_stored(&stored, false)).into_response())
}

/// Any whole number: which of them are chunks, the upload's plan says.
fn parse_index(text: &str) -> Result<i128, Refusal> {
    text.trim().parse().map_err(|_| Refusal::invalid(format!("chunkIndex is a whole number from 0, not {text:?}")))
}

/// The checksums that a raw chunk's head declares.
fn declared_checksums(headers: &HeaderMap) -> Result<Vec<Checksum>, Refusal> {
    let mut declared = Vec::new();
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
    if let Some(value) = text(HeaderName::from_static("content-digest")) {
        declared.extend(content_digest(value)?);
    }
    if let Some(value) = text(HeaderName::from_static("content-md5")) {
        let digest = STANDARD.decode(value.trim()).ok().and_then(|bytes| bytes.try_into().ok());
        declared.push(Checksum::Md5(digest.ok_or_else(|| Refusal::invalid("Content-MD5 is the base64 of 16 bytes"))?));
    }
    if let Some(value) = text(HeaderName::from_static("x-checksum-crc64")) {
        let crc64 = Crc64::parse(value.trim());
        declared.push(Checksum::Crc64(
            crc64.ok_or_else(|| Refusal::invalid("X-Checksum-Crc64 is an unsigned decimal of 64 bits"))?,
        ));
    }
    Ok(declared)
}

/// RFC 9530: `sha-256=:…:`, perhaps among others, which are passed over.
fn content_digest(value: &str) -> Result<Option<Checksum>, Refusal> {
    let wrong = || Refusal::invalid("Content-Digest reads sha-256=:<base64 of 32 bytes>:");
    for member in value.split(',') {
        let (name, value) = member.trim().split_once('=').ok_or_else(wrong)?;
        if name.eq_ignore_ascii_case("sha-256") {
            let encoded = value.strip_prefix(':').and_then(|v| v.strip_suffix(':')).ok_or_else(wrong)?;
            let digest = STANDARD.decode(encoded).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(wrong)?;
            return Ok(Some(Checksum::Sha256(digest)));
        }
    }
    Ok(None)
}

/// `POST /chunks` and `POST /upload-chunk`
pub async fn post(State(api): State<Api>, caller: Caller, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    body::refuse_encoding(&headers)?;
    let derive = api.engine.settings().upload.derive_file_id;
    let judge = if derive { judge_deriving } else { judge };
    let form = form::read(&headers, body, api.limits.body_idle_timeout, &api.form_buffers, judge).await?;
    let fields = ChunkFields::decode(&form, &caller.owner, derive)?;
    let upload = match api.engine.known(&caller.owner, &fields.file_id).await? {
        Some(upload) => {
            // What has ended is told so, whatever the form says of it.
            rules::closed(&upload.state).map_or(Ok(()), Err)?;
            rules::agrees(&upload, &fields.declared())?;
            upload
        }
        None => api.engine.create(&caller.owner, fields.creation(&form)?).await?.upload,
    };
    let plan_bytes = u32::try_from(fields.index).ok().and_then(|index| upload.geometry.plan()?.bytes_of(index));
    let put = PutChunk {
        owner: caller.owner,
        file_id: fields.file_id,
        index: fields.index,
        bytes: announced(&form, plan_bytes),
        checksums: fields.checksums,
        body: form.file,
    };
    let stored = api.engine.put_chunk(put).await?;
    Ok(Json(encode::chunk_stored(&stored, fields.derived)).into_response())
}

/// The file's length as far as it can be known. What follows from
/// Content-Length is a bound, which fields after the file make smaller: where
/// the plan's length fits in, the plan is believed until the body proves it wrong.
fn announced(form: &FileForm, plan_bytes: Option<u64>) -> Option<u64> {
    match (form.bytes, plan_bytes) {
        (Some(bound), Some(planned)) if form.is_bound && planned <= bound => Some(planned),
        (bytes, planned) => bytes.or(planned),
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
    fn decode(form: &FileForm, owner: &Owner, derive: bool) -> Result<Self, Refusal> {
        let text = |name: &str| form.fields.get(name).map(String::as_str).filter(|text| !text.is_empty());
        let number = |name: &str| match text(name).map(str::parse::<u64>) {
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
    fn creation(&self, form: &FileForm) -> Result<CreateUpload, Refusal> {
        let needed = |name: &str| {
            Refusal::invalid(format!("the form has no {name}, which the first chunk of an upload must bring"))
        };
        let count = self.count.ok_or_else(|| needed("totalChunks"))?;
        let is_empty = count <= 1 && self.total_bytes.is_none_or(|bytes| bytes == 0) && form.bytes == Some(0);
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
    caller: Caller,
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
    Ok(match api.engine.chunks(&caller.owner, &file_id).await? {
        Some(view) => Json(encode::chunks(&view, shown)).into_response(),
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
pub async fn complete(State(api): State<Api>, caller: Caller, body: Body) -> Result<Response, Problem> {
    let wanted: CompleteBody = body::json(body, api.limits.body_idle_timeout).await?;
    let file_id = FileId::parse(&wanted.file_id)?;
    match api.engine.complete(&caller.owner, &file_id).await? {
        Finished::Completed(file) => Ok(Json(json!({"file": encode::file(&file)})).into_response()),
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
    fn content_digest_is_rfc_9530() {
        let digest = content_digest("sha-512=:AA==:, sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:");
        let expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.ok().flatten().map(|c| c.tagged()).as_deref(), Some(expected));
        assert_eq!(content_digest("md5=:AA==:"), Ok(None));
        for wrong in ["sha-256", "sha-256=AA==", "sha-256=:AA==:", "sha-256=:!:"] {
            assert!(content_digest(wrong).is_err(), "{wrong}");
        }
    }

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
