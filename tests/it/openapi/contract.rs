//! The document, what of it was seen, and requests to hold against it.

use std::collections::BTreeSet;
use std::sync::Mutex;

use futures_util::{StreamExt as _, stream};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, KIB};
use crate::hooks::Hook;

/// The methods that a path may have in the document.
pub(super) const METHODS: [&str; 6] = ["get", "head", "put", "post", "delete", "patch"];
/// What the stories cut their files into.
pub(crate) const CHUNK: usize = 100 * KIB;

/// One operation of the document.
#[derive(Clone, Copy)]
pub(crate) struct Operation<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) id: &'a str,
    pub(super) described: &'a Value,
}

/// An answer that was given: operation, status, and the code of a refusal.
type Seen = (String, u16, String);

/// The document, and what of it was seen.
pub(crate) struct Contract {
    pub(super) document: Value,
    seen: Mutex<BTreeSet<Seen>>,
}

impl Contract {
    pub(crate) fn read() -> Self {
        let document = serde_norway::from_str(include_str!("../../../openapi.yaml")).expect("YAML");
        Self { document, seen: Mutex::default() }
    }

    pub(crate) fn operations(&self) -> Vec<Operation<'_>> {
        let paths = self.document["paths"].as_object().expect("paths");
        let all = paths.iter().flat_map(|(path, item)| METHODS.map(|method| (method, path, &item[method])));
        let described = all.filter(|(_, _, operation)| operation.is_object());
        described
            .map(|(method, path, described)| {
                let id = described["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no id"));
                Operation { method, path, id, described }
            })
            .collect()
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(at) => self.document.pointer(at.trim_start_matches('#')).unwrap_or_else(|| panic!("no {at}")),
            None => value,
        }
    }

    /// Every answer that the document describes: operation and status.
    pub(super) fn described(&self) -> BTreeSet<(String, u16)> {
        let of = |operation: Operation<'_>| -> Vec<(String, u16)> {
            let statuses = operation.described["responses"].as_object().expect("responses").keys();
            statuses.map(|status| (operation.id.to_owned(), status.parse().expect("a status"))).collect()
        };
        self.operations().into_iter().flat_map(of).collect()
    }

    /// Every answer that was given so far: operation and status.
    pub(super) fn seen(&self) -> BTreeSet<(String, u16)> {
        self.seen.lock().expect("a lock").iter().map(|(id, status, _)| (id.clone(), *status)).collect()
    }

    /// Every code that was given so far.
    pub(super) fn codes_seen(&self) -> BTreeSet<String> {
        let seen = self.seen.lock().expect("a lock");
        seen.iter().map(|(_, _, code)| code.clone()).filter(|code| !code.is_empty()).collect()
    }

    /// The codes that the document lists.
    pub(super) fn codes(&self) -> BTreeSet<&str> {
        let codes = self.document["components"]["schemas"]["Code"]["enum"].as_array().expect("codes");
        codes.iter().map(|code| code.as_str().expect("a code")).collect()
    }

    /// Sends the request and holds its answer against the document.
    pub(super) async fn ask(&self, path: &str, request: RequestBuilder) -> Answer {
        let (client, request) = request.build_split();
        let request = request.expect("a request");
        let method = request.method().as_str().to_ascii_lowercase();
        let shown = format!("{method} {}", request.url());
        let answer = Answer::of(client.execute(request).await).await;
        let operation = &self.document["paths"][path][&method];
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{shown} is not described"));
        let response = &operation["responses"][answer.status.as_str()];
        assert!(response.is_object(), "{shown}: {} is not described for {id}: {answer:?}", answer.status);
        self.hold(&shown, self.resolve(response), &answer, method == "head");
        let seen = (id.to_owned(), answer.status.as_u16(), answer.code().to_owned());
        self.seen.lock().expect("a lock").insert(seen);
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

    pub(super) fn validate(&self, shown: &str, schema: &Value, value: &Value) {
        let mut schema = schema.clone();
        schema["components"] = self.document["components"].clone();
        // JSON Schema 2020-12 is what OpenAPI 3.1 says and what jsonschema assumes.
        let options = jsonschema::options().should_validate_formats(true);
        let validator = options.build(&schema).expect("a schema");
        let errors: Vec<String> = validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{shown}: {errors:#?}\n{value:#}");
    }

    /// The events that the document describes.
    pub(super) fn events(&self) -> BTreeSet<&str> {
        self.document["webhooks"].as_object().expect("webhooks").keys().map(String::as_str).collect()
    }

    /// Holds an event that arrived against the document, and says which it is.
    pub(super) fn hold_event(&self, hook: &Hook) -> String {
        let event = hook.json["type"].as_str().expect("a type");
        let described = &self.document["webhooks"][event]["post"];
        assert!(described.is_object(), "{event} is not described");
        for parameter in described["parameters"].as_array().expect("headers") {
            let header = self.resolve(parameter);
            let name = header["name"].as_str().expect("a name");
            self.validate(&format!("{event}: {name}"), &header["schema"], &json!(hook.headers[name].to_str().ok()));
        }
        assert_eq!(hook.headers[CONTENT_TYPE], "application/json");
        self.validate(event, &described["requestBody"]["content"]["application/json"]["schema"], &hook.json);
        event.to_owned()
    }

    /// What a refusal looks like that the document describes for no operation.
    pub(super) fn hold_problem(&self, shown: &str, answer: &Answer) {
        self.validate(shown, &self.document["components"]["schemas"]["Problem"], &answer.json);
    }
}

impl Operation<'_> {
    /// Whether it asks who is calling.
    pub(super) fn is_guarded(&self) -> bool {
        self.described["security"] != json!([])
    }

    /// Whether it is about tokens, which have a gateway of their own here.
    pub(super) fn is_of_tokens(&self) -> bool {
        self.described["tags"] == json!(["access"])
    }

    /// Whether it is for the store, which comes where it is expected.
    pub(super) fn is_of_store(&self) -> bool {
        self.described["tags"] == json!(["store"])
    }

    /// A request to the listener that has this operation.
    pub(crate) fn request(&self, gateway: &Gateway, method: Method, path: &str) -> RequestBuilder {
        let is_administration = self.described["tags"] == json!(["administration"]);
        if is_administration { gateway.admin_request(method, path) } else { gateway.request(method, path) }
    }

    /// A request that the gateway would grant if the upload `o` were open and
    /// lacked chunk 1, `full` lacked nothing, and `f` were a file.
    pub(crate) fn sample(&self, gateway: &Gateway) -> RequestBuilder {
        let id = if self.path.starts_with("/files") { "f" } else { "o" };
        let path = self.path.replace("{fileId}", id).replace("{chunkIndex}", "1").replace("{id}", "evt_x");
        let method = Method::from_bytes(self.method.to_ascii_uppercase().as_bytes()).expect("a method");
        let ask = |query: &str| self.request(gateway, method.clone(), &format!("{path}{query}"));
        match self.id {
            "signUpload" => ask("").json(&json!({"maxFileSize": 5, "expiresIn": 60})),
            "createUpload" => ask("").json(&json!({"fileName": "a", "fileSize": 0})),
            "putChunk" => ask("").body(vec![1; CHUNK]),
            "putChunkByHeaders" => ask("").header("X-File-Id", "o").header("X-Chunk-Index", "1").body(vec![1; CHUNK]),
            "postChunk" | "uploadChunk" => with_form(ask(""), &chunk_fields("o", "1", "3"), &[1; CHUNK]),
            "getChunks" => ask("?fileId=o"),
            "completeUpload" => ask("").json(&json!({"fileId": "full"})),
            "signParts" => ask("").json(&json!({"chunkIndexes": [1]})),
            "postFile" => ask("?fileName=a").body("hello"),
            "signFile" => ask("").json(&json!({})),
            "createTokens" => ask("").json(&json!({"subject": "u1"})),
            // Well-formed, of nobody.
            "refreshTokens" | "revokeTokens" => {
                ask("").json(&json!({"refreshToken": format!("cr_{}.0.{}", "0".repeat(32), "A".repeat(43))}))
            }
            _ => ask(""),
        }
    }
}

