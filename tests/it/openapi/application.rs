//! What the application behind says and asks: hooks, and the admin listener.

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::contract::{Contract, Operation};
use crate::application::Application;
use crate::harness::{Gateway, On};

pub(super) async fn story(contract: &Contract) {
    tokio::join!(Box::pin(hooks(contract)), Box::pin(administration(contract)));
}

/// Each operation that begins an upload asks first.
async fn hooks(contract: &Contract) {
    let application = Application::start().await;
    let gateway = application.gateway(On::FileAndSqlite, "before_create").await;
    let begins = ["createUpload", "postChunk", "uploadChunk", "postFile"];
    let begins = |operation: &Operation<'_>| begins.contains(&operation.id);
    for (says, expected) in [(402, (403, "refused_by_application")), (500, (503, "hook_unavailable"))] {
        application.says(says, "");
        for operation in contract.operations().into_iter().filter(begins) {
            contract.ask(operation.path, operation.sample(&gateway)).await.is_refused(expected.0, expected.1);
        }
    }
    application.says(200, json!({"objectKey": "one"}));
    let holder = json!({"fileId": "holder", "fileName": "a", "fileSize": 5});
    assert_eq!(gateway.post("/uploads", holder).await.status, 201);
    for operation in contract.operations().into_iter().filter(begins) {
        contract.ask(operation.path, operation.sample(&gateway)).await.is_refused(409, "key_taken");
    }
    // And what it says of a file is in each answer that completes one.
    let gateway = application.gateway(On::FileAndSqlite, "completed").await;
    application.says(200, "{\"a\": 1}");
    for operation in contract.operations().into_iter().filter(begins) {
        let answer = contract.ask(operation.path, operation.sample(&gateway)).await;
        let completes = matches!(operation.id, "createUpload" | "postFile");
        assert_eq!(answer.json.get("app").is_some(), completes, "{}: {answer:?}", operation.id);
    }
    let plan = json!({"fileId": "full", "fileName": "a", "fileSize": 5, "autoComplete": false});
    assert_eq!(gateway.post("/uploads", plan).await.status, 201);
    assert_eq!(gateway.put("full", 0, b"hello").await.status, 200);
    let complete = gateway.request(Method::POST, "/chunks/complete").json(&json!({"fileId": "full"}));
    assert_eq!(contract.ask("/chunks/complete", complete).await.json["app"], json!({"a": 1}));
}

async fn administration(contract: &Contract) {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let ask = async |path: &str, request: RequestBuilder| contract.ask(path, request).await;
    gateway.post("/uploads", json!({"fileId": "a", "fileName": "a", "fileSize": 0})).await;
    let event = gateway.hooks.wait_for("a").await.id;
    let get = |path: &str| gateway.admin_request(Method::GET, path);
    assert_eq!(ask("/admin/events", get("/admin/events?limit=1")).await.status, 200);
    ask("/admin/events", get("/admin/events?state=x")).await.is_refused(400, "invalid_parameter");
    let template = "/admin/events/{id}/redeliver";
    let post = |id: &str| gateway.admin_request(Method::POST, &format!("/admin/events/{id}/redeliver"));
    assert_eq!(ask(template, post(&event)).await.status, 202);
    ask(template, post("evt_x")).await.is_refused(404, "event_not_found");
    let uploads = ask("/admin/uploads", get("/admin/uploads")).await;
    assert_eq!(uploads.json["uploads"][0]["fileId"], "a");
    ask("/admin/uploads", get("/admin/uploads?limit=x")).await.is_refused(400, "invalid_parameter");
}
