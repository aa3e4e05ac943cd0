//! Settings in a TOML, YAML or JSON file.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::node::{Entry, Malformed, Node};
use super::yaml;
use super::{Origin, Problem, Raw, Setting};

const NAMES: [&str; 4] = ["chunkgate.toml", "chunkgate.yaml", "chunkgate.yml", "chunkgate.json"];

/// Reads the named file, or the one in the folder if there is one.
pub(super) fn read(named: Option<&Path>, folder: &Path) -> (Vec<Setting>, Vec<Problem>) {
    let read = find(named, folder).and_then(|path| path.map_or(Ok(Vec::new()), |path| read_path(&path)));
    match read {
        Ok(settings) => (settings, Vec::new()),
        Err(problem) => (Vec::new(), vec![problem]),
    }
}

fn find(named: Option<&Path>, folder: &Path) -> Result<Option<PathBuf>, Problem> {
    if let Some(path) = named {
        return Ok(Some(path.to_owned()));
    }
    let mut found = NAMES.iter().map(|name| folder.join(name)).filter(|path| path.is_file());
    match (found.next(), found.next()) {
        (Some(one), Some(other)) => {
            let advice = format!("there is also {}: remove one of them, or say --config", other.display());
            Err(problem(&one, None, advice))
        }
        (found, _) => Ok(found),
    }
}

fn read_path(path: &Path) -> Result<Vec<Setting>, Problem> {
    let text = fs::read_to_string(path).map_err(|e| problem(path, None, format!("cannot be read: {e}")))?;
    parse(path, &text)
}

/// Reads a text as what the file's name says it is.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Setting>, Problem> {
    let text = text.trim_start_matches('\u{feff}');
    let entries = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => parse_toml(text),
        Some("yaml" | "yml") => yaml::parse(text),
        Some("json") => parse_json(text),
        Some(_) | None => Err((None, "its name must end in .toml, .yaml, .yml or .json".to_owned())),
    };
    let entries = entries.map_err(|(line, advice)| problem(path, line, advice))?;
    let mut settings = Vec::new();
    flatten(path, "", entries, &mut settings);
    Ok(settings)
}

fn problem(path: &Path, line: Option<usize>, advice: String) -> Problem {
    let place = Origin::File { path: path.to_owned(), line };
    Problem { subject: place.to_string(), origin: None, advice }
}

fn flatten(path: &Path, prefix: &str, entries: Vec<Entry>, settings: &mut Vec<Setting>) {
    for Entry { name, line, node } in entries {
        let key = format!("{prefix}{name}");
        match node {
            Node::Table(inner) => flatten(path, &format!("{key}."), inner, settings),
            Node::Leaf(value) => {
                settings.push(Setting { key, value, origin: Origin::File { path: path.to_owned(), line } });
            }
            Node::Nothing => {}
        }
    }
}

fn parse_toml(text: &str) -> Result<Vec<Entry>, Malformed> {
    let line_of = |offset: usize| 1 + text.bytes().take(offset).filter(|&b| b == b'\n').count();
    let table = DeTable::parse(text)
        .map_err(|e| (e.span().map(|span| line_of(span.start)), format!("is not TOML: {}", e.message())))?;
    Ok(toml_entries(table.into_inner(), &line_of))
}

fn toml_entries(table: DeTable<'_>, line_of: &dyn Fn(usize) -> usize) -> Vec<Entry> {
    let entry = |(name, value): (Spanned<_>, Spanned<DeValue<'_>>)| {
        let line = Some(line_of(name.span().start));
        let name = std::borrow::Cow::into_owned(name.into_inner());
        let value = value.into_inner();
        let node = match value {
            DeValue::Table(inner) => Node::Table(toml_entries(inner, line_of)),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => Node::Leaf(Raw::Typed(toml_value(value))),
        };
        Entry { name, line, node }
    };
    table.into_iter().map(entry).collect()
}

fn toml_value(value: DeValue<'_>) -> Json {
    match value {
        DeValue::String(text) => Json::String(text.into_owned()),
        DeValue::Boolean(boolean) => Json::Bool(boolean),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Json::String(number.to_string()), Json::from),
        // No key wants one: its text makes the better error message.
        DeValue::Float(number) => Json::String(number.to_string()),
        DeValue::Datetime(time) => Json::String(time.to_string()),
        DeValue::Array(items) => items.into_iter().map(|item| toml_value(item.into_inner())).collect(),
        DeValue::Table(table) => table
            .into_iter()
            .map(|(name, value)| (name.into_inner().into_owned(), toml_value(value.into_inner())))
            .collect(),
    }
}

