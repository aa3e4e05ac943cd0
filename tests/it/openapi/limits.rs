//! What is refused because it is too much, too slow, or too late.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::contract::{Contract, chunk_fields, form_of, is_form, stalled, streamed, with_form};
use crate::harness::{Answer, Gateway, On};

const ONE: &str = "/chunks/{fileId}/{chunkIndex}";
const FORMS: [&str; 2] = ["/chunks", "/upload-chunk"];

/// A gateway and the document, with the requests of these stories.
struct Asking<'a> {
    contract: &'a Contract,
    gateway: &'a Gateway,
}

impl Asking<'_> {
    async fn create(&self, body: Value) -> Answer {
        self.contract.ask("/uploads", self.gateway.request(Method::POST, "/uploads").json(&body)).await
    }

    async fn complete(&self, id: &str) -> Answer {
        let request = self.gateway.request(Method::POST, "/chunks/complete").json(&json!({"fileId": id}));
        self.contract.ask("/chunks/complete", request).await
    }

    async fn delete(&self, id: &str) -> Answer {
        let request = self.gateway.request(Method::DELETE, &format!("/uploads/{id}"));
        self.contract.ask("/uploads/{fileId}", request).await
    }

    fn put(&self, id: &str, index: u32) -> RequestBuilder {
        self.gateway.request(Method::PUT, &format!("/chunks/{id}/{index}"))
    }

    fn put_by_headers(&self, id: &str, index: u32) -> RequestBuilder {
        let request = self.gateway.request(Method::PUT, "/chunks").header("X-File-Id", id);
        request.header("X-Chunk-Index", index)
    }

    /// Both ways to send a raw chunk must be refused alike.
    async fn raw_refused(&self, id: &str, of: impl Fn(RequestBuilder) -> RequestBuilder, status: u16, code: &str) {
        self.contract.ask(ONE, of(self.put(id, 0))).await.is_refused(status, code);
        self.contract.ask("/chunks", of(self.put_by_headers(id, 0))).await.is_refused(status, code);
    }

    /// Both addresses of forms must refuse alike.
    async fn form_refused(&self, of: impl Fn(RequestBuilder) -> RequestBuilder, status: u16, code: &str) {
        for path in FORMS {
            let request = of(self.gateway.request(Method::POST, path));
            self.contract.ask(path, request).await.is_refused(status, code);
        }
    }
}

pub(super) async fn story(contract: &Contract) {
    let settings = [
        ("LIMITS__MAX_FILE_SIZE", "300000"),
        ("LIMITS__MAX_OPEN_UPLOADS", "2"),
        ("LIMITS__BODY_IDLE_TIMEOUT", "1s"),
        ("LIMITS__FORM_BUFFER", "1000"),
    ];
    let gateway = Gateway::start_with(On::FileAndSqlite, &settings).await;
    let asking = Asking { contract, gateway: &gateway };
    too_much(&asking).await;
    wrong_bodies(&asking).await;
    silence(&asking).await;
}

async fn too_much(asking: &Asking<'_>) {
    asking.create(json!({"fileName": "a", "fileSize": 300_001})).await.is_refused(413, "file_too_large");
    asking
        .create(json!({"fileName": "a", "fileSize": 9, "chunkSize": 3, "totalChunks": 7}))
        .await
        .is_refused(400, "total_chunks_out_of_range");
    let large = asking.gateway.request(Method::POST, "/files?fileName=a").body(vec![0; 300_001]);
    let large = asking.contract.ask("/files", large).await;
    assert_eq!(large.is_refused(413, "file_too_large").json["maxSize"], 300_000);
    // Two uploads with plans to be learnt are all that may be open.
    for id in ["l", "m"] {
        let form = with_form(asking.gateway.request(Method::POST, "/chunks"), &chunk_fields(id, "2", "3"), b"the last");
        assert_eq!(asking.contract.ask("/chunks", form).await.status, 200);
    }
    let (first, other) = (chunk_fields("l", "0", "3"), chunk_fields("n", "0", "3"));
    asking.create(json!({"fileName": "a", "fileSize": 1})).await.is_refused(429, "too_many_uploads");
    asking.form_refused(|form| with_form(form, &other, b"x"), 429, "too_many_uploads").await;
    // Chunks of this size would make a file that is too large; without a length nobody knows.
    asking.raw_refused("l", |put| put.body(vec![0; 200_000]), 413, "file_too_large").await;
    asking.form_refused(|form| with_form(form, &first, &[0; 200_000]), 413, "file_too_large").await;
    asking.raw_refused("l", |put| streamed(put, vec![0; 9]), 411, "length_required").await;
    asking.form_refused(|form| streamed(is_form(form), form_of(&first, b"x")), 411, "length_required").await;
    let unknown = streamed(asking.gateway.request(Method::POST, "/files?fileName=a"), vec![0; 9]);
    asking.contract.ask("/files", unknown).await.is_refused(411, "length_required");
    assert_eq!(asking.delete("m").await.status, 204);
}

