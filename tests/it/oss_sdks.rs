//! The official OSS SDKs, unmodified, against the emulator: what they accept
//! is OSS's dialect, whatever our own client thinks of it.

use std::path::Path;

use tokio::process::Command;

use crate::emulator::RunningEmulator;
use crate::python::{python, run, text};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/oss");

#[tokio::test(flavor = "multi_thread")]
async fn oss2_with_v1_signatures_takes_the_emulator_for_oss() {
    check("oss2", "v1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oss2_with_v4_signatures_takes_the_emulator_for_oss() {
    check("oss2", "v4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_v2_with_v1_signatures_takes_the_emulator_for_oss() {
    check("v2", "v1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_v2_with_v4_signatures_takes_the_emulator_for_oss() {
    check("v2", "v4").await;
}

async fn check(sdk: &str, signature: &str) {
    let python = python("oss").await;
    let running = RunningEmulator::start().await;
    let mut command = Command::new(python);
    command.arg(Path::new(SCRIPTS).join("check.py")).args(["--sdk", sdk, "--signature", signature]);
    let output = run(command.args(["--endpoint", &running.endpoint()])).await;
    running.stop().await;
    assert!(output.status.success(), "{}", text(&output));
    println!("{}", text(&output));
}
