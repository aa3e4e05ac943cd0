//! File names: data on the way in, encoded on the way out, and never a place.

use std::path::Path;

use percent_encoding::percent_decode_str;
use reqwest::Method;
use serde_json::{Value, json};

use super::{send, with_query};
use crate::harness::{Gateway, On};
use crate::openapi::contract::with_form;

const NAMES: [&str; 20] = [
    "../../../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "/etc/cron.d/x",
    "C:\\autoexec.bat",
    "a/../../b.txt",
    "..",
    ".htaccess",
    "CON",
    "con.txt",
    "LPT1.pdf",
    "file.txt::$DATA",
    "annexe\u{202e}fdp.exe",
    "a\r\nX-Injected: yes\r\n\r\n<script>",
    "a\nb",
    "\"; filename=\"evil.exe",
    "a\\\"b';c%22d",
    "a;filename*=UTF-8''evil.exe",
    "<img src=x onerror=alert(1)>.png",
    "%2e%2e%2f%0d%0aX-Injected:%20yes",
    "报告 \u{1f4a9}\u{7f}\u{85}\u{feff}.bin",
];

/// RFC 6266: what a browser takes from the header. Nothing in it may be able to
/// end the parameter, the header or the answer.
fn name_of(disposition: &str, kind: &str) -> (String, String) {
    assert!(disposition.bytes().all(|b| (0x20..0x7f).contains(&b)), "{disposition:?}");
    let rest = disposition.strip_prefix(kind).and_then(|rest| rest.strip_prefix("; filename=\"")).expect("a name");
    let (plain, rest) = rest.split_once('"').expect("an end");
    assert!(!plain.contains(['\\', '/', '%']), "{plain}");
    let extended = rest.strip_prefix("; filename*=UTF-8''").expect("the true name");
    // RFC 8187: attr-char and nothing else.
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$&+-.^_`|~%".contains(&b);
    assert!(extended.bytes().all(is_plain), "{extended}");
    (plain.to_owned(), percent_decode_str(extended).decode_utf8().expect("UTF-8").into_owned())
}

/// Every file in a folder, by its path in it.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in std::fs::read_dir(inner).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(folder).expect("inside").display().to_string());
            }
        }
    }
    found
}

/// `uploads/local/20261121/` and 32 hex digits, with a harmless ending or none.
fn is_made_by_us(key: &str) -> bool {
    let parts: Vec<&str> = key.split('/').collect();
    let [prefix, owner, day, name] = parts[..] else { return false };
    let (stem, ending) = name.split_once('.').unwrap_or((name, "x"));
    (prefix, owner, day.len(), stem.len()) == ("uploads", "local", 8, 32)
        && day.bytes().all(|b| b.is_ascii_digit())
        && stem.bytes().all(|b| b.is_ascii_hexdigit())
        && ending.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// What is told of a file everywhere, and where it lies.
async fn is_data(gateway: &Gateway, id: &str, name: &str) {
    for path in [format!("/files/{id}"), format!("/uploads/{id}")] {
        let told = gateway.get(&path).await;
        assert_eq!((told.status.as_u16(), &told.json["fileName"]), (200, &json!(name)), "{path}");
    }
    for (method, path) in
        [(Method::GET, format!("/files/{id}/content")), (Method::HEAD, format!("/files/{id}/content"))]
    {
        let answer = gateway.request(method, &path).send().await.expect("an answer");
        assert_eq!(answer.headers().get_all("content-disposition").iter().count(), 1);
        assert!(!answer.headers().contains_key("x-injected"));
        let disposition = answer.headers()["content-disposition"].to_str().expect("ASCII").to_owned();
        assert_eq!(name_of(&disposition, "attachment").1, name, "{disposition}");
    }
    let event = gateway.hooks.wait_for(id).await;
    assert_eq!(event.json["data"]["fileName"], name);
    assert!(!event.text.contains(['\r', '\n']), "{}", event.text);
    let key = event.json["data"]["objectKey"].as_str().expect("a key");
    assert!(is_made_by_us(key), "{name:?}: {key}");
    // The link of whoever serves it: ours, or the store's own.
    let signed = gateway.post(&format!("/files/{id}/sign"), json!({})).await;
    let url = signed.json["url"].as_str().expect("a URL");
    let url = if url.starts_with('/') { gateway.url(url) } else { url.to_owned() };
    let answer = gateway.http.get(url).send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "{signed:?}");
    let disposition = answer.headers()["content-disposition"].to_str().expect("ASCII").to_owned();
    assert_eq!(name_of(&disposition, "attachment").1, name, "{disposition}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_data() {
    for on in On::BOTH {
        let gateway = Gateway::start(on).await;
        for (nth, name) in NAMES.into_iter().enumerate() {
            // By JSON, as a field of a form, in a query.
            let (json, form, query) = (format!("json-{nth}"), format!("form-{nth}"), format!("query-{nth}"));
            let wanted = json!({"fileId": json, "fileName": name, "fileSize": 5});
            assert_eq!(gateway.post("/uploads", wanted).await.status, 201, "{name:?}");
            assert_eq!(gateway.put(&json, 0, b"hello").await.json["complete"], true);
            is_data(&gateway, &json, name).await;
            let fields = [("fileId", form.as_str()), ("chunkIndex", "0"), ("totalChunks", "1"), ("fileName", name)];
            let answer = send(with_form(gateway.request(Method::POST, "/chunks"), &fields, b"hello")).await;
            assert_eq!(answer.json["complete"], true, "{name:?}: {answer:?}");
            is_data(&gateway, &form, name).await;
            let request =
                gateway.request(Method::POST, &with_query("/files", &[("fileName", name), ("fileId", &query)]));
            assert_eq!(send(request.body("hello")).await.status, 201, "{name:?}");
            is_data(&gateway, &query, name).await;
        }
        let listed = gateway.get("/files?limit=1000").await.json["files"].as_array().expect("files").clone();
        assert_eq!(listed.len(), 3 * NAMES.len());
        if on == On::FileAndSqlite {
            let objects = gateway.folder.path().join("data/objects");
            let objects: Vec<String> =
                files(&objects).into_iter().filter(|path| !path.starts_with(".chunkgate")).collect();
            assert_eq!(objects.len(), 3 * NAMES.len());
            assert!(objects.iter().all(|path| is_made_by_us(path)), "{objects:?}");
        }
        assert!(!gateway.log().contains("panicked"));
    }
}

/// A browser writes the name into the head of the form's part.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_the_head_of_a_part_is_data() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    for (nth, (written, name)) in [
        ("../../etc/passwd", "../../etc/passwd"),
        ("C:\\\\temp\\\\a.txt", "C:\\temp\\a.txt"),
        ("a%22b", "a\"b"),
        ("a\\\"; name=\\\"fileId", "a\"; name=\"fileId"),
        ("a%0D%0AX: y", "a%0D%0AX: y"),
        ("\u{202e}gpj.exe", "\u{202e}gpj.exe"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("part-{nth}");
        let form = format!(
            "--cut\r\nContent-Disposition: form-data; name=\"fileId\"\r\n\r\n{id}\r\n\
             --cut\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{written}\"\r\n\r\nhello\r\n--cut--\r\n"
        );
        let request = gateway.request(Method::POST, "/files");
        let request = request.header("content-type", "multipart/form-data; boundary=cut").body(form);
        let answer = send(request).await;
        assert_eq!((answer.status.as_u16(), &answer.json["fileName"]), (201, &json!(name)), "{answer:?}");
        is_data(&gateway, &id, name).await;
    }
}

/// What cannot be told in a header or kept in a database is none.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_name() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let long = "x".repeat(1025);
    for name in ["", "\0", "a\0b.txt", &long] {
        let wanted = json!({"fileName": name, "fileSize": 5});
        gateway.post("/uploads", wanted).await.is_refused(400, "invalid_request");
        let request = gateway.request(Method::POST, &with_query("/files", &[("fileName", name)])).body("hello");
        send(request).await.is_refused(400, "invalid_request");
    }
    // JSON of half a character, and names that are no text.
    for body in [&b"{\"fileName\":\"\\udc00\",\"fileSize\":5}"[..], b"{\"fileName\":\"\xff\",\"fileSize\":5}"] {
        let request = gateway.request(Method::POST, "/uploads").body(body.to_vec());
        send(request).await.is_refused(400, "invalid_request");
    }
    super::is_untouched(&gateway).await;
    // A link may rename a file, and only to what is one line.
    gateway.post("/uploads", json!({"fileId": "e", "fileName": "e", "fileSize": 0})).await;
    let sign = async |name: &str| gateway.post("/files/e/sign", json!({"downloadName": name})).await;
    for name in ["a\r\nX-Injected: y", "a\0", "\u{85}", &long] {
        sign(name).await.is_refused(400, "invalid_request");
    }
    for name in NAMES.into_iter().filter(|name| !name.chars().any(char::is_control)) {
        let link = sign(name).await.json["url"].clone();
        let answer = gateway.request(Method::GET, link.as_str().expect("a path")).send().await.expect("an answer");
        let disposition = answer.headers()["content-disposition"].to_str().expect("ASCII").to_owned();
        assert_eq!(name_of(&disposition, "attachment").1, name);
    }
    let left: Value = gateway.get("/files").await.json;
    assert_eq!(left["files"].as_array().map(Vec::len), Some(1));
}
