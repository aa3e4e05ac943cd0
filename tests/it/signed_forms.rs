//! Small files that browsers send to the store by a form, without the gateway,
//! and what the gateway makes of them.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chunkgate::clock::{Clock as _, SystemClock};
use chunkgate::store::oss::SignatureVersion;
use chunkgate::store::oss::sign::{Request, Signer, sign};
use http::HeaderMap;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::access::{KEY, TOKENS};
use crate::application::Application;
use crate::faults::stand::eventually;
use crate::harness::{Answer, Gateway, On, client};
use crate::openapi::contract::with_form;

/// Headers and body.
type Said = (HeaderMap, Vec<u8>);

/// Somebody whom OSS tells instead of the gateway, at the gateway's path.
pub(crate) struct Overheard {
    pub(crate) url: String,
    said: Arc<Mutex<Vec<Said>>>,
}

impl Overheard {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let url = format!("http://{}/callbacks/oss", listener.local_addr().expect("an address"));
        let said = Arc::new(Mutex::new(Vec::<Said>::new()));
        let hears = Arc::clone(&said);
        let hear = async move |headers: HeaderMap, body: bytes::Bytes| {
            hears.lock().expect("a lock").push((headers, body.to_vec()));
            "{}"
        };
        let router = Router::new().route("/callbacks/oss", post(hear));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, said }
    }

    /// What was said last: the headers that sign it, and the body.
    pub(crate) fn last(&self) -> Said {
        let (headers, body) = self.said.lock().expect("a lock").last().expect("something was said").clone();
        let kept = ["authorization", "x-oss-pub-key-url", "content-type"];
        let headers = headers.into_iter().filter_map(|(name, value)| Some((name?, value)));
        (headers.filter(|(name, _)| kept.contains(&name.as_str())).collect(), body)
    }
}

/// Sends a signed form as a browser does.
pub(crate) async fn send(form: &Value, file: &[u8]) -> Answer {
    let fields = form["fields"].as_object().expect("fields");
    let fields: Vec<(&str, &str)> =
        fields.iter().map(|(name, value)| (name.as_str(), value.as_str().expect("text"))).collect();
    let request = client().post(form["url"].as_str().expect("a URL"));
    Answer::of(with_form(request, &fields, file).send().await).await
}

/// Has the emulator say this to whom it is about.
pub(crate) async fn put_with_callback(gateway: &Gateway, url: &str, says: &str) {
    let callback = STANDARD.encode(json!({"callbackUrl": url, "callbackBody": says}).to_string());
    let mut headers = HeaderMap::new();
    headers.insert("x-oss-callback", callback.parse().expect("a value"));
    let signer = Signer { access_key_id: "ak", access_key_secret: "sk", security_token: None, region: "cn-hangzhou" };
    let request = Request { method: "PUT", bucket: Some("bkt"), key: Some("other"), query: &[] };
    sign(SignatureVersion::V4, &signer, SystemClock::new().now(), &request, &mut headers).expect("signs");
    let emulator = gateway.emulator.as_ref().expect("an emulator").address;
    let put = client().put(format!("http://{emulator}/bkt/other")).headers(headers).body("x").send().await;
    assert!(put.expect("an answer").status().is_success());
}

async fn signed(gateway: &Gateway, wanted: Value) -> Value {
    let answer = gateway.post("/uploads/sign", wanted).await;
    assert_eq!(answer.status, 200, "{answer:?}\n{}", gateway.log());
    answer.json
}

