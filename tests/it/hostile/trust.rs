//! Whose word counts: an address's, a listener's, a secret's.

use reqwest::Method;
use serde_json::{Value, json};

use super::send;
use crate::access::{KEY, TOKENS};
use crate::harness::{Answer, Gateway, MIB, On, WEBHOOK_SECRET};

const FEW: (&str, &str) = ("LIMITS__RATE", "3/h");

/// A guess at a key from an address that the client says is its own.
async fn guess(gateway: &Gateway, forwarded: &[&str]) -> u16 {
    let request = gateway.request(Method::GET, "/uploads").bearer_auth("ck_guess");
    let others = ["X-Real-IP", "Forwarded", "X-Client-IP", "CF-Connecting-IP", "True-Client-IP"];
    let request = others.iter().fold(request, |request, name| request.header(*name, "for=9.9.9.9"));
    let request = forwarded.iter().fold(request, |request, value| request.header("X-Forwarded-For", *value));
    send(request).await.status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_what_trusted_proxies_say_and_no_more() {
    // Nobody is trusted: whatever is said, it is one address.
    let gateway = Gateway::start_with(On::FileAndSqlite, &[&TOKENS[..], &[FEW]].concat()).await;
    for nth in 0..3 {
        assert_eq!(guess(&gateway, &[&format!("1.2.3.{nth}")]).await, 401);
    }
    for said in [&[][..], &["1.2.3.99"], &["5.6.7.8, 9.9.9.9"], &["a", "b"], &["127.0.0.1"], &["::1"]] {
        assert_eq!(guess(&gateway, said).await, 429, "{said:?}");
    }
    // One is: the last entry is its own word, and what stands before it anybody's.
    let one = [FEW, ("LIMITS__TRUSTED_PROXIES", "1")];
    let gateway = Gateway::start_with(On::FileAndSqlite, &[&TOKENS[..], &one].concat()).await;
    for nth in 0..3 {
        assert_eq!(guess(&gateway, &[&format!("6.6.6.{nth}, 1.2.3.4")]).await, 401);
    }
    for spoofed in [&["6.6.6.9, 1.2.3.4"][..], &["6.6.6.9", "1.2.3.4"], &["5.5.5.5, 4.4.4.4,1.2.3.4"], &["1.2.3.4:80"]]
    {
        assert_eq!(guess(&gateway, spoofed).await, 429, "{spoofed:?}");
    }
    assert_eq!(guess(&gateway, &["1.2.3.4, 1.2.3.5"]).await, 401, "another client");
    // Nonsense is no address of its own.
    for nth in 0..4 {
        let status = guess(&gateway, &[&format!("nonsense-{nth}")]).await;
        assert_eq!(status, if nth < 3 { 401 } else { 429 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_listener_has_what_is_its_own() {
    for (settings, key) in [(&[][..], None), (&TOKENS[..], Some(KEY))] {
        let gateway = Gateway::start_with(On::FileAndSqlite, settings).await;
        let ask = async |public: bool, method: Method, path: &str| {
            let request = if public { gateway.request(method, path) } else { gateway.admin_request(method, path) };
            send(key.into_iter().fold(request, |request, key| request.bearer_auth(key))).await
        };
        for path in [
            "/metrics",
            "/metrics/",
            "//metrics",
            "/%6detrics",
            "/admin",
            "/admin/events",
            "/admin/uploads",
            "/debug/pprof",
        ] {
            let answer = ask(true, Method::GET, path).await;
            answer.is_refused(404, "not_found");
        }
        ask(true, Method::POST, "/admin/events/evt_x/redeliver").await.is_refused(404, "not_found");
        for path in ["/uploads", "/files", "/chunks?fileId=a", "/", "/page/app.js"] {
            ask(false, Method::GET, path).await.is_refused(404, "not_found");
        }
        for path in ["/metrics", "/admin/events", "/admin/uploads"] {
            assert_eq!(ask(false, Method::GET, path).await.status, 200, "{path}");
        }
    }
}

/// All that is secret here, after all that could tell it was done.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_told() {
    for on in On::BOTH {
        let level = [("LOG__LEVEL", "debug")];
        let mut gateway = Gateway::start_with(on, &[&TOKENS[..], &level].concat()).await;
        let mut secrets = vec![KEY.to_owned(), WEBHOOK_SECRET.to_owned(), "ck_wrong-but-near".to_owned()];
        let mut told: Vec<String> = Vec::new();
        let login = json!({"subject": "u", "scope": "uploads:write files:read files:write"});
        let login = send(gateway.request(Method::POST, "/auth/tokens").bearer_auth(KEY).json(&login)).await;
        let token = |answer: &Answer, name: &str| answer.json[name].as_str().expect("a token").to_owned();
        let (access, refresh) = (token(&login, "accessToken"), token(&login, "refreshToken"));
        let again = send(gateway.request(Method::POST, "/auth/refresh").json(&json!({"refreshToken": refresh}))).await;
        secrets.extend([access.clone(), refresh.clone(), token(&again, "accessToken"), token(&again, "refreshToken")]);
        let ask = |method: Method, path: &str| gateway.request(method, path).bearer_auth(&access);
        let wanted = json!({"fileId": "f", "fileName": "f", "fileSize": 5});
        told.push(send(ask(Method::POST, "/uploads").json(&wanted)).await.json.to_string());
        if on == On::OssAndPostgres {
            let parts = send(ask(Method::POST, "/uploads/f/parts/sign").json(&json!({"chunkIndexes": [0]}))).await;
            let url = parts.json["parts"][0]["url"].as_str().expect("a URL").to_owned();
            secrets
                .push(url.split("signature=").nth(1).expect("a signature").split('&').next().expect("it").to_owned());
        }
        told.push(send(ask(Method::PUT, "/chunks/f/0").body("hello")).await.json.to_string());
        let link = send(ask(Method::POST, "/files/f/sign").json(&json!({}))).await;
        let url = link.json["url"].as_str().expect("a URL").to_owned();
        secrets.push(url.split("ignature=").nth(1).expect("a signature").split('&').next().expect("it").to_owned());
        let url = if url.starts_with('/') { gateway.url(&url) } else { url };
        assert_eq!(gateway.http.get(&url).send().await.expect("an answer").status(), 200);
        // Edited, late, in the wrong place, broken.
        for wrong in [&access[..access.len() - 2], &refresh, "ck_wrong-but-near", KEY.trim_end_matches('f')] {
            let answer = send(gateway.request(Method::GET, "/uploads").bearer_auth(wrong)).await;
            assert_eq!(answer.status, 401);
            told.push(answer.json.to_string());
        }
        let body = json!({"refreshToken": refresh, "deviceId": "other", "unknown": KEY});
        told.push(send(gateway.request(Method::POST, "/auth/refresh").json(&body)).await.json.to_string());
        told.push(gateway.get(&format!("/files/f/content?signature={}", secrets[1])).await.json.to_string());
        for path in ["/healthz", "/readyz", "/livez"] {
            told.push(gateway.get(path).await.json.to_string());
            told.push(send(gateway.admin_request(Method::GET, path)).await.json.to_string());
        }
        gateway.hooks.wait_for("f").await;
        for path in ["/metrics", "/admin/events", "/admin/uploads"] {
            told.push(send(gateway.admin_request(Method::GET, path).bearer_auth(KEY)).await.json.to_string());
        }
        // What is behind goes away, and what fails then says why.
        if let Some(emulator) = &mut gateway.emulator {
            emulator.stop();
            // The login that was attacked has ended.
            let login = json!({"subject": "u"});
            let login = send(gateway.request(Method::POST, "/auth/tokens").bearer_auth(KEY).json(&login)).await;
            let access = token(&login, "accessToken");
            secrets.extend([access.clone(), token(&login, "refreshToken")]);
            let large = json!({"fileId": "g", "fileName": "g", "fileSize": MIB});
            for _ in 0..2 {
                let ask = |method: Method, path: &str| gateway.request(method, path).bearer_auth(&access);
                told.push(send(ask(Method::POST, "/uploads").json(&large)).await.json.to_string());
                let put = send(ask(Method::PUT, "/chunks/g/0").body(vec![0; MIB])).await;
                put.is_refused(503, "store_unavailable");
                told.push(put.json.to_string());
                told.push(send(ask(Method::GET, "/files/f/content")).await.json.to_string());
                told.push(send(gateway.admin_request(Method::GET, "/healthz")).await.json.to_string());
            }
        }
        let log = gateway.log();
        assert!(log.lines().count() > 20, "{log}");
        for secret in &secrets {
            assert!(!log.contains(secret.as_str()), "{on:?}: {secret} is in the log");
            let teller = told.iter().find(|text| text.contains(secret.as_str()));
            assert!(teller.is_none(), "{on:?}: {secret} is told: {teller:?}");
        }
        for mark in ["Signature=", "signature=", "OSS4-HMAC", "postgres:postgres", "Bearer ck_0", "Bearer ey"] {
            assert!(!log.contains(mark), "{on:?}: {mark} is in the log");
        }
        let _: Value = json!(told);
    }
}
