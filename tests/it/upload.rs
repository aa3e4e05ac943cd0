//! The main job, as a front end does it.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, Gateway, KIB, MIB, On, content, sha256};

#[tokio::test(flavor = "multi_thread")]
async fn chunks_in_one_object_out() {
    for on in On::BOTH {
        let gateway = Gateway::start(on).await;
        let bytes = content(3 * MIB + 17, 1);
        let created = gateway.create("a", bytes.len(), MIB).await;
        assert_eq!((created["totalChunks"].as_u64(), created["status"].as_str()), (Some(4), Some("uploading")));
        assert_eq!(created["uploadedChunks"], 0);
        for (index, piece) in bytes.chunks(MIB).enumerate().take(3) {
            let answer = gateway.put("a", index, piece).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.json["offset"], index * MIB);
            assert_eq!(answer.json["size"], piece.len());
            assert_eq!(answer.json["uploadedChunks"], index + 1);
            assert_eq!(answer.json["complete"], false);
            assert!(answer.json["checksum"]["crc64"].is_string());
        }
        let asked = gateway.get("/chunks?fileId=a").await;
        assert_eq!(asked.json["missing"], json!([[3, 3]]));
        assert_eq!(
            asked.json["chunks"][2],
            json!({"fileId": "a", "chunkIndex": 2, "offset": 2 * MIB, "size": MIB, "status": "uploaded"})
        );
        let last = gateway.put("a", 3, &bytes[3 * MIB..]).await;
        assert_eq!(last.json["complete"], true, "{last:?}");
        assert_eq!(last.json["file"]["fileSize"], bytes.len());
        assert_eq!(sha256(&gateway.download("a").await), sha256(&bytes));
        let upload = gateway.get("/uploads/a").await.json;
        assert_eq!(upload["status"], "completed");
        assert_eq!(upload["file"]["checksum"], last.json["file"]["checksum"]);
        let hook = gateway.hooks.wait_for("a").await;
        assert_eq!(hook.json["type"], "upload.completed");
        assert_eq!(hook.json["data"]["crc64"], last.json["file"]["checksum"]["crc64"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_at_once_in_reverse_order() {
    for on in On::BOTH {
        let gateway = Gateway::start(on).await;
        let bytes = content(64 * 128 * KIB + 1, 2);
        gateway.create("r", bytes.len(), 128 * KIB).await;
        let pieces: Vec<_> = bytes.chunks(128 * KIB).map(<[u8]>::to_vec).enumerate().collect();
        let gateway = std::sync::Arc::new(gateway);
        let turns = std::sync::Arc::new(tokio::sync::Semaphore::new(16));
        let mut tasks = tokio::task::JoinSet::new();
        for (index, piece) in pieces.into_iter().rev() {
            let turn = turns.clone().acquire_owned().await.expect("a turn");
            let gateway = gateway.clone();
            tasks.spawn(async move {
                let _turn = turn;
                gateway.put("r", index, &piece).await
            });
        }
        for answer in tasks.join_all().await {
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        gateway.until("r", "completed").await;
        assert_eq!(sha256(&gateway.download("r").await), sha256(&bytes));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_sent_twice_is_stored_once_and_other_bytes_are_refused() {
    for on in On::BOTH {
        let gateway = Gateway::start(on).await;
        let bytes = content(2 * MIB, 3);
        gateway.create("t", bytes.len(), MIB).await;
        let first = gateway.put("t", 0, &bytes[..MIB]).await;
        let stored = calls(&gateway).await;
        let again = gateway.put("t", 0, &bytes[..MIB]).await;
        assert_eq!((again.status, &again.json["checksum"]), (first.status, &first.json["checksum"]));
        gateway.put("t", 0, &content(MIB, 4)).await.is_refused(409, "chunk_conflict");
        assert_eq!(calls(&gateway).await, stored, "neither went to the store");
        gateway.put("t", 1, &bytes[MIB..]).await;
        let late = gateway.put("t", 1, &bytes[MIB..]).await;
        assert_eq!((late.status.as_u16(), &late.json["complete"]), (200, &json!(true)));
        assert_eq!(late.json["file"]["fileSize"], bytes.len());
        gateway.put("t", 1, &content(MIB, 5)).await.is_refused(409, "chunk_conflict");
        assert_eq!(sha256(&gateway.download("t").await), sha256(&bytes), "the first bytes stay");
    }
}

async fn calls(gateway: &Gateway) -> f64 {
    match &gateway.emulator {
        Some(emulator) => emulator.calls("uploadPart").await as f64,
        None => gateway.metric("chunkgate_chunks_total").await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn creation_is_the_resume_call() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let wanted =
        json!({"fileId": "c", "fileName": "a.bin", "fileSize": 3 * MIB, "chunkSize": MIB, "metadata": {"k": "v"}});
    let first = gateway.post("/uploads", wanted.clone()).await;
    assert_eq!(first.status, 201);
    let again = gateway.post("/uploads", wanted).await;
    assert_eq!(again.status, 200);
    assert_eq!(again.json["createdAt"], first.json["createdAt"]);
    let renamed = json!({"fileId": "c", "fileName": "b.bin", "fileSize": 3 * MIB});
    let known = gateway.post("/uploads", renamed).await;
    assert_eq!((known.status.as_u16(), &known.json["fileName"]), (200, &json!("a.bin")));
    let other = json!({"fileId": "c", "fileName": "a.bin", "fileSize": 4 * MIB});
    gateway.post("/uploads", other.clone()).await.is_refused(409, "upload_conflict");
    let restarted = json!({"fileId": "c", "fileName": "a.bin", "fileSize": 4 * MIB, "restart": true});
    let answer = gateway.post("/uploads", restarted).await;
    assert_eq!((answer.status.as_u16(), &answer.json["fileSize"]), (201, &json!(4 * MIB)));
    let aborted = gateway.hooks.wait_for("c").await;
    assert_eq!(aborted.json["type"], "upload.aborted");
    // What is one chunk keeps the size that was agreed on for chunks, too.
    let small = json!({"fileId": "s", "fileName": "a.bin", "fileSize": 12});
    let created = gateway.post("/uploads", small.clone()).await.json;
    assert_eq!((&created["chunkSize"], &created["totalChunks"]), (&json!(8 * MIB), &json!(1)));
    assert_eq!(gateway.post("/uploads", small).await.json, created);
    assert_eq!(gateway.get("/uploads/s").await.json, created);
    let other = json!({"fileId": "s", "fileName": "a.bin", "fileSize": 12, "chunkSize": 50});
    gateway.post("/uploads", other).await.is_refused(409, "upload_conflict");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_is_complete_at_once() {
    for on in On::BOTH {
        let gateway = Gateway::start(on).await;
        let answer = gateway
            .post("/uploads", json!({"fileId": "e", "fileName": "e", "fileSize": 0, "autoComplete": false}))
            .await;
        assert_eq!((answer.status.as_u16(), &answer.json["status"]), (201, &json!("completed")), "{answer:?}");
        assert_eq!(answer.json["totalChunks"], 0);
        for _ in 0..2 {
            let put = gateway.put("e", 0, b"").await;
            assert_eq!((put.status.as_u16(), &put.json["complete"]), (200, &json!(true)), "{put:?}");
        }
        assert_eq!(gateway.download("e").await, b"");
        assert_eq!(gateway.hooks.wait_for("e").await.json["data"]["fileSize"], 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn completion_by_hand() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let bytes = content(2 * MIB, 6);
    let wanted =
        json!({"fileId": "h", "fileName": "a", "fileSize": bytes.len(), "chunkSize": MIB, "autoComplete": false});
    gateway.post("/uploads", wanted).await;
    gateway.put("h", 1, &bytes[MIB..]).await;
    let early = gateway.post("/chunks/complete", json!({"fileId": "h"})).await;
    assert_eq!(early.is_refused(409, "chunks_missing").json["missing"], json!([[0, 0]]));
    let last = gateway.put("h", 0, &bytes[..MIB]).await;
    assert_eq!((&last.json["complete"], &last.json["uploadedChunks"]), (&json!(false), &json!(2)));
    for _ in 0..2 {
        let done = gateway.post("/chunks/complete", json!({"fileId": "h"})).await;
        assert_eq!((done.status.as_u16(), &done.json["file"]["fileSize"]), (200, &json!(bytes.len())), "{done:?}");
    }
    gateway.post("/chunks/complete", json!({"fileId": "nobody"})).await.is_refused(404, "upload_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_given_up() {
    for on in On::BOTH {
        let gateway = Gateway::start(on).await;
        let bytes = content(2 * MIB, 7);
        gateway.create("d", bytes.len(), MIB).await;
        gateway.put("d", 0, &bytes[..MIB]).await;
        assert_eq!(gateway.delete("/uploads/d").await.status, 204);
        assert_eq!(gateway.delete("/uploads/d").await.status, 204);
        gateway.put("d", 1, &bytes[MIB..]).await.is_refused(410, "upload_aborted");
        let asked = gateway.get("/chunks?fileId=d").await;
        assert_eq!((asked.status.as_u16(), &asked.json["status"]), (200, &json!("aborted")));
        assert_eq!(gateway.hooks.wait_for("d").await.json["type"], "upload.aborted");
        gateway.delete("/uploads/never").await.is_refused(404, "upload_not_found");
        // The fileId is free again, and only POST /uploads begins anew.
        assert_eq!(gateway.create("d", bytes.len(), MIB).await["status"], "uploading");
        gateway.put_all("d", &bytes, MIB).await;
        gateway.delete("/uploads/d").await.is_refused(409, "upload_completed");
        if let Some(emulator) = &gateway.emulator {
            assert!(emulator.calls("abort").await >= 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_checksums_of_the_whole_file() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let bytes = content(MIB + 5, 8);
    let wanted = |id: &str, algorithm: &str, value: &str| {
        json!({"fileId": id, "fileName": "a", "fileSize": bytes.len(), "chunkSize": MIB,
            "checksum": {"algorithm": algorithm, "value": value}})
    };
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Xz, &bytes).to_string();
    gateway.post("/uploads", wanted("good", "crc64", &crc)).await;
    let last = gateway.put_all("good", &bytes, MIB).await;
    assert_eq!(last.json["file"]["checksum"], json!({"crc64": crc, "verified": true}));
    gateway.post("/uploads", wanted("bad", "crc64", "1")).await;
    gateway.put("bad", 0, &bytes[..MIB]).await;
    gateway.put("bad", 1, &bytes[MIB..]).await.is_refused(422, "integrity_failed");
    gateway.put("bad", 1, &bytes[MIB..]).await.is_refused(410, "upload_failed");
    let upload = gateway.get("/uploads/bad").await.json;
    assert_eq!((&upload["status"], &upload["failure"]), (&json!("failed"), &json!("integrity_failed")));
    assert_eq!(gateway.hooks.wait_for("bad").await.json["type"], "upload.failed");
    gateway.get("/files/bad").await.is_refused(404, "file_not_found");
    // Chunks in any order: a digest that needs order is handed back unverified.
    gateway.post("/uploads", wanted("sha", "sha256", &sha256(&bytes))).await;
    let last = gateway.put_all("sha", &bytes, MIB).await;
    assert_eq!(last.json["file"]["checksum"]["verified"], false);
    assert_eq!(last.json["file"]["checksum"]["sha256"], sha256(&bytes));
    // One chunk is the whole file in order.
    let one = json!({"fileId": "one", "fileName": "a", "fileSize": 3, "checksum": {"algorithm": "sha256", "value": sha256(b"abc")}});
    gateway.post("/uploads", one).await;
    let stored = gateway.put("one", 0, b"abc").await;
    assert_eq!(stored.json["file"]["checksum"]["verified"], true, "{stored:?}");
    let wrong = json!({"fileId": "two", "fileName": "a", "fileSize": 3, "checksum": {"algorithm": "md5", "value": "0".repeat(32)}});
    gateway.post("/uploads", wrong).await;
    gateway.put("two", 0, b"abc").await.is_refused(422, "integrity_failed");
    gateway.until("two", "failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_in_one_request() {
    for on in On::BOTH {
        let gateway = Gateway::start(on).await;
        let bytes = content(100_000, 9);
        let raw = gateway.request(Method::POST, "/files?fileName=%E6%8A%A5%E5%91%8A.pdf&fileId=raw");
        let answer = Answer::of(raw.header("content-type", "application/pdf").body(bytes.clone()).send().await).await;
        assert_eq!((answer.status.as_u16(), &answer.json["fileName"]), (201, &json!("报告.pdf")), "{answer:?}");
        assert_eq!(gateway.download("raw").await, bytes);
        // The file first, then its fields: any order will do.
        let form = "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x.txt\"\r\n\r\nhello\r\n--B\r\n\
             Content-Disposition: form-data; name=\"fileId\"\r\n\r\nform\r\n--B\r\n\
             Content-Disposition: form-data; name=\"metadata\"\r\n\r\n{\"a\":\"b\"}\r\n--B--\r\n";
        let sent = gateway.request(Method::POST, "/files").header("content-type", "multipart/form-data; boundary=B");
        let answer = Answer::of(sent.body(form).send().await).await;
        assert_eq!((answer.status.as_u16(), &answer.json["metadata"]["a"]), (201, &json!("b")), "{answer:?}");
        assert_eq!(gateway.download("form").await, b"hello");
        assert_eq!(gateway.hooks.wait_for("raw").await.json["type"], "upload.completed");
        let upload = gateway.get("/uploads/raw").await.json;
        assert_eq!((&upload["status"], &upload["fileSize"]), (&json!("completed"), &json!(100_000)));
        let large = gateway.request(Method::POST, "/files?fileName=l").body(vec![0; 16 * MIB + 1]).send().await;
        Answer::of(large).await.is_refused(413, "file_too_large");
        let other = gateway.request(Method::POST, "/files?fileName=l&fileId=raw").body("other").send().await;
        Answer::of(other).await.is_refused(409, "upload_conflict");
        let same = gateway.request(Method::POST, "/files?fileName=l&fileId=raw").body(bytes.clone()).send().await;
        assert_eq!(Answer::of(same).await.status, 201);
        let wrong = format!("/files?fileName=l&checksum=sha256:{}", "0".repeat(64));
        let wrong = gateway.request(Method::POST, &wrong).body("abc").send().await;
        Answer::of(wrong).await.is_refused(422, "checksum_mismatch");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_whole_and_in_ranges() {
    for on in On::BOTH {
        let gateway = Gateway::start(on).await;
        let bytes = content(2 * MIB + 3, 10);
        gateway.create("f", bytes.len(), MIB).await;
        gateway.put_all("f", &bytes, MIB).await;
        let path = "/files/f/content";
        let get = |headers: &[(&'static str, String)]| {
            let mut request = gateway.request(Method::GET, path);
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            request
        };
        let whole = get(&[]).send().await.expect("an answer");
        let header = |name: &str| whole.headers()[name].to_str().expect("text").to_owned();
        let etag = header("etag");
        assert_eq!(header("content-disposition"), "attachment; filename=\"a.bin\"; filename*=UTF-8''a.bin");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("content-security-policy"), "sandbox");
        assert_eq!(header("accept-ranges"), "bytes");
        let part = get(&[("range", format!("bytes={}-", 2 * MIB))]).send().await.expect("an answer");
        assert_eq!(part.status(), 206);
        assert_eq!(part.headers()["content-range"], format!("bytes {}-{}/{}", 2 * MIB, bytes.len() - 1, bytes.len()));
        assert_eq!(part.bytes().await.expect("bytes"), bytes[2 * MIB..]);
        let outside = get(&[("range", format!("bytes={}-", bytes.len()))]).send().await;
        let outside = Answer::of(outside).await;
        outside.is_refused(416, "range_not_satisfiable");
        assert_eq!(outside.headers["content-range"], format!("bytes */{}", bytes.len()));
        let unchanged = get(&[("if-none-match", etag)]).send().await.expect("an answer");
        assert_eq!(unchanged.status(), 304);
        let head = gateway.request(Method::HEAD, path).send().await.expect("an answer");
        assert_eq!(head.headers()["content-length"], bytes.len().to_string());
        let file = gateway.get("/files/f").await;
        assert_eq!((file.status.as_u16(), &file.json["fileSize"]), (200, &json!(bytes.len())));
        gateway.get("/files/none").await.is_refused(404, "file_not_found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_listed_newest_first() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    for index in 0..5 {
        gateway.create(&format!("l{index}"), MIB, MIB).await;
    }
    gateway.put("l3", 0, &content(MIB, 1)).await;
    let ids = |answer: &Answer| -> Vec<String> {
        let uploads = answer.json["uploads"].as_array().expect("uploads");
        uploads.iter().map(|u| u["fileId"].as_str().expect("an id").to_owned()).collect()
    };
    let first = gateway.get("/uploads?limit=2").await;
    assert_eq!(ids(&first), ["l4", "l3"]);
    let cursor = first.json["nextCursor"].as_str().expect("a cursor");
    let second = gateway.get(&format!("/uploads?limit=3&cursor={cursor}")).await;
    assert_eq!((ids(&second), &second.json["nextCursor"]), (vec!["l2".into(), "l1".into(), "l0".into()], &json!(null)));
    let completed = gateway.get("/uploads?status=completed").await;
    assert_eq!((ids(&completed), &completed.json["uploads"][0]["file"]["fileSize"]), (vec!["l3".into()], &json!(MIB)));
    for query in ["limit=0", "limit=1001", "limit=x", "status=done", "cursor=!"] {
        gateway.get(&format!("/uploads?{query}")).await.is_refused(400, "invalid_parameter");
    }
}

/// Under the file's name and ETag nothing else is handed out.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_somebody_wrote_over_is_not_the_file() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let stored = gateway.request(Method::POST, "/files?fileId=f&fileName=f").body("what was uploaded").send().await;
    assert_eq!(Answer::of(stored).await.status, 201);
    let objects = gateway.folder.path().join("data/objects");
    let object = files_in(&objects).into_iter().find(|path| !path.to_string_lossy().contains(".chunkgate"));
    std::fs::write(object.expect("an object"), "something else, and longer than it was").expect("written");
    gateway.get("/files/f/content").await.is_refused(404, "file_not_found");
    assert!(gateway.log().contains("is not what was uploaded"));
}

fn files_in(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}

/// Many uploads with much metadata come in pages that end early.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_uploads_ends_early() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let metadata = json!({"note": "n".repeat(8000)});
    for n in 0..150 {
        let wanted = json!({"fileId": format!("m{n}"), "fileName": "m", "fileSize": 10, "metadata": metadata});
        assert_eq!(gateway.post("/uploads", wanted).await.status, 201);
    }
    let (mut seen, mut pages, mut path) = (std::collections::BTreeSet::new(), 0, "/uploads?limit=1000".to_owned());
    loop {
        let page = gateway.get(&path).await.json;
        let uploads = page["uploads"].as_array().expect("a list");
        assert!(uploads.len() < 150, "{}", uploads.len());
        seen.extend(uploads.iter().map(|upload| upload["fileId"].to_string()));
        pages += 1;
        match page["nextCursor"].as_str() {
            Some(cursor) => path = format!("/uploads?limit=1000&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!((seen.len(), pages), (150, 2));
}