/// How OSS is told to tell the gateway.
pub(crate) const CALLBACKS: [(&str, &str); 2] = [
    ("STORE__OSS__CALLBACK_URL", "http://{address}/callbacks/oss"),
    ("STORE__OSS__CALLBACK_KEY_URL", "http://{emulator}/-/callback_pub_key_v1.pem"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_a_file_once_oss_says_so() {
    let gateway = Gateway::start_with(On::OssAndPostgres, &CALLBACKS).await;
    let wanted = json!({"fileName": "报告 1.txt", "maxFileSize": 9, "contentType": "text/plain", "expiresIn": 60});
    let form = signed(&gateway, wanted).await;
    let told = send(&form, b"hello").await;
    assert_eq!(told.status, 200, "{told:?}\n{}", gateway.log());
    // What the gateway says to OSS is what the browser gets to hear.
    let file = &told.json["file"];
    assert_eq!(
        (&file["fileName"], &file["fileSize"], &file["contentType"]),
        (&json!("报告 1.txt"), &json!(5), &json!("text/plain"))
    );
    let file_id = file["fileId"].as_str().expect("an id");
    assert_eq!(gateway.get(&format!("/files/{file_id}")).await.json, *file);
    assert_eq!(gateway.download(file_id).await, b"hello");
    let event = gateway.hooks.wait_for(file_id).await;
    assert_eq!((&event.json["type"], &event.json["data"]["fileSize"]), (&json!("upload.completed"), &json!(5)));
    // Sent once more it writes over nothing; nor does it take more than it says, or another key.
    assert_eq!(send(&form, b"other").await.status, 409);
    assert_eq!(gateway.download(file_id).await, b"hello");
    let form = signed(&gateway, json!({"maxFileSize": 4, "expiresIn": 60})).await;
    assert_eq!(send(&form, b"hello").await.status, 400);
    let mut edited = form.clone();
    edited["fields"]["key"] = json!("uploads/elsewhere");
    assert_eq!(send(&edited, b"x").await.status, 403);
    let mut without = form.clone();
    without["fields"].as_object_mut().expect("fields").remove("callback");
    assert_eq!(send(&without, b"x").await.status, 403);
    assert_eq!(gateway.hooks.all().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_nobody_tells_of_is_looked_for() {
    let gateway = Gateway::start(On::OssAndPostgres).await;
    let url = gateway.setting("DATABASE__URL");
    let mut sql = PgConnection::connect(&url).await.expect("the test server answers");
    let form = signed(&gateway, json!({"fileName": "late.bin", "maxFileSize": 9, "expiresIn": 60})).await;
    let unsent = signed(&gateway, json!({"fileName": "never.bin", "maxFileSize": 9, "expiresIn": 60})).await;
    assert!(form["fields"].get("callback").is_none());
    assert_eq!(send(&form, b"hello").await.status, 200);
    // As if a minute had passed.
    let soon = "UPDATE objects_underway SET look_at = 0 WHERE form IS NOT NULL";
    sqlx::raw_sql(AssertSqlSafe(soon)).execute(&mut sql).await.expect("done");
    let mut files = Value::Null;
    for _ in 0..300 {
        files = gateway.get("/files").await.json;
        if files["files"].as_array().is_some_and(|files| !files.is_empty()) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(files["files"][0]["fileName"], "late.bin", "{files}\n{}", gateway.log());
    let file_id = files["files"][0]["fileId"].as_str().expect("an id");
    assert_eq!(gateway.download(file_id).await, b"hello");
    gateway.hooks.wait_for(file_id).await;
    // What was never sent is looked for later, and no file.
    let text = "SELECT count(*) FROM objects_underway WHERE look_at > 0";
    let awaited: i64 = sqlx::query_scalar(AssertSqlSafe(text)).fetch_one(&mut sql).await.expect("a number");
    assert_eq!(awaited, 1, "{unsent}");
    assert_eq!(files["files"].as_array().map(Vec::len), Some(1));
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR and so on";

/// Objects in the emulator.
async fn objects(gateway: &Gateway) -> Value {
    let url = format!("http://{}/-/stats", gateway.emulator.as_ref().expect("an emulator").address);
    Answer::of(gateway.http.get(url).send().await).await.json["objects"].clone()
}

/// The first bytes are looked at where the file is, and what is of another kind is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_form_brings_no_kind_of_file_that_is_not_taken() {
    let settings = [&CALLBACKS[..], &[("UPLOAD__ALLOWED_TYPES", "image/*,application/pdf")]].concat();
    let gateway = Gateway::start_with(On::OssAndPostgres, &settings).await;
    let wanted = |name: &str| json!({"fileName": name, "maxFileSize": 999, "expiresIn": 60});
    gateway.post("/uploads/sign", wanted("a.exe")).await.is_refused(415, "type_not_allowed");
    let form = signed(&gateway, wanted("a.png")).await;
    for other in [&b"<html>alert(1)</html>"[..], b"PK\x03\x04 an archive"] {
        let told = send(&form, other).await;
        // OSS has taken it, and says that the gateway has not.
        assert_eq!(told.status, 203, "{told:?}");
        assert_eq!(objects(&gateway).await, 0, "{}", gateway.log());
    }
    // The form is as good as it was.
    let told = send(&form, PNG).await;
    assert_eq!((told.status.as_u16(), &told.json["file"]["fileName"]), (200, &json!("a.png")), "{told:?}");
    let file_id = told.json["file"]["fileId"].as_str().expect("an id");
    assert_eq!(gateway.download(file_id).await, PNG);
    assert_eq!(send(&form, PNG).await.status, 409);
    assert_eq!(gateway.get("/files").await.json["files"].as_array().map(Vec::len), Some(1));
    assert_eq!(gateway.hooks.wait_for(file_id).await.json["type"], "upload.completed");
    // An empty file begins as nothing else.
    assert_eq!(send(&signed(&gateway, wanted("b.pdf")).await, b"").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kinds_of_a_token_are_looked_for_without_a_callback_too() {
    let gateway = Gateway::start_with(On::OssAndPostgres, &TOKENS).await;
    let mut sql = PgConnection::connect(&gateway.setting("DATABASE__URL")).await.expect("the test server answers");
    let terms = json!({"subject": "u1", "allowedTypes": ["image/png"]});
    let token = gateway.request(Method::POST, "/auth/tokens").bearer_auth(KEY).json(&terms);
    let token = Answer::of(token.send().await).await.json["accessToken"].as_str().expect("a token").to_owned();
    let sign = async |name: &str| {
        let wanted = json!({"fileName": name, "maxFileSize": 999, "expiresIn": 60});
        let asked = gateway.request(Method::POST, "/uploads/sign").bearer_auth(&token).json(&wanted);
        Answer::of(asked.send().await).await
    };
    sign("a.gif").await.is_refused(415, "type_not_allowed");
    for (name, bytes) in [("wrong.png", &b"GIF89a and so on"[..]), ("right.png", PNG)] {
        assert_eq!(send(&sign(name).await.json, bytes).await.status, 200);
    }
    assert_eq!(objects(&gateway).await, 2);
    let soon = "UPDATE objects_underway SET look_at = 0 WHERE form IS NOT NULL";
    sqlx::raw_sql(AssertSqlSafe(soon)).execute(&mut sql).await.expect("done");
    eventually("the sweeper has looked", async || {
        let files = gateway.request(Method::GET, "/files").bearer_auth(&token).send().await;
        let files = Answer::of(files).await.json;
        objects(&gateway).await == 1 && files["files"][0]["fileName"] == "right.png"
    })
    .await;
}

/// The key is the form's, from the moment that it is given out until it has ended and nothing lies there.
#[tokio::test(flavor = "multi_thread")]
async fn a_form_has_the_key_that_the_application_chose() {
    let application = Application::start().await;
    let hook = application.url("before_create");
    let own = [
        ("HOOKS__BEFORE_CREATE__URL", hook.as_str()),
        ("SWEEP__ORPHAN_AFTER", "1s"),
        ("UPLOAD__ALLOWED_TYPES", "image/*"),
    ];
    let gateway = Gateway::start_with(On::OssAndPostgres, &[&CALLBACKS[..], &own].concat()).await;
    let sign = async |seconds: u64| {
        let wanted = json!({"fileName": "me.png", "maxFileSize": 99, "expiresIn": seconds});
        gateway.post("/uploads/sign", wanted).await
    };
    application.says(200, "{\"objectKey\": \"avatars/u1.png\", \"metadata\": {\"user\": \"u1\"}}");
    let form = sign(600).await;
    assert_eq!((form.status.as_u16(), &form.json["fields"]["key"]), (200, &json!("avatars/u1.png")), "{form:?}");
    // Nobody else gets it, in whatever way; of many at once, nobody either.
    sign(600).await.is_refused(409, "key_taken");
    let other = json!({"fileId": "b", "fileName": "b.png", "fileSize": 9});
    gateway.post("/uploads", other.clone()).await.is_refused(409, "key_taken");
    let small = gateway.request(Method::POST, "/files?fileName=b.png").body(PNG);
    Answer::of(small.send().await).await.is_refused(409, "key_taken");
    // What is sent back leaves the form its key.
    assert_eq!(send(&form.json, b"<html>").await.status, 203);
    assert_eq!(objects(&gateway).await, 0);
    sign(600).await.is_refused(409, "key_taken");
    let told = send(&form.json, PNG).await;
    assert_eq!((told.status.as_u16(), &told.json["file"]["metadata"]["user"]), (200, &json!("u1")), "{told:?}");
    let file_id = told.json["file"]["fileId"].as_str().expect("an id").to_owned();
    assert_eq!(gateway.hooks.wait_for(&file_id).await.json["data"]["objectKey"], "avatars/u1.png");
    // From now on it is the file's.
    assert_eq!(send(&form.json, PNG).await.status, 409);
    sign(600).await.is_refused(409, "key_taken");
    assert_eq!(gateway.download(&file_id).await, PNG);
    assert_eq!(gateway.delete(&format!("/files/{file_id}")).await.status, 204);
    // What may still be on its way out of the store is nobody else's either.
    sign(600).await.is_refused(409, "key_taken");
    // A form that nobody sends gives its key back once it has ended.
    application.says(200, "{\"objectKey\": \"avatars/u2.png\"}");
    assert_eq!(sign(1).await.status, 200);
    gateway.post("/uploads", other.clone()).await.is_refused(409, "key_taken");
    eventually("it is free again", async || gateway.post("/uploads", other.clone()).await.status == 201).await;
    // An object that is there already is somebody's.
    application.says(200, "{\"objectKey\": \"other\"}");
    put_with_callback(&gateway, "http://127.0.0.1:9/", "nothing").await;
    let refused = sign(600).await;
    refused.is_refused(409, "key_taken");
    assert_eq!(objects(&gateway).await, 1, "{refused:?}");
}

/// Sixteen ask at once for a form of one key: one gets it.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_forms_for_one_key_one_is_given_out() {
    let application = Application::start().await;
    application.says(200, "{\"objectKey\": \"one\"}");
    let gateway = application.gateway(On::OssAndPostgres, "before_create").await;
    let wanted = json!({"fileName": "a", "maxFileSize": 9, "expiresIn": 60});
    let all = (0..16).map(|_| gateway.post("/uploads/sign", wanted.clone()));
    let all = futures_util::future::join_all(all).await;
    let given: Vec<u16> = all.iter().map(|answer| answer.status.as_u16()).filter(|status| *status == 200).collect();
    assert_eq!(given.len(), 1, "{all:?}");
    assert!(all.iter().all(|answer| answer.status == 200 || answer.code() == "key_taken"), "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_folder_the_form_is_a_link_to_the_gateway() {
    let gateway = Gateway::start_with(On::FileAndSqlite, &TOKENS).await;
    let ask = |method: Method, path: &str| gateway.request(method, path).bearer_auth(KEY);
    let terms = json!({"subject": "u1", "metadata": {"album": "summer"}, "maxFileSize": 7});
    let token = Answer::of(ask(Method::POST, "/auth/tokens").json(&terms).send().await).await;
    let token = token.json["accessToken"].as_str().expect("a token").to_owned();
    let sign = async |bytes: u64| {
        let wanted = json!({"fileName": "a b.txt", "maxFileSize": bytes, "contentType": "text/plain", "expiresIn": 60});
        let sign = gateway.request(Method::POST, "/uploads/sign").bearer_auth(&token).json(&wanted);
        Answer::of(sign.send().await).await
    };
    assert_eq!(sign(8).await.code(), "file_too_large");
    let mut form = sign(7).await.json;
    let path = form["url"].as_str().expect("a path").to_owned();
    form["url"] = json!(gateway.url(&path));
    assert_eq!(send(&form, b"too long").await.status, 413);
    let sent = send(&form, b"hello").await;
    assert_eq!(sent.status, 201, "{sent:?}");
    assert_eq!((&sent.json["fileName"], &sent.json["metadata"]), (&json!("a b.txt"), &json!({"album": "summer"})));
    // The same again is the same; another file is refused.
    assert_eq!(send(&form, b"hello").await.json["fileId"], sent.json["fileId"]);
    assert_eq!(send(&form, b"other").await.code(), "upload_conflict");
    for edited in [path.replace("owner=u1", "owner=u2"), path.replace("a%20b", "c"), format!("{path}0")] {
        assert_ne!(edited, path);
        form["url"] = json!(gateway.url(&edited));
        assert_eq!(send(&form, b"hello").await.code(), "signature_invalid", "{edited}");
    }
    // It lets nobody do anything else.
    let listed = gateway.request(Method::GET, &path).send().await.expect("an answer");
    assert_eq!(listed.status(), 401);
}
