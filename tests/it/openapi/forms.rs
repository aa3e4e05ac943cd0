//! Forms for the store, and what it says of them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use reqwest::Method;
use serde_json::{Value, json};

use super::contract::{Contract, stalled};
use crate::application::Application;
use crate::harness::{Answer, Gateway, On};
use crate::s3::servers::Server;
use crate::signed_forms::{Overheard, put_with_callback, send};

const SIGN: &str = "/uploads/sign";
const CALLBACK: &str = "/callbacks/oss";

pub(super) async fn story(contract: &Contract) {
    // OSS is told to call somebody else, at the same path: what it says is overheard, and said again here.
    let overheard = Overheard::start().await;
    let settings = [
        ("STORE__OSS__CALLBACK_URL", overheard.url.as_str()),
        ("STORE__OSS__CALLBACK_KEY_URL", "http://{emulator}/-/callback_pub_key_v1.pem"),
        ("LIMITS__BODY_IDLE_TIMEOUT", "1s"),
        ("LIMITS__MAX_FILE_SIZE", "1000"),
    ];
    let gateway = Gateway::start_with(On::OssAndPostgres, &settings).await;
    let post = || gateway.request(Method::POST, SIGN);
    let sign = async |wanted: Value| contract.ask(SIGN, post().json(&wanted)).await;
    let form = sign(json!({"fileName": "a.txt", "maxFileSize": 9, "contentType": "text/plain", "expiresIn": 60})).await;
    assert_eq!(form.status, 200);
    sign(json!({"maxFileSize": 9, "expiresIn": 0})).await.is_refused(400, "invalid_request");
    sign(json!({"maxFileSize": 1001, "expiresIn": 60})).await.is_refused(413, "file_too_large");
    contract.ask(SIGN, stalled(post(), b"{\"a\": 1}".to_vec())).await.is_refused(408, "body_timeout");

    let said = |headers: HeaderMap, body: Vec<u8>| gateway.request(Method::POST, CALLBACK).headers(headers).body(body);
    send(&form.json, b"hello").await;
    let (headers, body) = overheard.last();
    let told = contract.ask(CALLBACK, said(headers.clone(), body.clone())).await;
    assert_eq!((told.status.as_u16(), &told.json["file"]["fileName"]), (200, &json!("a.txt")), "{told:?}");
    let again = contract.ask(CALLBACK, said(headers.clone(), body.clone())).await;
    assert_eq!(again.json["file"], told.json["file"]);
    let edited = [&body[..], b"&x=y"].concat();
    contract.ask(CALLBACK, said(headers.clone(), edited)).await.is_refused(401, "unauthorized");
    contract.ask(CALLBACK, said(HeaderMap::new(), body.clone())).await.is_refused(401, "unauthorized");
    for said_of_it in ["nothing=1", "object=uploads%2Fof-nobody"] {
        put_with_callback(&gateway, &overheard.url, said_of_it).await;
        let (headers, body) = overheard.last();
        contract.ask(CALLBACK, said(headers, body)).await.is_refused(400, "invalid_request");
    }
    contract
        .ask(CALLBACK, stalled(gateway.request(Method::POST, CALLBACK), vec![1; 9]))
        .await
        .is_refused(408, "body_timeout");

    let elsewhere = "http://127.0.0.1:9/key.pem";
    let neighbour = gateway.neighbour_with(&[("STORE__OSS__CALLBACK_KEY_URL", elsewhere)]).await;
    let mut without_key = headers.clone();
    without_key.insert("x-oss-pub-key-url", STANDARD.encode(elsewhere).parse().expect("a value"));
    let request = neighbour.request(Method::POST, CALLBACK).headers(without_key).body(body);
    contract.ask(CALLBACK, request).await.is_refused(500, "internal");

    let kinds = gateway.neighbour_with(&[("UPLOAD__ALLOWED_TYPES", "image/*")]).await;
    let wanted = |name: &str| json!({"fileName": name, "maxFileSize": 9, "expiresIn": 60});
    let sign_kind = async |name: &str| contract.ask(SIGN, kinds.request(Method::POST, SIGN).json(&wanted(name))).await;
    sign_kind("a.exe").await.is_refused(415, "type_not_allowed");
    assert_eq!(sign_kind("a.png").await.status, 200);

    let application = Application::start().await;
    let asking = application.gateway(On::OssAndPostgres, "before_create").await;
    application.says(200, "{\"objectKey\": \"one/and/the/same\"}");
    let sign = || asking.request(Method::POST, SIGN).json(&json!({"maxFileSize": 9, "expiresIn": 60}));
    assert_eq!(contract.ask(SIGN, sign()).await.status, 200);
    contract.ask(SIGN, sign()).await.is_refused(409, "key_taken");
    application.says(402, "");
    contract.ask(SIGN, sign()).await.is_refused(403, "refused_by_application");
    // A form of S3 may be sent again: neither its kind nor whose the key is would be settled.
    application.says(200, "{\"objectKey\": \"one/and/the/same\"}");
    let (server, hook) = (Server::moto().await, application.url("before_create"));
    let mut settings: Vec<(&str, &str)> = vec![("HOOKS__BEFORE_CREATE__URL", &hook)];
    let environment = server.environment();
    settings.extend(environment.iter().map(|(name, value)| (*name, value.as_str())));
    let on_s3 = Gateway::start_with(On::FileAndSqlite, &settings).await;
    let sign = || on_s3.request(Method::POST, SIGN).json(&json!({"maxFileSize": 9, "expiresIn": 60}));
    contract.ask(SIGN, sign()).await.is_refused(501, "not_supported");
    application.says(204, "");
    assert_eq!(contract.ask(SIGN, sign()).await.status, 200);
    through_the_gateway(contract).await;
}

/// Of a folder, the form is a link to the gateway.
async fn through_the_gateway(contract: &Contract) {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let callback = || gateway.request(Method::POST, CALLBACK);
    contract.ask(CALLBACK, callback()).await.is_refused(404, "not_found");
    let from_a_page = callback().header("Origin", "http://elsewhere.example");
    contract.ask(CALLBACK, from_a_page).await.is_refused(403, "origin_not_allowed");
    let request = gateway.request(Method::POST, SIGN).json(&json!({"maxFileSize": 9, "expiresIn": 1}));
    let link = contract.ask(SIGN, request).await.json["url"].as_str().expect("a path").to_owned();
    let post =
        async |link: &str| -> Answer { contract.ask("/files", gateway.request(Method::POST, link).body("x")).await };
    post(&format!("{link}0")).await.is_refused(403, "signature_invalid");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    post(&link).await.is_refused(403, "signature_expired");
}
