//! `/files/{fileId}/content`: what is in a file, for those who may read it or
//! who have a link.

use std::ops::Range;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::domain::{File, Refusal};
use crate::http::Api;
use crate::http::disposition::Disposition;
use crate::http::links::Reader;
use crate::http::one_frame::OneFrame;
use crate::http::problem::Problem;

/// `GET|HEAD /files/{fileId}/content`
pub(super) async fn content(
    State(api): State<Api>,
    reader: Reader,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let file = api.engine.file(&reader.owner, &reader.file_id).await?;
    let etag = format!("\"{}\"", file.object.etag);
    let mut answer = Response::new(Body::empty());
    describe(&file, &etag, &reader.disposition, answer.headers_mut())?;
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
        *answer.body_mut() = Body::from_stream(OneFrame::of(stream));
    }
    Ok(answer)
}

static CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

fn describe(file: &File, etag: &str, disposition: &Disposition, headers: &mut HeaderMap) -> Result<(), Refusal> {
    let mime = file.content_type.as_deref().unwrap_or("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, header_value(mime)?);
    headers.insert(header::ETAG, header_value(etag)?);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_DISPOSITION, header_value(&disposition.of(&file.file_name))?);
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

pub(super) fn none_match(headers: &HeaderMap, etag: &str) -> bool {
    let Some(value) = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()) else { return false };
    value.trim() == "*" || value.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag)
}

/// The one range that is asked for. Several, or nonsense, are answered with
/// the whole file (RFC 9110 §14.2 lets a server ignore Range).
pub(super) fn wanted_range(headers: &HeaderMap, etag: &str, total: u64) -> Result<Option<Range<u64>>, Refusal> {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    let Some(range) = text(header::RANGE).and_then(|range| range.strip_prefix("bytes=")) else { return Ok(None) };
    // The part of a file that has changed since is of no use: If-Range asks for all of it then.
    if text(header::IF_RANGE).is_some_and(|tag| tag.trim() != etag) || range.contains(',') {
        return Ok(None);
    }
    let Some((first, last)) = range.trim().split_once('-') else { return Ok(None) };
    let unsatisfiable = Refusal::RangeNotSatisfiable { bytes: total };
    // RFC 9110 §14.1.1: digits, and no `+` before them.
    if !range.bytes().all(|b| b.is_ascii_digit() || b == b'-' || b.is_ascii_whitespace()) {
        return Ok(None);
    }
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
        for ignored in ["bytes=", "bytes=5-2", "bytes=a-b", "bytes=+1-2", "bytes=-+2", "bytes=0-1,3-4", "lines=1-2"] {
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
