//! Who may, and what happens to whose files: keys, tokens of ours, and what
//! they lock in.

mod deletion;
mod isolation;
mod issuer;
mod lists;
mod quota;
mod refreshing;
mod table;
mod terms;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, On};

/// A back end's.
pub(crate) const KEY: &str = "ck_0123456789abcdef";

/// A gateway's settings.
pub(crate) const TOKENS: [(&str, &str); 2] = [("AUTH__MODE", "tokens"), ("AUTH__API_KEYS", "app:ck_0123456789abcdef")];

/// A gateway that hands out tokens.
async fn gateway(on: On, more: &[(&str, &str)]) -> Gateway {
    Gateway::start_with(on, &[&TOKENS[..], more].concat()).await
}

/// What a browser holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tokens {
    access: String,
    refresh: String,
}

impl Tokens {
    fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = |name: &str| answer.json[name].as_str().expect("a token").to_owned();
        Self { access: text("accessToken"), refresh: text("refreshToken") }
    }
}

/// What a back end does for its user.
async fn log_in(gateway: &Gateway, wanted: Value) -> Tokens {
    Tokens::of(&send(gateway.request(Method::POST, "/auth/tokens").bearer_auth(KEY).json(&wanted)).await)
}

async fn refresh(gateway: &Gateway, token: &str, device: Option<&str>) -> Answer {
    let body = json!({"refreshToken": token, "deviceId": device});
    send(gateway.request(Method::POST, "/auth/refresh").json(&body)).await
}

async fn send(request: RequestBuilder) -> Answer {
    Answer::of(request.send().await).await
}

/// One request with a token or a key.
async fn ask(gateway: &Gateway, token: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
    let request = gateway.request(method, path).bearer_auth(token);
    send(body.into_iter().fold(request, |request, body| request.json(&body))).await
}

/// Puts a small file of these bytes.
async fn put_file(gateway: &Gateway, token: &str, query: &str, bytes: &[u8]) -> Answer {
    send(gateway.request(Method::POST, &format!("/files?{query}")).bearer_auth(token).body(bytes.to_vec())).await
}

async fn put_chunk(gateway: &Gateway, token: &str, path: &str, bytes: &[u8]) -> Answer {
    send(gateway.request(Method::PUT, path).bearer_auth(token).body(bytes.to_vec())).await
}