async fn wrong_bodies(asking: &Asking<'_>) {
    let plan = json!({"fileId": "p", "fileName": "p", "fileSize": 8, "chunkSize": 4, "autoComplete": false});
    assert_eq!(asking.create(plan).await.status, 201);
    asking.raw_refused("p", |put| streamed(put, b"12345".to_vec()), 400, "body_too_long").await;
    asking.raw_refused("p", |put| streamed(put, b"123".to_vec()), 400, "body_too_short").await;
    asking.raw_refused("p", |put| put.header("Content-Encoding", "br").body("1234"), 415, "unsupported_encoding").await;
    asking
        .raw_refused(
            "p",
            |put| put.header("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg==").body("1234"),
            422,
            "checksum_mismatch",
        )
        .await;
    asking.raw_refused("gone", |put| put.body("1234"), 404, "upload_not_found").await;
    asking.raw_refused("m", |put| put.body("1234"), 410, "upload_aborted").await;
    let of = |id| chunk_fields(id, "0", "2");
    let tagged = [&of("p")[..], &[("checksum", "crc64:1")]].concat();
    asking.form_refused(|form| with_form(form, &tagged, b"1234"), 422, "checksum_mismatch").await;
    asking
        .form_refused(
            |form| with_form(form, &of("p"), b"1234").header("Content-Encoding", "br"),
            415,
            "unsupported_encoding",
        )
        .await;
    asking.form_refused(|form| with_form(form, &chunk_fields("m", "0", "3"), b"1234"), 410, "upload_aborted").await;
    asking.form_refused(|form| with_form(form, &chunk_fields("p", "0", "7"), b"1234"), 409, "upload_conflict").await;
    // The file first, and more of it than is held.
    let file_first = [&form_of(&[], &[0; 2000])[..], &form_of(&of("p"), b"")].concat();
    asking.form_refused(|form| is_form(form).body(file_first.clone()), 400, "fields_after_file").await;
    assert_eq!(asking.contract.ask("/chunks", asking.put_by_headers("p", 0).body("1234")).await.status, 200);
    asking.raw_refused("p", |put| put.body("4321"), 409, "chunk_conflict").await;
    let taken = asking.gateway.request(Method::POST, "/files?fileName=a&fileId=p").body("x");
    asking.contract.ask("/files", taken).await.is_refused(409, "upload_conflict");
}

