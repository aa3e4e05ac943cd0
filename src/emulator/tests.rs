//! The dialect on the wire, where the SDKs' own checks do not look.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

mod callbacks;
mod faults;
mod forms;

use super::*;
use crate::clock::TestClock;
use crate::domain::{Crc64, Timestamp};
use crate::store::oss::SignatureVersion;
use crate::store::oss::sign::{self, Signer};
use crate::units::Secret;

const MIN: usize = 100 * 1024;

struct Bucket {
    emulator: Emulator,
    clock: Arc<TestClock>,
    folder: tempfile::TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// The text of an element.
    fn element(&self, name: &str) -> &str {
        let (_, rest) =
            self.text().split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("{name}: {}", self.text()));
        rest.split_once("</").expect("an end").0
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().expect("text")).unwrap_or_default()
    }

    /// The status, and the code of a refusal.
    fn outcome(&self) -> (u16, &str) {
        let refused = self.status.is_client_error() || self.status.is_server_error();
        (self.status.as_u16(), if refused { self.element("Code") } else { "" })
    }
}

fn open(folder: &tempfile::TempDir, clock: &Arc<TestClock>, options: EmulatorOptions) -> Emulator {
    let config = EmulatorConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        bucket: "bkt".to_owned(),
        access_key_id: "ak".to_owned(),
        access_key_secret: Secret::new("sk"),
        region: "cn-hangzhou".to_owned(),
        data_dir: folder.path().to_owned(),
        options,
    };
    Emulator::open(config, Arc::<TestClock>::clone(clock)).expect("opens")
}

impl Bucket {
    fn new() -> Self {
        Self::with(EmulatorOptions::default())
    }

