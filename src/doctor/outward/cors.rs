//! The bucket's CORS rule, as a browser sees it that uploads straight to the store.

use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, CONTENT_TYPE, ORIGIN,
};
use http::{HeaderMap, Method};

use super::scratch::Scratch;
use crate::doctor::net::cors::{allows, header};
use crate::doctor::report::Verdict;
use crate::domain::PartNumber;
use crate::store::{SignedPut, Target};

const PATIENCE: Duration = Duration::from_secs(20);
const SIGNED_FOR: Duration = Duration::from_secs(300);
/// What is uploaded: too little for a part, so that it never becomes an object.
const CONTENT: &[u8] = b"chunkgate doctor";

/// Which pages are to upload.
pub(super) struct Pages<'a> {
    /// The one that was asked about.
    pub(super) origin: Option<&'a str>,
    /// `cors.allowed_origins`
    pub(super) allowed: &'a [String],
}

/// Asks as a browser asks, and uploads as a page does.
pub(super) async fn check(scratch: &Scratch, pages: Pages<'_>) -> Verdict {
    let plain = pages.allowed.iter().map(String::as_str).find(|origin| !origin.contains('*'));
    let Some(origin) = pages.origin.or(plain) else {
        return Verdict::skipped("no page is named: try --origin https://app.example.com");
    };
    let key = scratch.key("aborted");
    let session = match scratch.begin_direct(&key).await {
        Ok(session) => session,
        Err(error) => return Verdict::failed(error.to_string(), "no upload can begin", "try again"),
    };
    let target = Target { key: &key, session: &session };
    let put = match scratch.store.sign_part(target, PartNumber::FIRST, SIGNED_FOR).await {
        Ok(Some(put)) => put,
        Ok(None) => {
            return Verdict::skipped(
                "this store signs no URLs to put parts at: all bytes of uploads go through the gateway",
            );
        }
        Err(error) => return Verdict::failed(error.to_string(), "no part can be signed", "try again"),
    };
    let found = Box::pin(upload(&put, origin)).await;
    match found {
        Ok(()) => Verdict::ok(format!("a page of {origin} may PUT to the store, and read the ETag")),
        // Pages that upload through the gateway never ask the bucket.
        Err(wrong) if pages.origin.is_none() => Verdict::warning(
            wrong,
            "pages cannot upload straight to the store (POST /uploads/{fileId}/parts/sign); through the gateway they can",
            rule(origin, scratch.store.kind()),
        ),
        Err(wrong) => Verdict::failed(
            wrong,
            "the browser keeps the page from uploading, or from reading the answer",
            rule(origin, scratch.store.kind()),
        ),
    }
}

async fn upload(put: &SignedPut, origin: &str) -> Result<(), String> {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(PATIENCE);
    let client = client.build().map_err(|error| error.to_string())?;
    let told = |error: reqwest::Error| format!("the public endpoint is not reached: {}", error.without_url());
    let preflight = client.request(Method::OPTIONS, &put.url).header(ORIGIN, origin);
    let preflight = preflight
        .header(ACCESS_CONTROL_REQUEST_METHOD, "PUT")
        .header(ACCESS_CONTROL_REQUEST_HEADERS, CONTENT_TYPE.as_str());
    let answer = preflight.send().await.map_err(told)?;
    allows(answer.status(), answer.headers(), origin, "PUT", &[CONTENT_TYPE.as_str()])?;
    let mut request = client.put(&put.url).header(ORIGIN, origin).body(CONTENT);
    for (name, value) in &put.headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.map_err(told)?;
    exposes(answer.headers(), origin)
}

fn exposes(headers: &HeaderMap, origin: &str) -> Result<(), String> {
    let allowed = header(headers, ACCESS_CONTROL_ALLOW_ORIGIN.as_str());
    if allowed != "*" && allowed != origin {
        return Err(format!("the answer to PUT allows {allowed:?}, not {origin}"));
    }
    let exposed = header(headers, ACCESS_CONTROL_EXPOSE_HEADERS.as_str());
    let names_etag = exposed.split(',').any(|name| name.trim() == "*" || name.trim().eq_ignore_ascii_case("etag"));
    if names_etag { Ok(()) } else { Err(format!("the bucket's CORS rule exposes {exposed:?}, without ETag")) }
}

/// The rule that would do.
fn rule(origin: &str, kind: &str) -> String {
    let (console, exposed) = match kind {
        "s3" => ("Permissions, CORS", "ETag, x-amz-request-id"),
        _ => ("Content Security, CORS", "ETag, x-oss-request-id, x-oss-hash-crc64ecma"),
    };
    format!(
        "a CORS rule of the bucket (console: {console}): allowed origin {origin}; methods GET, PUT, POST, HEAD; allowed \
         headers *; exposed headers {exposed}; max age 600"
    )
}
