//! What goes on to the store, and what comes back from it.

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::{Growth, send};
use crate::faults::stand::{Database, Stand, is_retryable, is_whole};
use crate::harness::{KIB, MIB, content};
use crate::openapi::contract::with_form;
use crate::oss_proxy::{Fault, Operation};

const CHUNK: usize = 100 * KIB;
const FOREIGN: &str = "said-by-the-client";

/// What would change an object's owner, its readers, its key, or who is told.
const HEADERS: [&str; 22] = [
    "x-oss-object-acl",
    "x-oss-acl",
    "x-oss-meta-a",
    "x-oss-callback",
    "x-oss-callback-var",
    "x-oss-security-token",
    "x-oss-copy-source",
    "x-oss-storage-class",
    "x-oss-server-side-encryption",
    "x-oss-server-side-encryption-key-id",
    "x-oss-forbid-overwrite",
    "x-oss-tagging",
    "x-oss-process",
    "x-oss-website-redirect-location",
    "x-amz-acl",
    "x-amz-meta-a",
    "x-amz-security-token",
    "x-amz-website-redirect-location",
    "x-amz-grant-full-control",
    "x-forwarded-for",
    "referer",
    "cookie",
];

fn with_all(mut request: RequestBuilder) -> RequestBuilder {
    for name in HEADERS {
        request = request.header(HeaderName::from_static(name), HeaderValue::from_static(FOREIGN));
    }
    request.header("user-agent", FOREIGN).header("cache-control", FOREIGN).header("x-request-id", FOREIGN)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_headers_go_no_further() {
    let stand = Stand::start(Database::Sqlite).await;
    let gateway = &stand.gateway;
    stand.proxy.keep_heads();
    let bytes = content(CHUNK + 5, 1);
    let query = format!("x-oss-process={FOREIGN}&x-oss-object-acl={FOREIGN}&callback={FOREIGN}&x-amz-acl={FOREIGN}");
    let ask = |method: Method, path: &str| with_all(gateway.request(method, &format!("{path}?{query}")));
    let wanted = json!({"fileId": "a", "fileName": "a", "fileSize": bytes.len(), "chunkSize": CHUNK,
        "metadata": {"x-oss-object-acl": FOREIGN}});
    assert_eq!(send(ask(Method::POST, "/uploads").json(&wanted)).await.status, 201);
    assert_eq!(send(ask(Method::PUT, "/chunks/a/0").body(bytes[..CHUNK].to_vec())).await.status, 200);
    let fields =
        [("fileId", "a"), ("chunkIndex", "1"), ("totalChunks", "2"), ("fileName", "a"), ("x-oss-acl", FOREIGN)];
    let form = with_form(ask(Method::POST, "/chunks"), &fields, &bytes[CHUNK..]);
    assert_eq!(send(form).await.json["complete"], true);
    let file = with_all(gateway.request(Method::POST, &format!("/files?fileName=b&fileId=b&{query}"))).body("hello");
    assert_eq!(send(file).await.status, 201);
    assert_eq!(send(ask(Method::POST, "/chunks/complete").json(&json!({"fileId": "a"}))).await.status, 200);
    for id in ["a", "b"] {
        let read = ask(Method::GET, &format!("/files/{id}/content")).header("Range", "bytes=1-2");
        assert_eq!(read.send().await.expect("an answer").status(), 206);
        assert_eq!(send(ask(Method::DELETE, &format!("/files/{id}"))).await.status, 204);
    }
    let heads = stand.proxy.heads();
    assert!(heads.len() >= 9, "{}", heads.len());
    let mut named = std::collections::BTreeSet::new();
    for head in heads {
        assert!(!head.query.contains(FOREIGN) && !head.query.contains("acl"), "{}", head.query);
        for (name, value) in &head.headers {
            assert!(!String::from_utf8_lossy(value.as_bytes()).contains(FOREIGN), "{name}: {value:?}");
            named.insert(name.as_str().to_owned());
        }
    }
    named.retain(|name| name.starts_with("x-"));
    let ours = ["x-oss-content-sha256", "x-oss-date", "x-oss-range-behavior"];
    assert!(named.iter().all(|name| ours.contains(&name.as_str())), "{named:?}");
}

/// As a billion laughs are told, and simpler.
fn hostile(root: &str, inner: &str) -> Vec<String> {
    let mut laughs = "<!ENTITY l0 \"ha\">".to_owned();
    for n in 1..30 {
        laughs.push_str(&format!("<!ENTITY l{n} \"&l{};&l{};\">", n - 1, n - 1));
    }
    let of =
        |kind: &str, word: &str| format!("<?xml version=\"1.0\"?>{kind}<{root}>{}</{root}>", inner.replace('?', word));
    vec![
        of(&format!("<!DOCTYPE x [{laughs}]>"), "&l29;"),
        of("<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>", "&e;"),
        of("<!doctype x SYSTEM \"http://127.0.0.1:9/x.dtd\">", "a"),
        of("", "&e;"),
        of("", &"<a>".repeat(100_000)),
        of("", "<![CDATA["),
        format!("<{root}>{}", inner.replace('?', &"a".repeat(5 << 20))),
        format!(
            "<{root}>{}</{root}>",
            "<Part><PartNumber>1</PartNumber><ETag>a</ETag><Size>1</Size></Part>".repeat(80_000)
        ),
        format!("<{root} {}/>", "a=\"b\" ".repeat(200_000)),
        format!("\u{feff}{root}"),
        String::new(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_with_entities_or_without_end_are_refused() {
    let stand = Stand::start_with(Database::Sqlite, &[("STORE__BREAKER__FAILURES", "10000")]).await;
    let gateway = &stand.gateway;
    let bytes = content(2 * CHUNK, 2);
    gateway.create("a", bytes.len(), CHUNK).await;
    let growth = Growth::of(gateway);
    let mut told = Vec::new();
    for text in hostile("InitiateMultipartUploadResult", "<UploadId>?</UploadId>") {
        let shown: String = text.chars().take(120).collect();
        // As often as it is asked again.
        for _ in 0..4 {
            stand.proxy.next(Operation::Initiate, Fault::Says(text.clone()));
        }
        let answer = gateway.put("a", 0, &bytes[..CHUNK]).await;
        assert_eq!(answer.status, 503, "{shown}: {answer:?}");
        is_retryable(&answer);
        told.push(answer.json.to_string());
        stand.proxy.forget(Operation::Initiate);
    }
    assert_eq!(gateway.put("a", 0, &bytes[..CHUNK]).await.status, 200);
    assert!(told.iter().all(|text| text.len() < 2000 && !text.contains("root:")), "{told:?}");
    // The list of parts, and the answer to what joins them: nothing is taken for done.
    let part = "<Part><PartNumber>1</PartNumber><ETag>?</ETag><Size>1</Size></Part>";
    for (operation, root, inner) in [
        (Operation::ListParts, "ListPartsResult", part),
        (Operation::Complete, "CompleteMultipartUploadResult", "<ETag>?</ETag>"),
    ] {
        let texts = hostile(root, inner);
        // Laughs, a file, a document type in small letters, more than is read.
        for nth in [0, 1, 2, 6] {
            stand.proxy.next(operation, Fault::Says(texts[nth].clone()));
        }
    }
    let left = || [Operation::ListParts, Operation::Complete].map(|operation| stand.proxy.pending(operation));
    let mut answer = gateway.put("a", 1, &bytes[CHUNK..]).await;
    for _ in 0..20 {
        if left() == [0, 0] {
            break;
        }
        assert!(answer.json["file"].is_null(), "{answer:?}");
        answer = gateway.post("/chunks/complete", json!({"fileId": "a"})).await;
    }
    assert_eq!(left(), [0, 0], "all of them were told: {answer:?}");
    growth.is_below(48 * MIB, "answers of the store with entities and without end");
    is_whole(gateway, "a", &bytes).await;
    let log = gateway.log();
    assert!(!log.contains("panicked") && !log.contains("root:x:0"), "{log}");
    assert!(log.lines().all(|line| line.len() < 4000), "no answer is logged whole");
}
