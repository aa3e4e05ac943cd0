//! What is refused, with which code, and that browsers can read it.

mod heads;

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Answer, Gateway, MIB, On, content};

#[tokio::test(flavor = "multi_thread")]
async fn creations_that_make_no_upload() {
    let gateway = Gateway::start(On::OssAndPostgres).await;
    let with = |changes: Value| {
        let mut wanted = json!({"fileName": "a", "fileSize": 100 * MIB, "chunkSize": MIB});
        wanted.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
        wanted
    };
    let many: serde_json::Map<String, Value> = (0..10_000).map(|n| (n.to_string(), json!("v"))).collect();
    let cases = [
        (json!({"fileId": "a/b"}), 400, "invalid_file_id"),
        (json!({"fileId": ".."}), 400, "invalid_file_id"),
        (json!({"fileId": "x".repeat(4096)}), 400, "invalid_file_id"),
        (json!({"fileId": ""}), 400, "invalid_file_id"),
        (json!({"fileName": ""}), 400, "invalid_request"),
        (json!({"fileName": 7}), 400, "invalid_request"),
        (json!({"fileSize": -1}), 400, "invalid_request"),
        (json!({"fileSize": 9_223_372_036_854_775_808u64}), 400, "invalid_request"),
        (json!({"fileSize": 9_223_372_036_854_775_807u64}), 413, "file_too_large"),
        (json!({"chunkSize": 0}), 400, "chunk_size_out_of_range"),
        (json!({"chunkSize": 1024}), 400, "chunk_size_out_of_range"),
        (json!({"fileSize": 10_001 * MIB as u64}), 400, "chunk_size_out_of_range"),
        (json!({"totalChunks": 7}), 400, "total_chunks_out_of_range"),
        (json!({"contentType": "a\r\nb"}), 400, "invalid_request"),
        (json!({"checksum": {"algorithm": "sha1", "value": "00"}}), 400, "invalid_request"),
        (json!({"checksum": {"algorithm": "md5", "value": "00"}}), 400, "invalid_request"),
        (json!({"metadata": many}), 413, "metadata_too_large"),
        (json!({"metadata": {"k": "v".repeat(1 << 20)}}), 413, "metadata_too_large"),
        (json!({"metadata": {"k": "v".repeat(5 << 20)}}), 413, "metadata_too_large"),
        (json!({"metadata": {"k": 1}}), 400, "invalid_request"),
    ];
    for (changes, status, code) in cases {
        let shown = changes.to_string().chars().take(80).collect::<String>();
        let answer = gateway.post("/uploads", with(changes)).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{shown}: {answer:?}");
        answer.is_refused(status, code);
    }
    let small = gateway.post("/uploads", with(json!({"chunkSize": 1}))).await;
    assert_eq!(small.json["minChunkSize"], 100 * 1024);
    assert!(small.json["maxChunkSize"].is_u64());
    let positional = r#"[null, "a", 5, null, null, null, null, null, null, false]"#;
    let nested = r#"{"fileName": "a", "fileSize": 5, "checksum": ["md5", "25f9e794323b453885f5181f1b624d0b"]}"#;
    for body in ["", "{", "[]", "{\"fileName\":\"\\ud800\"}", positional, nested] {
        let sent = gateway.request(Method::POST, "/uploads").body(body).send().await;
        Answer::of(sent).await.is_refused(400, "invalid_request");
    }
    let bytes = gateway.request(Method::POST, "/uploads").body(vec![b'"', 0xff, b'"']).send().await;
    Answer::of(bytes).await.is_refused(400, "invalid_request");
    assert_eq!(gateway.get("/uploads").await.json["uploads"], json!([]), "nothing was created");
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_fit_no_plan() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    gateway.create("p", 2 * MIB, MIB).await;
    gateway.put("p", 2, b"x").await.is_refused(400, "chunk_index_out_of_range");
    for index in ["4294967296", "10001", "-1", "170141183460469231731687303715884105727"] {
        let sent = gateway.request(Method::PUT, &format!("/chunks/p/{index}")).body("x").send().await;
        Answer::of(sent).await.is_refused(400, "chunk_index_out_of_range");
    }
    for index in ["x", "1.5", "%00", "%ff", "-0", "+0", "00", "0%0a", "%20%200", "%2B0"] {
        let sent = gateway.request(Method::PUT, &format!("/chunks/p/{index}")).body("x").send().await;
        Answer::of(sent).await.is_refused(400, "invalid_request");
    }
    for id in ["%2e%2e%2fetc", "a%00b", "%ff", "a%ff", "a%20b"] {
        let sent = gateway.request(Method::PUT, &format!("/chunks/{id}/0")).body("x").send().await;
        Answer::of(sent).await.is_refused(400, "invalid_file_id");
    }
    gateway.put("nobody", 0, b"x").await.is_refused(404, "upload_not_found");
    let zipped = gateway.request(Method::PUT, "/chunks/p/0").header("content-encoding", "gzip").body(vec![0; MIB]);
    Answer::of(zipped.send().await).await.is_refused(415, "unsupported_encoding");
    let missing = gateway.request(Method::PUT, "/chunks").header("x-file-id", "p").body("x").send().await;
    Answer::of(missing).await.is_refused(400, "invalid_request");
    let by_headers = gateway.request(Method::PUT, "/chunks").header("x-file-id", "p").header("x-chunk-index", "0");
    assert_eq!(Answer::of(by_headers.body(content(MIB, 1)).send().await).await.status, 200);
    for query in ["", "?fileId=", "?fileId=a/b", "?fileId=p&view=some"] {
        assert_eq!(gateway.get(&format!("/chunks{query}")).await.status, 400, "{query}");
    }
    let none = gateway.get("/chunks?fileId=unknown").await;
    assert_eq!(none.status, 200);
    assert_eq!(
        none.json,
        json!({"fileId": "unknown", "status": "none", "uploadedChunks": 0, "chunks": [], "missing": []})
    );
    let all = gateway.get("/chunks?fileId=p&view=all").await.json;
    assert_eq!(
        all["chunks"][1],
        json!({"fileId": "p", "chunkIndex": 1, "offset": MIB, "size": MIB, "status": "pending"})
    );
    let ranges = gateway.get("/chunks?fileId=p&view=ranges").await.json;
    assert_eq!((ranges.get("chunks"), &ranges["missing"]), (None, &json!([[1, 1]])));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_framework_refuses_is_a_problem_too() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    gateway.get("/nothing").await.is_refused(404, "not_found");
    let wrong = gateway.delete("/chunks").await;
    wrong.is_refused(405, "method_not_allowed");
    let allow = wrong.headers["allow"].to_str().expect("text").to_owned();
    assert!(["GET", "POST", "PUT"].iter().all(|method| allow.contains(method)), "{allow}");
    let given = gateway.request(Method::GET, "/nothing").header("x-request-id", "mine-1").send().await;
    assert_eq!(Answer::of(given).await.headers["x-request-id"], "mine-1");
    let bad = gateway.request(Method::GET, "/nothing").header("x-request-id", "a b\u{1b}").send().await;
    assert!(bad.is_err() || Answer::of(bad).await.headers["x-request-id"].len() == 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_authentication_only_this_machine_is_served() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let ask = async |host: &str, origin: Option<&str>| {
        let mut request = gateway.request(Method::POST, "/chunks").header("host", host).body("x");
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        Answer::of(request.send().await).await
    };
    let port = gateway.address.port();
    let rebound = ask(&format!("evil.com:{port}"), None).await;
    rebound.is_refused(403, "origin_not_allowed");
    let detail = rebound.json["detail"].as_str().expect("a text");
    // What allows an Origin does nothing for a Host.
    assert!(detail.contains(&format!("http://127.0.0.1:{port}")) && !detail.contains("cors."), "{detail}");
    ask(&gateway.address.to_string(), Some("https://evil.com")).await.is_refused(403, "origin_not_allowed");
    ask(&gateway.address.to_string(), Some("null")).await.is_refused(403, "origin_not_allowed");
    let own = ask(&format!("localhost:{port}"), Some(&format!("http://localhost:{port}"))).await;
    assert_eq!(own.code(), "invalid_request", "it got as far as the form");
    let probe = gateway.request(Method::GET, "/livez").header("host", "10.0.0.7").send().await;
    assert_eq!(probe.expect("an answer").status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn cors_stands_on_every_answer_to_an_allowed_origin() {
    let allowed = [("CORS__ALLOWED_ORIGINS", "https://app.example.com,https://*.shop.cn")];
    let gateway = Gateway::start_with(On::FileAndSqlite, &allowed).await;
    let preflight = async |origin: &str| {
        let request = gateway.request(Method::OPTIONS, "/chunks").header("origin", origin);
        let request = request.header("access-control-request-method", "PUT");
        Answer::of(request.header("access-control-request-headers", "x-file-id,x-chunk-index").send().await).await
    };
    for origin in ["https://app.example.com", "https://a.b.shop.cn"] {
        let answer = preflight(origin).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        assert_eq!(answer.headers["access-control-allow-origin"], origin);
        assert_eq!(answer.headers["access-control-max-age"], "7200");
        let text = |name: &str| answer.headers[name].to_str().expect("text").to_ascii_lowercase();
        assert!(["put", "patch", "delete"].iter().all(|m| text("access-control-allow-methods").contains(m)));
        let headers =
            ["authorization", "content-digest", "x-file-id", "x-chunk-index", "x-requested-with", "traceparent"];
        assert!(headers.iter().all(|h| text("access-control-allow-headers").contains(h)));
    }
    for origin in ["https://app.example.com.evil", "http://app.example.com", "null"] {
        let answer = preflight(origin).await;
        answer.is_refused(403, "cors_origin_not_allowed");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
    assert!(gateway.log().contains("cors.allowed_origins"), "the log says how to allow it");
    let refused = gateway.request(Method::PUT, "/chunks/none/0").header("origin", "https://app.example.com").body("x");
    let refused = Answer::of(refused.send().await).await;
    refused.is_refused(404, "upload_not_found");
    assert_eq!(refused.headers["access-control-allow-origin"], "https://app.example.com");
    assert!(refused.headers["access-control-expose-headers"].to_str().is_ok_and(|h| h.contains("Retry-After")));
    let plain = gateway.request(Method::OPTIONS, "/chunks").send().await.expect("an answer");
    assert_eq!(plain.status(), 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_needed_where_they_are_configured() {
    let keys = [("AUTH__MODE", "keys"), ("AUTH__API_KEYS", "shop:ck_shop,blog:ck_blog")];
    let gateway = Gateway::start_with(On::FileAndSqlite, &keys).await;
    let ask = async |method: Method, path: &str, key: Option<&str>| {
        let mut request = gateway.request(method, path);
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        Answer::of(request.json(&json!({"fileId": "k", "fileName": "a", "fileSize": 3})).send().await).await
    };
    for path in ["/uploads", "/chunks", "/chunks/complete", "/files?fileName=a", "/upload-chunk"] {
        let refused = ask(Method::POST, path, None).await;
        refused.is_refused(401, "unauthorized");
        assert!(refused.headers["www-authenticate"].to_str().is_ok_and(|h| h.starts_with("Bearer")));
        ask(Method::POST, path, Some("ck_wrong")).await.is_refused(401, "unauthorized");
    }
    for path in ["/uploads", "/uploads/k", "/chunks?fileId=k", "/files/k", "/files/k/content"] {
        ask(Method::GET, path, None).await.is_refused(401, "unauthorized");
    }
    let made = ask(Method::POST, "/uploads", Some("ck_shop")).await;
    assert_eq!((made.status.as_u16(), &made.json["owner"]), (201, &json!("key:shop")));
    // Another owner's id is the same answer as none.
    let other = ask(Method::GET, "/uploads/k", Some("ck_blog")).await;
    other.is_refused(404, "upload_not_found");
    assert_eq!(ask(Method::GET, "/chunks?fileId=k", Some("ck_blog")).await.json["status"], "none");
    ask(Method::PUT, "/chunks/k/0", Some("ck_blog")).await.is_refused(404, "upload_not_found");
    // A back end acts for its user.
    let acting = ask(Method::POST, "/uploads?owner=user%2F7", Some("ck_shop")).await;
    assert_eq!((acting.status.as_u16(), &acting.json["owner"]), (201, &json!("user/7")));
    let sent =
        gateway.request(Method::PUT, "/chunks/k/0?owner=user%2F7").bearer_auth("ck_blog").body("abc").send().await;
    assert_eq!(Answer::of(sent).await.json["complete"], true);
    let count = |answer: Answer| answer.json["uploads"].as_array().map(Vec::len);
    let hidden = ask(Method::GET, "/uploads/k?%6fwner=user%2F7", Some("ck_shop")).await;
    assert_eq!(hidden.json["owner"], "user/7", "{hidden:?}");
    let twice = ask(Method::GET, "/uploads/k?owner=key:shop&owner=user%2F7", Some("ck_shop")).await;
    twice.is_refused(400, "invalid_parameter");
    assert_eq!(count(ask(Method::GET, "/uploads", Some("ck_blog")).await), Some(2), "a list spans all owners");
    assert_eq!(count(ask(Method::GET, "/uploads?owner=user%2F7", Some("ck_blog")).await), Some(1));
    assert!(!gateway.log().contains("ck_shop") && !gateway.log().contains("ck_wrong"), "no key in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn open_uploads_are_bounded_per_owner() {
    let gateway = Gateway::start_with(On::FileAndSqlite, &[("LIMITS__MAX_OPEN_UPLOADS", "2")]).await;
    gateway.create("a", MIB, MIB).await;
    gateway.create("b", MIB, MIB).await;
    let wanted = json!({"fileName": "c", "fileSize": 5});
    let refused = gateway.post("/uploads", wanted.clone()).await;
    refused.is_refused(429, "too_many_uploads");
    assert!(refused.headers.contains_key("retry-after"));
    gateway.delete("/uploads/a").await;
    assert_eq!(gateway.post("/uploads", wanted).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_gateway_says_when_to_come_back() {
    let busy = [("LIMITS__MAX_CONCURRENT_CHUNKS", "1"), ("LIMITS__QUEUE_WAIT", "300ms")];
    let gateway = Gateway::start_with(On::FileAndSqlite, &busy).await;
    gateway.create("q", 3 * MIB, MIB).await;
    // Before anything has come of an upload, who sends next to nothing has no turn.
    assert_eq!(gateway.put("q", 2, &content(MIB, 2)).await.status, 200);
    let mut slow = TcpStream::connect(gateway.address).await.expect("a connection");
    let head = format!("PUT /chunks/q/0 HTTP/1.1\r\nHost: {}\r\nContent-Length: {MIB}\r\n\r\n", gateway.address);
    slow.write_all(head.as_bytes()).await.expect("sent");
    slow.write_all(b"xxx").await.expect("sent");
    tokio::time::sleep(Duration::from_millis(200)).await;
    let refused = gateway.put("q", 1, &content(MIB, 1)).await;
    refused.is_refused(503, "overloaded");
    assert!(refused.headers.contains_key("retry-after"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_sending_is_told() {
    let gateway = Gateway::start_with(On::OssAndPostgres, &[("LIMITS__BODY_IDLE_TIMEOUT", "500ms")]).await;
    gateway.create("s", MIB, MIB).await;
    let mut slow = TcpStream::connect(gateway.address).await.expect("a connection");
    let head = format!("PUT /chunks/s/0 HTTP/1.1\r\nHost: {}\r\nContent-Length: {MIB}\r\n\r\nxxx", gateway.address);
    slow.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 4096];
    let read = slow.read(&mut answer).await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body_timeout"), "{answer}");
    assert_eq!(gateway.put("s", 0, &content(MIB, 1)).await.json["complete"], true);
}

/// Sends this head and reads what comes first.
async fn head(address: std::net::SocketAddr, head: &str) -> String {
    let mut socket = TcpStream::connect(address).await.expect("a connection");
    socket.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 4096];
    let read = socket.read(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_to_one_host_which_is_ours() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let (public, admin) = (gateway.address, gateway.admin);
    for address in [public, admin] {
        let double = format!("GET /uploads HTTP/1.1\r\nHost: {address}\r\nHost: {address}\r\n\r\n");
        for malformed in [double.as_str(), "GET /uploads HTTP/1.1\r\n\r\n"] {
            let answer = head(address, malformed).await;
            assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("invalid_request"), "{answer}");
        }
    }
    let rebound = head(admin, "GET /metrics HTTP/1.1\r\nHost: evil.example:8081\r\n\r\n").await;
    assert!(rebound.starts_with("HTTP/1.1 403") && rebound.contains("origin_not_allowed"), "{rebound}");
    let own = head(admin, &format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\n\r\n")).await;
    assert!(own.starts_with("HTTP/1.1 200") && own.contains("x-request-id"), "{own}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_reading_is_cut() {
    let gateway = Gateway::start_with(On::FileAndSqlite, &[("LIMITS__BODY_IDLE_TIMEOUT", "500ms")]).await;
    let bytes = content(32 * MIB, 7);
    gateway.create("r", bytes.len(), 8 * MIB).await;
    gateway.put_all("r", &bytes, 8 * MIB).await;
    let mut socket = TcpStream::connect(gateway.address).await.expect("a connection");
    let head = format!("GET /files/r/content HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.address);
    socket.write_all(head.as_bytes()).await.expect("sent");
    // What the kernel holds for it is still there; the rest never comes.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut read = 0;
    let mut buffer = vec![0; 1 << 20];
    let reading = async { while let Ok(1..) = socket.read(&mut buffer).await.inspect(|bytes| read += bytes) {} };
    tokio::time::timeout(Duration::from_secs(60), reading).await.expect("it is cut");
    assert!(read > 0 && read < bytes.len(), "{read}");
    // One that reads, however slowly, gets all of it.
    assert_eq!(gateway.download("r").await, bytes);
}

/// A refusal that is decided by the head alone is on the wire before the body
/// is, and the body is still taken: a browser reads the answer.
#[tokio::test(flavor = "multi_thread")]
async fn early_refusals_come_before_the_body_and_do_not_cut_it() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let mut socket = TcpStream::connect(gateway.address).await.expect("a connection");
    let length = 20 * MIB;
    let head = format!("PUT /chunks/none/0 HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n\r\n", gateway.address);
    socket.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 4096];
    let read = socket.read(&mut answer).await.expect("an answer");
    assert!(String::from_utf8_lossy(&answer[..read]).starts_with("HTTP/1.1 404"));
    // All of it can still be written, and the connection serves the next request.
    socket.write_all(&vec![0; length]).await.expect("the body is taken");
    let next = format!("GET /livez HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.address);
    socket.write_all(next.as_bytes()).await.expect("sent");
    let read = tokio::time::timeout(Duration::from_secs(10), socket.read(&mut answer)).await;
    let read = read.expect("in time").expect("an answer");
    assert!(String::from_utf8_lossy(&answer[..read]).starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_what_is_well() {
    for on in On::BOTH {
        let mut gateway = Gateway::start(on).await;
        for path in ["/livez", "/readyz"] {
            assert_eq!(gateway.get(path).await.status, 200, "{path}");
        }
        let healthy = gateway.get("/healthz?strict=1").await;
        assert_eq!((healthy.status.as_u16(), &healthy.json["status"]), (200, &json!("ok")), "{healthy:?}");
        let metrics = gateway.metric("chunkgate_http_requests_total").await;
        assert!(metrics >= 1.0, "{metrics}");
        assert!(gateway.get("/metrics").await.status.is_client_error(), "not on the public listener");
        if let Some(emulator) = &mut gateway.emulator {
            emulator.stop();
            tokio::time::sleep(Duration::from_secs(6)).await;
            // A shared store that is away takes no replica out of the load balancer.
            assert_eq!(gateway.get("/readyz").await.status, 200);
            let strict = gateway.get("/healthz?strict=1").await;
            assert_eq!((strict.status.as_u16(), &strict.json["status"]), (503, &json!("failing")), "{strict:?}");
            assert!(!strict.json.to_string().contains("127.0.0.1"), "no address on the public listener");
        }
    }
}
