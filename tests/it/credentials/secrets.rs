//! Secrets of files, replaced while the gateway runs.

use std::time::Duration;

use tokio::time::Instant;

use chunkgate::clock::{Clock as _, SystemClock};
use chunkgate::notify::sign::SigningKeys;
use chunkgate::units::Secret;
use futures_util::future::join_all;
use jsonwebtoken::{EncodingKey, Header};
use reqwest::Method;
use serde_json::json;

use super::*;
use crate::faults::stand::eventually;
use crate::harness::{Answer, MIB, WEBHOOK_SECRET};
use crate::postgres::Cluster;

/// How long the gateway may take to see it, in words of the tests: it looks
/// twice a second, and twice.
const SOON: Duration = Duration::from_secs(3);

async fn lists_with(gateway: &Gateway, token: &str) -> u16 {
    let sent = gateway.request(Method::GET, "/uploads").bearer_auth(token).send().await;
    Answer::of(sent).await.status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn api_keys_and_the_issuers_secrets_rotate() {
    const OLD: &str = "0123456789abcdef0123456789abcdef";
    const NEW: &str = "fedcba9876543210fedcba9876543210";
    let folder = tempfile::tempdir().expect("a folder");
    let (keys, issuer) = (folder.path().join("keys"), folder.path().join("issuer"));
    replace(&keys, "shop:ck_first");
    replace(&issuer, OLD);
    let (keys_file, issuer_file) = (keys.display().to_string(), issuer.display().to_string());
    let settings = [
        ("AUTH__MODE", "keys,jwt"),
        ("AUTH__API_KEYS_FILE", keys_file.as_str()),
        ("AUTH__JWT__ALGORITHMS", "HS256"),
        ("AUTH__JWT__HS256_SECRET_FILE", issuer_file.as_str()),
    ];
    let gateway = Gateway::start_with(On::FileAndSqlite, &settings).await;
    let token = |secret: &str| {
        let claims = json!({"sub": "u7", "exp": SystemClock::new().now().seconds() + 600});
        jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes()))
            .expect("a token")
    };
    let (first, second) = (token(OLD), token(NEW));
    let all = async || {
        let tokens = ["ck_first", "ck_second", first.as_str(), second.as_str()];
        join_all(tokens.map(|token| lists_with(&gateway, token))).await
    };
    assert_eq!(all().await, [200, 401, 200, 401]);
    // Both, while they rotate; then the new ones alone.
    replace(&keys, "shop:ck_first,next:ck_second");
    replace(&issuer, &format!("{NEW}\n{OLD}\n"));
    eventually("all are taken", async || all().await == [200, 200, 200, 200]).await;
    replace(&keys, "next:ck_second\n");
    replace(&issuer, NEW);
    eventually("the old ones are not", async || all().await == [401, 200, 401, 200]).await;
    // What cannot be used changes nothing, and is told once, without a word of it.
    replace(&keys, "hush-hush");
    replace(&issuer, "short-hush");
    tokio::time::sleep(SOON).await;
    assert_eq!(all().await, [401, 200, 401, 200]);
    let log = gateway.log();
    assert_eq!(log.matches("the old one stays").count(), 1, "{log}");
    assert!(!log.contains("hush"), "{log}");
    // Away for a moment, and right again.
    std::fs::remove_file(&keys).expect("removed");
    replace(&issuer, OLD);
    tokio::time::sleep(SOON).await;
    replace(&keys, "shop:ck_first");
    eventually("the first ones are back", async || all().await == [200, 401, 200, 401]).await;
}

