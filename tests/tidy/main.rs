//! Tidiness, enforced. Layers, circles, SQL and sizes are checked on the
//! sources themselves; each check is first shown to fail on made-up ones.

mod checks;
mod modules;
mod supply;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use checks::{circles, layers, names, sizes, sql};
use modules::Modules;

/// Path below the project's root → content.
type Sources = BTreeMap<String, String>;

/// The project's files below a folder whose names end so.
fn sources(folder: &str, ending: &str) -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Sources::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path: PathBuf = entry.path();
            let name = path.strip_prefix(root).expect("below the root").display().to_string();
            if path.is_dir() && !name.ends_with("node_modules") {
                folders.push(path);
            } else if name.ends_with(ending) {
                sources.insert(name, fs::read_to_string(&path).expect("a source is readable"));
            }
        }
    }
    sources
}

#[track_caller]
fn none(findings: &[String]) {
    assert!(findings.is_empty(), "{} to tidy up:\n{}", findings.len(), findings.join("\n"));
}

fn ours() -> Modules {
    let sources = sources("src", ".rs");
    assert!(sources.len() > 30, "the sources are not where they were: {}", sources.len());
    Modules::parse(&sources)
}

#[test]
fn a_lower_layer_never_names_a_higher_one() {
    none(&layers(&ours()));
}

#[test]
fn imports_make_no_circles() {
    none(&circles(&ours()));
}

#[test]
fn only_the_ledger_speaks_sql() {
    none(&sql(&sources("src", ".rs")));
}

#[test]
fn files_are_short_and_named_for_what_they_do() {
    let mut all = sources("src", ".rs");
    all.extend(sources("tests", ".rs"));
    none(&sizes(&all));
    none(&names(&all));
}

#[test]
fn what_is_built_in_is_what_deny_toml_allows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    none(&supply::sources_and_bans(root));
    none(&supply::licences(root));
}

#[test]
fn both_databases_have_the_same_migrations() {
    let of = |database: &str| -> Vec<String> {
        let folder = format!("migrations/{database}/");
        sources(&folder, ".sql").into_keys().map(|name| name.replace(&folder, "")).collect()
    };
    assert!(!of("sqlite").is_empty());
    assert_eq!(of("sqlite"), of("postgres"));
}

#[test]
fn the_two_readmes_have_the_same_sections() {
    let readme = |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap_or_default();
    assert_eq!(levels(&readme("README.md")), levels(&readme("README.zh-CN.md")));
}

/// The levels of a document's headings, code aside.
fn levels(markdown: &str) -> Vec<usize> {
    let mut code = false;
    let mut levels = Vec::new();
    for line in markdown.lines() {
        code ^= line.trim_start().starts_with("```");
        let level = line.bytes().take_while(|&b| b == b'#').count();
        if !code && level > 0 && line[level..].starts_with(' ') {
            levels.push(level);
        }
    }
    levels
}

#[test]
fn headings_are_told_from_comments_in_code() {
    assert_eq!(levels("# A\n```sh\n# no\n```\n## B\n#no\n"), [1, 2]);
}

