//! Secrets are shown nowhere: planted in every place that takes one, looked for
//! in everything that is said.

use reqwest::Method;
use serde_json::json;
use tokio::process::Command;

use super::*;
use crate::harness::{KIB, MIB};

/// In every secret of these tests, however it is written.
const PLANTED: [&str; 2] = ["hush", "aHVzaC"];
/// `hush` in base64 is in it.
const WEBHOOK: &str = "whsec_aHVzaC1odXNoLWh1c2gtaHVzaC1odXNo";
const JWT: &str = "jwt-hush-jwt-hush-jwt-hush-jwt-hush";
const API_KEY: &str = "ck_hush0123456789abcdef";

fn is_silent(what: &str, text: &str) {
    for planted in PLANTED {
        if let Some(at) = text.find(planted) {
            let around: String = text[..at].chars().rev().take(300).collect::<Vec<_>>().into_iter().rev().collect();
            panic!("{what} shows a secret: {around}{}", &text[at..text.len().min(at + 60)]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_shown_nowhere() {
    let ground = Ground::prepare().await;
    let services = Services::start(&ground.gatekeeper, Duration::from_secs(3), false).await;
    let key_file = ground.path("key.json");
    let key = Key::of("file", 0, true);
    ground.gatekeeper.admit(&key, Duration::from_secs(3600));
    replace(&key_file, &key.json(None).to_string());
    let oidc = ground.path("oidc");
    services.set_oidc_token("oidc-hush");
    replace(&oidc, "oidc-hush");
    let static_key = Key::of("static", 1, true);
    ground.gatekeeper.admit(&static_key, Duration::from_secs(3600));
    let token = static_key.token.clone().expect("a token");
    let with_kind = |kind: &str, more: &[(&'static str, String)]| {
        let mut all = vec![("STORE__OSS__CREDENTIALS__KIND", kind.to_owned())];
        all.extend(more.iter().cloned());
        all
    };
    let role = ("STORE__OSS__CREDENTIALS__ROLE_ARN", ROLE.to_owned());
    let sts = ("STORE__OSS__CREDENTIALS__STS_ENDPOINT", services.url());
    let written = |id: &str, secret: &str| {
        [("STORE__OSS__ACCESS_KEY_ID", id.to_owned()), ("STORE__OSS__ACCESS_KEY_SECRET", secret.to_owned())]
    };
    let kinds = [
        with_kind(
            "static",
            &[&written(&static_key.id, &static_key.secret)[..], &[("STORE__OSS__SECURITY_TOKEN", token)]].concat(),
        ),
        with_kind("file", &[("STORE__OSS__CREDENTIALS__FILE", key_file.display().to_string())]),
        with_kind("command", &[("STORE__OSS__CREDENTIALS__COMMAND", format!("cat {}", key_file.display()))]),
        with_kind("assume_role", &[&written(BASE.0, BASE.1)[..], &[role.clone(), sts.clone()]].concat()),
        with_kind(
            "oidc_role",
            &[
                role,
                sts,
                ("STORE__OSS__CREDENTIALS__OIDC_PROVIDER_ARN", PROVIDER.to_owned()),
                ("STORE__OSS__CREDENTIALS__OIDC_TOKEN_FILE", oidc.display().to_string()),
            ],
        ),
        with_kind("ecs_role", &[("STORE__OSS__CREDENTIALS__METADATA_ENDPOINT", services.url())]),
    ];
    for kind in kinds {
        let name = kind[0].1.clone();
        let mut settings = vec![
            ("LOG__LEVEL", "trace".to_owned()),
            ("WEBHOOK__SECRET", WEBHOOK.to_owned()),
            ("HOOKS__COMPLETED__URL", "http://127.0.0.1:9/".to_owned()),
            ("AUTH__MODE", "tokens,jwt".to_owned()),
            ("AUTH__API_KEYS", format!("shop:{API_KEY}")),
            ("AUTH__JWT__ALGORITHMS", "HS256".to_owned()),
            ("AUTH__JWT__HS256_SECRET", JWT.to_owned()),
        ];
        settings.extend(kind);
        let gateway = ground.gateway(&settings).await;
        let mut said = String::new();
        let ask = async |method: Method, path: &str, body: Option<serde_json::Value>| {
            let request = gateway.request(method, path).bearer_auth(API_KEY);
            let sent = body.into_iter().fold(request, |request, body| request.json(&body)).send().await;
            let sent = sent.expect("an answer");
            format!("{:?} {}", sent.headers().clone(), sent.text().await.expect("text"))
        };
        let put = async |n: usize| {
            let path = format!("/chunks/a/{n}");
            let body = content(256 * KIB, n as u64);
            let sent = gateway.request(Method::PUT, &path).bearer_auth(API_KEY).body(body).send().await;
            sent.expect("an answer").text().await.expect("text")
        };
        // What goes well, and what does not: the key is refused, STS is away, the store is.
        let wanted = json!({"fileId": "a", "fileName": "a", "fileSize": MIB, "chunkSize": 256 * KIB});
        said += &ask(Method::POST, "/uploads", Some(wanted)).await;
        said += &put(0).await;
        assert!(said.contains("\"status\":\"uploaded\""), "{name}: {said}");
        services.set_down(true);
        ground.gatekeeper.revoke_all();
        for n in 1..4 {
            said += &put(n).await;
            said += &ask(Method::POST, "/chunks/complete", Some(json!({"fileId": "a"}))).await;
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
        assert!(said.contains("store_unavailable"), "{name}: {said}");
        for path in ["/healthz?strict=1", "/readyz", "/uploads", "/files", "/chunks?fileId=a"] {
            said += &ask(Method::GET, path, None).await;
        }
        for path in ["/metrics", "/healthz", "/readyz", "/admin/uploads?status=failed", "/admin/events?state=pending"] {
            let sent = gateway.admin_request(Method::GET, path).bearer_auth(API_KEY).send().await.expect("an answer");
            said += &sent.text().await.expect("text");
        }
        is_silent(&format!("{name}: an answer"), &said);
        is_silent(&format!("{name}: the log"), &gateway.log());
        services.set_down(false);
        for key in [&key, &static_key] {
            ground.gatekeeper.admit(key, Duration::from_secs(3600));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_configured_is_printed_without_secrets() {
    let settings = [
        ("STORE__KIND", "oss"),
        ("STORE__OSS__ACCESS_KEY_ID", "hush"),
        ("STORE__OSS__ACCESS_KEY_SECRET", "hush"),
        ("STORE__OSS__SECURITY_TOKEN", "hush"),
        ("STORE__OSS__CREDENTIALS__COMMAND", "vault read -token=hush oss"),
        ("STORE__OSS__CREDENTIALS__STS_ENDPOINT", "http://me:hush@sts.example.com/?token=hush"),
        ("STORE__OSS__CREDENTIALS__METADATA_ENDPOINT", "http://me:hush@metadata.example.com"),
        ("STORE__OSS__CREDENTIALS__EXTERNAL_ID", "hush"),
        ("STORE__OSS__ENDPOINT", "https://me:hush@oss-cn-hangzhou.aliyuncs.com"),
        ("STORE__S3__ACCESS_KEY_ID", "hush"),
        ("STORE__S3__ACCESS_KEY_SECRET", "hush"),
        ("STORE__S3__SESSION_TOKEN", "hush"),
        ("STORE__S3__CREDENTIALS__COMMAND", "vault read -token=hush s3"),
        ("STORE__S3__CREDENTIALS__STS_ENDPOINT", "http://me:hush@sts.example.com/?token=hush"),
        ("STORE__S3__CREDENTIALS__EXTERNAL_ID", "hush"),
        ("DATABASE__URL", "postgres://me:hush@db.example.com/gate"),
        ("WEBHOOK__SECRET", WEBHOOK),
        ("WEBHOOK__URL", "https://hooks.example.com/?token=hush"),
        ("AUTH__API_KEYS", "shop:hush"),
        ("AUTH__JWT__HS256_SECRET", JWT),
        ("UPLOAD__LEASE", "hush-is-no-duration"),
    ];
    for printed in [true, false] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_chunkgate"));
        let settings = settings.iter().filter(|(name, _)| !printed || *name != "UPLOAD__LEASE");
        command.env_clear().envs(settings.map(|(name, value)| (format!("CHUNKGATE_{name}"), value)));
        command.current_dir(&folder).arg("serve").args(printed.then_some("--print-config"));
        let output = command.output().await.expect("it runs");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!said.is_empty());
        is_silent("the configuration", &said.replace("hush-is-no-duration", ""));
    }
}
