//! Tokens, what they lock in, and rates: with gateways of their own.

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use super::contract::{Contract, Operation, chunk_fields, stalled, with_form};
use super::outages::{BREAK, Link, all, execute};
use crate::access::{KEY, TOKENS};
use crate::harness::{Answer, Gateway, On, free_address};
use crate::postgres;

const REFRESH: &str = "/auth/refresh";

struct Asking<'a> {
    contract: &'a Contract,
    gateway: &'a Gateway,
}

impl Asking<'_> {
    fn of_tokens(&self) -> Vec<Operation<'_>> {
        self.contract.operations().into_iter().filter(Operation::is_of_tokens).collect()
    }

    fn post(&self, path: &str) -> RequestBuilder {
        let request = self.gateway.request(Method::POST, path);
        if path == "/auth/tokens" { request.bearer_auth(KEY) } else { request }
    }

    async fn log_in(&self, body: Value) -> Value {
        let answer = self.contract.ask("/auth/tokens", self.post("/auth/tokens").json(&body)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json
    }

    async fn refresh(&self, token: &Value, device: Option<&str>) -> Answer {
        let body = json!({"refreshToken": token, "deviceId": device});
        self.contract.ask(REFRESH, self.post(REFRESH).json(&body)).await
    }
}

pub(super) async fn story(contract: &Contract) {
    let short = [
        ("AUTH__ACCESS_TTL", "5s"),
        ("AUTH__REFRESH_TTL", "8s"),
        ("LIMITS__BODY_IDLE_TIMEOUT", "1s"),
        ("LIMITS__QUOTA_BYTES", "100"),
    ];
    let gateway = Gateway::start_with(On::FileAndSqlite, &[&TOKENS[..], &short].concat()).await;
    let asking = Asking { contract, gateway: &gateway };
    answers(&asking).await;
    tokio::join!(
        Box::pin(logins(&asking)),
        Box::pin(terms(&asking)),
        Box::pin(rates(contract)),
        Box::pin(issuer(contract))
    );
    // Without tokens there are none to be had.
    let without = Gateway::start(On::FileAndSqlite).await;
    for operation in asking.of_tokens() {
        contract.ask(operation.path, operation.sample(&without)).await.is_refused(501, "not_supported");
    }
}

/// What all three answer.
async fn answers(asking: &Asking<'_>) {
    for operation in asking.of_tokens() {
        let (contract, path) = (asking.contract, operation.path);
        contract.ask(path, asking.post(path).body("{")).await.is_refused(400, "invalid_request");
        let large = format!("{{\"a\": \"{}\"}}", "a".repeat(70_000));
        contract.ask(path, asking.post(path).body(large)).await.is_refused(413, "metadata_too_large");
        contract.ask(path, stalled(asking.post(path), b"{\"a\": 1}".to_vec())).await.is_refused(408, "body_timeout");
    }
}

async fn logins(asking: &Asking<'_>) {
    let first = asking.log_in(json!({"subject": "u1", "deviceId": "phone"})).await;
    asking.refresh(&first["refreshToken"], None).await.is_refused(401, "device_mismatch");
    asking.refresh(&json!("nonsense"), None).await.is_refused(401, "token_malformed");
    let second = asking.refresh(&first["refreshToken"], Some("phone")).await;
    assert_eq!(second.status, 200);
    let list = |token: &Value| {
        let request = asking.gateway.request(Method::GET, "/uploads").bearer_auth(token.as_str().expect("a token"));
        asking.contract.ask("/uploads", request)
    };
    assert_eq!(list(&second.json["accessToken"]).await.status, 200);
    asking.refresh(&first["refreshToken"], Some("laptop")).await.is_refused(401, "token_reused");
    list(&second.json["accessToken"]).await.is_refused(401, "token_revoked");
    list(&json!("a.b.c")).await.is_refused(401, "token_malformed");
    let revoke = |token: &Value| {
        let body = json!({"refreshToken": token});
        asking.contract.ask("/auth/revoke", asking.post("/auth/revoke").json(&body))
    };
    let other = asking.log_in(json!({"subject": "u1"})).await;
    assert_eq!(revoke(&other["refreshToken"]).await.status, 204);
    revoke(&json!("nonsense")).await.is_refused(401, "token_malformed");
    let late = asking.log_in(json!({"subject": "u1"})).await;
    tokio::time::sleep(Duration::from_millis(8100)).await;
    list(&late["accessToken"]).await.is_refused(401, "token_expired");
    asking.refresh(&late["refreshToken"], None).await.is_refused(401, "token_expired");
    let tokens = asking.gateway.request(Method::POST, "/auth/tokens").json(&json!({"subject": "u1"}));
    asking.contract.ask("/auth/tokens", tokens).await.is_refused(401, "unauthorized");
}