    fn with(options: EmulatorOptions) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(TestClock::at(Timestamp::from_millis(1_795_255_740_000)));
        Self { emulator: open(&folder, &clock, options), clock, folder }
    }

    /// As after a restart.
    fn reopened(self) -> Self {
        let Self { emulator, clock, folder } = self;
        drop(emulator);
        Self { emulator: open(&folder, &clock, EmulatorOptions::default()), clock, folder }
    }

    async fn send(&self, request: http::Request<Body>) -> Answer {
        let response = self.emulator.router().oneshot(request).await.expect("never fails");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    /// Signed with V4 now.
    fn signed(&self, method: &str, target: &str, headers: &[(&'static str, &str)], body: Body) -> http::Request<Body> {
        let (key, query) = target.split_once('?').unwrap_or((target, ""));
        let query = address::query_pairs(query);
        let mut all = HeaderMap::new();
        headers.iter().for_each(|(name, value)| set(&mut all, name, value));
        let signer =
            Signer { access_key_id: "ak", access_key_secret: "sk", security_token: None, region: "cn-hangzhou" };
        let key = Some(key).filter(|key| !key.is_empty());
        let subject = sign::Request { method, bucket: Some("bkt"), key, query: &query };
        sign::sign(SignatureVersion::V4, &signer, self.clock.now(), &subject, &mut all).expect("signs");
        let uri = format!("/{}?{}", sign::encode_path(key.unwrap_or_default()), sign::encode_query(&query));
        let mut request = http::Request::builder().method(method).uri(uri).body(body).expect("a request");
        *request.headers_mut() = all;
        request.headers_mut().insert(HOST, HeaderValue::from_static("bkt.localhost:9000"));
        request
    }

    async fn call(&self, method: &str, target: &str, body: impl Into<Body>) -> Answer {
        self.send(self.signed(method, target, &[], body.into())).await
    }

    async fn call_with(&self, method: &str, target: &str, headers: &[(&'static str, &str)], body: &str) -> Answer {
        self.send(self.signed(method, target, headers, Body::from(body.to_owned()))).await
    }

    async fn initiate(&self, key: &str) -> String {
        self.call("POST", &format!("{key}?uploads"), "").await.element("UploadId").to_owned()
    }

    async fn part(&self, key: &str, id: &str, number: u16, bytes: Vec<u8>) -> Answer {
        self.call("PUT", &format!("{key}?partNumber={number}&uploadId={id}"), bytes).await
    }
}

fn listed(parts: &[(u16, &str)]) -> String {
    let part =
        |(number, etag): &(u16, &str)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
    format!("<CompleteMultipartUpload>{}</CompleteMultipartUpload>", parts.iter().map(part).collect::<String>())
}

#[tokio::test]
async fn an_error_of_head_comes_in_headers() {
    let bucket = Bucket::new();
    let answer = bucket.call("HEAD", "k", "").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (404, ""));
    let xml = STANDARD.decode(answer.header("x-oss-err")).expect("base64");
    assert!(String::from_utf8_lossy(&xml).contains("<Code>NoSuchKey</Code>"));
    assert_eq!(answer.header("x-oss-ec"), "0026-00000001");
    assert_eq!(answer.header("x-oss-request-id").len(), 24);
    let answer = bucket.call("GET", "k", "").await;
    assert_eq!(answer.element("RequestId"), answer.header("x-oss-request-id"));
    assert_eq!(answer.element("HostId"), "bkt.localhost:9000");
}

#[tokio::test]
async fn a_stale_request_learns_our_time() {
    let bucket = Bucket::new();
    let request = bucket.signed("GET", "k", &[], Body::empty());
    bucket.clock.advance(Duration::from_secs(901));
    let answer = bucket.send(request).await;
    assert_eq!(answer.outcome(), (403, "RequestTimeTooSkewed"));
    assert_eq!(answer.header("date"), "Sat, 21 Nov 2026 10:24:01 GMT");
    assert_eq!(answer.element("ServerTime"), "2026-11-21T10:24:01.000Z");
}

#[tokio::test]
async fn ali_oss_forges_the_host_of_an_ip_endpoint() {
    let bucket = Bucket::new();
    let mut request = bucket.signed("PUT", "a/b", &[], Body::from("x"));
    request.headers_mut().insert(HOST, HeaderValue::from_static("bkt.oss-cn-hangzhou.aliyuncs.com"));
    assert_eq!(bucket.send(request).await.outcome(), (200, ""));
    let mut request = bucket.signed("GET", "a/b", &[], Body::empty());
    request.headers_mut().insert(HOST, HeaderValue::from_static("127.0.0.1:9000"));
    *request.uri_mut() = http::Uri::from_static("/bkt/a%2Fb");
    assert_eq!(bucket.send(request).await.text(), "x");
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_nothing() {
    let bucket = Bucket::new();
    let id = bucket.initiate("k").await;
    let frames = [Ok(Bytes::from(vec![1; 700_000])), Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))];
    let broken = || {
        Body::from_stream(futures_util::stream::iter(
            frames
                .iter()
                .map(|frame| match frame {
                    Ok(bytes) => Ok(bytes.clone()),
                    Err(e) => Err(std::io::Error::from(e.kind())),
                })
                .collect::<Vec<_>>(),
        ))
    };
    for target in ["other".to_owned(), format!("k?partNumber=1&uploadId={id}")] {
        assert_eq!(bucket.call("PUT", &target, broken()).await.outcome(), (400, "IncompleteBody"));
    }
    assert_eq!(bucket.emulator.open_uploads(), (1, 0));
    assert_eq!(bucket.call("GET", "other", "").await.outcome(), (404, "NoSuchKey"));
    let files = walk(bucket.folder.path()).into_iter().filter(|path| path.contains("/blobs/")).count();
    assert_eq!(files, 0);
}

fn walk(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path.display().to_string()] }).collect()
}

