//! The web page at `/`: drop files, watch them go, reload, resume. It uses the
//! native API as any front end would, from plain ES modules that lie beside
//! this file and are built into the program.

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::domain::checksum::Crc64;

/// One file of the page.
struct Asset {
    path: &'static str,
    content_type: &'static str,
    body: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

const ASSETS: [Asset; 12] = [
    Asset { path: "/", content_type: HTML, body: include_str!("index.html") },
    Asset { path: "/page/page.css", content_type: CSS, body: include_str!("page.css") },
    Asset { path: "/page/icon.svg", content_type: SVG, body: include_str!("icon.svg") },
    Asset { path: "/page/app.js", content_type: SCRIPT, body: include_str!("app.js") },
    Asset { path: "/page/explain.js", content_type: SCRIPT, body: include_str!("explain.js") },
    Asset { path: "/page/row.js", content_type: SCRIPT, body: include_str!("row.js") },
    Asset { path: "/page/words.js", content_type: SCRIPT, body: include_str!("words.js") },
    Asset { path: "/page/uploader.js", content_type: SCRIPT, body: include_str!("uploader.js") },
    Asset { path: "/page/gateway.js", content_type: SCRIPT, body: include_str!("gateway.js") },
    Asset { path: "/page/session.js", content_type: SCRIPT, body: include_str!("session.js") },
    Asset { path: "/page/retry.js", content_type: SCRIPT, body: include_str!("retry.js") },
    Asset { path: "/page/records.js", content_type: SCRIPT, body: include_str!("records.js") },
];

/// Nothing but our own files, and no other page may frame this one: it can hold a key.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `/` and `/page/…`. They need no state, and no key: what they call does.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    ASSETS.iter().fold(Router::new(), |router, asset| {
        // An answer is the same until the program is another one, so its tag is its checksum.
        let etag = format!("\"{:016x}\"", Crc64::of(asset.body.as_bytes()).0);
        router.route(asset.path, get(move |headers: HeaderMap| async move { answer(asset, &etag, &headers) }))
    })
}

fn answer(asset: &Asset, etag: &str, request: &HeaderMap) -> Response {
    let headers = [
        // Asked about each time, for the modules of two versions do not mix.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::ETAG, HeaderValue::from_str(etag).unwrap_or(HeaderValue::from_static("\"\""))),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    if is_fresh(request.get(header::IF_NONE_MATCH), etag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, [(header::CONTENT_TYPE, asset.content_type)], asset.body).into_response()
}

/// Whether the client's copy is ours (RFC 9110 §13.1.2: compared weakly).
fn is_fresh(if_none_match: Option<&HeaderValue>, etag: &str) -> bool {
    if_none_match
        .and_then(|value| value.to_str().ok())
        .is_some_and(|tags| tags.split(',').map(|tag| tag.trim().trim_start_matches("W/")).any(|tag| tag == etag))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::domain::Refusal;

    async fn ask(path: &str, if_none_match: Option<&str>) -> (StatusCode, HeaderMap, String) {
        let mut request = Request::get(path);
        if let Some(tag) = if_none_match {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        let response = routes::<()>().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        (parts.status, parts.headers, text)
    }

    #[tokio::test]
    async fn the_page_is_served_with_its_policy() {
        let (status, headers, text) = ask("/", None).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers[header::CONTENT_TYPE], HTML);
        assert_eq!(headers[header::CONTENT_SECURITY_POLICY], POLICY);
        assert!(text.starts_with("<!doctype html>"));
    }

    #[tokio::test]
    async fn a_copy_that_is_ours_is_not_sent_again() {
        let (_, headers, _) = ask("/page/app.js", None).await;
        let tag = headers[header::ETAG].to_str().unwrap().to_owned();
        for tags in [tag.clone(), format!("\"other\", W/{tag}")] {
            let (status, headers, text) = ask("/page/app.js", Some(&tags)).await;
            assert_eq!(status, StatusCode::NOT_MODIFIED);
            assert_eq!(headers[header::ETAG], *tag);
            assert_eq!(text, "");
        }
        assert_eq!(ask("/page/app.js", Some("\"other\"")).await.0, StatusCode::OK);
    }

    /// The page has its own words for a refusal, in both languages; a code that
    /// there is not would be a slip of the pen.
    #[test]
    fn both_languages_explain_the_same_codes() {
        fn explained(language: &str) -> Vec<&str> {
            let codes = language.split_once("codes: {").and_then(|(_, rest)| rest.split_once("  },")).expect("codes").0;
            codes.lines().filter_map(|line| line.trim().split_once(':')).map(|(code, _)| code).collect()
        }
        let (english, chinese) = include_str!("words.js").split_once("const CHINESE").expect("two languages");
        assert_eq!(explained(english), explained(chinese));
        for code in explained(english) {
            assert!(Refusal::CODES.contains(&code), "{code}");
        }
    }

    /// What a file of the page names is served, too; and nothing that the policy forbids is in it.
    #[tokio::test]
    async fn every_file_that_is_named_is_there() {
        for asset in &ASSETS {
            assert!(!asset.body.contains("style=\""), "{}: the policy forbids inline styles", asset.path);
            let named = asset.body.split(['"', '\'']).filter_map(|text| match text.strip_prefix("./") {
                Some(module) => Some(format!("/page/{module}")),
                None => text.starts_with("/page/").then(|| text.to_owned()),
            });
            for path in named {
                assert_eq!(ask(&path, None).await.0, StatusCode::OK, "{path}, named in {}", asset.path);
            }
        }
    }
}
