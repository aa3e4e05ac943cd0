//! Nobody sees what is another's: it is answered as what is not there.

use reqwest::Method;
use serde_json::{Value, json};

use super::{KEY, ask, gateway, log_in, put_chunk, put_file};
use crate::harness::{Answer, Gateway, On};

/// As small as a part of OSS can be.
const CHUNK: &[u8] = &[7; 100 << 10];

/// A file and an open upload of one owner.
async fn furnish(gateway: &Gateway, token: &str) {
    let open = json!({"fileId": "open", "fileName": "a", "fileSize": CHUNK.len() + 4, "chunkSize": CHUNK.len()});
    assert_eq!(ask(gateway, token, Method::POST, "/uploads", Some(open)).await.status, 201);
    assert_eq!(put_chunk(gateway, token, "/chunks/open/0", CHUNK).await.status, 200);
    assert_eq!(put_file(gateway, token, "fileName=f&fileId=file", b"mine").await.status, 201);
}

/// What an answer says beside the request's own id.
fn said(answer: &Answer) -> (u16, Value) {
    let mut json = answer.json.clone();
    if let Some(object) = json.as_object_mut() {
        object.remove("requestId");
    }
    (answer.status.as_u16(), json)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_anothers_is_answered_as_what_is_not_there() {
    for on in On::BOTH {
        let here = gateway(on, &[]).await;
        let all = "uploads:write files:read files:write";
        let a = log_in(&here, json!({"subject": "a", "scope": all})).await;
        let b = log_in(&here, json!({"subject": "b", "scope": all})).await;
        furnish(&here, &a.access).await;
        let routes = [
            (Method::GET, "/uploads/ID", None),
            (Method::DELETE, "/uploads/ID", None),
            (Method::GET, "/chunks?fileId=ID", None),
            (Method::GET, "/chunks?fileId=ID&view=all", None),
            (Method::POST, "/chunks/complete", Some(json!({"fileId": "ID"}))),
            (Method::GET, "/files/ID", None),
            (Method::GET, "/files/ID/content", None),
            (Method::HEAD, "/files/ID/content", None),
            (Method::POST, "/files/ID/sign", Some(json!({}))),
            (Method::DELETE, "/files/ID", None),
        ];
        for (method, path, body) in routes {
            for id in ["open", "file"] {
                let with = |id: &str| {
                    body.as_ref().map(|body| json!(body.to_string().replace("ID", id).parse::<Value>().expect("JSON")))
                };
                let theirs = ask(&here, &b.access, method.clone(), &path.replace("ID", id), with(id)).await;
                let none = ask(&here, &b.access, method.clone(), &path.replace("ID", "zero"), with("zero")).await;
                let (theirs, none) = (said(&theirs), said(&none));
                let none = (none.0, none.1.to_string().replace("zero", id).parse::<Value>().expect("JSON"));
                assert_eq!(theirs, none, "{method} {path} {id}");
            }
        }
        put_chunk(&here, &b.access, "/chunks/open/1", b"efgh").await.is_refused(404, "upload_not_found");
        // The same ids are b's own to use, and a's are as they were.
        furnish(&here, &b.access).await;
        assert_eq!(put_chunk(&here, &a.access, "/chunks/open/1", b"efgh").await.json["complete"], true);
        assert_eq!(ask(&here, &b.access, Method::GET, "/uploads/open", None).await.json["uploadedChunks"], 1);
        // Lists hold one's own; a key spans all, and acts as whom it names.
        let count = async |token: &str, path: &str, name: &str| {
            ask(&here, token, Method::GET, path, None).await.json[name].as_array().expect("a list").len()
        };
        assert_eq!(count(&a.access, "/uploads", "uploads").await, 2);
        assert_eq!(count(&a.access, "/files", "files").await, 2);
        assert_eq!(count(&b.access, "/files", "files").await, 1);
        assert_eq!(count(KEY, "/files", "files").await, 3);
        assert_eq!(count(KEY, "/files?owner=a", "files").await, 2);
        ask(&here, &b.access, Method::GET, "/files?owner=a", None).await.is_refused(403, "insufficient_scope");
        assert_eq!(ask(&here, KEY, Method::GET, "/files/file", None).await.status, 404);
        assert_eq!(ask(&here, KEY, Method::GET, "/files/file?owner=b", None).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_one_upload_sees_no_other() {
    let here = gateway(On::FileAndSqlite, &[]).await;
    let all = log_in(&here, json!({"subject": "a"})).await;
    furnish(&here, &all.access).await;
    let one = log_in(&here, json!({"subject": "a", "fileId": "only"})).await;
    let create = |id: Option<&str>| json!({"fileId": id, "fileName": "a", "fileSize": 4});
    ask(&here, &one.access, Method::POST, "/uploads", Some(create(Some("other"))))
        .await
        .is_refused(403, "insufficient_scope");
    put_file(&here, &one.access, "fileName=f&fileId=other", b"x").await.is_refused(403, "insufficient_scope");
    let made = ask(&here, &one.access, Method::POST, "/uploads", Some(create(None))).await;
    assert_eq!((made.status.as_u16(), &made.json["fileId"]), (201, &json!("only")));
    ask(&here, &one.access, Method::GET, "/uploads/open", None).await.is_refused(404, "upload_not_found");
    ask(&here, &one.access, Method::GET, "/files/file", None).await.is_refused(404, "file_not_found");
    put_chunk(&here, &one.access, "/chunks/open/1", b"efgh").await.is_refused(404, "upload_not_found");
    assert_eq!(ask(&here, &one.access, Method::GET, "/chunks?fileId=open", None).await.json["status"], "none");
    assert_eq!(put_chunk(&here, &one.access, "/chunks/only/0", b"abcd").await.json["complete"], true);
    let files = ask(&here, &one.access, Method::GET, "/files", None).await;
    assert_eq!(files.json["files"].as_array().expect("a list").len(), 1, "{files:?}");
    let uploads = ask(&here, &one.access, Method::GET, "/uploads", None).await;
    assert_eq!(uploads.json["uploads"].as_array().expect("a list").len(), 1, "{uploads:?}");
}
