//! Every route with every kind of caller, asked of a running gateway and kept
//! in `docs/access.md`: a route that is added has no row there, and fails.

use std::fmt::Write as _;
use std::path::Path;

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::{KEY, gateway, log_in};
use crate::harness::{Answer, Gateway, On};
use crate::openapi::contract::{CHUNK, Contract, Operation};

const HEAD: &str = "\
# Who may what

Made by `tests/it/access/table.rs`, which asks a running gateway and fails when this page differs. Every route of
[openapi.yaml](../openapi.yaml), asked about an upload and a file that are `mine`, in `auth.mode = [\"tokens\"]`:

- **no token**, and **garbage** for one;
- **expired**: a token of mine whose time is over;
- **another's**: a token of somebody else with every scope, about my upload or file. It is answered as what is not there;
  what makes or lists something makes or lists their own;
- **wrong scope**: a token with every scope but the one that the answer names;
- **wrong method**: `PATCH`, with a token that is good.

| route | no token | garbage | expired | another's | wrong scope | wrong method |
|---|---|---|---|---|---|---|
";

const SCOPES: [&str; 3] = ["uploads:write", "files:read", "files:write"];

async fn cell(request: RequestBuilder) -> String {
    let answer = Answer::of(request.send().await).await;
    shown(&answer)
}

fn shown(answer: &Answer) -> String {
    match answer.code() {
        "" if answer.json["status"] == "none" => "200 `none`".to_owned(),
        "" => answer.status.as_u16().to_string(),
        code => format!("{} `{code}`", answer.status.as_u16()),
    }
}

/// What the route's samples are about.
async fn furnish(here: &Gateway) {
    let ask = |method: Method, path: &str| here.request(method, &format!("{path}?owner=mine")).bearer_auth(KEY);
    for id in ["o", "full"] {
        let plan = json!({"fileId": id, "fileName": "a", "fileSize": 2 * CHUNK + 7, "chunkSize": CHUNK, "autoComplete": false});
        assert_eq!(Answer::of(ask(Method::POST, "/uploads").json(&plan).send().await).await.status, 201);
        let chunk = ask(Method::PUT, &format!("/chunks/{id}/0")).body(vec![1; CHUNK]);
        assert_eq!(Answer::of(chunk.send().await).await.status, 200);
    }
    let file = here.request(Method::POST, "/files?owner=mine&fileName=f&fileId=f").bearer_auth(KEY).body("hello");
    assert_eq!(Answer::of(file.send().await).await.status, 201);
}

/// A token by hand, while the gateway runs.
fn by_hand(here: &Gateway, subject: &str, expires_in: &str) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_chunkgate"));
    command.args(["token", "access", subject, "--expires-in", expires_in, "--data-dir"]);
    command.arg(here.folder.path().join("data")).args(["--set", "auth.mode=tokens"]);
    command.env("CHUNKGATE_AUTH__API_KEYS", format!("app:{KEY}"));
    let made = command.output().expect("it runs");
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).expect("text").trim().to_owned()
}

