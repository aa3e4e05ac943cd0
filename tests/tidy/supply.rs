//! What is built in: licences, sources and bans, as deny.toml has them. Without
//! a network; `cargo deny check` also knows of holes.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;
use toml::{Table, Value};

/// The one registry that packages come from (cargo-deny's default).
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn read(root: &Path, name: &str) -> Table {
    let text = std::fs::read_to_string(root.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    text.parse().unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The texts of a list in it: `["licenses", "allow"]`.
fn texts<'t>(table: &'t Table, [section, key]: [&str; 2]) -> Vec<&'t Value> {
    table.get(section).and_then(|section| section.get(key)?.as_array()).into_iter().flatten().collect()
}

/// All that there is in the lock files, for whatever platform: where it is from, and what it is called.
pub(crate) fn sources_and_bans(root: &Path) -> Vec<String> {
    let deny = read(root, "deny.toml");
    let banned: Vec<_> = texts(&deny, ["bans", "deny"]).iter().filter_map(|ban| ban.get("crate")?.as_str()).collect();
    assert!(!banned.is_empty(), "deny.toml bans something");
    let locks = ["Cargo.lock", "fuzz/Cargo.lock"].map(|lock| (lock, read(root, lock)));
    locks.iter().flat_map(|(lock, packages)| unwanted(lock, packages, &banned)).collect()
}

fn unwanted(lock: &str, packages: &Table, banned: &[&str]) -> Vec<String> {
    let mut findings = Vec::new();
    for package in packages.get("package").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| package.get(key).and_then(Value::as_str);
        let name = text("name").unwrap_or_default();
        if let Some(source) = text("source").filter(|source| *source != REGISTRY) {
            findings.push(format!("{lock}: {name} is of {source}"));
        }
        if banned.contains(&name) {
            findings.push(format!("{lock}: {name} is banned"));
        }
    }
    findings
}

/// What is built on this machine, and under which licences.
pub(crate) fn licences(root: &Path) -> Vec<String> {
    let deny = read(root, "deny.toml");
    let allowed: BTreeSet<_> = texts(&deny, ["licenses", "allow"]).iter().filter_map(|name| name.as_str()).collect();
    let mut cargo = Command::new(env!("CARGO"));
    // What other platforms would need was perhaps never downloaded.
    cargo.args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", &this_platform()]);
    let said = cargo.current_dir(root).output().expect("cargo runs");
    assert!(said.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&said.stderr));
    let metadata: Json = serde_json::from_slice(&said.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 100, "all of them: {}", packages.len());
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let licence = package["license"].as_str().unwrap_or_default();
        if !allows(licence, &allowed) {
            findings.push(format!("{name} is under {licence:?}, which deny.toml does not allow"));
        }
        let ours = package["source"].is_null();
        for dependency in package["dependencies"].as_array().into_iter().flatten().filter(|_| ours) {
            if dependency["req"] == "*" && dependency["path"].is_null() {
                findings.push(format!("{name} takes any version of {}", dependency["name"]));
            }
        }
    }
    findings
}

fn this_platform() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc).arg("-vV").output().expect("rustc runs");
    let said = String::from_utf8(said.stdout).expect("text");
    said.lines().find_map(|line| line.strip_prefix("host: ")).expect("a platform").to_owned()
}

/// Whether one may do with a licence what it says (SPDX 2.3, annex D; `MIT/Apache-2.0` is the
/// older way to write OR). AND binds closer.
fn allows(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let is_allowed = any(&mut rest, allowed);
    is_allowed && rest.is_empty()
}

fn any(words: &mut &[&str], allowed: &BTreeSet<&str>) -> bool {
    let mut is_allowed = all(words, allowed);
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        is_allowed |= all(words, allowed);
    }
    is_allowed
}

fn all(words: &mut &[&str], allowed: &BTreeSet<&str>) -> bool {
    let mut is_allowed = one(words, allowed);
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        is_allowed &= one(words, allowed);
    }
    is_allowed
}

fn one(words: &mut &[&str], allowed: &BTreeSet<&str>) -> bool {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let is_allowed = any(words, allowed);
            *words = words.strip_prefix(&[")"]).unwrap_or(&["unclosed"]);
            is_allowed
        }
        [name, "WITH", exception, rest @ ..] => {
            *words = rest;
            allowed.contains(format!("{name} WITH {exception}").as_str())
        }
        [name, rest @ ..] => {
            *words = rest;
            allowed.contains(name)
        }
        [] => false,
    }
}

#[test]
fn a_licence_is_read_as_it_is_meant() {
    let allowed = BTreeSet::from(["MIT", "Zlib"]);
    for good in ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-3.0", "MIT AND Zlib", "(GPL-3.0 OR Zlib) AND MIT", "X AND Y OR MIT"]
    {
        assert!(allows(good, &allowed), "{good}");
    }
    for bad in
        ["", "GPL-3.0", "MIT AND GPL-3.0", "MIT AND (GPL-3.0 OR X)", "MIT WITH X", "(MIT", "MIT)", "MIT MIT", "OR MIT"]
    {
        assert!(!allows(bad, &allowed), "{bad}");
    }
}

#[test]
fn what_is_from_elsewhere_and_what_is_banned_is_found() {
    let lock = "[[package]]\nname = \"ours\"\n\
        [[package]]\nname = \"good\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n\
        [[package]]\nname = \"forked\"\nsource = \"git+https://example.com/forked\"\n\
        [[package]]\nname = \"bad\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
    let lock = lock.parse().expect("TOML");
    assert_eq!(unwanted("a", &lock, &["bad"]), ["a: forked is of git+https://example.com/forked", "a: bad is banned"]);
}
