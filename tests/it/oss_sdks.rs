//! The official OSS SDKs, unmodified, against the emulator: what they accept
//! is OSS's dialect, whatever our own client thinks of it. What each of them
//! can do is a table in docs/emulator.md, which is held to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use tokio::process::Command;

use crate::emulator::RunningEmulator;
use crate::node;
use crate::python::{environment, python, run, text};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/oss");
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/emulator.md");

const SIGNATURES: [&str; 2] = ["v1", "v4"];

/// As they are published, each with its own way to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sdk {
    Oss2,
    PythonV2,
    AliOss,
    GoV2,
}

impl Sdk {
    const ALL: [Self; 4] = [Self::Oss2, Self::PythonV2, Self::AliOss, Self::GoV2];

    fn name(self) -> &'static str {
        match self {
            Self::Oss2 => "oss2",
            Self::PythonV2 => "alibabacloud-oss-v2",
            Self::AliOss => "ali-oss",
            Self::GoV2 => "Go SDK v2",
        }
    }

    async fn check(self, signature: &str) -> Output {
        let running = RunningEmulator::start().await;
        let endpoint = running.endpoint();
        let mut command = match self {
            Self::Oss2 | Self::PythonV2 => {
                let mut command = Command::new(python("oss").await);
                let sdk = if self == Self::Oss2 { "oss2" } else { "v2" };
                command.arg(Path::new(SCRIPTS).join("check.py")).args(["--sdk", sdk, "--signature", signature]);
                command.args(["--endpoint", &endpoint]);
                command
            }
            Self::AliOss => {
                let mut command = Command::new("node");
                // With an IP address it forges the host of its requests.
                let endpoint = endpoint.replace("127.0.0.1", "localhost");
                command.arg(node::folder("oss/js", "ali-oss").await.join("check.js")).args([&endpoint, signature]);
                command.env("NODE_OPTIONS", "--dns-result-order=ipv4first --no-deprecation");
                command
            }
            Self::GoV2 => {
                let mut command = Command::new(built().await);
                command.args(["-endpoint", &endpoint, "-signature", signature]);
                command
            }
        };
        let output = run(&mut command).await;
        running.stop().await;
        output
    }
}

/// The check in Go, built once.
async fn built() -> PathBuf {
    let binary = environment("oss-go").join("check");
    let mut command = Command::new("go");
    command.current_dir(Path::new(SCRIPTS).join("go")).args(["build", "-o"]).arg(&binary).arg(".");
    let output = run(&mut command).await;
    assert!(output.status.success(), "the check in Go cannot be built:\n{}", text(&output));
    binary
}

/// What an operation came to with an SDK and a signature.
type Results = BTreeMap<String, BTreeMap<(Sdk, &'static str), bool>>;

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdks_take_the_emulator_for_oss() {
    let (mut results, mut order, mut failures) = (Results::new(), Vec::new(), String::new());
    for sdk in Sdk::ALL {
        for signature in SIGNATURES {
            let output = sdk.check(signature).await;
            let lines = String::from_utf8_lossy(&output.stdout).into_owned();
            let outcome = |line: &str| {
                let (word, name) = line.split_once(' ')?;
                ["ok", "FAIL"].contains(&word).then(|| (name.trim().to_owned(), word == "ok"))
            };
            for (name, went_well) in lines.lines().filter_map(outcome) {
                if !order.contains(&name) {
                    order.push(name.clone());
                }
                results.entry(name).or_default().insert((sdk, signature), went_well);
            }
            if !output.status.success() {
                failures.push_str(&format!("{} {signature}:\n{}\n", sdk.name(), text(&output)));
            }
        }
    }
    let table = table(&order, &results);
    println!("{table}");
    assert!(failures.is_empty(), "{failures}");
    let document = std::fs::read_to_string(DOCUMENT).expect("docs/emulator.md");
    let kept = document.split_once("<!-- sdks -->\n").and_then(|(_, rest)| rest.split_once("<!-- /sdks -->"));
    let kept = kept.expect("a table between <!-- sdks --> and <!-- /sdks -->").0;
    assert_eq!(kept.trim(), table.trim(), "docs/emulator.md says otherwise");
}

/// A row for each operation, a column for each SDK: V1 and V4.
fn table(order: &[String], results: &Results) -> String {
    let names: Vec<&str> = Sdk::ALL.into_iter().map(Sdk::name).collect();
    let mut table = format!("| | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for name in order {
        let cell = |sdk: Sdk| {
            let mark = |signature: &&'static str| match results[name].get(&(sdk, *signature)) {
                Some(true) => format!("{} ✓", signature.to_uppercase()),
                Some(false) => format!("{} ✗", signature.to_uppercase()),
                None => "–".to_owned(),
            };
            let marks: Vec<String> = SIGNATURES.iter().map(mark).collect();
            if marks.iter().all(|mark| mark == "–") { "–".to_owned() } else { marks.join(", ") }
        };
        let cells: Vec<String> = Sdk::ALL.into_iter().map(cell).collect();
        table.push_str(&format!("| `{name}` | {} |\n", cells.join(" | ")));
    }
    table
}
