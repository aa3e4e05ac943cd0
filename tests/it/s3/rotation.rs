//! Keys of S3 that rotate, and end, while clients upload: on a server that lets
//! in nobody else. And roles, on one that gives out sessions.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::Instant;

use super::gateway::CHUNK;
use super::servers::{KEY_ID, SECRET, Server};
use crate::harness::{Gateway, KIB, On, content, sha256};

const CLIENTS: usize = 4;
const LASTS: Duration = Duration::from_secs(10);
/// So many keys are good at once: whoever rotates lets the old one live until it
/// is used nowhere any more.
const ALIVE: u64 = 4;

/// The nth key: its id and its secret.
fn key(n: u64) -> (String, String) {
    (format!("user-{n}"), format!("secret-hush-{n}"))
}

/// Replaces a file in one step, as whoever rotates secrets should.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).expect("written");
    std::fs::rename(&beside, path).expect("renamed");
}

fn json_of(n: u64) -> String {
    let (id, secret) = key(n);
    json!({"Version": 1, "AccessKeyId": id, "SecretAccessKey": secret}).to_string()
}

async fn gateway(server: &Server, more: &[(&str, String)]) -> Gateway {
    let mut settings: Vec<(&str, String)> = server.environment();
    settings.retain(|(name, _)| !name.contains("ACCESS_KEY"));
    settings.extend(more.iter().cloned());
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Gateway::start_with(On::FileAndSqlite, &settings).await
}

/// Uploads files of two chunks, one after the other, until the time is over; how
/// many chunks there were. None of them may fail.
async fn load(gateway: &Gateway, client: u64, until: Instant) -> usize {
    let mut chunks = 0;
    for n in 0.. {
        if Instant::now() >= until {
            break;
        }
        let (id, bytes) = (format!("f-{client}-{n}"), content(CHUNK + 70 * KIB, client * 1000 + n));
        gateway.create(&id, bytes.len(), CHUNK).await;
        let last = gateway.put_all(&id, &bytes, CHUNK).await;
        assert_eq!(last.json["complete"], true, "{last:?}\n{}", gateway.log());
        chunks += 2;
    }
    chunks
}

/// Rotates once a second, in whatever way, while clients upload. The first key
/// is there already.
async fn rotates(server: &Server, gateway: &Gateway, rotate: impl Fn(u64)) {
    let until = Instant::now() + LASTS;
    let rotating = async {
        let mut n = 0;
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_secs(1)).await;
            n += 1;
            server.admit(&key(n).0, &key(n).1).await;
            rotate(n);
            if n >= ALIVE {
                server.withdraw(&key(n - ALIVE).0).await;
            }
        }
        n
    };
    let loads = join_all((0..CLIENTS as u64).map(|client| load(gateway, client, until)));
    let (chunks, n) = tokio::join!(loads, rotating);
    let chunks: usize = chunks.iter().sum();
    println!("{chunks} chunks while {n} keys followed one another");
    assert!(chunks >= 2 * CLIENTS && n > ALIVE, "{chunks} chunks, {n} keys");
    // The one that is used now is taken away at the moment when there is another: what has no body is asked again.
    server.admit(&key(n + 1).0, &key(n + 1).1).await;
    rotate(n + 1);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    for old in n.saturating_sub(ALIVE - 1)..=n {
        server.withdraw(&key(old).0).await;
    }
    assert_eq!(gateway.download("f-0-0").await.len(), CHUNK + 70 * KIB);
}

