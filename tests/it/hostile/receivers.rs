//! Whom a gateway never calls, whatever it was told: by configuration, by a
//! name that leads elsewhere, by a redirect.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::bad_config::Start;
use crate::harness::{WEBHOOK_SECRET, client, free_address};

#[test]
fn urls_that_are_never_receivers_are_refused_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    for (url, says) in [
        ("file:///etc/passwd", "must be a URL"),
        ("gopher://127.0.0.1:6379/_FLUSHALL", "must be a URL"),
        ("ftp://example.com/", "must be a URL"),
        ("unix:/run/x.sock", "must be a URL"),
        ("http://user@example.com/", "user or a password"),
        ("http://example.com@169.254.169.254/", "user or a password"),
        ("http://169.254.169.254/latest/meta-data", "metadata or link-local"),
        ("http://169.254.0.1/", "metadata or link-local"),
        ("https://169.254.169.254.:443/", "metadata or link-local"),
        ("http://2852039166/", "metadata or link-local"),
        ("http://0xa9.0xfe.0xa9.0xfe/", "metadata or link-local"),
        ("http://0251.0376.0251.0376/", "metadata or link-local"),
        ("http://169.16689662/", "metadata or link-local"),
        ("http://１６９.254.169.254/", "must be a URL"),
        ("http://100.100.100.200/", "metadata or link-local"),
        ("http://[fe80::1]/", "metadata or link-local"),
        ("http://[febf::1]/", "metadata or link-local"),
        ("http://[::ffff:169.254.169.254]/", "metadata or link-local"),
        ("http://[::ffff:a9fe:a9fe]/", "metadata or link-local"),
        ("//example.com/", "must be a URL"),
    ] {
        for key in ["WEBHOOK__URL", "HOOKS__BEFORE_CREATE__URL", "HOOKS__COMPLETED__URL"] {
            let start = Start::new(folder.path(), &["serve"]).with("WEBHOOK__SECRET", WEBHOOK_SECRET).with(key, url);
            start.fails(2, &[says]);
        }
    }
}

/// A name that leads to a metadata service is found out when it is connected
/// to, however late it was pointed there.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_to_a_metadata_service_is_not_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, admin) = (free_address(), free_address());
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n169.254.169.254 receiver.example\nfe80::1 six.example\n")
        .expect("written");
    let log = std::fs::File::create(folder.path().join("gateway.log")).expect("a log");
    // A namespace of its own, where names are looked up in that file.
    let script = "mount --bind \"$1\" /etc/hosts && exec \"$2\" serve";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(&hosts).arg(env!("CARGO_BIN_EXE_chunkgate"));
    command.env("CHUNKGATE_LISTEN", address.to_string()).env("CHUNKGATE_ADMIN_LISTEN", admin.to_string());
    command.env("CHUNKGATE_WEBHOOK__URL", "http://receiver.example:9/hook");
    command.env("CHUNKGATE_HOOKS__BEFORE_CREATE__URL", "http://six.example:9/hook");
    command.env("CHUNKGATE_WEBHOOK__SECRET", WEBHOOK_SECRET).env("CHUNKGATE_WEBHOOK__RETRY_INITIAL", "200ms");
    command.current_dir(folder.path()).stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
    let mut gateway = command.spawn().expect("unshare of util-linux");
    let said = || std::fs::read_to_string(folder.path().join("gateway.log")).unwrap_or_default();
    let http = client();
    let mut attempt = String::new();
    for look in 0..400 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        // The application cannot be asked, so nothing begins.
        let body = r#"{"fileName":"a","fileSize":5}"#;
        if let Ok(answer) = http.post(format!("http://{address}/uploads")).body(body).send().await {
            assert_eq!(answer.status(), 503);
            let text = answer.text().await.expect("a text");
            assert!(text.contains("hook_unavailable") && !text.contains("169.254"), "{text}");
            attempt = said();
            if attempt.contains("metadata or link-local") {
                break;
            }
        }
        assert!(gateway.try_wait().expect("a child").is_none(), "this test runs as root (sudo): {look}: {}", said());
    }
    let _ = gateway.kill();
    let _ = gateway.wait();
    assert!(attempt.contains("metadata or link-local address"), "{attempt}");
}
