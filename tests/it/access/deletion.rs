//! `DELETE /files/{fileId}`: the row goes first, and the object is sure to follow.

use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::{KEY, ask, gateway, put_chunk, put_file};
use crate::harness::{Gateway, On};

/// Objects in the store's folder: the gateway's own, or the emulator's.
fn objects(folder: &Path) -> usize {
    let mut count = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if entry.path().is_dir() {
                if name != ".chunkgate" {
                    folders.push(entry.path());
                }
            } else {
                count += 1;
            }
        }
    }
    count
}

async fn furnish(gateway: &Gateway) {
    assert_eq!(put_file(gateway, KEY, "fileName=f&fileId=small", b"small").await.status, 201);
    let wanted = json!({"fileId": "large", "fileName": "a", "fileSize": 8, "chunkSize": 8});
    assert_eq!(ask(gateway, KEY, Method::POST, "/uploads", Some(wanted)).await.status, 201);
    assert_eq!(put_chunk(gateway, KEY, "/chunks/large/0", b"12345678").await.json["complete"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_file_is_as_unknown_as_before() {
    for on in On::BOTH {
        let here = gateway(on, &[]).await;
        for _ in 0..2 {
            furnish(&here).await;
            for id in ["small", "large"] {
                let path = format!("/files/{id}");
                assert_eq!(ask(&here, KEY, Method::DELETE, &path, None).await.status, 204);
                for gone in [path.clone(), format!("{path}/content")] {
                    ask(&here, KEY, Method::GET, &gone, None).await.is_refused(404, "file_not_found");
                }
                ask(&here, KEY, Method::DELETE, &path, None).await.is_refused(404, "file_not_found");
                ask(&here, KEY, Method::GET, &format!("/uploads/{id}"), None).await.is_refused(404, "upload_not_found");
                let chunks = ask(&here, KEY, Method::GET, &format!("/chunks?fileId={id}"), None).await;
                assert_eq!(chunks.json["status"], "none");
            }
            assert_eq!(ask(&here, KEY, Method::GET, "/files", None).await.json["files"], json!([]));
        }
        if on == On::FileAndSqlite {
            assert_eq!(objects(&here.folder.path().join("data/objects")), 0);
        }
    }
}

/// The gateway dies between the row and the object.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_leaves_of_a_deleted_file_is_swept() {
    let mut here = gateway(On::OssAndPostgres, &[]).await;
    furnish(&here).await;
    let before = here.emulator.as_ref().expect("an emulator").calls("deleteObject").await;
    here.emulator.as_mut().expect("an emulator").stop();
    for id in ["small", "large"] {
        assert_eq!(ask(&here, KEY, Method::DELETE, &format!("/files/{id}"), None).await.status, 204);
    }
    here.crash();
    here.emulator.as_mut().expect("an emulator").boot().await;
    here.boot().await;
    // The sweeper leaves what has just ended a while for what may be on its way.
    tokio::time::timeout(Duration::from_secs(120), async {
        while here.emulator.as_ref().expect("an emulator").calls("deleteObject").await < before + 2 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await
    .expect("both objects are removed");
}
