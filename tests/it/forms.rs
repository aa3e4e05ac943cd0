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

/// A form of these texts, as they are.
async fn post_text(gateway: &Gateway, path: &str, body: Vec<u8>) -> Answer {
    let request = gateway.request(Method::POST, path).header("content-type", "multipart/form-data; boundary=XX");
    Answer::of(request.body(body).send().await).await
}

/// The form up to the file's last byte.
fn begun(before: &str, fields: &[(&str, &str)], file: &[u8]) -> Vec<u8> {
    let mut form = before.as_bytes().to_vec();
    for (name, value) in fields {
        let field = format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        form.extend_from_slice(field.as_bytes());
    }
    form.extend_from_slice(b"--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n");
    form.extend_from_slice(file);
    form
}

/// Whoever appends fields to the form after the file believes that they count:
/// a wrong checksum, another fileId, another file.
#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_streamed_file_is_refused() {
    let field = |name: &str, value: &str| format!("Content-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}");
    for on in On::BOTH {
        let gateway = Gateway::start(on).await;
        for bytes in [content(100 * KIB, 3), content(300 * KIB, 4)] {
            // One whose plan is known, and one whose plan is to be learnt.
            let (known, learnt) = (format!("known-{}", bytes.len()), format!("learnt-{}", bytes.len()));
            gateway.create(&known, 2 * bytes.len(), bytes.len()).await;
            for (id, said) in [(&known, &fields(&known, "0", "2")[..2]), (&learnt, &fields(&learnt, "0", "2")[..])] {
                let late = [
                    field("checksum", "md5:00000000000000000000000000000000"),
                    field("fileId", "other"),
                    field("fileId", id),
                    field("file\"; filename=\"b", "second"),
                ];
                for late in &late {
                    let after = format!("\r\n--XX\r\n{late}\r\n--XX--\r\n");
                    let whole = [&begun("", said, &bytes)[..], after.as_bytes()].concat();
                    let answer = post_text(&gateway, "/chunks", whole).await;
                    answer.is_refused(400, "fields_after_file");
                    assert!(answer.json["detail"].as_str().is_some_and(|d| d.contains("the file last")), "{answer:?}");
                    assert_eq!(gateway.received(id).await, Vec::<usize>::new(), "{late}");
                }
                assert_eq!(post(&gateway, said, &bytes, 9).await.json["uploadedChunks"], 1);
            }
        }
    }
}

/// RFC 2046 has the line break after the closing boundary optional (Node's own
/// forms have none), and allows a preamble and an epilogue.
#[tokio::test(flavor = "multi_thread")]
async fn forms_begin_and_end_as_they_may() {
    let ends = ["\r\n--XX--", "\r\n--XX--\r\n", "\r\n--XX--\r\n\r\n", "\r\n--XX--\r\nepilogue"];
    let begins = ["", "\r\n", "This is a form.\r\n"];
    for on in On::BOTH {
        let gateway = Gateway::start(on).await;
        let mut made = 0;
        for bytes in [content(0, 1), content(2, 2), content(5 * KIB, 3), content(400 * KIB, 4)] {
            for (begin, end) in begins.iter().flat_map(|begin| ends.iter().map(move |end| (begin, end))) {
                made += 1;
                let id = made.to_string();
                let whole = |form: Vec<u8>| [&form[..], end.as_bytes()].concat();
                // To be learnt, then known, then with a name alone.
                for _ in 0..2 {
                    let answer =
                        post_text(&gateway, "/chunks", whole(begun(begin, &fields(&id, "0", "1"), &bytes))).await;
                    let shown = format!("{on:?} {} {begin:?} {end:?}: {answer:?}", bytes.len());
                    assert_eq!((answer.status.as_u16(), &answer.json["complete"]), (200, &json!(true)), "{shown}");
                }
                assert!(gateway.download(&id).await == bytes);
                let answer = post_text(&gateway, "/files", whole(begun(begin, &[], &bytes))).await;
                assert_eq!(
                    (answer.status.as_u16(), &answer.json["fileSize"]),
                    (201, &json!(bytes.len())),
                    "{answer:?}"
                );
            }
        }
    }
}

/// A file too large to be held streams, and then its length must be known.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_form_of_unknown_length_is_told_how_to_end() {
    let gateway = Gateway::start_with(On::FileAndSqlite, &[("LIMITS__FORM_BUFFER", "1000")]).await;
    let bytes = content(200 * KIB, 5);
    for end in ["\r\n--XX--", "\r\n--XX--\r\n\r\n"] {
        let whole = [&begun("", &fields("l", "0", "2"), &bytes)[..], end.as_bytes()].concat();
        let file = [&begun("", &[], &bytes)[..], end.as_bytes()].concat();
        for (path, whole) in [("/chunks", whole), ("/files", file)] {
            let answer = post_text(&gateway, path, whole).await;
            answer.is_refused(400, "invalid_request");
            assert!(answer.json["detail"].as_str().is_some_and(|d| d.contains("(CRLF)")), "{answer:?}");
        }
        assert_eq!(gateway.received("l").await, Vec::<usize>::new());
    }
    assert_eq!(post(&gateway, &fields("l", "0", "2"), &bytes, 9).await.json["uploadedChunks"], 1);
    // From then on the plan says it, whatever the form's end.
    let whole = [&begun("", &fields("m", "0", "3"), &bytes)[..], b"\r\n--XX--\r\n"].concat();
    assert_eq!(post_text(&gateway, "/chunks", whole).await.status, 200);
    let whole = [&begun("", &fields("m", "1", "3"), &bytes)[..], b"\r\n--XX--"].concat();
    assert_eq!(post_text(&gateway, "/chunks", whole).await.status, 200);
    let short = [&begun("", &fields("m", "1", "3"), &bytes[2..])[..], b"\r\n--XX--\r\n"].concat();
    post_text(&gateway, "/chunks", short).await.is_refused(400, "chunk_size_mismatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_in_forms_are_written_in_one_way() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    for index in ["-0", "+0", "00", " 0", "0\n", "0x0"] {
        post(&gateway, &fields("n", index, "2"), &[0; 1000], 9).await.is_refused(400, "invalid_request");
    }
    for total in ["+3", "03", " 3", "-0"] {
        post(&gateway, &fields("n", "0", total), &[0; 1000], 9).await.is_refused(400, "invalid_request");
    }
}