#[tokio::test]
async fn an_upload_goes_on_after_a_restart() {
    let bucket = Bucket::new();
    let id = bucket.initiate("dir/k").await;
    let first = bucket.part("dir/k", &id, 1, vec![1; MIN]).await.header("etag").to_owned();
    let bucket = bucket.reopened();
    let second = bucket.part("dir/k", &id, 7, vec![2; 5]).await.header("etag").to_owned();
    let answer = bucket.call("GET", &format!("dir/k?uploadId={id}"), "").await;
    assert_eq!(answer.text().matches("<Part>").count(), 2);
    let body = listed(&[(1, &first), (7, &second)]);
    let answer = bucket.call("POST", &format!("dir/k?uploadId={id}"), body).await;
    let whole = [vec![1; MIN], vec![2; 5]].concat();
    assert_eq!(answer.header("x-oss-hash-crc64ecma"), Crc64::of(&whole).to_string());
    assert_eq!(format!("\"{}\"", answer.element("ETag").replace("&quot;", "").replace('"', "")), answer.header("etag"));
    let bucket = bucket.reopened();
    let answer = bucket.call("GET", "dir/k", "").await;
    assert_eq!(answer.header("x-oss-object-type"), "Multipart");
    assert!(answer.body == whole, "other bytes");
    assert_eq!(bucket.emulator.open_uploads(), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_completes_one_wins() {
    let bucket = Bucket::new();
    let id = bucket.initiate("k").await;
    let etag = bucket.part("k", &id, 1, vec![1; 10]).await.header("etag").to_owned();
    let (target, body) = (format!("k?uploadId={id}"), listed(&[(1, &etag)]));
    let (a, b) = tokio::join!(bucket.call("POST", &target, body.clone()), bucket.call("POST", &target, body));
    let mut outcomes = [a.outcome(), b.outcome()];
    outcomes.sort_unstable();
    assert_eq!(outcomes, [(200, ""), (404, "NoSuchUpload")]);
}

#[tokio::test]
async fn complete_all_and_a_list_exclude_each_other() {
    let bucket = Bucket::new();
    let id = bucket.initiate("k").await;
    let etag = bucket.part("k", &id, 1, vec![1; 10]).await.header("etag").to_owned();
    let (target, all) = (format!("k?uploadId={id}"), [("x-oss-complete-all", "yes")]);
    let answer = bucket.call_with("POST", &target, &all, &listed(&[(1, &etag)])).await;
    assert_eq!(answer.outcome(), (400, "InvalidArgument"));
    assert_eq!(bucket.call("POST", &target, "").await.outcome(), (400, "MalformedXML"));
    assert_eq!(bucket.call("POST", &target, listed(&[])).await.outcome(), (400, "MalformedXML"));
    assert_eq!(bucket.call_with("POST", &target, &all, "").await.outcome(), (200, ""));
}

#[tokio::test]
async fn an_objects_headers_come_back_and_can_be_overridden() {
    let bucket = Bucket::new();
    let given = [("content-type", "text/html"), ("cache-control", "no-cache"), ("x-oss-meta-who", "alice")];
    bucket.call_with("PUT", "k", &given, "hello").await;
    let answer = bucket.call_with("GET", "k?response-content-type=text/plain", &[("range", "bytes=1-2")], "").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (206, "el"));
    assert_eq!(answer.header("content-range"), "bytes 1-2/5");
    assert_eq!(answer.header("content-type"), "text/plain");
    assert_eq!((answer.header("cache-control"), answer.header("x-oss-meta-who")), ("no-cache", "alice"));
    let answer = bucket.call_with("GET", "k", &[("range", "bytes=3-9")], "").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "hello"));
    let standard = [("range", "bytes=9-"), ("x-oss-range-behavior", "standard")];
    assert_eq!(bucket.call_with("GET", "k", &standard, "").await.outcome(), (416, "InvalidRange"));
    let etag = answer.header("etag").to_owned();
    let answer = bucket.call_with("GET", "k", &[("if-none-match", &etag)], "").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (304, ""));
}

#[tokio::test]
async fn the_stats_count_what_was_asked_for() {
    let bucket = Bucket::new();
    let id = bucket.initiate("k").await;
    bucket.part("k", &id, 1, vec![1; 10]).await;
    bucket.part("k", &id, 1, vec![1; 12]).await;
    bucket.part("k", "none", 1, vec![1; 10]).await;
    let request = http::Request::builder().uri("/-/stats").header(HOST, "localhost:9000").body(Body::empty());
    let answer = bucket.send(request.expect("a request")).await;
    let stats: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    let numbers = ["uploadPart", "partsStored", "bytesStored", "refused", "openUploads", "openParts", "objects"];
    assert_eq!(numbers.map(|name| stats[name].as_u64()), [3, 2, 22, 1, 1, 1, 0].map(Some), "{stats}");
}

#[tokio::test]
async fn a_browser_may_upload_from_any_page() {
    let bucket = Bucket::new();
    let preflight = http::Request::builder()
        .method("OPTIONS")
        .uri("/bkt/k")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", "x-oss-meta-a")
        .body(Body::empty());
    let answer = bucket.send(preflight.expect("a request")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("access-control-allow-headers"), "x-oss-meta-a");
    let answer = bucket.call_with("PUT", "k", &[("origin", "https://app.example")], "x").await;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert!(answer.header("access-control-expose-headers").contains("ETag"));
}

#[tokio::test]
async fn other_buckets_and_unsigned_requests_are_refused() {
    let bucket = Bucket::new();
    for (target, expected) in [("/bkt/k", (403, "AccessDenied")), ("/bkt//k", (400, "InvalidObjectName"))] {
        let request = http::Request::builder().uri(target).header(HOST, "localhost").body(Body::empty());
        assert_eq!(bucket.send(request.expect("a request")).await.outcome(), expected, "{target}");
    }
    let answer = bucket.call("GET", "k?symlink", "").await;
    assert_eq!(answer.outcome(), (501, "NotImplemented"));
}

