//! The official OSS SDKs, unmodified, against the emulator: what they accept
//! is OSS's dialect, whatever our own client thinks of it.

use std::path::{Path, PathBuf};
use std::process::Output;

use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::emulator::RunningEmulator;

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
    let python = python().await;
    let running = RunningEmulator::start().await;
    let mut command = Command::new(python);
    command.arg(Path::new(SCRIPTS).join("check.py")).args(["--sdk", sdk, "--signature", signature]);
    let output = run(command.args(["--endpoint", &running.endpoint()])).await;
    running.stop().await;
    assert!(output.status.success(), "{}", text(&output));
    println!("{}", text(&output));
}

/// A Python that has the SDKs: made once, under `target/`.
async fn python() -> &'static Path {
    static PYTHON: OnceCell<PathBuf> = OnceCell::const_new();
    PYTHON.get_or_init(make_python).await
}

async fn make_python() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp lies in target");
    let venv = target.join("clients/oss-venv");
    let requirements = Path::new(SCRIPTS).join("requirements.txt");
    let (wanted, made_of) = (std::fs::read(&requirements).expect("is there"), venv.join("made-of-requirements.txt"));
    let python = venv.join("bin/python");
    if std::fs::read(&made_of).is_ok_and(|made_of| made_of == wanted) {
        return python;
    }
    let made = run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv)).await;
    assert!(made.status.success(), "no Python environment; run: apt-get install -y python3-venv\n{}", text(&made));
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&requirements);
    let installed = run(&mut pip).await;
    assert!(installed.status.success(), "the SDKs cannot be installed: {pip:?}\n{}", text(&installed));
    std::fs::write(made_of, wanted).expect("is written");
    python
}

async fn run(command: &mut Command) -> Output {
    command.kill_on_drop(true);
    match command.output().await {
        Ok(output) => output,
        Err(error) => {
            panic!("{error}: {command:?}; if there is no python3, run: apt-get install -y python3 python3-venv")
        }
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
