//! Schemathesis, which makes requests of `openapi.yaml`, well-formed and not,
//! in sequences too, and holds the answers of a running gateway against it.

use tokio::process::Command;

use crate::access::{KEY, TOKENS};
use crate::harness::{Gateway, On};
use crate::python::{python, run, text};

/// What is held against the document. That a request was refused, or not, is
/// for tests that know why.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,unsupported_method,\
                      allow_header_conformance";
/// They take their time, and one is refused on purpose: `tests/it/doctor` asks.
const DOCTORS: [&str; 4] = ["--exclude-operation-id", "doctorSample", "--exclude-operation-id", "examine"];
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.yaml");

async fn hold(gateway: &Gateway, url: &str, arguments: &[&str]) {
    let schemathesis = python("schemathesis").await.with_file_name("schemathesis");
    let mut command = Command::new(schemathesis);
    command.current_dir(gateway.folder.path()).args(["run", DOCUMENT, "--url", url, "--checks", CHECKS]);
    command.args(["--max-examples", "30", "--continue-on-failure", "--suppress-health-check", "all"]).args(arguments);
    let output = run(&mut command).await;
    let (said, log) = (text(&output), gateway.log());
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Test cases:"), "{said}");
    assert!(!log.contains("panicked"), "{log}");
    println!("{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_authentication_all_answers_are_described() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    // What this gateway cannot do is said in 501, which is a server's error, and so is what a doctor looks at.
    let elsewhere =
        ["--exclude-tag", "administration", "--exclude-tag", "access", "--exclude-operation-id", "signParts"];
    hold(&gateway, &gateway.url(""), &[&elsewhere[..], &DOCTORS].concat()).await;
    let administration = ["--include-tag", "administration"];
    hold(&gateway, &format!("http://{}", gateway.admin), &[&administration[..], &DOCTORS].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_all_answers_are_described() {
    let gateway = Gateway::start_with(On::OssAndPostgres, &TOKENS).await;
    let key = format!("Authorization: Bearer {KEY}");
    let arguments = ["--exclude-tag", "administration", "--header", &key];
    hold(&gateway, &gateway.url(""), &[&arguments[..], &DOCTORS].concat()).await;
}
