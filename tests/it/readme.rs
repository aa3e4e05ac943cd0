//! The READMEs do what they say.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::Stdio;

use chunkgate::config::KEYS;
use reqwest::Method;
use tokio::process::Command;

use crate::access::{KEY, TOKENS};
use crate::harness::{Gateway, On};

const ENGLISH: &str = include_str!("../../README.md");
const CHINESE: &str = include_str!("../../README.zh-CN.md");

/// The blocks marked "sh walk", one after the other.
fn walk(readme: &str) -> String {
    let blocks = readme.split("```sh walk\n").skip(1);
    blocks.map(|block| block.split("```").next().expect("an end")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_curl_walk_works_as_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    let free = || TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    let (address, admin) = (free(), free());
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", &walk(ENGLISH)]).current_dir(&folder);
    bash.env("CHUNKGATE", env!("CARGO_BIN_EXE_chunkgate")).env("GATE", format!("http://{address}"));
    bash.env("CHUNKGATE_LISTEN", address.to_string()).env("CHUNKGATE_ADMIN_LISTEN", admin.to_string());
    let output = bash.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("bash runs");
    let (said, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}{complaints}");
    assert!(output.status.success(), "{said}{complaints}");

    let missing = said.split("\"missing\":[[").nth(1).expect("something was missing");
    let first: u32 = missing.split(',').next().and_then(|digits| digits.parse().ok()).expect("an index");
    assert!(first > 0, "chunks from before the kill are still there: {said}");
    assert!(said.contains("\"complete\":true"), "{said}");
    assert!(said.contains("the same bytes"), "{said}");
}

#[test]
fn both_languages_have_the_same_walk_and_the_same_headings() {
    const SAID: [(&str, &str); 2] =
        [("字节完全一致", "the same bytes"), ("请先停止 $gate 处的网关", "stop the gateway at $gate first")];
    let translated = SAID.iter().fold(walk(CHINESE), |walk, (chinese, english)| walk.replace(chinese, english));
    assert_eq!(walk(ENGLISH), translated);
    let levels = |readme: &str| -> Vec<usize> {
        readme.lines().filter_map(|line| line.split_once("# ")).map(|(hashes, _)| hashes.len()).collect()
    };
    assert_eq!(levels(ENGLISH), levels(CHINESE));
}

/// The back end's five lines in the languages that the tests need anyway.
#[tokio::test(flavor = "multi_thread")]
async fn the_back_ends_lines_get_tokens() {
    let gateway = Gateway::start_with(On::FileAndSqlite, &TOKENS).await;
    for readme in [ENGLISH, CHINESE] {
        let lines = |language: &str| {
            let (_, rest) = readme.split_once(&format!("```{language} token\n")).expect("a snippet");
            rest.split_once("```").expect("its end").0.to_owned()
        };
        let gate = gateway.url("");
        let node =
            format!("const gate = '{gate}', user = {{ id: 'u7' }};\n{}console.log(tokens.accessToken)", lines("js"));
        let python = format!("gate, user_id = '{gate}', 'u7'\n{}print(tokens['accessToken'])", lines("python"));
        for (program, arguments) in
            [("node", ["--input-type=module", "-e", node.as_str()].as_slice()), ("python3", &["-c", python.as_str()])]
        {
            let output = Command::new(program).args(arguments).env("UPLOAD_KEY", KEY).output().await.expect("it runs");
            let token = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            let asked = gateway.request(Method::GET, "/uploads").bearer_auth(&token).send().await.expect("an answer");
            assert_eq!(asked.status(), 200, "{program}: {output:?}");
        }
    }
}

#[test]
fn the_tables_have_every_key() {
    let known: BTreeSet<&str> = KEYS.iter().map(|key| key.name).filter(|name| !name.contains("endpoints")).collect();
    for readme in [ENGLISH, CHINESE] {
        let table: BTreeSet<&str> = readme
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .filter(|name| !name.is_empty())
            .collect();
        assert_eq!(table, known);
    }
}
