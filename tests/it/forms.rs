//! Chunks as forms, as pages post them.

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::harness::{Answer, Gateway, KIB, MIB, On, content, sha256};

/// A multipart/form-data body with its parts in this order; `file` is the file.
fn form(request: RequestBuilder, fields: &[(&str, &str)], file: &[u8], file_at: usize) -> RequestBuilder {
    let mut body = Vec::new();
    let file_part = |body: &mut Vec<u8>| {
        body.extend_from_slice(b"--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"blob\"\r\nContent-Type: application/octet-stream\r\n\r\n");
        body.extend_from_slice(file);
        body.extend_from_slice(b"\r\n");
    };
    for (at, (name, value)) in fields.iter().enumerate() {
        if at == file_at {
            file_part(&mut body);
        }
        body.extend_from_slice(
            format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").as_bytes(),
        );
    }
    if file_at >= fields.len() {
        file_part(&mut body);
    }
    body.extend_from_slice(b"--XX--\r\n");
    request.header("content-type", "multipart/form-data; boundary=XX").body(body)
}

pub(crate) async fn post(gateway: &Gateway, fields: &[(&str, &str)], file: &[u8], file_at: usize) -> Answer {
    Answer::of(form(gateway.request(Method::POST, "/chunks"), fields, file, file_at).send().await).await
}