fn made_up(files: &[(&str, &str)]) -> Modules {
    Modules::parse(&files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
}

#[test]
fn a_higher_name_is_found_wherever_it_stands() {
    for (file, source) in [
        ("src/domain/ids.rs", "use crate::ledger::Ledger;"),
        ("src/store/mod.rs", "use crate::{clock::Clock, engine::Engine};"),
        ("src/engine/create.rs", "fn f() { crate::http::problem(); }"),
        ("src/engine/create.rs", "fn f() { tokio::select! { x = crate::http::problem() => {} } }"),
        ("src/ledger/rows.rs", "use crate::store::Store;"),
        ("src/notify/deliver.rs", "fn f(x: crate::ledger::Ledger) {}"),
        ("src/http/mod.rs", "use crate::emulator::Emulator;"),
        ("src/emulator/mod.rs", "use crate::store::Store;"),
        ("src/emulator/mod.rs", "use crate::http::Api;"),
        ("src/store/oss/sign.rs", "use super::super::super::engine::Engine;"),
        ("src/clock.rs", "use crate::app;"),
        ("src/unheard_of.rs", ""),
    ] {
        assert_eq!(layers(&made_up(&[(file, source)])).len(), 1, "{file}: {source}");
    }
}

#[test]
fn a_lower_name_and_a_test_are_no_finding() {
    for (file, source) in [
        ("src/http/mod.rs", "use crate::{domain::Refusal, engine::Engine, ledger::Ledger};"),
        ("src/clock.rs", "use crate::domain::Timestamp;"),
        ("src/emulator/access.rs", "use crate::store::oss::sign::Query;"),
        ("src/engine/mod.rs", "use http::Method; /// [`crate::http`]\nfn f() {}"),
        ("src/store/mod.rs", "#[cfg(test)] mod tests { use crate::engine::Engine; }"),
        ("src/store/tests.rs", "use crate::engine::Engine;"),
        ("src/store/fuzzing.rs", "use crate::fuzzing::Input;"),
        ("src/main.rs", "use chunkgate::app;"),
    ] {
        none(&layers(&made_up(&[(file, source)])));
    }
}

#[test]
fn circles_are_found_between_files_and_between_folders() {
    let found = |files: &[(&str, &str)]| circles(&made_up(files));
    let pair =
        [("src/a/mod.rs", "mod b; mod c;"), ("src/a/b.rs", "use super::c::C;"), ("src/a/c.rs", "use super::b::B;")];
    assert_eq!(found(&pair).len(), 1);
    // A folder's mod.rs may put together what builds on its types.
    let parent = [("src/a/mod.rs", "mod b; pub struct A; fn f() { b::g() }"), ("src/a/b.rs", "use super::A;")];
    none(&found(&parent));
    // Neither file of either folder is in a circle; the folders are.
    let folders = [
        ("src/a/x.rs", "use crate::b::x;"),
        ("src/a/y.rs", ""),
        ("src/b/x.rs", ""),
        ("src/b/y.rs", "use crate::a::y;"),
    ];
    assert_eq!(found(&folders).len(), 1);
}

#[test]
fn a_name_that_is_only_passed_on_makes_no_circle() {
    let files = [
        ("src/a/mod.rs", "mod b; mod c; pub use b::B; pub use c::C;"),
        ("src/a/b.rs", "pub struct B;"),
        ("src/a/c.rs", "use super::B; pub struct C(B);"),
    ];
    none(&circles(&made_up(&files)));
}

#[test]
fn sql_is_found_outside_the_ledger_only() {
    let check = |name: &str, text: &str| sql(&Sources::from([(name.to_owned(), text.to_owned())])).len();
    for text in [
        "const Q: &str = \"SELECT 1\";",
        "const Q: &str = \"\\n  delete FROM uploads\";",
        "fn f() { g!(\"PRAGMA journal_mode\") }",
        "use sqlx::Row;",
        "fn f() -> sqlx::Error {}",
    ] {
        assert_eq!(check("src/engine/sweep.rs", text), 1, "{text}");
        assert_eq!(check("src/ledger/sweeping.rs", text), 0, "{text}");
    }
    for text in ["const M: &str = \"DELETE\";", "const T: &str = \"with love\";", "/// SELECT 1\nfn f() {}"] {
        assert_eq!(check("src/http/mod.rs", text), 0, "{text}");
    }
}

#[test]
fn long_and_nameless_files_are_found() {
    let file = |name: &str, lines: usize| Sources::from([(name.to_owned(), "\n".repeat(lines))]);
    assert_eq!(sizes(&file("src/a.rs", 451)).len(), 1);
    assert_eq!(sizes(&file("src/a.rs", 450)).len(), 0);
    assert_eq!(names(&file("src/store/utils.rs", 1)).len(), 1);
    assert_eq!(names(&file("src/units.rs", 1)).len(), 0);
}
