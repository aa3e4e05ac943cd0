//! `openapi.yaml` against the running gateway: every operation is driven, and
//! each answer must be one that the document describes: status, headers, body.

use std::collections::BTreeSet;
use std::sync::Mutex;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, KIB, On, content};

const METHODS: [&str; 5] = ["get", "head", "put", "post", "delete"];
const CHUNK: usize = 100 * KIB;

/// The document, and what of it was seen.
struct Contract {
    document: Value,
    seen: Mutex<BTreeSet<(String, u16)>>,
}

impl Contract {
    fn read() -> Self {
        let document = serde_norway::from_str(include_str!("../../openapi.yaml")).expect("YAML");
        Self { document, seen: Mutex::default() }
    }

    /// Every (method, path template, operation).
    fn operations(&self) -> Vec<(&str, &str, &Value)> {
        let paths = self.document["paths"].as_object().expect("paths");
        paths
            .iter()
            .flat_map(|(path, item)| METHODS.iter().map(move |method| (*method, path.as_str(), &item[*method])))
            .filter(|(_, _, operation)| operation.is_object())
            .collect()
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(at) => self.document.pointer(at.trim_start_matches('#')).unwrap_or_else(|| panic!("no {at}")),
            None => value,
        }
    }

    /// Sends the request and holds its answer against the document.
    async fn ask(&self, template: &str, request: RequestBuilder) -> Answer {
        let (client, request) = request.build_split();
        let request = request.expect("a request");
        let method = request.method().as_str().to_ascii_lowercase();
        let shown = format!("{method} {}", request.url());
        let answer = Answer::of(client.execute(request).await).await;
        let operation = &self.document["paths"][template][&method];
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{shown} is not described"));
        let response = &operation["responses"][answer.status.as_str()];
        assert!(response.is_object(), "{shown}: {} is not described for {id}: {answer:?}", answer.status);
        self.hold(&shown, self.resolve(response), &answer, method == "head");
        self.seen.lock().expect("a lock").insert((id.to_owned(), answer.status.as_u16()));
        answer
    }

    fn hold(&self, shown: &str, response: &Value, answer: &Answer, is_head: bool) {
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            let header = self.resolve(header);
            match answer.headers.get(name).map(|value| value.to_str().expect("ASCII")) {
                Some(value) => self.validate(&format!("{shown}: {name}"), &header["schema"], &json!(value)),
                None => assert_ne!(header["required"], true, "{shown}: no {name}: {answer:?}"),
            }
        }
        let body_is_empty = answer.json == json!("");
        if is_head || (body_is_empty && response["content"].get("*/*").is_some()) {
            return assert!(body_is_empty, "{shown}: {answer:?}");
        }
        let Some(contents) = response["content"].as_object() else {
            return assert!(body_is_empty, "{shown}: a body where none is described: {answer:?}");
        };
        let mime = answer.headers[CONTENT_TYPE].to_str().expect("ASCII").split(';').next().expect("a type");
        let described = contents.get(mime).or_else(|| contents.get("*/*"));
        let described = described.unwrap_or_else(|| panic!("{shown}: {mime} is not described: {answer:?}"));
        self.validate(shown, &described["schema"], &answer.json);
    }

    fn validate(&self, shown: &str, schema: &Value, value: &Value) {
        let mut schema = schema.clone();
        schema["components"] = self.document["components"].clone();
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let errors: Vec<String> = validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{shown}: {errors:#?}\n{value:#}");
    }

    /// Sends something to every operation that needs a key, whatever comes of it.
    async fn ask_all(&self, gateway: &Gateway, header: (&str, &str), status: u16) {
        for (method, template, operation) in self.operations() {
            if operation["security"] == json!([]) {
                continue;
            }
            let path = template.replace("{fileId}", "x").replace("{chunkIndex}", "0");
            let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).expect("a method");
            let answer = self.ask(template, gateway.request(method, &path).header(header.0, header.1)).await;
            assert_eq!(answer.status, status, "{template}: {answer:?}");
        }
    }
}

