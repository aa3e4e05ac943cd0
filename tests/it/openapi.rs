//! `openapi.yaml` against the running gateway: every operation is driven to
//! every answer that the document describes, and each answer must be one of
//! them: status, headers, body. What the document does not describe must not
//! answer.

mod application;
pub(crate) mod contract;
mod direct;
mod forms;
mod hostile;
mod limits;
mod outages;
mod routes;
mod schemathesis;
mod stories;
mod tokens;

use std::collections::BTreeSet;

use chunkgate::domain::Refusal;
use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, Gateway, On, content};
use contract::{CHUNK, Contract, chunk_fields, with_form};

/// Codes that no operation of the document answers with.
const OF_NO_OPERATION: [&str; 2] = [
    // Preflights; `refusals` sends them.
    "cors_origin_not_allowed",
    // `routes` asks for what is not there.
    "method_not_allowed",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_gives_every_answer_that_is_described() {
    let contract = Contract::read();
    tokio::join!(
        Box::pin(successes(&contract)),
        Box::pin(guards(&contract)),
        Box::pin(limits::story(&contract)),
        Box::pin(limits::endings(&contract)),
        Box::pin(outages::story(&contract)),
        Box::pin(tokens::story(&contract)),
        Box::pin(tokens::outage(&contract)),
        Box::pin(application::story(&contract)),
        Box::pin(direct::story(&contract)),
        Box::pin(forms::story(&contract)),
    );
    let seen = contract.seen();
    let missing: Vec<_> = contract.described().into_iter().filter(|answer| !seen.contains(answer)).collect();
    assert!(missing.is_empty(), "described and never seen: {missing:#?}");

    let codes = contract.codes_seen();
    let missing: Vec<&str> = contract.codes().into_iter().filter(|code| !codes.contains(*code)).collect();
    assert_eq!(missing, OF_NO_OPERATION, "codes never seen");
}

async fn successes(contract: &Contract) {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let bytes = content(2 * CHUNK + 7, 1);
    stories::uploads(contract, &gateway).await;
    stories::chunks(contract, &gateway, &bytes).await;
    stories::forms(contract, &gateway, &bytes).await;
    stories::files(contract, &gateway, &bytes).await;
    stories::doctors(contract, &gateway).await;
    let open = |operation: &contract::Operation<'_>| !operation.is_guarded() && !operation.is_of_tokens();
    let of_us = |operation: &contract::Operation<'_>| !operation.is_of_store();
    for operation in contract.operations().into_iter().filter(of_us).filter(open) {
        assert_eq!(contract.ask(operation.path, operation.sample(&gateway)).await.status, 200);
    }
    for operation in contract.operations().into_iter().filter(|operation| !open(operation)) {
        let request = operation.sample(&gateway).header("Origin", "http://elsewhere.example");
        assert_eq!(contract.ask(operation.path, request).await.status, 403, "{}", operation.id);
    }
}

async fn guards(contract: &Contract) {
    let keys = [("AUTH__MODE", "keys"), ("AUTH__API_KEYS", "app:ck_0123456789abcdef")];
    let gateway = Gateway::start_with(On::FileAndSqlite, &keys).await;
    let asks = |operation: &contract::Operation<'_>| {
        operation.is_guarded() || !(operation.is_of_tokens() || operation.is_of_store())
    };
    for operation in contract.operations().into_iter().filter(asks) {
        let expected = if operation.is_guarded() { 401 } else { 200 };
        for key in [None, Some("ck_wrong")] {
            let request = operation.sample(&gateway);
            let request = key.into_iter().fold(request, |request, key| request.bearer_auth(key));
            let answer = contract.ask(operation.path, request).await;
            assert_eq!(answer.status, expected, "{} with {key:?}: {answer:?}", operation.id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_as_described() {
    let contract = Contract::read();
    let settings = [("UPLOAD__EXPIRES_AFTER", "2s"), ("SWEEP__INTERVAL", "200ms")];
    let gateway = Gateway::start_with(On::FileAndSqlite, &settings).await;
    let wrong = json!({"algorithm": "crc64", "value": "1"});
    gateway.post("/uploads", json!({"fileId": "completed", "fileName": "a", "fileSize": 0})).await;
    gateway.post("/uploads", json!({"fileId": "failed", "fileName": "a", "fileSize": 3, "checksum": wrong})).await;
    gateway.put("failed", 0, b"abc").await.is_refused(422, "integrity_failed");
    gateway.post("/uploads", json!({"fileId": "aborted", "fileName": "a", "fileSize": 3})).await;
    gateway.delete("/uploads/aborted").await;
    // A plan that is never learnt: nobody knows the size.
    let form = chunk_fields("expired", "1", "3");
    let sent = with_form(gateway.request(Method::POST, "/chunks"), &form[..], &[1; CHUNK]).send().await;
    assert_eq!(Answer::of(sent).await.status, 200);
    let mut seen = BTreeSet::new();
    for id in ["completed", "failed", "aborted", "expired"] {
        let event = contract.hold_event(&gateway.hooks.wait_for(id).await);
        assert_eq!(event, format!("upload.{id}"));
        seen.insert(event);
    }
    assert!(contract.events().into_iter().eq(seen.iter().map(String::as_str)));
}

#[test]
fn the_codes_are_those_that_the_program_has() {
    assert!(Contract::read().codes().into_iter().eq(Refusal::CODES));
}
