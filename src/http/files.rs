//! `/files`

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use crate::domain::{Checksum, FileId, Refusal};
use crate::engine::create::{CreateUpload, Cut};
use crate::engine::hooks::Requester;
use crate::engine::intake::Incoming;
use crate::http::auth::{May, ReadFiles, WriteFiles};
use crate::http::form::{self, Way};
use crate::http::links::Sender;
use crate::http::problem::Problem;
use crate::http::{Api, FileIdPath, Parameters, body, encode, pages as page};
use crate::ledger::{FileFilter, PageStart};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PostQuery {
    file_id: Option<String>,
    file_name: Option<String>,
    checksum: Option<String>,
    content_type: Option<String>,
}

/// `POST /files`: one small file in one request, as a form or as a raw body.
pub(super) async fn post(
    State(api): State<Api>,
    Sender(grant): Sender,
    from: Requester,
    Parameters(query): Parameters<PostQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    body::refuse_encoding(&headers)?;
    let mime = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let mut small = if mime.to_ascii_lowercase().starts_with("multipart/form-data") {
        from_form(&api, query, &headers, body).await?
    } else {
        from_raw(&api, query, &headers, mime, body)?
    };
    let bytes = small.bytes.ok_or(Refusal::LengthRequired)?;
    small.wanted.from = from;
    let put = api.engine.put_file(grant, small.wanted, bytes, small.body).await?;
    Ok((StatusCode::CREATED, Json(encode::told(encode::file(&put.file), &put.app))).into_response())
}

struct Small {
    wanted: CreateUpload,
    bytes: Option<u64>,
    body: Incoming,
}

fn from_raw(api: &Api, query: PostQuery, headers: &HeaderMap, mime: &str, body: Body) -> Result<Small, Refusal> {
    let file_name =
        query.file_name.ok_or_else(|| Refusal::invalid("a raw body needs its name in the query: ?fileName=…"))?;
    let given = query.content_type.filter(|mime| !mime.is_empty());
    let content_type = given.or_else(|| (!mime.is_empty()).then(|| mime.to_owned()));
    let wanted = wanted(query.file_id.as_deref(), file_name, content_type, query.checksum.as_deref(), BTreeMap::new())?;
    let body_stream = body::incoming(body, api.limits.body_idle_timeout);
    Ok(Small { wanted, bytes: body::content_length(headers), body: body_stream })
}

async fn from_form(api: &Api, query: PostQuery, headers: &HeaderMap, body: Body) -> Result<Small, Refusal> {
    // Whether a text field still follows the file cannot be known: a form
    // small enough to be held is read whole, a larger one streams.
    let small = body::content_length(headers).is_some_and(|bytes| bytes <= api.limits.form_buffer);
    let judge: form::Judge = if small { |_| Way::Hold } else { |_| Way::Stream };
    let mut form = form::read(headers, body, api.limits.body_idle_timeout, &api.form_buffers, judge).await?;
    let mut fields = std::mem::take(&mut form.texts).fields;
    let mut field = |name: &str| fields.remove(name).filter(|text| !text.is_empty());
    let (file_id, file_name) = (field("fileId").or(query.file_id), field("fileName").or(query.file_name));
    let (checksum, metadata) = (field("checksum").or(query.checksum), field("metadata"));
    let content_type = field("contentType").or(query.content_type).or(form.content_type.take());
    let file_name = file_name
        .or(form.file_name.take())
        .ok_or_else(|| Refusal::invalid("the form has no fileName, and its file has no name either"))?;
    let metadata = metadata.map_or(Ok(BTreeMap::new()), |text| serde_json::from_str(&text));
    let metadata = metadata.map_err(|e| Refusal::invalid(format!("metadata is a JSON object of strings: {e}")))?;
    let wanted = wanted(file_id.as_deref(), file_name, content_type, checksum.as_deref(), metadata)?;
    let (bytes, body) = form.into_body(None, &api.form_buffers).await?;
    Ok(Small { wanted, bytes, body })
}

fn wanted(
    file_id: Option<&str>,
    file_name: String,
    content_type: Option<String>,
    checksum: Option<&str>,
    metadata: BTreeMap<String, String>,
) -> Result<CreateUpload, Refusal> {
    Ok(CreateUpload {
        file_id: file_id.map(FileId::parse).transpose()?,
        file_name,
        content_type,
        metadata,
        checksum: checksum.map(Checksum::parse_tagged).transpose()?,
        auto_complete: None,
        restart: false,
        cut: Cut::Declared { total_bytes: 0, chunk_bytes: None, count: None },
        from: Requester::default(),
    })
}

/// `GET /files/{fileId}`
pub async fn get(
    State(api): State<Api>,
    caller: May<ReadFiles>,
    FileIdPath(file_id): FileIdPath,
) -> Result<Response, Problem> {
    let file = api.engine.file(caller.owner_of(&file_id), &file_id).await?;
    Ok(Json(encode::file(&file)).into_response())
}

/// `DELETE /files/{fileId}`
pub(super) async fn delete(
    State(api): State<Api>,
    caller: May<WriteFiles>,
    FileIdPath(file_id): FileIdPath,
) -> Result<StatusCode, Problem> {
    api.engine.delete_file(caller.owner_of(&file_id), &file_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListQuery {
    limit: Option<String>,
    cursor: Option<String>,
    page: Option<String>,
    prefix: Option<String>,
    content_type: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

/// `GET /files`
pub(super) async fn list(
    State(api): State<Api>,
    caller: May<ReadFiles>,
    Parameters(query): Parameters<ListQuery>,
) -> Result<Response, Problem> {
    let limit = page::limit(query.limit.as_deref())?;
    let nth = query.page.as_deref().map(page::number).transpose()?;
    if nth.is_some() && query.cursor.is_some() {
        return Err(Refusal::invalid("a page has a number or a cursor, not both").into());
    }
    let start = match (nth, query.cursor.as_deref()) {
        (Some(nth), _) => PageStart::Skip((nth - 1) * u64::from(limit)),
        (None, Some(cursor)) => page::after(cursor).map(|(at, id)| PageStart::After(at, id))?,
        (None, None) => PageStart::Newest,
    };
    let time = |name, text: Option<String>| text.map(|text| page::time(name, &text)).transpose();
    let filter = FileFilter {
        owner: caller.listed.clone(),
        file_id: caller.grant.terms.file_id.clone(),
        name_prefix: query.prefix,
        content_type: query.content_type.map(|mime| mime.strip_suffix('*').map(ToOwned::to_owned).unwrap_or(mime)),
        since: time("since", query.since)?,
        until: time("until", query.until)?,
    };
    // One more than asked for tells whether there is a next page.
    let mut files = api.engine.files(&filter, start, limit + 1).await?;
    let more = files.len() > limit as usize;
    files.truncate(limit as usize);
    let more = page::fit(&mut files, |file| &file.metadata) || more;
    let next = files.last().filter(|_| more).map(|last| page::cursor(last.object.completed_at, last.id));
    let bodies: Vec<_> = files.iter().map(encode::file).collect();
    let mut body = json!({"files": bodies, "nextCursor": next});
    if let (Some(nth), Some(body)) = (nth, body.as_object_mut()) {
        let total = api.engine.count_files(&filter).await?;
        body.insert("page".to_owned(), nth.into());
        body.insert("total".to_owned(), total.into());
    }
    Ok(api.large_answers.json(&body)?)
}
