//! What a browser lets a page of another origin do.

use reqwest::Method;

use super::site::Site;
use crate::doctor::net::cors::{allows, header};
use crate::doctor::report::Verdict;

/// What a chunk is sent with.
const SENT: [&str; 4] = ["authorization", "content-type", "x-file-id", "x-chunk-index"];
/// What uploaders read.
const READ: [&str; 4] = ["ETag", "Retry-After", "Location", "X-Request-Id"];

/// Asks as a browser asks, and looks at an answer as it does.
pub(super) async fn check(site: &Site, origin: Option<&str>) -> Verdict {
    let Some(origin) = origin else {
        return Verdict::skipped("no page is named: try --origin https://app.example.com");
    };
    let preflight = site.request(Method::OPTIONS, "/chunks").header("origin", origin);
    let preflight = preflight
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", SENT.join(", "));
    let why = "the browser keeps the page from uploading; the page sees a network error without a status";
    let answer = match site.ask(preflight).await {
        Ok(answer) => answer,
        Err(error) => return Verdict::failed(format!("the preflight is not answered: {error}"), why, pass_on()),
    };
    if answer.code() == "cors_origin_not_allowed" {
        return Verdict::failed(
            format!("the gateway does not allow {origin}"),
            why,
            format!("cors.allowed_origins = [\"{origin}\"]"),
        );
    }
    let status = http::StatusCode::from_u16(answer.status).unwrap_or_default();
    if let Err(wrong) = allows(status, &answer.headers, origin, "PUT", &SENT) {
        return Verdict::failed(wrong, why, pass_on());
    }
    let plain = site.request(Method::GET, "/healthz").header("origin", origin);
    match site.ask(plain).await {
        Ok(answer) => readable(&answer.headers, origin),
        Err(error) => Verdict::failed(error, why, pass_on()),
    }
}

fn pass_on() -> String {
    "let the gateway answer OPTIONS, and add no Access-Control header in front of it (no add_header Access-Control-…; no \
     CORS policy of the CDN); which pages may call it is cors.allowed_origins"
        .to_owned()
}

fn readable(headers: &http::HeaderMap, origin: &str) -> Verdict {
    let why = "the answer comes, and the browser shows the page nothing of it";
    if headers.get_all("access-control-allow-origin").iter().count() > 1 {
        return Verdict::failed("answers have Access-Control-Allow-Origin twice: two servers add it", why, pass_on());
    }
    let allowed = header(headers, "access-control-allow-origin");
    if allowed != "*" && allowed != origin {
        return Verdict::failed(format!("answers allow {allowed:?}, not {origin}"), why, pass_on());
    }
    let exposed = header(headers, "access-control-expose-headers").to_ascii_lowercase();
    let hidden: Vec<&str> = READ.into_iter().filter(|name| !exposed.contains(&name.to_ascii_lowercase())).collect();
    if !hidden.is_empty() {
        let what = format!("answers do not expose {} to the page", hidden.join(", "));
        return Verdict::failed(what, "uploaders cannot read what they go by", pass_on());
    }
    Verdict::ok(format!("a page of {origin} may upload, and reads what it needs"))
}
