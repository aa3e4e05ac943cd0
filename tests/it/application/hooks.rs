//! `before_create` and `completed`.

use std::time::Duration;

use chunkgate::notify::sign::SigningKeys;
use chunkgate::units::Secret;
use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Application, Asked};
use crate::harness::{Answer, Gateway, KIB, On, WEBHOOK_SECRET, content};
use crate::openapi::contract::{chunk_fields, with_form};

const CHUNK: usize = 100 * KIB;

/// Standard Webhooks: over id, timestamp and body.
fn is_signed(asked: &Asked) {
    let header = |name: &str| asked.headers[name].to_str().expect("ASCII");
    let timestamp = header("webhook-timestamp").parse().expect("a number");
    let keys = SigningKeys::parse(&Secret::new(WEBHOOK_SECRET)).expect("a key");
    assert_eq!(header("webhook-signature"), keys.sign(header("webhook-id"), timestamp, &asked.text));
}

async fn post_file(gateway: &Gateway, query: &str) -> Answer {
    Answer::of(gateway.request(Method::POST, &format!("/files?{query}")).body("hello").send().await).await
}

async fn form(gateway: &Gateway, index: &str, bytes: &[u8]) -> Answer {
    let request = with_form(gateway.request(Method::POST, "/chunks"), &chunk_fields("forms", index, "6"), bytes);
    Answer::of(request.send().await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_is_asked_once_before_an_upload_begins() {
    let application = Application::start().await;
    for on in On::BOTH {
        let gateway = application.gateway(on, "before_create").await;
        let before = application.asked().len();
        let wanted = json!({"fileId": "a", "fileName": "报告.pdf", "fileSize": 2 * CHUNK, "chunkSize": CHUNK,
            "contentType": "application/pdf", "metadata": {"order": "17"}});
        let request = gateway.request(Method::POST, "/uploads").header("User-Agent", "Hotel/1.0").json(&wanted);
        assert_eq!(Answer::of(request.send().await).await.status, 201);
        // Who comes back is not asked about again.
        assert_eq!(gateway.post("/uploads", wanted).await.status, 200);
        let asked = application.asked().split_off(before);
        assert_eq!(asked.len(), 1, "{asked:?}");
        is_signed(&asked[0]);
        let expected = json!({
            "hook": "before_create",
            "upload": {"fileId": "a", "fileName": "报告.pdf", "fileSize": 2 * CHUNK, "chunkSize": CHUNK, "totalChunks": 2,
                "contentType": "application/pdf", "metadata": {"order": "17"}},
            "owner": "local",
            "request": {"ip": "127.0.0.1", "userAgent": "Hotel/1.0"},
        });
        assert_eq!(asked[0].json, expected);

        // Six first chunks of one upload at once, and an application that thinks it over.
        application.says_after(Duration::from_millis(300), 204, "");
        let bytes = content(CHUNK, 1);
        let indexes = ["0", "1", "2", "3", "4", "5"];
        let forms = futures_util::future::join_all(indexes.map(|index| form(&gateway, index, &bytes))).await;
        assert!(forms.iter().all(|answer| answer.status == 200), "{forms:?}");
        // A file that comes again, as after a lost answer.
        assert_eq!(post_file(&gateway, "fileName=f&fileId=f").await.status, 201);
        assert_eq!(post_file(&gateway, "fileName=f&fileId=f").await.status, 201);
        let about: Vec<_> = application.asked().split_off(before + 1);
        let about: Vec<_> = about.iter().map(|asked| asked.json["upload"]["fileId"].as_str().expect("an id")).collect();
        assert_eq!(about, ["forms", "f"]);
        application.says(204, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_chooses_the_key_and_adds_metadata() {
    let application = Application::start().await;
    for on in On::BOTH {
        let gateway = application.gateway(on, "before_create").await;
        application.says(200, json!({"objectKey": "orders/17/a.bin", "metadata": {"order": "17"}}));
        let create = async |id: &str| {
            let wanted =
                json!({"fileId": id, "fileName": "a.bin", "fileSize": CHUNK, "metadata": {"own": "1", "order": "?"}});
            gateway.post("/uploads", wanted).await
        };
        assert_eq!(create("a").await.json["metadata"], json!({"own": "1", "order": "17"}));
        // Its key is its own, from the beginning on and whatever comes.
        create("b").await.is_refused(409, "key_taken");
        post_file(&gateway, "fileName=b&fileId=b").await.is_refused(409, "key_taken");
        gateway.put_all("a", &content(CHUNK, 2), CHUNK).await;
        let event = gateway.hooks.wait_for("a").await;
        assert_eq!(event.json["data"]["objectKey"], "orders/17/a.bin");
        create("b").await.is_refused(409, "key_taken");
        assert_eq!(gateway.download("a").await, content(CHUNK, 2));
        // A file that was deleted may still be on its way out of the store.
        assert_eq!(gateway.delete("/files/a").await.status, 204);
        create("b").await.is_refused(409, "key_taken");

        // One that nothing was sent for left nothing; so its key is free at once.
        application.says(200, json!({"objectKey": "orders/18/a.bin"}));
        assert_eq!(create("c").await.status, 201);
        let again = json!({"fileId": "c", "fileName": "a.bin", "fileSize": 7, "restart": true});
        assert_eq!(gateway.post("/uploads", again).await.status, 201);
        gateway.put_all("c", b"another", 7).await;
        assert_eq!(gateway.hooks.wait_for("c").await.json["data"]["objectKey"], "orders/18/a.bin");

        // With a part of it drawn by lot there is never a question.
        application.says(200, json!({"objectKey": "orders/19/{random}{ext}"}));
        assert_eq!(post_file(&gateway, "fileName=d.PDF&fileId=d").await.status, 201);
        assert_eq!(post_file(&gateway, "fileName=e.PDF&fileId=e").await.status, 201);
        let key = gateway.hooks.wait_for("d").await.json["data"]["objectKey"].clone();
        let key = key.as_str().expect("a key");
        assert!(key.starts_with("orders/19/") && key.ends_with(".pdf") && key.len() == 46, "{key}");
    }
}

/// Sixteen uploads at once, all of which are given one key: one gets it.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_want_one_key_one_gets_it() {
    let application = Application::start().await;
    application.says(200, json!({"objectKey": "one"}));
    for on in On::BOTH {
        let gateway = application.gateway(on, "before_create").await;
        let tries = (0..16).map(|n| {
            let gateway = &gateway;
            async move {
                if n % 2 == 0 {
                    let wanted = json!({"fileId": format!("u{n}"), "fileName": "a", "fileSize": 5});
                    gateway.post("/uploads", wanted).await.status
                } else {
                    post_file(gateway, &format!("fileName=a&fileId=f{n}")).await.status
                }
            }
        });
        let statuses = futures_util::future::join_all(tries).await;
        assert_eq!(statuses.iter().filter(|status| status.as_u16() == 201).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| status.as_u16() == 409).count(), 15, "{statuses:?}");
    }
}

/// Small files at once, under keys that the application shapes: what was drawn
/// for them before goes to nobody twice.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_small_files_at_once_each_is_one_of_its_own() {
    let application = Application::start().await;
    application.says(200, json!({"objectKey": "theirs/{random}"}));
    for on in On::BOTH {
        let gateway = application.gateway(on, "before_create").await;
        let queries: Vec<String> = (0..200).map(|n| format!("fileName=a&fileId=f{n}")).collect();
        let puts = futures_util::stream::iter(&queries).map(|query| post_file(&gateway, query)).buffer_unordered(16);
        let answers: Vec<Answer> = puts.collect().await;
        for answer in &answers {
            assert_eq!(answer.status, 201, "{answer:?}");
        }
        for n in 0..200 {
            assert_eq!(gateway.download(&format!("f{n}")).await, b"hello");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_applications_consent_nothing_begins() {
    let application = Application::start().await;
    for on in On::BOTH {
        let gateway = application.gateway(on, "before_create").await;
        let create = async || gateway.post("/uploads", json!({"fileId": "a", "fileName": "a", "fileSize": 5})).await;
        application.says(402, json!({"detail": "your plan\u{1b}[31m is full"}));
        let refused = create().await;
        assert_eq!(refused.is_refused(403, "refused_by_application").json["detail"], "your plan[31m is full");
        post_file(&gateway, "fileName=a&fileId=a").await.is_refused(403, "refused_by_application");
        form(&gateway, "0", b"hello").await.is_refused(403, "refused_by_application");
        application.says(404, "no JSON");
        create().await.is_refused(403, "refused_by_application");
        let unusable = [
            (500, String::new()),
            (429, String::new()),
            (302, String::new()),
            (200, "no JSON".to_owned()),
            (200, json!({"objectKey": "../etc"}).to_string()),
            (200, json!({"objectKey": "a//b"}).to_string()),
            (200, json!({"metadata": {"a": "x".repeat(9000)}}).to_string()),
            (200, format!("\"{}\"", "x".repeat(70 << 10))),
        ];
        for (status, body) in unusable {
            application.says(status, &body);
            let refused = create().await;
            refused.is_refused(503, "hook_unavailable");
            assert!(refused.headers.contains_key("retry-after"));
        }
        application.says_after(Duration::from_secs(8), 204, "");
        create().await.is_refused(503, "hook_unavailable");
        assert_eq!(gateway.get("/uploads/a").await.status, 404);
        application.says(200, "");
        assert_eq!(create().await.status, 201);
    }
}

/// Those who wait for an application that is silent are told with the one who
/// asked: each would wait as long again.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_silent_application_waits_once() {
    let application = Application::start().await;
    for on in On::BOTH {
        let gateway = application.gateway(on, "before_create").await;
        let asked = application.asked().len();
        application.says_after(Duration::from_secs(60), 204, "");
        let wanted = || json!({"fileId": "a", "fileName": "a", "fileSize": 5});
        let creating = futures_util::future::join_all((0..4).map(|_| gateway.post("/uploads", wanted())));
        let putting = futures_util::future::join_all((0..4).map(|_| post_file(&gateway, "fileName=a&fileId=a")));
        // One after the other they would take 40 s.
        let both = futures_util::future::join(creating, putting);
        let (created, put) = tokio::time::timeout(Duration::from_secs(12), both).await.expect("all are told at once");
        for answer in created.iter().chain(&put) {
            answer.is_refused(503, "hook_unavailable");
        }
        assert_eq!(application.asked().len(), asked + 1);
        application.says(204, "");
        assert_eq!(gateway.post("/uploads", wanted()).await.status, 201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_application_says_of_a_file_goes_to_who_completed_it() {
    let application = Application::start().await;
    let app = json!({"url": "/orders/17", "thumbs": [1, null]});
    application.says(200, &app);
    for on in On::BOTH {
        let gateway = application.gateway(on, "completed").await;
        let before = application.asked().len();
        let bytes = content(2 * CHUNK, 3);
        gateway.create("a", bytes.len(), CHUNK).await;
        let first = gateway.put("a", 0, &bytes[..CHUNK]).await;
        assert_eq!((first.json["complete"].clone(), first.json.get("app")), (json!(false), None));
        let last = gateway.put("a", 1, &bytes[CHUNK..]).await;
        assert_eq!((last.json["complete"].clone(), &last.json["app"]), (json!(true), &app));
        // It is said once: the application need not be told twice.
        assert_eq!(gateway.put("a", 1, &bytes[CHUNK..]).await.json.get("app"), None);
        assert_eq!(post_file(&gateway, "fileName=f&fileId=f").await.json["app"], app);
        let empty = json!({"fileId": "e", "fileName": "e", "fileSize": 0});
        assert_eq!(gateway.post("/uploads", empty.clone()).await.json["app"], app);
        assert_eq!(gateway.post("/uploads", empty).await.json.get("app"), None);
        let by_hand = json!({"fileId": "h", "fileName": "h", "fileSize": 5, "autoComplete": false});
        gateway.post("/uploads", by_hand).await;
        assert_eq!(gateway.put("h", 0, b"hello").await.json.get("app"), None);
        assert_eq!(gateway.post("/chunks/complete", json!({"fileId": "h"})).await.json["app"], app);
        let asked = application.asked().split_off(before);
        assert_eq!(asked.len(), 4);
        asked.iter().for_each(is_signed);
        let of = |id: &str| asked.iter().find(|asked| asked.json["event"]["data"]["fileId"] == id).expect("asked");
        assert_eq!(of("a").json["event"]["data"], gateway.hooks.wait_for("a").await.json["data"]);
        assert_eq!(of("a").json["hook"], "completed");
        assert!(asked.iter().all(|asked| asked.hook == "completed"));
    }
}

/// Whatever the application says, or does not say, the file is there and the
/// webhook comes.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_fails_loses_nothing() {
    let application = Application::start().await;
    for on in On::BOTH {
        let mut gateway = application.gateway(on, "completed").await;
        for (n, (status, body)) in [(500, ""), (403, "{}"), (200, "no JSON")].into_iter().enumerate() {
            application.says(status, body);
            let id = format!("f{n}");
            let answer = post_file(&gateway, &format!("fileName=f&fileId={id}")).await;
            assert_eq!((answer.status.as_u16(), answer.json.get("app")), (201, None), "{status} {body}");
            gateway.hooks.wait_for(&id).await;
        }
        // The gateway dies while it waits for the application.
        application.says_after(Duration::from_secs(30), 200, "{}");
        let asked = application.asked().len();
        gateway.create("killed", 5, 5).await;
        let sent = gateway.try_put("killed", 0, b"hello".to_vec());
        let killed = async {
            while application.asked().len() == asked {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            answer = sent => panic!("answered before the application: {answer:?}"),
            () = killed => {}
        }
        gateway.crash_and_restart().await;
        assert_eq!(gateway.get("/uploads/killed").await.json["status"], Value::from("completed"));
        assert_eq!(gateway.put("killed", 0, b"hello").await.json["complete"], Value::from(true));
        gateway.hooks.wait_for("killed").await;
    }
}
