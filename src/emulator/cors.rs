//! Browsers that upload straight to the store: what the bucket's CORS rules
//! let them do. Pure. Nothing here is authorized by cookies.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN, VARY,
};
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;

use super::call::set;
use super::error::OssError;

/// One `CORSRule`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Rule {
    #[serde(rename = "AllowedOrigin")]
    origins: Vec<String>,
    #[serde(rename = "AllowedMethod")]
    methods: Vec<String>,
    #[serde(rename = "AllowedHeader", default)]
    headers: Vec<String>,
    #[serde(rename = "ExposeHeader", default)]
    exposed: Vec<String>,
    max_age_seconds: Option<u32>,
}

/// Reads `CORSConfiguration`.
pub(crate) fn rules(document: &str) -> Option<Vec<Rule>> {
    #[derive(Deserialize)]
    struct CorsConfiguration {
        #[serde(rename = "CORSRule", default)]
        rules: Vec<Rule>,
    }
    quick_xml::de::from_str(document).ok().map(|CorsConfiguration { rules }| rules)
}

impl Rule {
    fn allows(&self, origin: &str, method: &str) -> bool {
        self.origins.iter().any(|pattern| fits(pattern, origin)) && self.methods.iter().any(|m| m == method)
    }

    fn allows_headers(&self, names: &str) -> bool {
        let mut names = names.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty());
        names.all(|name| self.headers.iter().any(|pattern| fits(&pattern.to_ascii_lowercase(), &name)))
    }

    /// The origin as the answer names it.
    fn allowed_origin<'a>(&self, origin: &'a str) -> &'a str {
        if self.origins.iter().any(|pattern| pattern == "*") { "*" } else { origin }
    }
}

/// A pattern has one `*` at most, which stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => {
            text.len() >= before.len() + after.len() && text.starts_with(before) && text.ends_with(after)
        }
    }
}

/// The answer's headers to a preflight, which is never signed; none if it is
/// not one.
pub(crate) fn preflight(method: &Method, headers: &HeaderMap, rules: &[Rule]) -> Option<Result<HeaderMap, OssError>> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let (origin, asked) = (text(ORIGIN)?, text(ACCESS_CONTROL_REQUEST_METHOD)?);
    if method != Method::OPTIONS {
        return None;
    }
    let names = text(ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default();
    let Some(rule) = rules.iter().find(|rule| rule.allows(origin, asked) && rule.allows_headers(names)) else {
        return Some(Err(forbidden(rules)));
    };
    let mut answer = HeaderMap::new();
    set(&mut answer, ACCESS_CONTROL_ALLOW_ORIGIN, rule.allowed_origin(origin));
    set(&mut answer, ACCESS_CONTROL_ALLOW_METHODS, rule.methods.join(", "));
    if !names.is_empty() {
        set(&mut answer, ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    if let Some(seconds) = rule.max_age_seconds {
        set(&mut answer, ACCESS_CONTROL_MAX_AGE, seconds.to_string());
    }
    set(&mut answer, VARY, "Origin");
    Some(Ok(answer))
}

fn forbidden(rules: &[Rule]) -> OssError {
    let message = match rules {
        [] => "CORSResponse: CORS is not enabled for this bucket.",
        _ => {
            "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, request \
             method / Access-Control-Request-Method or Access-Control-Requet-Headers are not whitelisted by the \
             resource's CORS spec."
        }
    };
    OssError::new(StatusCode::FORBIDDEN, "AccessForbidden", message)
}

/// What the page may read, on every answer that a page asked for.
pub(crate) fn expose(answer: &mut HeaderMap, origin: &str, method: &Method, rules: &[Rule]) {
    let Some(rule) = rules.iter().find(|rule| rule.allows(origin, method.as_str())) else { return };
    set(answer, ACCESS_CONTROL_ALLOW_ORIGIN, rule.allowed_origin(origin));
    if !rule.exposed.is_empty() {
        set(answer, ACCESS_CONTROL_EXPOSE_HEADERS, rule.exposed.join(", "));
    }
    set(answer, VARY, "Origin");
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const RULES: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://*.example</AllowedOrigin>\
        <AllowedMethod>PUT</AllowedMethod><AllowedMethod>GET</AllowedMethod><AllowedHeader>x-oss-*</AllowedHeader>\
        <AllowedHeader>Content-Type</AllowedHeader><ExposeHeader>ETag</ExposeHeader><ExposeHeader>x-oss-ec</ExposeHeader>\
        <MaxAgeSeconds>7</MaxAgeSeconds></CORSRule></CORSConfiguration>";

    fn asked(origin: &'static str, method: &'static str, names: &'static str) -> Result<HeaderMap, OssError> {
        let headers = HeaderMap::from_iter([
            (ORIGIN, HeaderValue::from_static(origin)),
            (ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static(method)),
            (ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static(names)),
        ]);
        preflight(&Method::OPTIONS, &headers, &rules(RULES).expect("rules")).expect("a preflight")
    }

    #[test]
    fn a_rule_lets_in_what_it_says() {
        let answer = asked("https://app.example", "PUT", "X-Oss-Meta-A, content-type").expect("allowed");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example");
        assert_eq!(answer[ACCESS_CONTROL_MAX_AGE], "7");
        for (origin, method, names) in [
            ("https://app.example.org", "PUT", ""),
            ("http://app.example", "PUT", ""),
            ("https://app.example", "POST", ""),
            ("https://app.example", "PUT", "authorization"),
        ] {
            let refused = asked(origin, method, names).expect_err(origin);
            assert_eq!((refused.status.as_u16(), refused.code), (403, "AccessForbidden"));
        }
        assert!(preflight(&Method::OPTIONS, &HeaderMap::new(), &[]).is_none());
    }

    #[test]
    fn answers_expose_what_the_rule_exposes() {
        let (mut answer, rules) = (HeaderMap::new(), rules(RULES).expect("rules"));
        expose(&mut answer, "https://app.example", &Method::POST, &rules);
        assert!(answer.is_empty());
        expose(&mut answer, "https://app.example", &Method::GET, &rules);
        assert_eq!(answer[ACCESS_CONTROL_EXPOSE_HEADERS], "ETag, x-oss-ec");
    }
}