pub(crate) fn fields<'a>(id: &'a str, index: &'a str, total: &'a str) -> [(&'a str, &'a str); 4] {
    [("fileId", id), ("chunkIndex", index), ("totalChunks", total), ("fileName", "报告.bin")]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_knows_little_uploads_in_any_order() {
    for on in On::BOTH {
        let gateway = Gateway::start(on).await;
        let bytes = content(3 * 200 * KIB + 50, 20);
        let pieces: Vec<&[u8]> = vec![&bytes[..200 * KIB], &bytes[200 * KIB..400 * KIB], &bytes[400 * KIB..]];
        // The last comes first, and is larger than the others; its file field comes last, then first.
        let last = post(&gateway, &fields("f", "2", "3"), pieces[2], 9).await;
        assert_eq!(last.status, 200, "{last:?}\n{}", gateway.log());
        assert_eq!((&last.json["offset"], &last.json["size"]), (&json!(null), &json!(pieces[2].len())));
        let upload = gateway.get("/uploads/f").await.json;
        assert_eq!((&upload["fileSize"], &upload["chunkSize"]), (&json!(null), &json!(null)));
        let first = post(&gateway, &fields("f", "0", "3"), pieces[0], 0).await;
        assert_eq!((first.status.as_u16(), &first.json["offset"]), (200, &json!(0)), "{first:?}");
        let other_size = post(&gateway, &fields("f", "1", "3"), &pieces[1][1..], 9).await;
        other_size.is_refused(400, "chunk_size_mismatch");
        let done = post(&gateway, &fields("f", "1", "3"), pieces[1], 9).await;
        assert_eq!(
            (&done.json["complete"], &done.json["file"]["fileName"]),
            (&json!(true), &json!("报告.bin")),
            "{done:?}"
        );
        assert_eq!(sha256(&gateway.download("f").await), sha256(&bytes));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_first_chunks_at_once_create_one_upload() {
    for on in On::BOTH {
        let gateway = std::sync::Arc::new(Gateway::start(on).await);
        let bytes = content(32 * 100 * KIB, 21);
        let mut tasks = tokio::task::JoinSet::new();
        for (index, piece) in bytes.chunks(100 * KIB).map(<[u8]>::to_vec).enumerate() {
            let gateway = gateway.clone();
            tasks.spawn(async move { post(&gateway, &fields("m", &index.to_string(), "32"), &piece, 0).await });
        }
        for answer in tasks.join_all().await {
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        gateway.until("m", "completed").await;
        assert_eq!(sha256(&gateway.download("m").await), sha256(&bytes));
        assert_eq!(gateway.get("/uploads").await.json["uploads"].as_array().map(Vec::len), Some(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_form_may_not_do() {
    let gateway = Gateway::start(On::OssAndPostgres).await;
    let without_id = [("chunkIndex", "0"), ("totalChunks", "2"), ("fileName", "a")];
    let refused = post(&gateway, &without_id, &[0; 10], 0).await;
    assert!(
        refused.is_refused(400, "file_id_required").json["detail"]
            .as_str()
            .is_some_and(|d| d.contains("formData.append('fileId', fileId)"))
    );
    let large = content(8 * MIB + 1, 22);
    post(&gateway, &fields("big", "0", "2"), &large, 0).await.is_refused(400, "fields_after_file");
    post(&gateway, &without_id, &large, 9).await.is_refused(400, "file_id_required");
    post(&gateway, &fields("small", "0", "2"), &[0; 1000], 9).await.is_refused(400, "chunk_size_out_of_range");
    post(&gateway, &fields("a", "2", "2"), &[0; 1000], 9).await.is_refused(400, "chunk_index_out_of_range");
    post(&gateway, &fields("a", "-1", "2"), &[0; 1000], 9).await.is_refused(400, "chunk_index_out_of_range");
    post(&gateway, &fields("a", "x", "2"), &[0; 1000], 9).await.is_refused(400, "invalid_request");
    post(&gateway, &fields("a", "0", "10001"), &[0; 1000], 9).await.is_refused(400, "total_chunks_out_of_range");
    post(&gateway, &fields("a/b", "0", "1"), &[0; 1000], 9).await.is_refused(400, "invalid_file_id");
    post(&gateway, &fields("a", "0", "1")[..2], &[0; 1000], 9).await.is_refused(400, "invalid_request");
    let mut declared = fields("sum", "0", "1").to_vec();
    declared.push(("checksum", "crc64:1"));
    post(&gateway, &declared, &[0; 1000], 9).await.is_refused(422, "checksum_mismatch");
    assert_eq!(gateway.received("sum").await, Vec::<usize>::new());
    // A last chunk as large as two others fits no rounding, whichever comes second.
    post(&gateway, &fields("two", "1", "2"), &content(400 * KIB, 1), 9).await;
    post(&gateway, &fields("two", "0", "2"), &content(200 * KIB, 1), 9).await.is_refused(409, "upload_conflict");
    post(&gateway, &fields("two", "0", "3"), &content(300 * KIB, 1), 9).await.is_refused(409, "upload_conflict");
    let long = "x".repeat(65 << 10);
    post(&gateway, &[("fileId", "a"), ("note", &long)], &[0; 10], 9).await.is_refused(400, "invalid_request");
    let files = |value: &str| form(gateway.request(Method::POST, "/files"), &[("metadata", value)], b"x", 9);
    Answer::of(files(&long).send().await).await.is_refused(413, "metadata_too_large");
    Answer::of(files("{\"a\":1}").send().await).await.is_refused(400, "invalid_request");
    let not_a_form = gateway.request(Method::POST, "/chunks").header("content-type", "text/plain").body("x");
    Answer::of(not_a_form.send().await).await.is_refused(400, "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_in_one_form() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    for _ in 0..2 {
        let answer = post(&gateway, &fields("empty", "0", "1"), b"", 9).await;
        assert_eq!((answer.status.as_u16(), &answer.json["complete"]), (200, &json!(true)), "{answer:?}");
    }
    assert_eq!(gateway.download("empty").await, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_derived_file_id_is_opt_in() {
    let gateway = Gateway::start_with(On::FileAndSqlite, &[("UPLOAD__DERIVE_FILE_ID", "true")]).await;
    let fields = [("chunkIndex", "0"), ("totalChunks", "1"), ("fileName", "a")];
    let answer = post(&gateway, &fields, b"hello", 0).await;
    assert_eq!((answer.status.as_u16(), &answer.json["derivedFileId"]), (200, &json!(true)), "{answer:?}");
    let file_id = answer.json["fileId"].as_str().expect("an id");
    assert_eq!(gateway.download(file_id).await, b"hello");
}