#[tokio::test]
async fn a_bucket_lets_in_the_pages_that_its_rules_name() {
    let bucket = Bucket::new();
    let preflight = || {
        let request = http::Request::builder().method("OPTIONS").uri("/bkt/k").header("origin", "https://app.example");
        request.header("access-control-request-method", "PUT").body(Body::empty()).expect("a request")
    };
    let rule = "<CORSConfiguration><CORSRule><AllowedOrigin>https://other.example</AllowedOrigin>\
                <AllowedMethod>PUT</AllowedMethod></CORSRule></CORSConfiguration>";
    assert_eq!(bucket.call("PUT", "?cors", rule).await.outcome(), (200, ""));
    assert_eq!(bucket.call("GET", "?cors", "").await.text(), rule);
    let bucket = bucket.reopened();
    assert_eq!(bucket.send(preflight()).await.outcome(), (403, "AccessForbidden"));
    let answer = bucket.call_with("PUT", "k", &[("origin", "https://app.example")], "x").await;
    assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-origin")), (200, ""));
    let rule = rule.replace("other", "*");
    assert_eq!(bucket.call("PUT", "?cors", rule).await.outcome(), (200, ""));
    let answer = bucket.send(preflight()).await;
    assert_eq!(answer.header("access-control-allow-origin"), "https://app.example");
    assert_eq!(bucket.call("DELETE", "?cors", "").await.outcome(), (204, ""));
    assert_eq!(bucket.send(preflight()).await.outcome(), (403, "AccessForbidden"));
    assert_eq!(bucket.call("GET", "?cors", "").await.outcome(), (404, "NoSuchCORSConfiguration"));
    for (target, body) in [("?cors", "<CORSConfiguration/>"), ("?cors", "{}"), ("?lifecycle", "<a>")] {
        assert_eq!(bucket.call("PUT", target, body).await.outcome(), (400, "MalformedXML"), "{target} {body}");
    }
}

#[tokio::test]
async fn copies_keep_or_replace_what_is_said_of_them() {
    let bucket = Bucket::new();
    let given = [("content-type", "text/html"), ("x-oss-tagging", "a=1")];
    bucket.call_with("PUT", "k", &given, "hello").await;
    let source = ("x-oss-copy-source", "/bkt/k");
    assert_eq!(bucket.call_with("PUT", "c", &[source], "").await.outcome(), (200, ""));
    let answer = bucket.call("HEAD", "c", "").await;
    assert_eq!((answer.header("content-type"), answer.header("x-oss-tagging-count")), ("text/html", "1"));
    let replacing = [source, ("x-oss-metadata-directive", "REPLACE"), ("x-oss-meta-who", "bob")];
    assert_eq!(bucket.call_with("PUT", "k", &replacing, "").await.outcome(), (200, ""));
    let answer = bucket.call("GET", "k", "").await;
    assert_eq!((answer.text(), answer.header("x-oss-meta-who")), ("hello", "bob"));
    for (header, expected) in [
        (("x-oss-copy-source-if-match", "x"), (412, "PreconditionFailed")),
        (("x-oss-metadata-directive", "KEEP"), (400, "InvalidArgument")),
        (("x-oss-forbid-overwrite", "true"), (409, "FileAlreadyExists")),
    ] {
        assert_eq!(bucket.call_with("PUT", "c", &[source, header], "").await.outcome(), expected, "{header:?}");
    }
    let id = bucket.initiate("m").await;
    let target = format!("m?partNumber=1&uploadId={id}");
    let range = ("x-oss-copy-source-range", "bytes=1-9");
    assert_eq!(bucket.call_with("PUT", &target, &[source, range], "").await.outcome(), (416, "InvalidRange"));
    let other = ("x-oss-copy-source", "/other/k");
    assert_eq!(bucket.call_with("PUT", &target, &[other], "").await.outcome(), (404, "NoSuchBucket"));
}

#[tokio::test]
async fn keys_come_and_go_while_it_runs() {
    let bucket = Bucket::new();
    let request = || bucket.signed("PUT", "k", &[], Body::from("x"));
    bucket.emulator.revoke("ak");
    assert_eq!(bucket.send(request()).await.outcome(), (403, "InvalidAccessKeyId"));
    let key = |secret| GrantedKey { id: "ak".to_owned(), secret: Secret::new(secret), token: None, expires: None };
    bucket.emulator.grant(key("other"));
    assert_eq!(bucket.send(request()).await.outcome(), (403, "SignatureDoesNotMatch"));
    bucket.emulator.grant(key("sk"));
    assert_eq!(bucket.send(request()).await.outcome(), (200, ""));
}