/// The request with a form, as the page of a tutorial sends it.
fn with_form(request: RequestBuilder, fields: &[(&str, &str)], bytes: &[u8]) -> RequestBuilder {
    let mut body = Vec::new();
    for (name, value) in fields {
        let head = format!("--cut\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(head.as_bytes());
    }
    body.extend_from_slice(b"--cut\r\nContent-Disposition: form-data; name=\"file\"; filename=\"blob\"\r\n\r\n");
    body.extend_from_slice(bytes);
    body.extend_from_slice(b"\r\n--cut--\r\n");
    request.header(CONTENT_TYPE, "multipart/form-data; boundary=cut").body(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_answers_as_described() {
    let contract = Contract::read();
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let bytes = content(2 * CHUNK + 7, 1);
    uploads(&contract, &gateway).await;
    chunks(&contract, &gateway, &bytes).await;
    forms(&contract, &gateway, &bytes).await;
    files(&contract, &gateway, &bytes).await;
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(contract.ask(path, gateway.request(Method::GET, path)).await.status, 200);
    }
    contract.ask_all(&gateway, ("Origin", "http://elsewhere.example"), 403).await;

    let keys = [("AUTH__MODE", "keys"), ("AUTH__API_KEYS", "app:ck_0123456789abcdef")];
    let guarded = Gateway::start_with(On::FileAndSqlite, &keys).await;
    contract.ask_all(&guarded, ("Authorization", "Bearer ck_wrong"), 401).await;

    let seen = contract.seen.lock().expect("a lock");
    for (method, path, operation) in contract.operations() {
        let id = operation["operationId"].as_str().expect("an id");
        let well = seen.iter().any(|(seen, status)| seen == id && *status < 300);
        assert!(well, "{method} {path} ({id}) was never driven to success");
    }
    let described: usize =
        contract.operations().iter().map(|(_, _, o)| o["responses"].as_object().map_or(0, |r| r.len())).sum();
    println!("{} of {described} described answers were seen", seen.len());
}

async fn uploads(contract: &Contract, gateway: &Gateway) {
    let create = |body: Value| contract.ask("/uploads", gateway.request(Method::POST, "/uploads").json(&body));
    let wanted = json!({"fileId": "u", "fileName": "u.bin", "fileSize": 3 * CHUNK, "chunkSize": CHUNK,
        "contentType": "video/mp4", "metadata": {"album": "summer"}, "lastModified": 1_795_255_740_007u64,
        "checksum": {"algorithm": "md5", "value": "d41d8cd98f00b204e9800998ecf8427e"}, "autoComplete": true});
    assert_eq!(create(wanted.clone()).await.status, 201);
    assert_eq!(create(wanted.clone()).await.status, 200);
    assert_eq!(create(json!({"fileName": "empty", "fileSize": 0})).await.status, 201);
    create(json!({"fileId": "a/b", "fileName": "a", "fileSize": 1})).await.is_refused(400, "invalid_file_id");
    create(json!({"fileName": "a", "fileSize": 1, "chunkSize": 0})).await.is_refused(400, "chunk_size_out_of_range");
    create(json!({"fileId": "u", "fileName": "u.bin", "fileSize": 1})).await.is_refused(409, "upload_conflict");
    let huge = json!({"metadata": {"k": "v".repeat(10_000)}, "fileName": "a", "fileSize": 1});
    create(huge).await.is_refused(413, "metadata_too_large");

    let get = |query: &str| contract.ask("/uploads", gateway.request(Method::GET, &format!("/uploads{query}")));
    let page = get("?limit=1").await;
    let next = page.json["nextCursor"].as_str().expect("a second page").to_owned();
    assert_eq!(get(&format!("?limit=1&cursor={next}")).await.status, 200);
    assert_eq!(get("?status=uploading").await.status, 200);
    get("?limit=0").await.is_refused(400, "invalid_parameter");

    let one = |method, id: &str| contract.ask("/uploads/{fileId}", gateway.request(method, &format!("/uploads/{id}")));
    assert_eq!(one(Method::GET, "u").await.status, 200);
    one(Method::GET, "none").await.is_refused(404, "upload_not_found");
    one(Method::GET, "%2e%2e%20").await.is_refused(400, "invalid_file_id");
    assert_eq!(one(Method::DELETE, "u").await.status, 204);
    one(Method::DELETE, "none").await.is_refused(404, "upload_not_found");
    one(Method::DELETE, "a%20b").await.is_refused(400, "invalid_file_id");
}

async fn chunks(contract: &Contract, gateway: &Gateway, bytes: &[u8]) {
    const ONE: &str = "/chunks/{fileId}/{chunkIndex}";
    let put = |id: &str, index: &str, body: &[u8]| {
        let path = format!("/chunks/{id}/{index}");
        contract.ask(ONE, gateway.request(Method::PUT, &path).body(body.to_vec()))
    };
    gateway.create("c", bytes.len(), CHUNK).await;
    let complete = |id: &str| {
        contract.ask("/chunks/complete", gateway.request(Method::POST, "/chunks/complete").json(&json!({"fileId": id})))
    };
    let piece = |index: usize| &bytes[index * CHUNK..((index + 1) * CHUNK).min(bytes.len())];
    assert_eq!(put("c", "0", piece(0)).await.status, 200);
    put("c", "0", piece(1)).await.is_refused(409, "chunk_conflict");
    put("c", "1", b"short").await.is_refused(400, "chunk_size_mismatch");
    put("c", "-1", b"").await.is_refused(400, "chunk_index_out_of_range");
    put("none", "0", b"x").await.is_refused(404, "upload_not_found");
    put("u", "0", &bytes[..CHUNK]).await.is_refused(410, "upload_aborted");
    complete("c").await.is_refused(409, "chunks_missing");
    complete("none").await.is_refused(404, "upload_not_found");
    complete("").await.is_refused(400, "invalid_file_id");
    complete("u").await.is_refused(410, "upload_aborted");

    let headed = |headers: &[(&str, &str)], body: &[u8]| {
        let request = gateway.request(Method::PUT, "/chunks").header("X-File-Id", "c").body(body.to_vec());
        contract.ask("/chunks", headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)))
    };
    headed(&[], piece(2)).await.is_refused(400, "invalid_request");
    let index = ("X-Chunk-Index", "2");
    headed(&[index, ("Content-Encoding", "gzip")], piece(2)).await.is_refused(415, "unsupported_encoding");
    headed(&[index, ("X-Checksum-Crc64", "1")], piece(2)).await.is_refused(422, "checksum_mismatch");
    assert_eq!(headed(&[index], piece(2)).await.status, 200);

    let get = |query: &str| contract.ask("/chunks", gateway.request(Method::GET, &format!("/chunks?{query}")));
    for query in ["fileId=c", "fileId=c&view=all", "fileId=c&view=ranges", "fileId=none", "fileId=u"] {
        assert_eq!(get(query).await.status, 200, "{query}");
    }
    get("").await.is_refused(400, "invalid_file_id");
    get("fileId=c&view=x").await.is_refused(400, "invalid_parameter");
    let last = put("c", "1", piece(1)).await;
    assert_eq!(last.json["complete"], true, "{last:?}");
    assert_eq!(get("fileId=c").await.json["status"], "completed");
    assert_eq!(complete("c").await.status, 200);
    let delete = gateway.request(Method::DELETE, "/uploads/c");
    contract.ask("/uploads/{fileId}", delete).await.is_refused(409, "upload_completed");
}