/// The fields of a chunk's form.
pub(crate) fn chunk_fields<'a>(id: &'a str, index: &'a str, count: &'a str) -> [(&'a str, &'a str); 4] {
    [("fileId", id), ("chunkIndex", index), ("totalChunks", count), ("fileName", "报告.bin")]
}

/// The bytes of a form, as the page of a tutorial sends it: the file last.
pub(super) fn form_of(fields: &[(&str, &str)], bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let head = format!("--cut\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(head.as_bytes());
    }
    body.extend_from_slice(b"--cut\r\nContent-Disposition: form-data; name=\"file\"; filename=\"blob\"\r\n\r\n");
    body.extend_from_slice(bytes);
    body.extend_from_slice(b"\r\n--cut--\r\n");
    body
}

/// Says that a form is coming.
pub(super) fn is_form(request: RequestBuilder) -> RequestBuilder {
    request.header(CONTENT_TYPE, "multipart/form-data; boundary=cut")
}

/// The request with a form.
pub(crate) fn with_form(request: RequestBuilder, fields: &[(&str, &str)], bytes: &[u8]) -> RequestBuilder {
    is_form(request).body(form_of(fields, bytes))
}

/// With a body whose length is not announced.
pub(super) fn streamed(request: RequestBuilder, bytes: Vec<u8>) -> RequestBuilder {
    request.body(Body::wrap_stream(stream::iter([Ok::<_, std::io::Error>(bytes)])))
}

/// With a body that is announced whole and then stops.
pub(super) fn stalled(request: RequestBuilder, mut bytes: Vec<u8>) -> RequestBuilder {
    let announced = bytes.len();
    bytes.truncate(announced - 1);
    let sent = stream::iter([Ok::<_, std::io::Error>(bytes)]).chain(stream::pending());
    request.header(CONTENT_LENGTH, announced).body(Body::wrap_stream(sent))
}
