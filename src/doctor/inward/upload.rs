//! A small upload, which is given up again.

use reqwest::Method;
use serde_json::json;

use super::site::{Answer, Site};
use crate::doctor::report::Verdict;

const BYTES: usize = 64 << 10;

/// Begins one, sends its one chunk, and sees it there.
pub(super) async fn check(site: &Site) -> Verdict {
    let file_id = format!("{}-a", site.run);
    let created = match begin(site, &file_id, BYTES as u64).await {
        Ok(created) => created,
        Err(error) => return broken("POST /uploads", &error),
    };
    if matches!(created.code(), "type_not_allowed" | "refused_by_application") {
        return Verdict::skipped(format!("this gateway takes no file of the doctor's: {}", created.detail()));
    }
    if created.status != 201 {
        return refused("POST /uploads", &created);
    }
    let chunk = site.request(Method::PUT, &format!("/chunks/{file_id}/0")).body(vec![7; BYTES]);
    match site.ask(chunk).await {
        Err(error) => return broken("PUT /chunks", &error),
        Ok(answer) if answer.status != 200 => return refused("PUT /chunks", &answer),
        Ok(_) => {}
    }
    match site.ask(site.request(Method::GET, &format!("/chunks?fileId={file_id}"))).await {
        Err(error) => broken("GET /chunks", &error),
        Ok(answer) if answer.json["uploadedChunks"] == 1 => {
            Verdict::ok("a chunk was stored, and the resume query has it")
        }
        Ok(answer) if answer.status == 200 => Verdict::failed(
            "the resume query does not have the chunk that was just stored",
            "a cache in between answers instead of the gateway, or gateways behind one name do not share their database",
            "cache nothing of the API (proxy_cache off; at the CDN: bypass); several gateways share one Postgres",
        ),
        Ok(answer) => refused("GET /chunks", &answer),
    }
}

/// Begins an upload of one chunk, which is not joined.
pub(super) async fn begin(site: &Site, file_id: &str, bytes: u64) -> Result<Answer, String> {
    site.begins(file_id);
    let wanted = json!({"fileId": file_id, "fileName": "chunkgate-doctor.bin", "fileSize": bytes, "totalChunks": 1,
        "autoComplete": false});
    site.ask(site.request(Method::POST, "/uploads").header("content-type", "application/json").body(wanted.to_string()))
        .await
}

/// Gives up what was begun.
pub(super) async fn clean(site: &Site) {
    for file_id in site.begun() {
        // Otherwise it expires.
        let _ = site.ask(site.request(Method::DELETE, &format!("/uploads/{file_id}"))).await;
    }
}

fn broken(request: &str, error: &str) -> Verdict {
    let why = "requests of the API break off on their way";
    Verdict::failed(format!("{request}: {error}"), why, "see the log of what stands in between")
}

fn refused(request: &str, answer: &Answer) -> Verdict {
    let (what, why) = match answer.code() {
        "" => (
            format!("{request} is answered {}, not by the gateway", answer.status),
            "something in between refuses it".to_owned(),
        ),
        code => (format!("{request} is answered {} {code}", answer.status), answer.detail().to_owned()),
    };
    let fix = match (answer.code(), answer.status) {
        ("", 405 | 501) => "let all methods through: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        ("", _) => "see the log of what stands in between",
        ("store_unavailable" | "database_unavailable" | "storage_full", _) => {
            "run chunkgate doctor where the gateway runs"
        }
        _ => "do what it says",
    };
    Verdict::failed(what, why, fix)
}
