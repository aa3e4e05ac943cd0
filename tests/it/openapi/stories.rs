//! What goes well, and what is refused along the way.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::contract::{CHUNK, Contract, with_form};
use crate::harness::Gateway;

pub(super) async fn uploads(contract: &Contract, gateway: &Gateway) {
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

pub(super) async fn chunks(contract: &Contract, gateway: &Gateway, bytes: &[u8]) {
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

pub(super) async fn forms(contract: &Contract, gateway: &Gateway, bytes: &[u8]) {
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

pub(super) async fn files(contract: &Contract, gateway: &Gateway, bytes: &[u8]) {
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

    let list = |query: &str| ask(gateway.request(Method::GET, &format!("/files?{query}")));
    assert!(list("page=1&limit=1").await.json["total"].as_u64() >= Some(2));
    list("limit=0").await.is_refused(400, "invalid_parameter");
    const SIGN: &str = "/files/{fileId}/sign";
    let sign = |id: &str, body: Value| {
        contract.ask(SIGN, gateway.request(Method::POST, &format!("/files/{id}/sign")).json(&body))
    };
    let link = sign("f", json!({"expiresIn": 1})).await.json["url"].as_str().expect("a path").to_owned();
    assert_eq!(contract.ask(CONTENT, gateway.request(Method::GET, &link)).await.status, 200);
    contract.ask(CONTENT, gateway.request(Method::GET, &format!("{link}0"))).await.is_refused(403, "signature_invalid");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    contract.ask(CONTENT, gateway.request(Method::GET, &link)).await.is_refused(403, "signature_expired");
    assert_eq!(contract.ask(CONTENT, gateway.request(Method::HEAD, &link)).await.status, 403);
    sign("none", json!({})).await.is_refused(404, "file_not_found");
    sign("f", json!({"method": "PUT"})).await.is_refused(400, "invalid_request");
    sign("f", json!({"downloadName": "a".repeat(70_000)})).await.is_refused(413, "metadata_too_large");
    let delete = |id: &str| contract.ask("/files/{fileId}", gateway.request(Method::DELETE, &format!("/files/{id}")));
    assert_eq!(ask(post("?fileId=d&fileName=d").body("x")).await.status, 201);
    assert_eq!(delete("d").await.status, 204);
    delete("d").await.is_refused(404, "file_not_found");
    delete("a%20b").await.is_refused(400, "invalid_file_id");

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

pub(super) async fn doctors(contract: &Contract, gateway: &Gateway) {
    let sample = |query: &str| contract.ask("/doctor", gateway.request(Method::GET, &format!("/doctor{query}")));
    sample("").await.is_refused(503, "overloaded");
    assert_eq!(sample("?after=1").await.json["after"], 1);
    sample("?after=61").await.is_refused(400, "invalid_parameter");
    let examine = |query: &str| {
        contract.ask("/admin/doctor", gateway.admin_request(Method::GET, &format!("/admin/doctor{query}")))
    };
    let (first, second) = tokio::join!(examine(""), examine("?origin=https://app.example.com"));
    let (done, busy) = if first.status == 200 { (first, second) } else { (second, first) };
    assert_eq!(done.json["status"], "ok", "{done:?}");
    busy.is_refused(503, "overloaded");
    examine("?origin=a&origin=b").await.is_refused(400, "invalid_request");
}