/// One caller's old key and new one, side by side: what was begun with one goes on
/// with the other, and the log and the metrics tell them apart.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_gives_way_to_another_of_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = folder.path().join("keys");
    replace(&keys, "shop:ck_first-hush");
    let keys_file = keys.display().to_string();
    let settings = [("AUTH__MODE", "keys"), ("AUTH__API_KEYS_FILE", keys_file.as_str()), ("LOG__LEVEL", "debug")];
    let gateway = Gateway::start_with(On::FileAndSqlite, &settings).await;
    let ask = async |key: &str, method: Method, path: &str, body: Vec<u8>| {
        let sent = gateway.request(method, path).bearer_auth(key).body(body).send().await;
        Answer::of(sent).await
    };
    let wanted = json!({"fileId": "a", "fileName": "a.bin", "fileSize": 2 * MIB, "chunkSize": MIB}).to_string();
    let bytes = content(2 * MIB, 7);
    let (old, new) = ("ck_first-hush", "ck_second-hush");
    assert_eq!(ask(old, Method::POST, "/uploads", wanted.into_bytes()).await.status, 201);
    assert_eq!(ask(new, Method::GET, "/uploads/a", Vec::new()).await.status, 401);
    replace(&keys, "shop:ck_first-hush,shop:ck_second-hush");
    eventually("the new key is taken", async || ask(new, Method::GET, "/uploads/a", Vec::new()).await.status == 200)
        .await;
    // Both are the owner of the same upload.
    assert_eq!(ask(old, Method::PUT, "/chunks/a/0", bytes[..MIB].to_vec()).await.status, 200);
    let last = ask(new, Method::PUT, "/chunks/a/1", bytes[MIB..].to_vec()).await;
    assert_eq!(last.json["complete"], true, "{last:?}");
    let print = |key: &str| crate::harness::sha256(key.as_bytes())[..8].to_owned();
    let log = gateway.log();
    for key in [old, new] {
        assert!(log.contains(&format!("shop/{}", print(key))), "{log}");
        assert!(!log.contains(key), "{log}");
        let label = format!("chunkgate_api_key_requests_total{{name=\"shop\",fingerprint=\"{}\"}}", print(key));
        let metrics = gateway.http.get(format!("http://{}/metrics", gateway.admin)).send().await.expect("metrics");
        let metrics = metrics.text().await.expect("text");
        assert!(metrics.contains(&label), "{metrics}");
    }
    replace(&keys, "shop:ck_second-hush");
    eventually("the old one is not", async || ask(old, Method::GET, "/files/a", Vec::new()).await.status == 401).await;
    assert_eq!(ask(new, Method::GET, "/files/a", Vec::new()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_webhooks_secret_rotates() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("webhook");
    replace(&path, WEBHOOK_SECRET);
    let name = path.display().to_string();
    // The harness sets the secret itself; an empty variable is as good as none.
    let settings = [("WEBHOOK__SECRET", ""), ("WEBHOOK__SECRET_FILE", name.as_str())];
    let gateway = Gateway::start_with(On::FileAndSqlite, &settings).await;
    let signed_with = async |file_id: &str, secret: &str| {
        gateway.create(file_id, 3, MIB).await;
        gateway.put(file_id, 0, b"abc").await;
        let hook = gateway.hooks.wait_for(file_id).await;
        let said = |name: &str| hook.headers[name].to_str().expect("text").to_owned();
        let at = said("webhook-timestamp").parse().expect("a time");
        let keys = SigningKeys::parse(&Secret::new(secret)).expect("keys");
        keys.sign(&hook.id, at, &hook.text) == said("webhook-signature")
    };
    assert!(signed_with("a", WEBHOOK_SECRET).await);
    let next = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcY";
    replace(&path, &format!("{next} {WEBHOOK_SECRET}"));
    tokio::time::sleep(SOON).await;
    assert!(signed_with("b", &format!("{next} {WEBHOOK_SECRET}")).await);
    replace(&path, next);
    tokio::time::sleep(SOON).await;
    assert!(signed_with("c", next).await);
}

/// The database's password is changed, first there and then in the file, while
/// clients upload and connections come and go.
#[tokio::test(flavor = "multi_thread")]
async fn the_password_of_postgres_rotates_without_an_outage() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("url");
    let cluster = Cluster::start();
    cluster.ask_for_a_password("uploader", "hush0").await;
    let url = |n: usize| cluster.url_of("uploader", &format!("hush{n}"));
    replace(&path, &url(0));
    let name = path.display().to_string();
    let settings = [
        ("DATABASE__URL_FILE", name.as_str()),
        // Connections are young: each rotation is met by new ones.
        ("DATABASE__MAX_LIFETIME", "1s"),
        ("DATABASE__IDLE_TIMEOUT", "1s"),
        ("DATABASE__MIN_CONNECTIONS", "0"),
        ("DATABASE__ACQUIRE_TIMEOUT", "10s"),
    ];
    let gateway = Gateway::start_with(On::FileAndSqlite, &settings).await;
    let until = Instant::now() + Duration::from_secs(16);
    let rotating = async {
        for n in 1..=3 {
            tokio::time::sleep(Duration::from_secs(4)).await;
            cluster.set_password("uploader", &format!("hush{n}")).await;
            // The two are never changed at once.
            tokio::time::sleep(Duration::from_secs(1)).await;
            replace(&path, &url(n));
        }
    };
    let (chunks, ()) = tokio::join!(join_all((0..4).map(|client| load(&gateway, client, until))), rotating);
    println!("{chunks:?} chunks");
    assert!(!gateway.log().contains("hush"), "{}", gateway.log());
    // Another database is another ledger: that takes a restart.
    replace(&path, &url(3).replace("/postgres", "/template1"));
    eventually("it is told", async || gateway.log().contains("that takes a restart")).await;
    assert_eq!(load(&gateway, 9, Instant::now() + Duration::from_millis(1)).await, 4);
}