async fn row(here: &Gateway, operation: &Operation<'_>, expired: &str, narrow: &[String]) -> String {
    // Somebody else each time: what one has made is not there for the next.
    let other = json!({"subject": format!("other:{}", operation.id), "scope": SCOPES.join(" ")});
    let other = log_in(here, other).await.access;
    let sample = || operation.sample(here);
    let mut wrong_scope = Vec::new();
    for token in narrow {
        let answer = Answer::of(sample().bearer_auth(token).send().await).await;
        if answer.status == 403 {
            // The answer to HEAD has no document.
            let challenge = answer.headers.get("www-authenticate").and_then(|value| value.to_str().ok());
            let challenge = challenge.and_then(|value| value.split("scope=\"").nth(1)?.strip_suffix('"'));
            let needed = answer.json["neededScope"].as_str().or(challenge).expect("a scope");
            wrong_scope.push(format!("{} ({needed})", shown(&answer)));
        }
    }
    wrong_scope.dedup();
    assert!(wrong_scope.len() <= 1, "{}: {wrong_scope:?}", operation.id);
    // A method that no route has.
    let path = operation.path.replace("{fileId}", "f").replace("{chunkIndex}", "0").replace("{id}", "evt_x");
    let wrong_method = operation.request(here, Method::PATCH, &path).bearer_auth(KEY);
    let cells = [
        cell(sample()).await,
        cell(sample().bearer_auth("garbage")).await,
        cell(sample().bearer_auth(expired)).await,
        cell(sample().bearer_auth(&other)).await,
        wrong_scope.pop().unwrap_or_else(|| "—".to_owned()),
        cell(wrong_method).await,
    ];
    format!("| `{} {}` | {} |", operation.method.to_ascii_uppercase(), operation.path, cells.join(" | "))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_has_its_row() {
    let here = gateway(On::FileAndSqlite, &[]).await;
    furnish(&here).await;
    let expired = by_hand(&here, "mine", "1s");
    let mut narrow = Vec::new();
    for without in SCOPES {
        let scope: Vec<&str> = SCOPES.into_iter().filter(|scope| *scope != without).collect();
        // Of nobody: what is let through finds nothing to change.
        narrow.push(log_in(&here, json!({"subject": "nobody", "scope": scope.join(" ")})).await.access);
    }
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    let contract = Contract::read();
    let mut page = HEAD.to_owned();
    for operation in contract.operations() {
        writeln!(page, "{}", row(&here, &operation, &expired, &narrow).await).expect("written");
    }
    // What was asked for as somebody else has changed nothing of mine.
    let mine = by_hand(&here, "mine", "1h");
    let still = Answer::of(here.request(Method::GET, "/uploads").bearer_auth(&mine).send().await).await;
    assert_eq!(still.json["uploads"].as_array().map(Vec::len), Some(3), "{still:?}");

    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kept = std::fs::read_to_string(folder.join("docs/access.md")).unwrap_or_default();
    if kept != page {
        let made = folder.join("target/access.md");
        std::fs::write(&made, &page).expect("written");
        panic!(
            "docs/access.md is not what the gateway does; see what changed, and if it is right:\n  cp target/access.md docs/access.md\n{page}"
        );
    }
}

/// Keys and tokens that are made by hand are what a gateway takes, and say why
/// they cannot be made.
#[tokio::test(flavor = "multi_thread")]
async fn keys_and_tokens_are_made_by_hand() {
    let run = |arguments: &[&str], folder: &Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_chunkgate"));
        let output = command.arg("token").args(arguments).current_dir(folder).output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().expect("an exit code"), text(&output.stdout), text(&output.stderr))
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (code, said, _) = run(&["key", "shop"], folder.path());
    let values: Vec<&str> = said.lines().map(|line| line.rsplit(' ').next().expect("a value")).collect();
    let [key, hashed, shown] = values[..] else { panic!("{said}") };
    assert!(shown == format!("shop/{}", &crate::harness::sha256(key.as_bytes())[..8]), "{said}");
    assert!(code == 0 && key.starts_with("ck_") && hashed.starts_with("shop:sha256:"), "{said}");
    let here = gateway(On::FileAndSqlite, &[("AUTH__API_KEYS", hashed)]).await;
    assert_eq!(super::ask(&here, key, Method::GET, "/uploads", None).await.status, 200);

    // What is locked in is in the token.
    let data = here.folder.path().join("data");
    let data = ["--data-dir", data.to_str().expect("a path"), "--set", "auth.mode=tokens", "--set"];
    let keys = format!("auth.api_keys={hashed}");
    let terms =
        ["--scope", "uploads:write", "--max-file-size", "1KiB", "--allowed-types", "image/*", "--metadata", "a=b"];
    let configured = [&data[..], &[keys.as_str()]].concat();
    let (code, token, complaint) = run(&[&["access", "u7"], &terms[..], &configured].concat(), folder.path());
    assert_eq!(code, 0, "{complaint}");
    let create = async |name: &str, bytes: u64| {
        let wanted = json!({"fileName": name, "fileSize": bytes});
        super::ask(&here, token.trim(), Method::POST, "/uploads", Some(wanted)).await
    };
    let created = create("a.png", 9).await;
    assert_eq!((&created.json["owner"], &created.json["metadata"]), (&json!("u7"), &json!({"a": "b"})), "{created:?}");
    create("a.png", 2000).await.is_refused(413, "file_too_large");
    create("a.exe", 9).await.is_refused(415, "type_not_allowed");
    super::ask(&here, token.trim(), Method::GET, "/files", None).await.is_refused(403, "insufficient_scope");

    for (wrong, says) in [
        (&["access", "u", "--expires-in", "8d"][..], "7d at most"),
        (&["access", "u", "--scope", "all"], "--scope"),
        (&["access", "u", "--key-prefix", "../up"], "keyPrefix"),
        (&["access", ""], "subject"),
        (&["key", "a b"], "a name is"),
    ] {
        let arguments = if wrong[0] == "key" { wrong.to_vec() } else { [wrong, &configured].concat() };
        let (code, said, complaint) = run(&arguments, folder.path());
        assert!(code == 2 && said.is_empty() && complaint.contains(says), "{wrong:?}: {code} {said} {complaint}");
    }
    let (code, _, complaint) = run(&["access", "u"], folder.path());
    assert!(code == 2 && complaint.contains("auth.mode"), "{complaint}");
    let empty = ["access", "u", "--data-dir", "none", "--set", "auth.mode=tokens", "--set", keys.as_str()];
    let (code, _, complaint) = run(&empty, folder.path());
    assert!(code == 1 && complaint.contains("none"), "{complaint}");
}
