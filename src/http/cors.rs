//! Cross-origin requests. The headers stand on every answer to an allowed
//! origin, refusals and 503 included: a page can only read what they permit.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};

use crate::domain::Refusal;
use crate::http::config::CorsConfig;
use crate::http::problem::Problem;

const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
const EXPOSED: &str = "ETag, Retry-After, Content-Range, Content-Disposition, Accept-Ranges, Location, X-Request-Id";
const REQUEST_HEADERS: &str = "authorization, content-type, content-digest, content-md5, x-checksum-crc64, x-file-id, \
     x-chunk-index, x-request-id, x-requested-with, cache-control, range, if-match, if-none-match, if-modified-since, \
     if-unmodified-since, if-range, traceparent";
const MAX_AGE_SECONDS: u32 = 7200;

/// Whether a pattern of `cors.allowed_origins` allows this origin.
pub fn origin_matches(pattern: &str, origin: &str) -> bool {
    if pattern == "*" || pattern == origin {
        return true;
    }
    let Some((scheme, domain)) = pattern.split_once("://*.") else { return false };
    let Some(host) = origin.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://")) else { return false };
    // One or more whole labels before the domain, and nothing that is not a label.
    let labels = host.strip_suffix(domain).and_then(|labels| labels.strip_suffix('.'));
    labels.is_some_and(|labels| {
        !labels.is_empty()
            && labels.split('.').all(|label| {
                !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            })
    })
}

/// What cross-origin requests are told, worked out once.
#[derive(Clone, Debug)]
pub struct Cors {
    origins: Vec<String>,
    request_headers: HeaderValue,
}

impl Cors {
    /// From configuration.
    pub fn new(config: &CorsConfig) -> Self {
        let mut allowed = REQUEST_HEADERS.to_owned();
        for name in &config.allowed_headers {
            allowed.push_str(", ");
            allowed.push_str(&name.to_ascii_lowercase());
        }
        let request_headers =
            HeaderValue::try_from(allowed).unwrap_or_else(|_| HeaderValue::from_static(REQUEST_HEADERS));
        Self { origins: config.allowed_origins.clone(), request_headers }
    }

    /// The answer to a preflight; none for all else.
    pub fn preflight(&self, request: &Request<Body>) -> Option<Response> {
        let headers = request.headers();
        if request.method() != Method::OPTIONS || !headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
            return None;
        }
        let origin = headers.get(header::ORIGIN)?;
        let mut answer = StatusCode::NO_CONTENT.into_response();
        if !self.allows(origin) {
            let origin = String::from_utf8_lossy(origin.as_bytes()).chars().take(200).collect::<String>();
            return Some(Problem::from(Refusal::CorsOriginNotAllowed { origin }).into_response());
        }
        let granted = answer.headers_mut();
        granted.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        granted.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, self.request_headers.clone());
        granted.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(MAX_AGE_SECONDS));
        if headers.contains_key("access-control-request-private-network") {
            granted.insert(
                HeaderName::from_static("access-control-allow-private-network"),
                HeaderValue::from_static("true"),
            );
        }
        Some(answer)
    }

    /// Permits the page that asked to read the answer.
    pub fn permit(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if self.origins.is_empty() {
            return;
        }
        // Caches must not hand one origin's permission to another.
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin.filter(|origin| self.allows(origin)) else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        self.origins.iter().any(|pattern| origin_matches(pattern, origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_match_exactly_or_by_whole_labels() {
        assert!(origin_matches("https://app.example.com", "https://app.example.com"));
        assert!(origin_matches("https://*.example.com", "https://a.b.example.com"));
        assert!(origin_matches("*", "https://anything"));
        for (pattern, origin) in [
            ("https://good.com", "https://good.com.evil"),
            ("https://good.com", "http://good.com"),
            ("https://*.example.com", "https://example.com"),
            ("https://*.example.com", "https://evil-example.com"),
            ("https://*.example.com", "https://evil.com/.example.com"),
            ("https://*.example.com", "https://evil.com:1.example.com"),
            ("https://*.example.com", "http://a.example.com"),
            ("https://good.com", "null"),
        ] {
            assert!(!origin_matches(pattern, origin), "{pattern} {origin}");
        }
    }
}
