//! Webhooks: who gets which, how they are signed while secrets rotate, and what
//! an operator sees of them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chunkgate::notify::sign::SigningKeys;
use chunkgate::units::Secret;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::access::{KEY, TOKENS};
use crate::harness::{Answer, Gateway, KIB, On, WEBHOOK_SECRET, content};
use crate::hooks::Hooks;
use crate::postgres::new_database;

const NEW_SECRET: &str = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcY";

async fn ask(request: RequestBuilder) -> Answer {
    Answer::of(request.send().await).await
}

async fn events(gateway: &Gateway, query: &str) -> Vec<Value> {
    let answer = ask(gateway.admin_request(Method::GET, &format!("/admin/events?{query}")).bearer_auth(KEY)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json["events"].as_array().expect("events").clone()
}

/// One whole small file, as the back end.
async fn file(gateway: &Gateway, id: &str) {
    let request = gateway.request(Method::POST, &format!("/files?fileName=a&fileId={id}")).bearer_auth(KEY);
    assert_eq!(ask(request.body("hello")).await.status, 201);
}

async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..400 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not come");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_receiver_gets_its_events_signed_by_all_secrets() {
    let rotating = format!("{NEW_SECRET} {WEBHOOK_SECRET}");
    let mut gateway = Gateway::start_with(On::FileAndSqlite, &[("WEBHOOK__SECRET", &rotating)]).await;
    let (ends, mine) = (Hooks::start().await, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let toml = format!(
        "[[webhook.endpoints]]\nurl = \"{}\"\nsecret = \"{mine}\"\nevents = [\"upload.aborted\", \"upload.failed\"]\n",
        ends.url()
    );
    std::fs::write(gateway.folder.path().join("chunkgate.toml"), toml).expect("written");
    gateway.crash_and_restart().await;
    gateway.create("gone", 10, 10).await;
    gateway.delete("/uploads/gone").await;
    gateway.post("/uploads", json!({"fileId": "whole", "fileName": "a", "fileSize": 0})).await;
    gateway.hooks.wait_for("whole").await;
    let (first, second) = (gateway.hooks.wait_for("gone").await, ends.wait_for("gone").await);
    assert!(ends.of("whole").is_empty());
    assert_eq!((&first.id, &first.json), (&second.id, &second.json));
    let header = |name: &str| first.headers[name].to_str().expect("ASCII");
    let timestamp = header("webhook-timestamp").parse().expect("a number");
    let signature =
        |secret: &str| SigningKeys::parse(&Secret::new(secret)).expect("a key").sign(&first.id, timestamp, &first.text);
    // A receiver looks for one that it can make: with the old secret, and with the new.
    let sent: Vec<&str> = header("webhook-signature").split(' ').collect();
    assert_eq!(sent, [signature(NEW_SECRET), signature(WEBHOOK_SECRET)]);
    assert_eq!(second.headers["webhook-signature"].to_str().expect("ASCII").split(' ').count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_is_listed_and_what_died_is_sent_again() {
    let database = new_database().await;
    for on in On::BOTH {
        let mut settings = TOKENS.to_vec();
        settings.extend((on == On::OssAndPostgres).then_some(("DATABASE__URL", database.as_str())));
        let gateway = Gateway::start_with(on, &settings).await;
        gateway.hooks.refuse_next(2);
        file(&gateway, "a").await;
        gateway.hooks.wait_for("a").await;
        let delivered = until(async || events(&gateway, "state=delivered").await.pop()).await;
        let told = ["type", "owner", "state", "nextAttemptAt"].map(|name| delivered[name].clone());
        assert_eq!(told, [json!("upload.completed"), json!("key:app"), json!("delivered"), Value::Null]);
        assert_eq!(delivered["endpoint"], gateway.hooks.url());
        let attempts: Vec<_> = delivered["attempts"].as_array().expect("attempts").iter().collect();
        let statuses: Vec<_> = attempts.iter().map(|attempt| attempt["status"].as_u64()).collect();
        assert_eq!(statuses, [Some(500), Some(500), Some(204)]);
        assert_eq!(delivered["attemptCount"], 3);
        assert!(attempts[0]["error"].as_str().is_some_and(|error| error.contains("500")), "{delivered}");
        assert!(attempts.is_sorted_by_key(|attempt| attempt["at"].as_str()));
        assert_eq!(attempts[2]["error"], Value::Null);

        // Pages, the newest first.
        for n in 0..5 {
            file(&gateway, &format!("p{n}")).await;
            gateway.hooks.wait_for(&format!("p{n}")).await;
        }
        until(async || (events(&gateway, "state=delivered").await.len() == 6).then_some(())).await;
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/admin/events?state=delivered&limit=4{cursor}");
            let page = ask(gateway.admin_request(Method::GET, &path).bearer_auth(KEY)).await;
            seen.extend(page.json["events"].as_array().expect("events").iter().map(|e| e["id"].to_string()));
            match page.json["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert!(seen.len() == 6 && seen.is_sorted_by(|a, b| a > b), "{seen:?}");
        assert_eq!(events(&gateway, "").await.len(), 6);
        assert_eq!(events(&gateway, "state=pending").await.len(), 0);

        // Given up, and sent again: the same event under the same id.
        if on == On::OssAndPostgres {
            let mut postgres = PgConnection::connect(&database).await.expect("a connection");
            let dead = "UPDATE deliveries SET state = 'dead', attempts = 99, last_error = 'never'";
            sqlx::query(dead).execute(&mut postgres).await.expect("dead");
            let dead = events(&gateway, "state=dead").await;
            assert_eq!((dead.len(), &dead[5]["lastError"]), (6, &json!("never")));
        }
        let before = gateway.hooks.of("a").len();
        let id = delivered["id"].as_str().expect("an id");
        let again = gateway.admin_request(Method::POST, &format!("/admin/events/{id}/redeliver")).bearer_auth(KEY);
        let again = ask(again).await;
        assert_eq!((again.status.as_u16(), &again.json), (202, &json!({"receivers": 1})));
        until(async || (gateway.hooks.of("a").len() > before).then_some(())).await;
        assert!(gateway.hooks.of("a").iter().all(|hook| hook.id == id));
        let after = until(async || {
            let all = events(&gateway, "state=delivered").await;
            all.into_iter().find(|event| event["id"] == id && event["attempts"].as_array().map(Vec::len) == Some(4))
        });
        after.await;
        let unknown = gateway.admin_request(Method::POST, "/admin/events/evt_x/redeliver").bearer_auth(KEY);
        ask(unknown).await.is_refused(404, "event_not_found");
        let undecodable = gateway.admin_request(Method::POST, "/admin/events/%ff/redeliver").bearer_auth(KEY);
        ask(undecodable).await.is_refused(404, "event_not_found");
    }
}

/// Receivers' URLs hold secrets: pages break between receivers of one event all
/// the same, each once, and say nothing of them.
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_events_tell_no_secret() {
    for on in On::BOTH {
        let more = Hooks::start().await;
        let folder_toml = format!(
            "[[webhook.endpoints]]\nurl = \"{0}?token=s3cr3t-a\"\n[[webhook.endpoints]]\nurl = \"{0}?token=s3cr3t-b\"\n",
            more.url()
        );
        let mut gateway = Gateway::start_with(on, &TOKENS).await;
        std::fs::write(gateway.folder.path().join("chunkgate.toml"), folder_toml).expect("written");
        gateway.crash_and_restart().await;
        for id in ["a", "b", "c"] {
            file(&gateway, id).await;
        }
        until(async || (events(&gateway, "state=delivered").await.len() == 9).then_some(())).await;
        let all = events(&gateway, "").await;
        for query in ["limit=1", "limit=2&state=delivered", "limit=4"] {
            let (mut seen, mut cursor) = (Vec::new(), String::new());
            loop {
                let path = format!("/admin/events?{query}{cursor}");
                let page = ask(gateway.admin_request(Method::GET, &path).bearer_auth(KEY)).await;
                assert!(!page.json.to_string().contains("s3cr3t"), "{page:?}");
                seen.extend(page.json["events"].as_array().expect("events").iter().cloned());
                let Some(next) = page.json["nextCursor"].as_str() else { break };
                let plain = String::from_utf8(URL_SAFE_NO_PAD.decode(next).expect("base64")).expect("text");
                assert!(!plain.contains("s3cr3t") && !plain.contains("http"), "{plain}");
                cursor = format!("&cursor={next}");
            }
            assert_eq!(seen, all, "{query}");
        }
        // Of an event that is not there any more, the next one is next.
        let beyond = URL_SAFE_NO_PAD.encode(format!("3 {}", "evt_~"));
        assert_eq!(events(&gateway, &format!("cursor={beyond}")).await, all);
        for wrong in ["0 evt_x", "-1 evt_x", "evt_x", "x evt_x"] {
            let path = format!("/admin/events?cursor={}", URL_SAFE_NO_PAD.encode(wrong));
            let refused = ask(gateway.admin_request(Method::GET, &path).bearer_auth(KEY)).await;
            refused.is_refused(400, "invalid_parameter");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn administration_is_for_keys_and_elsewhere() {
    let gateway = Gateway::start_with(On::FileAndSqlite, &TOKENS).await;
    let login = gateway.request(Method::POST, "/auth/tokens").bearer_auth(KEY).json(&json!({"subject": "u"}));
    let token = ask(login).await.json["accessToken"].as_str().expect("a token").to_owned();
    let routes = [
        (Method::GET, "/admin/events"),
        (Method::POST, "/admin/events/evt_x/redeliver"),
        (Method::GET, "/admin/uploads"),
    ];
    for (method, path) in routes {
        ask(gateway.admin_request(method.clone(), path)).await.is_refused(401, "unauthorized");
        let wrong = gateway.admin_request(method.clone(), path).bearer_auth("ck_wrong");
        ask(wrong).await.is_refused(401, "unauthorized");
        let browser = gateway.admin_request(method.clone(), path).bearer_auth(&token);
        ask(browser).await.is_refused(403, "insufficient_scope");
        // Not where browsers are served, whoever asks.
        let public = gateway.request(method.clone(), path).bearer_auth(KEY);
        ask(public).await.is_refused(404, "not_found");
    }
    for wrong in
        ["/admin/events?state=lost", "/admin/events?cursor=x", "/admin/events?limit=0", "/admin/uploads?status=x"]
    {
        ask(gateway.admin_request(Method::GET, wrong).bearer_auth(KEY)).await.is_refused(400, "invalid_parameter");
    }
    // Where anybody is served, too.
    let flags: &[&str] = &["--insecure-no-auth"];
    let anybody = Gateway::start_flagged(On::FileAndSqlite, &[("AUTH__API_KEYS", TOKENS[1].1)], flags).await;
    file(&anybody, "a").await;
    for (method, path) in [(Method::GET, "/admin/events"), (Method::GET, "/admin/uploads")] {
        ask(anybody.admin_request(method.clone(), path)).await.is_refused(401, "unauthorized");
        let wrong = anybody.admin_request(method.clone(), path).bearer_auth("ck_wrong");
        ask(wrong).await.is_refused(401, "unauthorized");
        assert_eq!(ask(anybody.admin_request(method, path).bearer_auth(KEY)).await.status, 200, "{path}");
    }
    let again = "/admin/events/evt_x/redeliver";
    ask(anybody.admin_request(Method::POST, again)).await.is_refused(401, "unauthorized");
    ask(anybody.admin_request(Method::POST, again).bearer_auth(KEY)).await.is_refused(404, "event_not_found");
    assert_eq!(ask(anybody.request(Method::GET, "/files")).await.status, 200, "everything else is anybody's");
    let keyless = Gateway::start_flagged(On::FileAndSqlite, &[], flags).await;
    let refused = ask(keyless.admin_request(Method::GET, "/admin/events").bearer_auth(KEY)).await;
    refused.is_refused(401, "unauthorized");
    assert!(refused.json["detail"].as_str().is_some_and(|detail| detail.contains("auth.api_keys")), "{refused:?}");
    // Without authentication it is this machine's own matter, and no page's.
    let open = Gateway::start(On::FileAndSqlite).await;
    assert_eq!(ask(open.admin_request(Method::GET, "/admin/events")).await.status, 200);
    let page = open.admin_request(Method::GET, "/admin/events").header("Origin", "https://evil.example");
    ask(page).await.is_refused(403, "origin_not_allowed");
}

/// What failed is listed with its place in the store, also once its fileId
/// means another upload.
#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_listed_for_good() {
    for on in On::BOTH {
        let gateway = Gateway::start_with(on, &TOKENS).await;
        let create = async |wanted: Value| {
            ask(gateway.request(Method::POST, "/uploads").bearer_auth(KEY).json(&wanted)).await.status
        };
        let bytes = content(100 * KIB, 1);
        for n in 0..3 {
            let id = format!("f{n}");
            let wrong = json!({"algorithm": "crc64", "value": "1"});
            let wanted = json!({"fileId": id, "fileName": "a", "fileSize": bytes.len(), "checksum": wrong});
            assert_eq!(create(wanted).await, 201);
            let chunk = gateway.request(Method::PUT, &format!("/chunks/{id}/0")).bearer_auth(KEY).body(bytes.clone());
            ask(chunk).await.is_refused(422, "integrity_failed");
        }
        assert_eq!(create(json!({"fileId": "f1", "fileName": "a", "fileSize": 5})).await, 201);
        let list = async |query: &str| {
            let answer =
                ask(gateway.admin_request(Method::GET, &format!("/admin/uploads?{query}")).bearer_auth(KEY)).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.json
        };
        let failed = list("status=failed").await["uploads"].as_array().expect("uploads").clone();
        let shown: Vec<_> = failed.iter().map(|upload| (upload["fileId"].clone(), upload["failure"].clone())).collect();
        let integrity = json!("integrity_failed");
        assert_eq!(shown, ["f2", "f1", "f0"].map(|id| (json!(id), integrity.clone())));
        assert!(failed[0]["objectKey"].as_str().is_some_and(|key| key.starts_with("uploads/")), "{}", failed[0]);
        assert!(failed.iter().all(|upload| upload["bucket"].is_string() && upload["uploadId"].is_string()));
        let first = list("status=failed&limit=2").await;
        let cursor = first["nextCursor"].as_str().expect("a cursor");
        let rest = list(&format!("status=failed&limit=2&cursor={cursor}")).await;
        assert_eq!((rest["uploads"][0]["fileId"].clone(), &rest["nextCursor"]), (json!("f0"), &Value::Null));
        assert_eq!(list("status=failed&owner=nobody").await["uploads"], json!([]));
        // Of one owner, too, those that were begun anew; in pages.
        let of_owner = list("status=failed&owner=key%3Aapp").await["uploads"].clone();
        assert_eq!(of_owner, json!(failed));
        let first = list("status=failed&owner=key%3Aapp&limit=1").await;
        let cursor = first["nextCursor"].as_str().expect("a cursor");
        let rest = list(&format!("status=failed&owner=key%3Aapp&cursor={cursor}")).await["uploads"].clone();
        assert_eq!(rest, json!(failed[1..]));
        assert_eq!(list("owner=key%3Aapp").await["uploads"].as_array().map(Vec::len), Some(3));
    }
}
