//! The catalogue of faults (`tests/README.md`): real processes, real sockets,
//! and something going wrong between them. A test's name begins with the
//! number of its row.

mod chunks;
mod clients;
mod database;
mod disk;
mod gateways;
mod limits;
mod merging;
mod pg_cable;
pub(crate) mod stand;
mod store;
mod sweeping;
mod webhooks;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What the catalogue says is tested, is; and what is tested, it says.
#[test]
fn the_catalogue_names_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut tests = BTreeSet::new();
    for file in sources(&root.join("it")) {
        let module = file.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let text = fs::read_to_string(&file).expect("a source");
        let lines = text.lines().map(|line| line.trim_start().trim_start_matches("pub(super) "));
        let lines = lines.map(|line| line.trim_start_matches("async "));
        let names = lines.filter_map(|line| line.strip_prefix("fn ")?.split('(').next());
        let of_row = |name: &str| name.starts_with("fault_");
        tests.extend(names.map(|name| if of_row(name) { name.to_owned() } else { format!("{module}::{name}") }));
    }
    let catalogue = fs::read_to_string(root.join("README.md")).expect("the catalogue");
    let rows: Vec<(usize, &str)> = catalogue.lines().filter_map(row).collect();
    assert!(rows.is_sorted_by(|(a, _), (b, _)| a < b), "each row stands once, in order");
    let words = rows.iter().flat_map(|(_, row)| row.split('`').skip(1).step_by(2));
    let named: BTreeSet<&str> = words.filter(|word| word.contains("::") || word.starts_with("fault_")).collect();
    let unknown: Vec<_> = named.iter().filter(|name| !tests.contains(**name)).collect();
    assert!(unknown.is_empty(), "named, but not there: {unknown:?}");
    for (number, row) in rows {
        let prefix = format!("fault_{number:02}_");
        let unnamed: Vec<_> = tests.iter().filter(|name| name.starts_with(&prefix) && !row.contains(*name)).collect();
        assert!(unnamed.is_empty(), "there, but not named in row {number}: {unnamed:?}");
    }
}

/// A row's number and the row.
fn row(line: &str) -> Option<(usize, &str)> {
    let (number, row) = line.strip_prefix("| ")?.split_once(" |")?;
    Some((number.parse().ok()?, row))
}

/// All files below a folder that hold tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}
