//! What a browser reads in an answer to a preflight (Fetch §4.8): pure.

use http::{HeaderMap, StatusCode};

/// A header's value, or nothing.
pub(in crate::doctor) fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Whether a page of `origin` may then send `method` with these headers; if
/// not, why.
pub(in crate::doctor) fn allows(
    status: StatusCode,
    headers: &HeaderMap,
    origin: &str,
    method: &str,
    names: &[&str],
) -> Result<(), String> {
    if headers.get_all("access-control-allow-origin").iter().count() > 1 {
        return Err("the preflight's answer has Access-Control-Allow-Origin twice: two servers add it".to_owned());
    }
    let allowed = header(headers, "access-control-allow-origin");
    if !status.is_success() || allowed.is_empty() {
        return Err(format!("the preflight (OPTIONS) is answered {status} and allows {origin} nothing"));
    }
    if allowed != "*" && allowed != origin {
        return Err(format!("the preflight allows {allowed}, not {origin}"));
    }
    let has = |list: &str, wanted: &str| {
        let mut listed = header(headers, list).split(',').map(str::trim);
        listed.any(|item| item.eq_ignore_ascii_case(wanted) || (item == "*" && wanted != "authorization"))
    };
    if !has("access-control-allow-methods", method) {
        return Err(format!("the preflight does not allow {method} to {origin}"));
    }
    match names.iter().find(|name| !has("access-control-allow-headers", name)) {
        Some(name) => Err(format!("the preflight does not allow the header {name} to {origin}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const ORIGIN: &str = "https://app.example.com";

    fn judged(status: u16, pairs: &[(&'static str, &'static str)]) -> Result<(), String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        allows(
            StatusCode::from_u16(status).expect("a status"),
            &headers,
            ORIGIN,
            "PUT",
            &["content-type", "authorization"],
        )
    }

    #[test]
    fn a_preflight_is_read_as_browsers_do() {
        let origin = ("access-control-allow-origin", ORIGIN);
        let methods = ("access-control-allow-methods", "GET, PUT");
        let headers = ("access-control-allow-headers", "Content-Type, Authorization");
        assert_eq!(judged(204, &[origin, methods, headers]), Ok(()));
        for (status, pairs, says) in [
            (403, vec![origin, methods, headers], "403"),
            (200, vec![], "allows https://app.example.com nothing"),
            (204, vec![origin, origin, methods, headers], "twice"),
            (204, vec![("access-control-allow-origin", "https://other"), methods, headers], "https://other"),
            (204, vec![origin, headers], "does not allow PUT"),
            (204, vec![origin, methods, ("access-control-allow-headers", "*")], "header authorization"),
        ] {
            assert!(judged(status, &pairs).is_err_and(|error| error.contains(says)), "{says}");
        }
    }
}
