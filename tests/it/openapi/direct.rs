//! Parts that are signed for the store.

use reqwest::Method;
use serde_json::{Value, json};

use super::contract::{CHUNK, Contract, stalled};
use crate::harness::{Gateway, On};

const PATH: &str = "/uploads/{fileId}/parts/sign";

pub(super) async fn story(contract: &Contract) {
    let gateway = Gateway::start_with(On::OssAndPostgres, &[("LIMITS__BODY_IDLE_TIMEOUT", "1s")]).await;
    let post = |id: &str| gateway.request(Method::POST, &format!("/uploads/{id}/parts/sign"));
    let sign =
        async |id: &str, indexes: Value| contract.ask(PATH, post(id).json(&json!({"chunkIndexes": indexes}))).await;
    for id in ["a", "whole", "gone"] {
        gateway.create(id, CHUNK, CHUNK).await;
    }
    assert_eq!(sign("a", json!([0])).await.status, 200);
    sign("a", json!([1])).await.is_refused(400, "chunk_index_out_of_range");
    sign("..%2f", json!([0])).await.is_refused(400, "invalid_file_id");
    sign("none", json!([0])).await.is_refused(404, "upload_not_found");
    contract.ask(PATH, post("a").body("{")).await.is_refused(400, "invalid_request");
    let large = json!({"chunkIndexes": vec![0; 40_000]});
    contract.ask(PATH, post("a").json(&large)).await.is_refused(413, "metadata_too_large");
    contract.ask(PATH, stalled(post("a"), b"{\"a\": 1}".to_vec())).await.is_refused(408, "body_timeout");
    assert_eq!(gateway.put("whole", 0, &[1; CHUNK]).await.json["complete"], true);
    sign("whole", json!([0])).await.is_refused(409, "upload_completed");
    assert_eq!(gateway.delete("/uploads/gone").await.status, 204);
    sign("gone", json!([0])).await.is_refused(410, "upload_aborted");
    let folder = Gateway::start(On::FileAndSqlite).await;
    folder.create("a", CHUNK, CHUNK).await;
    let sign = folder.request(Method::POST, "/uploads/a/parts/sign").json(&json!({"chunkIndexes": [0]}));
    contract.ask(PATH, sign).await.is_refused(501, "not_supported");
}