/// Bodies that are announced and do not come.
async fn silence(asking: &Asking<'_>) {
    assert_eq!(asking.delete("p").await.status, 204);
    let plan = json!({"fileId": "s", "fileName": "s", "fileSize": 8, "chunkSize": 4});
    assert_eq!(asking.create(plan).await.status, 201);
    let (contract, gateway) = (asking.contract, asking.gateway);
    let json = |path| stalled(gateway.request(Method::POST, path), br#"{"fileId": "s"}"#.to_vec());
    let form = |path, index| {
        let fields = chunk_fields("s", index, "2");
        stalled(is_form(gateway.request(Method::POST, path)), form_of(&fields, b"1234"))
    };
    let file = stalled(gateway.request(Method::POST, "/files?fileName=a"), b"1234".to_vec());
    let (put, named) = (stalled(asking.put("s", 0), b"1234".to_vec()), asking.put_by_headers("s", 1));
    let sign = stalled(gateway.request(Method::POST, "/files/s/sign"), b"{\"inline\": true}".to_vec());
    let answers = tokio::join!(
        contract.ask("/uploads", json("/uploads")),
        contract.ask("/chunks/complete", json("/chunks/complete")),
        contract.ask(ONE, put),
        contract.ask("/chunks", stalled(named, b"1234".to_vec())),
        contract.ask("/files", file),
        contract.ask("/files/{fileId}/sign", sign),
    );
    let (create, complete, put, named, file, sign) = answers;
    for answer in [create, complete, put, named, file, sign] {
        answer.is_refused(408, "body_timeout");
    }
    for path in FORMS {
        contract.ask(path, form(path, "0")).await.is_refused(408, "body_timeout");
    }
}

/// Uploads that come to another end than a file.
pub(super) async fn endings(contract: &Contract) {
    let settings =
        [("UPLOAD__EXPIRES_AFTER", "6s"), ("LIMITS__MAX_CONCURRENT_CHUNKS", "1"), ("LIMITS__QUEUE_WAIT", "100ms")];
    let gateway = Gateway::start_with(On::FileAndSqlite, &settings).await;
    let asking = Asking { contract, gateway: &gateway };
    let wrong = json!({"algorithm": "crc64", "value": "1"});
    let empty = json!({"fileName": "a", "fileSize": 0, "checksum": wrong});
    asking.create(empty).await.is_refused(422, "integrity_failed");
    for (id, alone) in [("i", true), ("j", false)] {
        let plan = json!({"fileId": id, "fileName": "a", "fileSize": 4, "checksum": wrong, "autoComplete": alone});
        assert_eq!(asking.create(plan).await.status, 201);
    }
    for id in ["i", "j"] {
        // One chunk is the whole file: nothing that is not it gets into the store.
        contract.ask(ONE, asking.put(id, 0).body("1234")).await.is_refused(422, "integrity_failed");
        asking.raw_refused(id, |put| put.body("1234"), 410, "upload_failed").await;
        asking.complete(id).await.is_refused(410, "upload_failed");
    }
    let plan = json!({"fileId": "k", "fileName": "a", "fileSize": 8, "chunkSize": 4, "checksum": wrong, "autoComplete": false});
    assert_eq!(asking.create(plan).await.status, 201);
    for index in [0, 1] {
        assert_eq!(contract.ask(ONE, asking.put("k", index).body("1234")).await.status, 200);
    }
    asking.complete("k").await.is_refused(422, "integrity_failed");
    superseded(&asking).await;
    lost(&asking).await;
    let plan = json!({"fileId": "e", "fileName": "a", "fileSize": 8, "chunkSize": 4});
    assert_eq!(asking.create(plan).await.status, 201);
    gateway.until("e", "expired").await;
    asking.raw_refused("e", |put| put.body("1234"), 410, "upload_expired").await;
}

async fn superseded(asking: &Asking<'_>) {
    let plan = json!({"fileId": "t", "fileName": "a", "fileSize": 12, "chunkSize": 4});
    assert_eq!(asking.create(plan).await.status, 201);
    assert_eq!(asking.contract.ask(ONE, asking.put("t", 2).body("1234")).await.status, 200);
    let (first, second, busy) = tokio::join!(
        asking.contract.ask(ONE, stalled(asking.put("t", 0), b"1234".to_vec())),
        async {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            asking.contract.ask(ONE, asking.put("t", 0).body("1234")).await
        },
        async {
            // There is one turn, and the first has it.
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            asking.contract.ask("/chunks", asking.put_by_headers("t", 1).body("1234")).await
        },
    );
    first.is_refused(409, "chunk_superseded");
    assert_eq!(second.status, 200, "{second:?}");
    busy.is_refused(503, "overloaded");
}

/// Somebody empties the store behind our back.
async fn lost(asking: &Asking<'_>) {
    let plan = json!({"fileId": "g", "fileName": "a", "fileSize": 8, "chunkSize": 4});
    assert_eq!(asking.create(plan).await.status, 201);
    assert_eq!(asking.contract.ask(ONE, asking.put("g", 0).body("1234")).await.status, 200);
    let uploads = asking.gateway.folder.path().join("data/objects/.chunkgate/uploads");
    for upload in std::fs::read_dir(&uploads).expect("the store's folder").flatten() {
        std::fs::remove_dir_all(upload.path()).expect("removed");
    }
    asking.contract.ask(ONE, asking.put("g", 1).body("1234")).await.is_refused(410, "upload_lost");
    let lost = asking.gateway.request(Method::GET, "/uploads/g");
    let lost = asking.contract.ask("/uploads/{fileId}", lost).await;
    assert_eq!((&lost.json["status"], &lost.json["failure"]), (&json!("failed"), &json!("upload_lost")));
}