async fn forms(contract: &Contract, gateway: &Gateway, bytes: &[u8]) {
    for path in ["/chunks", "/upload-chunk"] {
        let post = |fields: &[(&str, &str)], bytes: &[u8]| {
            contract.ask(path, with_form(gateway.request(Method::POST, path), fields, bytes))
        };
        let id = path.trim_start_matches('/');
        let fields = |index: &'static str| {
            vec![("chunkIndex", index), ("totalChunks", "3"), ("fileName", "报告.bin"), ("contentType", "text/plain")]
        };
        let with_id = |index| [vec![("fileId", id)], fields(index)].concat();
        post(&fields("0"), &bytes[..CHUNK]).await.is_refused(400, "file_id_required");
        // The last chunk comes first: the plan is not learnt yet.
        let last = post(&with_id("2"), &bytes[2 * CHUNK..]).await;
        assert_eq!((last.status.as_u16(), &last.json["offset"]), (200, &Value::Null), "{last:?}");
        let known = contract.ask("/chunks", gateway.request(Method::GET, &format!("/chunks?fileId={id}"))).await;
        assert_eq!(known.json["chunkSize"], Value::Null, "{known:?}");
        assert_eq!(post(&with_id("0"), &bytes[..CHUNK]).await.status, 200);
        post(&with_id("0"), &bytes[1..=CHUNK]).await.is_refused(409, "chunk_conflict");
        let done = post(&with_id("1"), &bytes[CHUNK..2 * CHUNK]).await;
        assert_eq!(done.json["complete"], true, "{done:?}");
    }
}

