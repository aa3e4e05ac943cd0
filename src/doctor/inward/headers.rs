//! What of an answer gets lost on its way: the gateway's sample has every
//! header that uploaders live by.

use super::site::Answer;
use crate::doctor::net::cors::header;
use crate::doctor::report::Verdict;

/// What each is for.
const NEEDED: [(&str, &str); 4] = [
    ("Retry-After", "uploaders do not know when to come back, and come at once or never"),
    ("X-Request-Id", "nobody finds a user's failed request in the log"),
    ("ETag", "downloads do not resume, and uploads straight to the store cannot be told complete"),
    ("Location", "clients of resumable protocols do not find their upload"),
];

/// Looks at the sample.
pub(super) fn judge(sample: &Answer) -> Verdict {
    if sample.code() != "overloaded" {
        return Verdict::failed(
            format!("a refusal (503) comes as somebody else's page: status {}, no code in it", sample.status),
            "uploaders read code and Retry-After from the gateway's own answer: they give up where they should wait",
            "proxy_intercept_errors off;   and no error_page for 4xx and 5xx of the API",
        );
    }
    let lost: Vec<_> =
        NEEDED.iter().filter(|(name, _)| header(&sample.headers, &name.to_ascii_lowercase()).is_empty()).collect();
    if lost.is_empty() {
        return Verdict::ok("Retry-After, X-Request-Id, ETag and Location come through");
    }
    let names = lost.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let whys = lost.iter().map(|(_, why)| *why).collect::<Vec<_>>();
    Verdict::failed(
        format!("{} does not come through", names.join(", ")),
        whys.join("; "),
        format!(
            "remove what hides it (proxy_hide_header {}; in nginx, a response-header policy of the CDN), or add \
             proxy_pass_header {};",
            names[0], names[0]
        ),
    )
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use serde_json::json;

    use super::*;
    use crate::doctor::report::Status;

    #[test]
    fn what_is_lost_is_named() {
        let sample = |names: &[&'static str], code: &str| {
            let headers: HeaderMap =
                names.iter().map(|name| (http::HeaderName::from_static(name), HeaderValue::from_static("x"))).collect();
            Answer { status: 503, headers, json: json!({"code": code}) }
        };
        let all = ["retry-after", "x-request-id", "etag", "location"];
        assert_eq!(judge(&sample(&all, "overloaded")).status, Status::Ok);
        let lost = judge(&sample(&all[1..], "overloaded"));
        assert!(lost.what.starts_with("Retry-After") && lost.fix.contains("proxy_hide_header Retry-After"), "{lost:?}");
        assert!(judge(&sample(&all, "")).fix.contains("proxy_intercept_errors"));
    }
}
