//! What every request and every answer goes through: an id, the guard, CORS,
//! the problem document, a line in the log, a number in the metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use tracing::field::Empty;
use tracing::{Instrument as _, Level, debug, info, info_span, warn};

use crate::domain::Refusal;
use crate::http::Api;
use crate::http::auth::guard;
use crate::http::problem::{Problem, render};

/// How much of a path is logged.
const LOGGED_PATH_BYTES_MAX: usize = 256;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The outermost layer of the public listener.
pub async fn around(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let id = request_id(&api, &request);
    let span =
        info_span!("request", id = %id, method = %request.method(), path = %shown(request.uri().path()), key = Empty);
    let began = api.engine.clock().monotonic();
    let (method, origin) = (request.method().clone(), request.headers().get(header::ORIGIN).cloned());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let body = std::mem::take(request.body_mut());
    *request.body_mut() = api.lingering.wrap(request.headers(), body);
    let mut answer = inner(&api, request, next).instrument(span.clone()).await;
    if let Some(Problem { refusal, cause }) = answer.extensions_mut().remove::<Problem>() {
        render(&refusal, &id, &mut answer);
        let code = refusal.code();
        let _entered = span.enter();
        let (status, detail) = (answer.status().as_u16(), refusal.detail());
        match cause {
            Some(cause) => warn!(code, status, %cause, "request failed"),
            None => info!(code, status, detail, "refused"),
        }
    }
    if let Ok(value) = HeaderValue::try_from(id.as_ref()) {
        answer.headers_mut().insert(REQUEST_ID.clone(), value);
    }
    api.cors.permit(origin.as_ref(), answer.headers_mut());
    let took = api.engine.clock().monotonic().saturating_sub(began);
    count(&method, route.as_deref().unwrap_or("none"), answer.status(), took);
    if tracing::enabled!(Level::DEBUG) {
        let _entered = span.enter();
        debug!(status = answer.status().as_u16(), ms = took.as_millis(), "answered");
    }
    answer
}

async fn inner(api: &Api, request: Request, next: Next) -> Response {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    // HTTP/1.0 may do without; two are none in any version.
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        let mut refusal =
            Problem::from(Refusal::invalid("a request has one Host header (RFC 9112 §3.2)")).into_response();
        // Who writes no head that is one may not have ended it where we think.
        refusal.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return refusal;
    }
    if let Some(answer) = api.cors.preflight(&request) {
        return answer;
    }
    // Probes come with whatever Host the orchestrator has.
    let is_probe = matches!(request.uri().path(), "/livez" | "/readyz" | "/healthz");
    if !is_probe && let Err(refusal) = guard(&api.access, request.headers(), api.port, &api.cors_config) {
        return Problem::from(refusal).into_response();
    }
    let is_options = request.method() == Method::OPTIONS;
    let answer = next.run(request).await;
    // What a resource can be asked for (RFC 9110 §9.3.7): the router adds `Allow` to this as it does to a refusal.
    if is_options && answer.status() == StatusCode::METHOD_NOT_ALLOWED {
        return StatusCode::NO_CONTENT.into_response();
    }
    answer
}

/// As much of a path as a log line takes.
fn shown(path: &str) -> &str {
    &path[..path.floor_char_boundary(LOGGED_PATH_BYTES_MAX)]
}

/// A client's own id, if it is one that fits a log line; else 128 random bits.
fn request_id(api: &Api, request: &Request<Body>) -> Arc<str> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let given = request.headers().get(&REQUEST_ID).map(HeaderValue::as_bytes);
    match given.filter(|id| (1..=64).contains(&id.len()) && id.iter().all(plain)) {
        Some(id) => String::from_utf8_lossy(id).as_ref().into(),
        None => format!("{:032x}", api.engine.clock().random()).into(),
    }
}

fn count(method: &Method, route: &str, status: StatusCode, took: Duration) {
    // A client may invent methods; each would be a series of its own, for ever.
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let method = known.into_iter().find(|known| *known == method.as_str()).unwrap_or("other");
    let (route, status) = (route.to_owned(), status.as_str().to_owned());
    metrics::histogram!("chunkgate_http_request_seconds", "method" => method, "route" => route.clone())
        .record(took.as_secs_f64());
    metrics::counter!("chunkgate_http_requests_total", "method" => method, "route" => route, "status" => status)
        .increment(1);
}

/// A handler that panicked: the process lives, the client gets 500.
pub fn panicked(reason: Box<dyn std::any::Any + Send>) -> Response {
    let text = reason.downcast_ref::<String>().map(String::as_str).or_else(|| reason.downcast_ref::<&str>().copied());
    tracing::error!(reason = text.unwrap_or("unknown"), "a handler panicked");
    Problem::from(Refusal::Internal).into_response()
}

/// What panicked around a handler, perhaps before the request had an id: the
/// document is written here.
pub fn panicked_around(reason: Box<dyn std::any::Any + Send>) -> Response {
    const NO_ID: &str = "none";
    let mut answer = panicked(reason);
    render(&Refusal::Internal, NO_ID, &mut answer);
    answer.headers_mut().insert(REQUEST_ID.clone(), HeaderValue::from_static(NO_ID));
    answer
}
