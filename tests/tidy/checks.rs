//! The checks. Each returns what it found, one sentence per finding.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};

use crate::Sources;
use crate::modules::{Modules, Path};

const LINES_MAX: usize = 450;

/// What lies at the bottom, used by all. Its modules may name one another.
const BOTTOM: usize = 0;

/// The layer of a module of the crate.
fn layer(module: &str) -> Option<usize> {
    Some(match module {
        "domain" | "clock" | "units" | "rotating" | "serve" | "share" | "held" | "logging" => BOTTOM,
        "ledger" | "store" | "notify" => 1,
        "engine" | "access" => 2,
        "http" | "emulator" | "bench" => 3,
        "config" => 4,
        "doctor" => 5,
        "app" => 6,
        "cli" => 7,
        "main" => 8,
        _ => return None,
    })
}

/// A lower layer never names a higher one, nor one beside it.
pub(crate) fn layers(modules: &Modules) -> Vec<String> {
    let mut findings = BTreeSet::new();
    for (path, module) in &modules.0 {
        let Some(own) = layer(&path[0]) else {
            findings.insert(format!("{} has no layer: give it one in tests/tidy", path[0]));
            continue;
        };
        for name in module.names.iter().chain(module.passes_on.values()).filter(|name| name[0] != path[0]) {
            let beside = own == BOTTOM && layer(&name[0]) == Some(BOTTOM);
            // Signatures are computed alike on both ends, and are pure.
            let signature = path[0] == "emulator" && name[0] == "store";
            let allowed = if signature {
                name.starts_with(&["store".to_owned(), "oss".to_owned(), "sign".to_owned()])
            } else {
                beside || layer(&name[0]).is_some_and(|layer| layer < own)
            };
            if !allowed {
                findings.insert(format!("{} names {}", path.join("::"), name.join("::")));
            }
        }
    }
    findings.into_iter().collect()
}

type Graph = BTreeMap<Path, BTreeSet<Path>>;

/// No circles between files, nor between what lies side by side in a folder.
pub(crate) fn circles(modules: &Modules) -> Vec<String> {
    let mut files = Graph::new();
    let mut neighbours = Graph::new();
    // A folder's mod.rs puts together what lies in it, which builds on its types.
    for (from, to) in modules.edges().filter(|(from, to)| !to.starts_with(from)) {
        files.entry(from.clone()).or_default().insert(to.clone());
        let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        if from.len() > common && to.len() > common {
            neighbours.entry(from[..=common].to_vec()).or_default().insert(to[..=common].to_vec());
        }
    }
    let mut findings = circles_in(&files);
    let between_files: BTreeSet<String> = findings.iter().cloned().collect();
    findings.extend(circles_in(&neighbours).into_iter().filter(|circle| !between_files.contains(circle)));
    findings
}

/// Each circle once: from each node, the shortest way back to it.
fn circles_in(graph: &Graph) -> Vec<String> {
    let mut findings = BTreeSet::new();
    let mut done: BTreeSet<&Path> = BTreeSet::new();
    for start in graph.keys() {
        let Some(circle) = way_back(graph, start, &done) else { continue };
        done.extend(circle.iter().copied());
        let words: Vec<String> = circle.iter().map(|path| path.join("::")).collect();
        findings.insert(format!("{} → {}", words.join(" → "), words[0]));
    }
    findings.into_iter().collect()
}

fn way_back<'g>(graph: &'g Graph, start: &'g Path, done: &BTreeSet<&Path>) -> Option<Vec<&'g Path>> {
    if done.contains(start) {
        return None;
    }
    let mut came_from: BTreeMap<&Path, &Path> = BTreeMap::new();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for next in graph.get(at).into_iter().flatten() {
            if next == start {
                let mut circle = vec![at];
                while circle[circle.len() - 1] != start {
                    circle.push(came_from[circle[circle.len() - 1]]);
                }
                circle.reverse();
                return Some(circle);
            }
            if !came_from.contains_key(next) {
                came_from.insert(next, at);
                queue.push_back(next);
            }
        }
    }
    None
}

/// SQL and the database driver are in `src/ledger` and nowhere else.
pub(crate) fn sql(sources: &Sources) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, text) in sources.iter().filter(|(name, _)| !name.starts_with("src/ledger/")) {
        let mut found = Sql::default();
        found.visit_file(&syn::parse_file(text).unwrap_or_else(|e| panic!("{name}: {e}")));
        findings.extend(found.0.into_iter().map(|what| format!("{name} has {what}")));
    }
    findings
}

#[derive(Default)]
struct Sql(BTreeSet<String>);

impl Sql {
    fn text(&mut self, text: &str) {
        const BEGINNINGS: [&str; 8] = [
            "SELECT ",
            "INSERT INTO ",
            "UPDATE ",
            "DELETE FROM ",
            "WITH RECURSIVE ",
            "CREATE TABLE ",
            "ALTER TABLE ",
            "PRAGMA ",
        ];
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let begins = |beginning: &&str| {
            line.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
                && line.len() > beginning.len()
        };
        if BEGINNINGS.iter().any(begins) {
            self.0.insert(format!("SQL: {line:.60}"));
        }
    }
}

impl<'ast> Visit<'ast> for Sql {
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {
        // Documentation may speak of anything.
    }

    fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
        self.text(&text.value());
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let tokens = call.tokens.to_string();
        // Every other piece between quotes is a text, as long as none has quotes within.
        tokens.split('"').skip(1).step_by(2).for_each(|text| self.text(text));
        if tokens.contains("sqlx ::") {
            self.0.insert("sqlx".to_owned());
        }
        visit::visit_macro(self, call);
    }

    fn visit_ident(&mut self, ident: &'ast syn::Ident) {
        if ident == "sqlx" {
            self.0.insert("sqlx".to_owned());
        }
    }
}

/// No file is longer than one can hold in mind.
pub(crate) fn sizes(sources: &Sources) -> Vec<String> {
    let mut long: Vec<(usize, &String)> = sources
        .iter()
        .map(|(name, text)| (text.lines().count(), name))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .collect();
    long.sort_by(|a, b| b.cmp(a));
    long.into_iter().map(|(lines, name)| format!("{name} has {lines} lines, more than {LINES_MAX}")).collect()
}

/// A file is named for what it does.
pub(crate) fn names(sources: &Sources) -> Vec<String> {
    const SAYS_NOTHING: [&str; 6] = ["util", "utils", "helper", "helpers", "misc", "common"];
    let stem = |name: &str| name.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
    let nameless = sources.keys().filter(|name| SAYS_NOTHING.contains(&stem(name).as_str()));
    nameless.map(|name| format!("{name} is named for nothing")).collect()
}