async fn files(contract: &Contract, gateway: &Gateway, bytes: &[u8]) {
    let post = |query: &str| gateway.request(Method::POST, &format!("/files{query}"));
    let ask = |request| contract.ask("/files", request);
    assert_eq!(ask(post("?fileId=f&fileName=f.txt").body("hello")).await.status, 201);
    let meta = [("fileName", "g.txt"), ("metadata", "{\"a\":\"b\"}")];
    assert_eq!(ask(with_form(post(""), &meta, bytes)).await.status, 201);
    ask(post("").body("hello")).await.is_refused(400, "invalid_request");
    ask(post("?fileName=l").body(vec![0; (16 << 20) + 1])).await.is_refused(413, "file_too_large");
    let encoded = post("?fileName=e").header("Content-Encoding", "gzip").body("x");
    ask(encoded).await.is_refused(415, "unsupported_encoding");
    ask(post("?fileName=w&checksum=crc64:1").body("hello")).await.is_refused(422, "checksum_mismatch");

    let one = |id: &str| contract.ask("/files/{fileId}", gateway.request(Method::GET, &format!("/files/{id}")));
    assert_eq!(one("f").await.status, 200);
    one("none").await.is_refused(404, "file_not_found");
    one("a%20b").await.is_refused(400, "invalid_file_id");

    const CONTENT: &str = "/files/{fileId}/content";
    let read = |method, id: &str, headers: &[(&str, &str)]| {
        let request = gateway.request(method, &format!("/files/{id}/content"));
        contract.ask(CONTENT, headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)))
    };
    for method in [Method::GET, Method::HEAD] {
        let whole = read(method.clone(), "f", &[]).await;
        let etag = whole.headers["etag"].to_str().expect("ASCII").to_owned();
        assert_eq!(whole.status, 200);
        assert_eq!(read(method.clone(), "f", &[("Range", "bytes=1-2")]).await.status, 206);
        assert_eq!(read(method.clone(), "f", &[("If-None-Match", &etag)]).await.status, 304);
        assert_eq!(read(method.clone(), "f", &[("Range", "bytes=9-")]).await.status, 416);
        assert_eq!(read(method.clone(), "none", &[]).await.status, 404);
        assert_eq!(read(method, "a%20b", &[]).await.status, 400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_described_is_refused() {
    let contract = Contract::read();
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let problem = &contract.document["components"]["schemas"]["Problem"];
    let nowhere = gateway.get("/nowhere").await;
    contract.validate("/nowhere", problem, &nowhere.json);
    nowhere.is_refused(404, "not_found");
    for (_, template, _) in contract.operations() {
        let path = template.replace("{fileId}", "x").replace("{chunkIndex}", "0");
        let answer = Answer::of(gateway.request(Method::PATCH, &path).send().await).await;
        contract.validate(template, problem, &answer.json);
        let allow = answer.is_refused(405, "method_not_allowed").headers["allow"].to_str().expect("ASCII");
        let described = METHODS.iter().filter(|method| contract.document["paths"][template][**method].is_object());
        for method in described {
            assert!(allow.contains(&method.to_ascii_uppercase()), "{template}: {allow}");
        }
    }
}
