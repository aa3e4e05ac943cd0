//! `store.oss.object`: objects as they really are once files have come through a
//! gateway, read back by an SDK that nobody here wrote.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::harness::{Answer, Gateway, MIB, On, content, sha256};
use crate::python::{python, run, text};
use crate::signed_forms::{CALLBACKS, send};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/oss/object.py");

/// What a bucket's owner may want.
const ALL: [(&str, &str); 9] = [
    ("STORE__OSS__OBJECT__STORAGE_CLASS", "IA"),
    ("STORE__OSS__OBJECT__ENCRYPTION", "KMS"),
    ("STORE__OSS__OBJECT__KMS_KEY_ID", "9468da86-3509-4f8d-a61e-6eab1eac0001"),
    ("STORE__OSS__OBJECT__TAGGING", "project=video,team=视频 a&b"),
    ("STORE__OSS__OBJECT__ACL", "public-read"),
    ("STORE__OSS__OBJECT__METADATA", "Team=video,cost-centre=4711"),
    ("STORE__OSS__OBJECT__CACHE_CONTROL", "max-age=60"),
    ("STORE__OSS__OBJECT__CONTENT_DISPOSITION", "attachment"),
    ("STORE__OSS__OBJECT__FORBID_OVERWRITE", "true"),
];

/// Asks the SDK.
async fn ask(gateway: &Gateway, arguments: &[&str]) -> String {
    let emulator = gateway.emulator.as_ref().expect("an emulator");
    let mut command = Command::new(python("oss").await);
    command.arg(Path::new(SCRIPT)).args(["--endpoint", &format!("http://{}", emulator.address)]).args(arguments);
    let output = run(&mut command).await;
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).expect("text")
}

/// The object of a file that has come, as the SDK sees it.
async fn object_of(gateway: &Gateway, file_id: &str, bytes: &[u8]) -> Value {
    let event = gateway.hooks.wait_for(file_id).await;
    let key = event.json["data"]["objectKey"].as_str().expect("a key").to_owned();
    let object: Value = serde_json::from_str(&ask(gateway, &["show", &key]).await).expect("JSON");
    assert_eq!(object["sha256"], sha256(bytes), "{object}");
    object
}

/// One file in each way in which there are any, and its object: by chunks, in one
/// request, of no bytes, by a form that goes straight to the store.
async fn one_of_each(gateway: &Gateway) -> Vec<(&'static str, Value)> {
    let bytes = content(2 * MIB + 7, 5);
    let wanted = json!({"fileId": "chunks", "fileName": "a.bin", "fileSize": bytes.len(), "chunkSize": MIB,
        "contentType": "video/mp4"});
    let created = gateway.post("/uploads", wanted).await;
    assert_eq!(created.status, 201, "{created:?}\n{}", gateway.log());
    gateway.put_all("chunks", &bytes, MIB).await;
    let small =
        gateway.request(Method::POST, "/files?fileName=b.txt&fileId=small").header("content-type", "text/plain");
    let small = Answer::of(small.body("a small one").send().await).await;
    assert_eq!(small.status, 201, "{small:?}\n{}", gateway.log());
    let empty = gateway.post("/uploads", json!({"fileId": "empty", "fileName": "c", "fileSize": 0})).await;
    assert_eq!(empty.json["status"], "completed", "{empty:?}\n{}", gateway.log());
    let wanted = json!({"fileName": "d.txt", "maxFileSize": 100, "contentType": "text/plain", "expiresIn": 60});
    let form = gateway.post("/uploads/sign", wanted).await.json;
    let sent = send(&form, b"by a form").await;
    assert_eq!(sent.status, 200, "{sent:?}\n{}", gateway.log());
    let by_form = sent.json["file"]["fileId"].as_str().expect("an id").to_owned();
    let objects = [
        ("chunks", object_of(gateway, "chunks", &bytes).await),
        ("small", object_of(gateway, "small", b"a small one").await),
        ("empty", object_of(gateway, "empty", b"").await),
        ("form", object_of(gateway, &by_form, b"by a form").await),
    ];
    objects.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_what_is_configured_however_they_came() {
    let gateway = Gateway::start_with(On::OssAndPostgres, &[&ALL[..], &CALLBACKS].concat()).await;
    for (way, object) in one_of_each(&gateway).await {
        let headers = &object["headers"];
        for (name, value) in [
            ("x-oss-storage-class", "IA"),
            ("x-oss-server-side-encryption", "KMS"),
            ("x-oss-server-side-encryption-key-id", "9468da86-3509-4f8d-a61e-6eab1eac0001"),
            ("x-oss-tagging-count", "2"),
            ("x-oss-meta-team", "video"),
            ("x-oss-meta-cost-centre", "4711"),
            ("cache-control", "max-age=60"),
            ("content-disposition", "attachment"),
        ] {
            assert_eq!(headers[name], value, "{way}: {name}: {object}");
        }
        let kind = match way {
            "chunks" => "video/mp4",
            "empty" => "application/octet-stream",
            _ => "text/plain",
        };
        assert_eq!(headers["content-type"], kind, "{way}: {object}");
        assert_eq!(object["tags"], json!({"project": "video", "team": "视频 a&b"}), "{way}: {object}");
        assert_eq!((&object["acl"], &object["listedClass"]), (&json!("public-read"), &json!("IA")), "{way}: {object}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_configured_is_the_buckets() {
    let other = [("STORE__OSS__OBJECT__ENCRYPTION", "AES256"), ("STORE__OSS__OBJECT__ACL", "private")];
    let gateway = Gateway::start_with(On::OssAndPostgres, &[&other[..], &CALLBACKS].concat()).await;
    for (way, object) in one_of_each(&gateway).await {
        let headers = object["headers"].as_object().expect("headers");
        assert_eq!(headers["x-oss-server-side-encryption"], "AES256", "{way}: {object}");
        assert_eq!(
            (&object["acl"], &object["listedClass"]),
            (&json!("private"), &json!("Standard")),
            "{way}: {object}"
        );
        assert_eq!(object["tags"], json!({}), "{way}: {object}");
        for name in ["x-oss-server-side-encryption-key-id", "cache-control", "content-disposition"] {
            assert!(!headers.contains_key(name), "{way}: {name}: {object}");
        }
        assert!(!headers.keys().any(|name| name.starts_with("x-oss-meta-")), "{way}: {object}");
    }
}

/// Somebody puts an object where an upload's own is to lie.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_over_where_that_is_forbidden() {
    for is_forbidden in [true, false] {
        let forbidden = if is_forbidden { &ALL[8..] } else { &[] };
        let gateway = Gateway::start_with(On::OssAndPostgres, forbidden).await;
        let bytes = content(2 * MIB, 6);
        gateway.create("a", bytes.len(), MIB).await;
        assert_eq!(gateway.put("a", 0, &bytes[..MIB]).await.status, 200);
        let begun: Vec<String> = serde_json::from_str(&ask(&gateway, &["begun"]).await).expect("JSON");
        let [key] = &begun[..] else { panic!("{begun:?}") };
        ask(&gateway, &["put", key]).await;
        let last = gateway.put("a", 1, &bytes[MIB..]).await;
        let object: Value = serde_json::from_str(&ask(&gateway, &["show", key]).await).expect("JSON");
        if is_forbidden {
            // Theirs stays, and the upload says that it is lost.
            assert_eq!(object["sha256"], sha256(b"theirs"), "{last:?}");
            gateway.until("a", "failed").await;
        } else {
            assert_eq!((&last.json["complete"], &object["sha256"]), (&json!(true), &json!(sha256(&bytes))), "{last:?}");
        }
    }
}