async fn terms(asking: &Asking<'_>) {
    let tokens = asking.log_in(json!({"subject": "u2", "allowedTypes": ["image/png"]})).await;
    let token = tokens["accessToken"].as_str().expect("a token");
    let create = |name: &str, bytes: u64| {
        let body = json!({"fileName": name, "fileSize": bytes});
        asking.contract.ask("/uploads", asking.gateway.request(Method::POST, "/uploads").bearer_auth(token).json(&body))
    };
    create("a.exe", 1).await.is_refused(415, "type_not_allowed");
    create("a.png", 101).await.is_refused(413, "quota_exceeded");
    let delete = asking.gateway.request(Method::DELETE, "/files/f").bearer_auth(token);
    asking.contract.ask("/files/{fileId}", delete).await.is_refused(403, "insufficient_scope");
    let tokens =
        asking.gateway.request(Method::POST, "/auth/tokens").bearer_auth(token).json(&json!({"subject": "u1"}));
    asking.contract.ask("/auth/tokens", tokens).await.is_refused(403, "insufficient_scope");
}

/// Every operation that asks who is calling has its rate, and so have guesses.
async fn rates(contract: &Contract) {
    let rates = [("LIMITS__RATE", "1/h"), ("AUTH__REFRESH_RATE", "1/h")];
    let gateway = Gateway::start_with(On::FileAndSqlite, &[&TOKENS[..], &rates].concat()).await;
    // The listeners count apart: who administrates does not wait for who uploads.
    let once = [gateway.request(Method::GET, "/uploads"), gateway.admin_request(Method::GET, "/admin/uploads")];
    for request in once {
        assert_eq!(Answer::of(request.bearer_auth(KEY).send().await).await.status, 200);
    }
    for operation in contract.operations().into_iter().filter(Operation::is_guarded) {
        let answer = contract.ask(operation.path, operation.sample(&gateway).bearer_auth(KEY)).await;
        assert_eq!(answer.status, 429, "{}: {answer:?}", operation.id);
    }
    for operation in
        contract.operations().into_iter().filter(|operation| !operation.is_guarded() && operation.is_of_tokens())
    {
        // The first is one of nobody, the next is one too many.
        let mut last = contract.ask(operation.path, operation.sample(&gateway)).await;
        if last.status == 401 {
            last = contract.ask(operation.path, operation.sample(&gateway)).await;
        }
        last.is_refused(429, "rate_limited");
    }
}

/// The application's issuer cannot be asked for its keys.
async fn issuer(contract: &Contract) {
    let url = format!("http://{}/jwks.json", free_address());
    let settings = [("AUTH__MODE", "jwt"), ("AUTH__JWT__ALGORITHMS", "RS256"), ("AUTH__JWT__JWKS_URL", url.as_str())];
    let gateway = Gateway::start_with(On::FileAndSqlite, &settings).await;
    let token = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.e30.c2lnbmF0dXJl";
    let request = gateway.request(Method::GET, "/files").bearer_auth(token);
    contract.ask("/files", request).await.is_refused(503, "issuer_unavailable");
    let form = with_form(gateway.request(Method::POST, "/chunks"), &chunk_fields("a", "0", "1"), b"x");
    contract.ask("/chunks", form.bearer_auth(token)).await.is_refused(503, "issuer_unavailable");
}

/// The database is broken, and away.
pub(super) async fn outage(contract: &Contract) {
    let database = postgres::new_database().await;
    let link = Link::to(&database).await;
    let url = link.url(&database);
    let settings = [("DATABASE__URL", url.as_str()), ("DATABASE__ACQUIRE_TIMEOUT", "2s")];
    let gateway = Gateway::start_with(On::OssAndPostgres, &[&TOKENS[..], &settings].concat()).await;
    let mut sql = PgConnection::connect(&database).await.expect("the test server answers");
    let create = |gateway: &Gateway| {
        gateway.request(Method::POST, "/auth/tokens").bearer_auth(KEY).json(&json!({"subject": "u"}))
    };
    execute(&mut sql, BREAK).await;
    let ids = ["refreshTokens", "revokeTokens"];
    all(contract, &gateway, &ids, (500, "internal")).await;
    contract.ask("/auth/tokens", create(&gateway)).await.is_refused(500, "internal");
    link.cut();
    all(contract, &gateway, &ids, (503, "database_unavailable")).await;
    contract.ask("/auth/tokens", create(&gateway)).await.is_refused(503, "database_unavailable");
}
