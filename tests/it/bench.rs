//! `chunkgate bench`: it loads, it compares, and it gives no rate for what did
//! not go well.

use std::process::Output;

use axum::Router;
use axum::response::IntoResponse as _;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::harness::{Gateway, On, free_address};

async fn bench(url: &str, arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chunkgate"));
    command.args(["bench", "--url", url]).args(arguments.split_whitespace()).kill_on_drop(true);
    command.output().await.expect("it runs")
}

fn figures(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_in_every_mode_on_both() {
    for on in On::BOTH {
        let gateway = Gateway::start(on).await;
        for (mode, chunks) in [("put", 20), ("form", 20), ("file", 5)] {
            let sizes = "--file-size 420000 --chunk-size 110000 --files 5 --uploads 2 --verify 3";
            let output = bench(&gateway.url(""), &format!("--mode {mode} {sizes} --json")).await;
            let report = figures(&output);
            assert!(output.status.success(), "{output:?}");
            assert_eq!((&report["files"], &report["bytes"]), (&json!(5), &json!(5 * 420_000)), "{report}");
            assert_eq!((&report["verified"], &report["wrong"]), (&json!(3), &json!([])));
            assert_eq!(report["chunkMillis"]["count"], chunks, "{mode}");
            assert!(report["megabytesPerSecond"].as_f64().is_some_and(|rate| rate > 0.0));
        }
        let output = bench(&gateway.url(""), "--file-size 1MiB --chunk-size 200KiB --slow 2 --think-time 5ms").await;
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains(" MB/s\n") && text.contains("what was sent"), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bench_that_did_not_go_well_has_no_rate() {
    let nobody = bench(&format!("http://{}", free_address()), "--file-size 10 --json").await;
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
    let report = figures(&nobody);
    assert_eq!((&report["errors"], &report["megabytesPerSecond"]), (&json!({"no connection": 4}), &Value::Null));

    // It takes everything and gives other bytes back.
    let liar = Router::new().fallback(|request: axum::extract::Request| async move {
        let body = axum::body::to_bytes(request.into_body(), usize::MAX).await;
        drop(body.expect("a body"));
        r#"{"status": "completed"}"#.into_response()
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let serving = tokio::spawn(axum::serve(listener, liar).into_future());
    let wrong = bench(&url, "--file-size 300 --chunk-size 100").await;
    serving.abort();
    let text = String::from_utf8_lossy(&wrong.stdout);
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
    assert!(text.contains("WRONG") && !text.contains("MB/s"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bench_of_nonsense_says_what_to_write() {
    for (arguments, said) in [
        ("--file-size large", "is not a size such as"),
        ("--uploads 0", "write a number from 1 on"),
        ("--chunk-size 0", "a chunk has at least one byte"),
        ("--mode fast", "possible values: put, form, file"),
    ] {
        let output = bench("http://127.0.0.1:1", arguments).await;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{arguments}: {output:?}");
    }
    let output = bench("nonsense", "").await;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("write a URL"), "{output:?}");
}