fn parse_json(text: &str) -> Result<Vec<Entry>, Malformed> {
    let table: serde_json::Map<String, Json> = serde_json::from_str(text)
        .map_err(|e| (Some(e.line()).filter(|&line| line > 0), format!("is not a JSON object: {e}")))?;
    Ok(json_entries(table))
}

fn json_entries(table: serde_json::Map<String, Json>) -> Vec<Entry> {
    let node = |value| match value {
        Json::Object(inner) => Node::Table(json_entries(inner)),
        Json::Null => Node::Nothing,
        Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => Node::Leaf(Raw::Typed(value)),
    };
    table.into_iter().map(|(name, value)| Entry { name, line: None, node: node(value) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: &str, text: &str) -> Result<Vec<(String, String, String)>, String> {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join(name), text).expect("file");
        let (settings, problems) = read(None, folder.path());
        let here = format!("{}/", folder.path().display());
        if let [problem] = problems.as_slice() {
            return Err(problem.to_string().replace(&here, ""));
        }
        let row = |s: Setting| (s.key, s.value.literal().to_string(), s.origin.to_string().replace(&here, ""));
        let mut rows: Vec<_> = settings.into_iter().map(row).collect();
        rows.sort();
        Ok(rows)
    }

    fn row(key: &str, value: &str, origin: &str) -> (String, String, String) {
        (key.to_owned(), value.to_owned(), origin.to_owned())
    }

    #[test]
    fn the_three_formats_say_the_same() {
        let toml = "listen = \"0.0.0.0:80\"\n\n[store.oss]\nbucket = \"b\"\npath_style = true\n[cors]\nallowed_origins = [\"*\"]";
        let yaml = "listen: '0.0.0.0:80'\nstore:\n  kind:\n  oss:\n    bucket: \"b\"\n    path_style: true\ncors:\n  allowed_origins:\n    - '*'\n";
        let json = r#"{"listen":"0.0.0.0:80","store":{"oss":{"bucket":"b","path_style":true}},"cors":{"allowed_origins":["*"]},"public_url":null}"#;
        let expected = |name: &str, lines: [&str; 4]| {
            let at = |i: usize| format!("{name}{}", lines[i]);
            Ok(vec![
                row("cors.allowed_origins", "[\"*\"]", &at(0)),
                row("listen", "\"0.0.0.0:80\"", &at(1)),
                row("store.oss.bucket", "\"b\"", &at(2)),
                row("store.oss.path_style", if name.ends_with("yaml") { "\"true\"" } else { "true" }, &at(3)),
            ])
        };
        assert_eq!(settings("chunkgate.toml", toml), expected("chunkgate.toml", [":7", ":1", ":4", ":5"]));
        assert_eq!(settings("chunkgate.yaml", yaml), expected("chunkgate.yaml", [":8", ":1", ":5", ":6"]));
        assert_eq!(settings("chunkgate.json", json), expected("chunkgate.json", ["", "", "", ""]));
    }

    #[test]
    fn a_file_that_cannot_be_understood_is_named_with_its_line() {
        for (name, text, place) in [
            ("chunkgate.toml", "listen = \"a\"\nlisten = \"b\"\n", "chunkgate.toml:2: is not TOML"),
            ("chunkgate.toml", "a = 1\nb = \n", "chunkgate.toml:2: is not TOML"),
            ("chunkgate.yaml", "a: 1\na: 2\n", "chunkgate.yaml:2: is not YAML"),
            ("chunkgate.yaml", "a: &x 1\nb: *x\n", "chunkgate.yaml:2: is not YAML"),
            ("chunkgate.yaml", "- a\n", "chunkgate.yaml:1: is not YAML"),
            ("chunkgate.yaml", "a: [1\n", "chunkgate.yaml:2: is not YAML"),
            ("chunkgate.yaml", &format!("a:\n  {}x\n", "- ".repeat(100_000)), "chunkgate.yaml:2: is not YAML"),
            ("chunkgate.json", "{\n\"a\": }", "chunkgate.json:2: is not a JSON object"),
        ] {
            let error = settings(name, text).expect_err(text);
            assert!(error.starts_with(place), "{text:?} gave {error}");
        }
        assert_eq!(settings("chunkgate.yaml", "# nothing\n"), Ok(Vec::new()));
    }

    #[test]
    fn two_files_are_one_too_many() {
        let folder = tempfile::tempdir().expect("folder");
        for name in ["chunkgate.toml", "chunkgate.json"] {
            fs::write(folder.path().join(name), "").expect("file");
        }
        assert!(read(None, folder.path()).1[0].to_string().contains("there is also"));
        assert!(read(Some(&folder.path().join("chunkgate.toml")), folder.path()).1.is_empty());
        assert!(read(Some(&folder.path().join("no.toml")), folder.path()).1[0].to_string().contains("cannot be read"));
    }
}
