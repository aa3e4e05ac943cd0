//! `/files`

use std::collections::BTreeMap;
use std::ops::Range;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::domain::{Checksum, File, FileId, Refusal};
use crate::engine::create::{CreateUpload, Cut};
use crate::engine::intake::Incoming;
use crate::http::auth::Caller;
use crate::http::form::{self, Way};
use crate::http::problem::Problem;
use crate::http::{Api, FileIdPath, Parameters, body, encode};

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
    caller: Caller,
    Parameters(query): Parameters<PostQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    body::refuse_encoding(&headers)?;
    let mime = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let small = if mime.to_ascii_lowercase().starts_with("multipart/form-data") {
        from_form(&api, query, &headers, body).await?
    } else {
        from_raw(&api, query, &headers, mime, body)?
    };
    let bytes = small.bytes.ok_or(Refusal::LengthRequired)?;
    let file = api.engine.put_file(caller.owner, small.wanted, bytes, small.body).await?;
    Ok((StatusCode::CREATED, Json(encode::file(&file))).into_response())
}

struct Small {
    wanted: CreateUpload,
    bytes: Option<u64>,
    body: Incoming,
}

fn from_raw(api: &Api, query: PostQuery, headers: &HeaderMap, mime: &str, body: Body) -> Result<Small, Refusal> {
    let file_name =
        query.file_name.ok_or_else(|| Refusal::invalid("a raw body needs its name in the query: ?fileName=…"))?;
    let content_type = query.content_type.or_else(|| (!mime.is_empty()).then(|| mime.to_owned()));
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
    })
}

/// `GET /files/{fileId}`
pub async fn get(State(api): State<Api>, caller: Caller, FileIdPath(file_id): FileIdPath) -> Result<Response, Problem> {
    let file = api.engine.file(&caller.owner, &file_id).await?;
    Ok(Json(encode::file(&file)).into_response())
}

/// `GET|HEAD /files/{fileId}/content`
pub async fn content(
    State(api): State<Api>,
    caller: Caller,
    FileIdPath(file_id): FileIdPath,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let file = api.engine.file(&caller.owner, &file_id).await?;
    let etag = format!("\"{}\"", file.object.etag);
    let mut answer = Response::new(Body::empty());
    describe(&file, &etag, answer.headers_mut())?;
    if none_match(&headers, &etag) {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(answer);
    }
    let total = file.object.bytes;
    let range = wanted_range(&headers, &etag, total)?;
    let length = range.as_ref().map_or(total, |range| range.end - range.start);
    answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(range) = &range {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        let shown = format!("bytes {}-{}/{total}", range.start, range.end - 1);
        answer.headers_mut().insert(header::CONTENT_RANGE, header_value(&shown)?);
    }
    if method != Method::HEAD && length > 0 {
        let reading = api.engine.read_file(&file, range).await?;
        // A read that fails midway breaks the connection: the client sees a short body, never a wrong one.
        let stream = reading.stream.inspect(move |frame| {
            if let Err(error) = frame {
                tracing::warn!(%error, "a download broke off");
            }
        });
        *answer.body_mut() = Body::from_stream(stream);
    }
    Ok(answer)
}

static CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

fn describe(file: &File, etag: &str, headers: &mut HeaderMap) -> Result<(), Refusal> {
    let mime = file.content_type.as_deref().unwrap_or("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, header_value(mime)?);
    headers.insert(header::ETAG, header_value(etag)?);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_DISPOSITION, header_value(&attachment(&file.file_name))?);
    // What users upload never runs as a page of ours.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    // Nor does a page of another origin embed it unasked. Who may read it by
    // CORS still does (`<img crossorigin>`), and where keys are needed no
    // element could send one.
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY.clone(), HeaderValue::from_static("same-origin"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(())
}

fn header_value(text: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::try_from(text).map_err(|_| Refusal::Internal)
}

/// RFC 8187: everything but its attr-char is percent-encoded.
const EXTENDED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// RFC 6266: a plain name for old clients, the true one for all others.
pub fn attachment(file_name: &str) -> String {
    let plain: String = file_name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '/' | '%') || c == ' ' { c } else { '_' })
        .collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", utf8_percent_encode(file_name, EXTENDED))
}

fn none_match(headers: &HeaderMap, etag: &str) -> bool {
    let Some(value) = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()) else { return false };
    value.trim() == "*" || value.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag)
}

/// The one range that is asked for. Several, or nonsense, are answered with
/// the whole file (RFC 9110 §14.2 lets a server ignore Range).
fn wanted_range(headers: &HeaderMap, etag: &str, total: u64) -> Result<Option<Range<u64>>, Refusal> {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    let Some(range) = text(header::RANGE).and_then(|range| range.strip_prefix("bytes=")) else { return Ok(None) };
    // The part of a file that has changed since is of no use: If-Range asks for all of it then.
    if text(header::IF_RANGE).is_some_and(|tag| tag.trim() != etag) || range.contains(',') {
        return Ok(None);
    }
    let Some((first, last)) = range.trim().split_once('-') else { return Ok(None) };
    let unsatisfiable = Refusal::RangeNotSatisfiable { bytes: total };
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(total),
        (Ok(first), Err(_)) if last.is_empty() => first..total,
        (Err(_), Ok(suffix)) if first.is_empty() => total.saturating_sub(suffix)..total,
        _ => return Ok(None),
    };
    if range.start >= range.end { Err(unsatisfiable) } else { Ok(Some(range)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_travel_as_data() {
        assert_eq!(attachment("a b.txt"), "attachment; filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt");
        let hostile = attachment("报\"告\r\nX: y\u{202e}.exe");
        assert!(hostile.is_ascii() && !hostile.contains('\r') && hostile.matches('"').count() == 2, "{hostile}");
        assert!(hostile.contains("%E6%8A%A5"));
    }

    #[test]
    fn ranges_lie_within_the_file() {
        let ask = |range: &str, total| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, range.parse().expect("a header"));
            wanted_range(&headers, "\"e\"", total)
        };
        assert_eq!(ask("bytes=0-0", 10), Ok(Some(0..1)));
        assert_eq!(ask("bytes=2-", 10), Ok(Some(2..10)));
        assert_eq!(ask("bytes=-3", 10), Ok(Some(7..10)));
        assert_eq!(ask("bytes=-30", 10), Ok(Some(0..10)));
        assert_eq!(ask("bytes=5-99", 10), Ok(Some(5..10)));
        for ignored in ["bytes=", "bytes=5-2", "bytes=a-b", "bytes=0-1,3-4", "lines=1-2"] {
            assert_eq!(ask(ignored, 10), Ok(None), "{ignored}");
        }
        for outside in ["bytes=10-", "bytes=10-11", "bytes=-0"] {
            assert!(ask(outside, 10).is_err(), "{outside}");
        }
        assert!(ask("bytes=0-", 0).is_err());
    }

    #[test]
    fn a_range_of_another_version_is_answered_whole() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, "bytes=0-1".parse().expect("a header"));
        headers.insert(header::IF_RANGE, "\"old\"".parse().expect("a header"));
        assert_eq!(wanted_range(&headers, "\"new\"", 10), Ok(None));
    }
}
