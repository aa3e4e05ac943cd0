//! Pages of other sites, and cookies: what a browser sends along by itself
//! opens nothing here.

use reqwest::Method;

use super::{is_untouched, send};
use crate::access::{KEY, TOKENS};
use crate::harness::{Answer, Gateway, On};
use crate::openapi::contract::{Contract, chunk_fields, with_form};

const ORIGINS: [&str; 12] = [
    "null",
    "https://good.com.evil",
    "https://evil-good.com",
    "https://good.com:444",
    "https://good.com/",
    "https://GOOD.com.",
    "http://good.com",
    "https://good.com https://evil.com",
    "https://good.com@evil.com",
    "https://a.wild.com.evil",
    "https://wild.com",
    "file://",
];

/// A page may read nothing of it.
fn is_closed(answer: &Answer, shown: &str) {
    for name in ["access-control-allow-origin", "access-control-allow-credentials", "set-cookie"] {
        assert!(!answer.headers.contains_key(name), "{shown}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_opens_nothing_and_a_foreign_page_reads_nothing() {
    let cors = [("CORS__ALLOWED_ORIGINS", "https://good.com,https://*.wild.com")];
    let gateway = Gateway::start_with(On::FileAndSqlite, &[&TOKENS[..], &cors].concat()).await;
    let contract = Contract::read();
    for operation in contract.operations().into_iter().filter(|operation| !operation.path.starts_with("/admin")) {
        for origin in ORIGINS {
            let request = operation.sample(&gateway).header("Origin", origin).header("Sec-Fetch-Site", "cross-site");
            let cookies = format!("token={KEY}; Authorization=Bearer {KEY}; session=1");
            let answer = send(request.header("Cookie", cookies)).await;
            let shown = format!("{} from {origin}", operation.id);
            is_closed(&answer, &shown);
            match operation.path {
                "/livez" | "/readyz" | "/healthz" => assert_ne!(answer.status, 401, "{shown}: {answer:?}"),
                // Whoever calls it shows the store's own signature; here nobody is expected to.
                "/callbacks/oss" => assert_eq!(answer.status, 404, "{shown}: {answer:?}"),
                _ => assert_eq!(answer.status, 401, "{shown}: {answer:?}"),
            }
        }
    }
    // Neither with a key: the page that was not allowed cannot read the answer.
    for origin in ORIGINS {
        let request = gateway.request(Method::GET, "/uploads").bearer_auth(KEY).header("Origin", origin);
        let answer = send(request).await;
        assert_eq!(answer.status, 200);
        is_closed(&answer, origin);
        assert_eq!(answer.headers["vary"], "Origin");
        let preflight = gateway.request(Method::OPTIONS, "/chunks").header("Origin", origin);
        let preflight = send(preflight.header("Access-Control-Request-Method", "PUT")).await;
        preflight.is_refused(403, "cors_origin_not_allowed");
        is_closed(&preflight, origin);
    }
}

/// `*` lets every page read, and none with what its user is known by.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_never_allowed() {
    for allowed in ["*", "https://good.com"] {
        let cors = [("CORS__ALLOWED_ORIGINS", allowed)];
        let gateway = Gateway::start_with(On::FileAndSqlite, &[&TOKENS[..], &cors].concat()).await;
        for method in [Method::OPTIONS, Method::GET, Method::POST] {
            let request = gateway.request(method, "/uploads").header("Origin", "https://good.com");
            let answer = send(request.header("Access-Control-Request-Method", "POST")).await;
            assert!(answer.headers.contains_key("access-control-allow-origin"), "{answer:?}");
            assert!(!answer.headers.contains_key("access-control-allow-credentials"), "{answer:?}");
        }
    }
}

/// Without authentication any page could post a form to this machine.
#[tokio::test(flavor = "multi_thread")]
async fn without_authentication_a_foreign_page_does_nothing() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let own = gateway.address.to_string();
    let rebound = [
        format!("evil.com:{}", gateway.address.port()),
        format!("127.0.0.1.evil.com:{}", gateway.address.port()),
        format!("0.0.0.0:{}", gateway.address.port()),
        "127.0.0.1".to_owned(),
        "localhost:1".to_owned(),
        format!("user@127.0.0.1:{}", gateway.address.port()),
    ];
    let contract = Contract::read();
    let guarded = contract.operations().into_iter().filter(|operation| {
        !["/livez", "/readyz", "/healthz"].contains(&operation.path) && !operation.path.starts_with("/admin")
    });
    for operation in guarded {
        let hosts = rebound.iter().map(|host| (host.as_str(), None));
        let origins = ORIGINS.into_iter().map(|origin| (own.as_str(), Some(origin)));
        for (host, origin) in hosts.chain(origins) {
            let request = operation.sample(&gateway).header("Host", host);
            let request = origin.into_iter().fold(request, |request, origin| request.header("Origin", origin));
            let answer = send(request).await;
            let shown = format!("{} {host} {origin:?}", operation.id);
            assert_eq!(answer.status, 403, "{shown}: {answer:?}");
            is_closed(&answer, &shown);
        }
    }
    // As a `<form>` of another site sends it: no preflight comes before.
    for (mime, body) in [
        ("text/plain", "{\"fileName\":\"a\",\"fileSize\":0,\"x\":\"=\"}"),
        ("application/x-www-form-urlencoded", "{\"fileName\":\"a\",\"fileSize\":0}"),
    ] {
        let request = gateway.request(Method::POST, "/uploads").header("Origin", "https://evil.com");
        send(request.header("Content-Type", mime).body(body)).await.is_refused(403, "origin_not_allowed");
    }
    let form = with_form(gateway.request(Method::POST, "/chunks"), &chunk_fields("a", "0", "1"), b"hello");
    send(form.header("Origin", "null")).await.is_refused(403, "origin_not_allowed");
    is_untouched(&gateway).await;
    // The admin listener likewise.
    for path in ["/admin/events", "/admin/uploads", "/metrics"] {
        let page = gateway.admin_request(Method::GET, path).header("Origin", "https://evil.com");
        send(page).await.is_refused(403, "origin_not_allowed");
        let rebound = gateway.admin_request(Method::GET, path).header("Host", "evil.com");
        send(rebound).await.is_refused(403, "origin_not_allowed");
    }
}
