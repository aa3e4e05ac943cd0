//! Lists of files: by cursor and by page, filtered; and links to them.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{KEY, ask, gateway, log_in, put_file};
use crate::harness::{Answer, Gateway, On};

fn ids(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let files = answer.json["files"].as_array().expect("files");
    files.iter().map(|file| file["fileId"].as_str().expect("an id").to_owned()).collect()
}

async fn list(gateway: &Gateway, query: &str) -> Answer {
    ask(gateway, KEY, Method::GET, &format!("/files?{query}"), None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_file_is_seen_exactly_once_while_others_come_and_go() {
    for on in On::BOTH {
        let here = gateway(on, &[]).await;
        let mut kept = BTreeSet::new();
        for nth in 0..40 {
            let id = format!("kept{nth}");
            assert_eq!(put_file(&here, KEY, &format!("fileName=a&fileId={id}"), b"x").await.status, 201);
            assert_eq!(put_file(&here, KEY, &format!("fileName=a&fileId=gone{nth}"), b"x").await.status, 201);
            kept.insert(id);
        }
        let (mut seen, mut cursor, mut turn) = (Vec::new(), String::new(), 0);
        loop {
            let page = list(&here, &format!("limit=7{cursor}")).await;
            seen.extend(ids(&page));
            let Value::String(next) = &page.json["nextCursor"] else { break };
            cursor = format!("&cursor={next}");
            for nth in turn * 6..turn * 6 + 6 {
                ask(&here, KEY, Method::DELETE, &format!("/files/gone{nth}"), None).await;
            }
            put_file(&here, KEY, &format!("fileName=a&fileId=new{turn}"), b"x").await;
            turn += 1;
        }
        let of_kept: Vec<&String> = seen.iter().filter(|id| id.starts_with("kept")).collect();
        assert_eq!(of_kept.len(), kept.len(), "{on:?}: once each");
        assert_eq!(of_kept.into_iter().cloned().collect::<BTreeSet<_>>(), kept);
        assert!(turn > 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_have_numbers_totals_and_filters() {
    for on in On::BOTH {
        let here = gateway(on, &[]).await;
        let files = [
            ("报告-1.pdf", "application/pdf"),
            ("报告-2.pdf", "application/pdf"),
            ("a_b%.png", "image/png"),
            ("ab.gif", "image/gif"),
            ("z.txt", ""),
        ];
        for (nth, (name, kind)) in files.iter().enumerate() {
            let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
            let query = format!("fileId=f{nth}&fileName={}&contentType={}", encoded(name), encoded(kind));
            assert_eq!(put_file(&here, KEY, &query, b"x").await.status, 201);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let first = list(&here, "page=1&limit=2").await;
        assert_eq!(
            (ids(&first), &first.json["page"], &first.json["total"]),
            (vec!["f4".into(), "f3".into()], &json!(1), &json!(5))
        );
        assert_eq!(ids(&list(&here, "page=3&limit=2").await), ["f0"]);
        let past = list(&here, "page=4&limit=2").await;
        assert_eq!((ids(&past).len(), &past.json["total"], &past.json["nextCursor"]), (0, &json!(5), &Value::Null));
        // A page by number can be gone on from by cursor.
        let cursor = first.json["nextCursor"].as_str().expect("a cursor");
        assert_eq!(ids(&list(&here, &format!("limit=2&cursor={cursor}")).await), ["f2", "f1"]);
        for (query, expected) in [
            ("prefix=%E6%8A%A5%E5%91%8A", &["f1", "f0"][..]),
            ("prefix=a_b%25", &["f2"]),
            ("prefix=A", &[]),
            ("contentType=image/*", &["f3", "f2"]),
            ("contentType=application/pdf", &["f1", "f0"]),
            ("contentType=application/pdf&prefix=z", &[]),
        ] {
            let page = list(&here, &format!("{query}&page=1")).await;
            assert_eq!(ids(&page), expected, "{on:?} {query}");
            assert_eq!(page.json["total"], expected.len(), "{query}");
        }
        let time =
            |nth: usize, page: &Answer| page.json["files"][nth]["uploadTime"].as_str().expect("a time").to_owned();
        let all = list(&here, "").await;
        let (since, until) = (time(2, &all), time(0, &all));
        assert_eq!(ids(&list(&here, &format!("since={since}&until={until}")).await), ["f3", "f2"]);
        for wrong in ["page=0", "page=x", "limit=0", "limit=1001", "cursor=x", "since=yesterday", "until=1"] {
            list(&here, wrong).await.is_refused(400, "invalid_parameter");
        }
        list(&here, &format!("page=1&cursor={cursor}")).await.is_refused(400, "invalid_request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_opens_one_file_in_one_way_for_a_while() {
    let here = gateway(On::FileAndSqlite, &[]).await;
    let tokens = log_in(&here, json!({"subject": "u/1"})).await;
    put_file(&here, &tokens.access, "fileName=f.txt&fileId=f", b"hello").await;
    put_file(&here, &tokens.access, "fileName=g.txt&fileId=g", b"other").await;
    let sign = async |body: Value| ask(&here, &tokens.access, Method::POST, "/files/f/sign", Some(body)).await;
    let open = async |method: Method, path: &str| super::send(here.request(method, path)).await;
    let link = sign(json!({"expiresIn": 60, "downloadName": "ä b.txt"})).await;
    let path = link.json["url"].as_str().expect("a path").to_owned();
    assert!(path.starts_with("/files/f/content?"), "{path}");
    for _ in 0..2 {
        let answer = open(Method::GET, &path).await;
        assert_eq!((answer.status.as_u16(), &answer.json), (200, &json!("hello")), "{answer:?}");
        assert_eq!(
            answer.headers["content-disposition"],
            "attachment; filename=\"_ b.txt\"; filename*=UTF-8''%C3%A4%20b.txt"
        );
    }
    let part = super::send(here.request(Method::GET, &path).header("Range", "bytes=1-2")).await;
    assert_eq!((part.status.as_u16(), &part.json), (206, &json!("el")));
    let inline = sign(json!({"inline": true})).await;
    let shown = open(Method::GET, inline.json["url"].as_str().expect("a path")).await;
    assert!(shown.headers["content-disposition"].to_str().expect("ASCII").starts_with("inline"), "{shown:?}");
    assert_eq!(shown.headers["content-security-policy"], "sandbox");
    for edited in [
        path.replace("/files/f/", "/files/g/"),
        path.replace("u%2F1", "u%2F2"),
        path.replace("%20b", "%20c"),
        path.replace("expires=", "expires=9"),
        path.replace("&signature=", "&inline=true&signature="),
        path.replace("&signature=cg-", "&signature=cg-0"),
        path[..path.len() - 1].to_owned(),
        "/files/f/content?signature=".to_owned(),
    ] {
        open(Method::GET, &edited).await.is_refused(403, "signature_invalid");
    }
    assert_eq!(open(Method::HEAD, &path).await.status, 403, "it is for GET");
    let head = sign(json!({"method": "HEAD", "expiresIn": 1})).await;
    let head = head.json["url"].as_str().expect("a path").to_owned();
    assert_eq!(open(Method::HEAD, &head).await.status, 200);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(open(Method::HEAD, &head).await.status, 403);
    let late = sign(json!({"expiresIn": 1})).await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    open(Method::GET, late.json["url"].as_str().expect("a path")).await.is_refused(403, "signature_expired");
    for wrong in [
        json!({"expiresIn": 0}),
        json!({"expiresIn": 604_801}),
        json!({"method": "PUT"}),
        json!({"downloadName": "a\nb"}),
        json!({"inlined": true}),
    ] {
        sign(wrong).await.is_refused(400, "invalid_request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_of_the_store_lead_to_its_public_endpoint() {
    let here = gateway(On::OssAndPostgres, &[("PUBLIC_URL", "https://files.example.com/up")]).await;
    put_file(&here, KEY, "fileName=f.txt&fileId=f&contentType=text/plain", b"hello").await;
    let link = ask(&here, KEY, Method::POST, "/files/f/sign", Some(json!({"downloadName": "g.txt"}))).await;
    let url = link.json["url"].as_str().expect("a URL");
    let answer = super::send(here.http.get(url)).await;
    assert_eq!((answer.status.as_u16(), &answer.json), (200, &json!("hello")), "{answer:?}");
    assert!(answer.headers["content-disposition"].to_str().expect("ASCII").contains("g.txt"));
    assert_ne!(super::send(here.http.get(url.replace("g.txt", "h.txt"))).await.status, 200);
}