/// A server that knows the first key, and a file that holds it, in a folder.
async fn with_a_key_in_a_file() -> (Server, tempfile::TempDir, PathBuf) {
    let server = Server::versitygw_with_users().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key.json");
    server.admit(&key(0).0, &key(0).1).await;
    replace(&path, &json_of(0));
    (server, folder, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_s3_in_a_file_rotate_every_second() {
    let (server, _folder, path) = with_a_key_in_a_file().await;
    let settings = [
        ("STORE__S3__CREDENTIALS__KIND", "file".to_owned()),
        ("STORE__S3__CREDENTIALS__FILE", path.display().to_string()),
    ];
    let gateway = gateway(&server, &settings).await;
    rotates(&server, &gateway, |n| replace(&path, &json_of(n))).await;
    assert!(gateway.metric("chunkgate_store_credentials_renewed_total").await >= 4.0);
    assert!(!gateway.log().contains("hush"));
}

/// As a secret of Kubernetes that is mounted: each value a file of its own.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_s3_in_files_of_their_own_rotate_every_second() {
    let server = Server::versitygw_with_users().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (id, secret) = (folder.path().join("id"), folder.path().join("secret"));
    let rotate = |n: u64| {
        replace(&id, &format!("{}\n", key(n).0));
        replace(&secret, &key(n).1);
    };
    server.admit(&key(0).0, &key(0).1).await;
    rotate(0);
    let settings = [
        ("STORE__S3__ACCESS_KEY_ID_FILE", id.display().to_string()),
        ("STORE__S3__ACCESS_KEY_SECRET_FILE", secret.display().to_string()),
    ];
    let gateway = gateway(&server, &settings).await;
    rotates(&server, &gateway, rotate).await;
    assert!(!gateway.log().contains("hush"));
}

/// A command is run again when the store does not take its key any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_gives_other_keys_of_s3_once_the_store_refuses_them() {
    let (server, _folder, path) = with_a_key_in_a_file().await;
    let settings = [
        ("STORE__S3__CREDENTIALS__KIND", "command".to_owned()),
        ("STORE__S3__CREDENTIALS__COMMAND", format!("cat {}", path.display())),
    ];
    let gateway = gateway(&server, &settings).await;
    let bytes = content(CHUNK + 9, 1);
    gateway.create("a", bytes.len(), CHUNK).await;
    gateway.put_all("a", &bytes, CHUNK).await;
    // Nobody is asked all the time for what it just gave.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    server.admit(&key(1).0, &key(1).1).await;
    replace(&path, &json_of(1));
    server.withdraw(&key(0).0).await;
    assert_eq!(sha256(&gateway.download("a").await), sha256(&bytes));
    gateway.create("b", bytes.len(), CHUNK).await;
    gateway.put_all("b", &bytes, CHUNK).await;
}

/// moto gives out sessions as AWS does, and lets everybody in: which key is used
/// is seen in what it signs.
#[tokio::test(flavor = "multi_thread")]
async fn roles_of_s3_are_assumed_by_a_key_or_by_a_token() {
    let server = Server::moto().await;
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    replace(&token, "header.payload.signature\n");
    let role = ("STORE__S3__CREDENTIALS__ROLE_ARN", "arn:aws:iam::123456789012:role/uploads".to_owned());
    let kind = |kind: &str| ("STORE__S3__CREDENTIALS__KIND", kind.to_owned());
    let by_key = [
        kind("assume_role"),
        ("STORE__S3__ACCESS_KEY_ID", KEY_ID.to_owned()),
        ("STORE__S3__ACCESS_KEY_SECRET", SECRET.to_owned()),
        ("STORE__S3__CREDENTIALS__SESSION_DURATION", "15m".to_owned()),
        role.clone(),
    ];
    let by_token =
        [kind("web_identity"), role, ("STORE__S3__CREDENTIALS__WEB_IDENTITY_TOKEN_FILE", token.display().to_string())];
    for (settings, seconds) in [(&by_key[..], 900), (&by_token, 3600)] {
        let gateway = gateway(&server, settings).await;
        let bytes = content(CHUNK + 9, 2);
        gateway.create("a", bytes.len(), CHUNK).await;
        gateway.put_all("a", &bytes, CHUNK).await;
        assert_eq!(sha256(&gateway.download("a").await), sha256(&bytes));
        let signed = gateway.post("/files/a/sign", json!({"expiresIn": 86_400})).await;
        let url = signed.json["url"].as_str().expect("a URL");
        assert!(url.contains("X-Amz-Credential=ASIA") && url.contains("&X-Amz-Security-Token="), "{url}");
        // It ends with the session that signed it.
        let expires = url.split("X-Amz-Expires=").nth(1).and_then(|rest| rest.split('&').next());
        let expires: u32 = expires.and_then(|text| text.parse().ok()).expect("a number");
        assert!((seconds - 60..=seconds).contains(&expires), "{url}");
        assert_eq!(gateway.metric("chunkgate_store_credentials_failing").await, 0.0);
    }
}
