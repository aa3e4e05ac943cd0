//! Headless Chromium against a real gateway: the stories in
//! `tests/clients/browser`, each with the gateway it needs.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;
use tokio::sync::Mutex;

use crate::access::{KEY, TOKENS};
use crate::harness::{Gateway, On, free_address};
use crate::node;
use crate::signed_forms::CALLBACKS;

/// One browser at a time: each is as many processes as this machine has cores.
static BROWSER: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn the_tutorials_snippet_is_told_its_missing_line_and_then_works() {
    for on in On::BOTH {
        run("snippet.js", on, &[], &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_sends_only_what_is_missing_after_a_reload() {
    let shots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
    run("page.js", On::FileAndSqlite, &[], &[&shots.display().to_string()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_in_mid_body_have_a_status() {
    let small = [("LIMITS__MAX_CONCURRENT_CHUNKS", "1"), ("LIMITS__QUEUE_WAIT", "1s")];
    run("refusals.js", On::FileAndSqlite, &small, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_gets_through_trouble() {
    run("trouble.js", On::FileAndSqlite, &[], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_asks_for_a_key_where_one_is_needed() {
    let keys = [("AUTH__MODE", "keys"), ("AUTH__API_KEYS", "app:ck_0123456789abcdef")];
    run("key.js", On::FileAndSqlite, &keys, &["ck_0123456789abcdef"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_renews_its_tokens() {
    let settings = [&TOKENS[..], &[("AUTH__ACCESS_TTL", "4s")]].concat();
    run("tokens.js", On::FileAndSqlite, &settings, &[KEY]).await;
}

/// With the gateway's mercy for two renewals at once, and without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_tab_and_its_copy_live_on_one_login() {
    for leeway in ["10s", "0s"] {
        let settings = [&TOKENS[..], &[("AUTH__ACCESS_TTL", "4s"), ("AUTH__REFRESH_LEEWAY", leeway)]].concat();
        run("tabs.js", On::FileAndSqlite, &settings, &[KEY]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_goes_on_where_nothing_is_kept() {
    let keys = [("AUTH__MODE", "keys"), ("AUTH__API_KEYS", "app:ck_0123456789abcdef")];
    run("blocked.js", On::FileAndSqlite, &keys, &["ck_0123456789abcdef"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gigabyte_goes_straight_to_the_store_and_resumes_there() {
    let application = format!("http://{}", free_address());
    run("direct.js", On::OssAndPostgres, &[("CORS__ALLOWED_ORIGINS", &application)], &[&application]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_goes_straight_to_the_store_which_tells_the_gateway() {
    let application = format!("http://{}", free_address());
    let settings = [&CALLBACKS[..], &[("CORS__ALLOWED_ORIGINS", application.as_str())]].concat();
    let gateway = Gateway::start_with(On::OssAndPostgres, &settings).await;
    let said = on_gateway("form.js", &gateway, &[&application]).await;
    let file_id = said.lines().find_map(|line| line.strip_prefix("fileId ")).expect("the browser heard of its file");
    assert_eq!(gateway.get(&format!("/files/{file_id}")).await.json["fileName"], "me.png");
    let event = gateway.hooks.wait_for(file_id).await;
    assert_eq!(event.json["type"], "upload.completed");
    let emulator = gateway.emulator.as_ref().expect("an emulator");
    assert_eq!((emulator.calls("postObject").await, emulator.calls("putObject").await), (2, 0));
}

async fn run(script: &str, on: On, settings: &[(&str, &str)], arguments: &[&str]) {
    on_gateway(script, &Gateway::start_with(on, settings).await, arguments).await;
}

/// What the story said, which must end well.
async fn on_gateway(script: &str, gateway: &Gateway, arguments: &[&str]) -> String {
    let folder = node::folder("browser", "playwright-core").await;
    let _turn = BROWSER.lock().await;
    let mut command = Command::new("node");
    command.arg(script).arg(gateway.url("")).args(arguments).current_dir(folder);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("node runs");
    let (said, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{script}\n{said}");
    assert!(output.status.success(), "{script}\n{said}{complaints}\n{}", gateway.log());
    said.into_owned()
}
