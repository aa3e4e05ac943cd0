//! `chunkgate serve --print-config`: the effective configuration as a file
//! that could be used as it is, once its secrets are put in.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::mask;
use super::reference::{KEYS, Key, MASK};
use super::{Config, Loaded};

/// The column at which comments wrap.
const WIDTH: usize = 100;

/// Writes the configuration as TOML, with every key, what it is, and where
/// its value comes from. Secrets are masked and commented out.
pub fn to_toml(loaded: &Loaded) -> String {
    let values = effective(&loaded.config);
    let mut out = String::from("# chunkgate's configuration, as it is in effect here.\n");
    let mut group = "";
    for key in KEYS {
        let (prefix, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
        if prefix != group {
            let _ = write!(out, "\n[{prefix}]");
            group = prefix;
        }
        out.push('\n');
        wrap(key.doc, &mut out);
        let value = values.pointer(&format!("/{}", key.name.replace('.', "/"))).unwrap_or(&Json::Null);
        let origin = loaded.origins.get(key.name).map_or("default".to_owned(), ToString::to_string);
        line(key, name, value, &origin, &mut out);
    }
    out
}

/// With what is derived from other keys written out.
pub(super) fn effective(config: &Config) -> Json {
    let mut values = serde_json::to_value(config).unwrap_or_default();
    values["database"]["url"] = Json::String(without_password(config.database_url().expose()));
    values["store"]["file"]["dir"] = Json::String(config.file_store_dir().display().to_string());
    values
}

/// `postgres://user:********@host/name`: what is useful of a database's URL.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://").filter(|(scheme, _)| *scheme != "sqlite") else {
        return url.to_owned();
    };
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    // A query may hold `password=` too.
    let place = place.split('?').next().unwrap_or_default();
    let user = rest.rsplit_once('@').map(|(user, _)| user.split(':').next().unwrap_or_default());
    user.map_or_else(|| format!("{scheme}://{place}"), |user| format!("{scheme}://{user}:********@{place}"))
}

/// The words of a text. What stands between backticks is one: a command that
/// is broken over two lines of comment cannot be copied.
fn unbroken(doc: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    doc.split(move |c: char| {
        quoted ^= c == '`';
        c == ' ' && !quoted
    })
}

fn wrap(doc: &str, out: &mut String) {
    let mut column = WIDTH;
    for word in unbroken(doc) {
        if column + 1 + word.len() > WIDTH {
            out.push_str(if column == WIDTH && out.ends_with('\n') { "#" } else { "\n#" });
            column = 1;
        }
        out.push(' ');
        out.push_str(word);
        column += 1 + word.len();
    }
    out.push('\n');
}

fn line(key: &Key, name: &str, value: &Json, origin: &str, out: &mut String) {
    let unset = value.is_null() || (key.secret && value.as_array().is_some_and(Vec::is_empty));
    let _ = if unset {
        writeln!(out, "# {name} =  # not set")
    } else if key.secret && origin != "default" {
        // Masked, it would be a wrong value: not one to be copied.
        let shown = if key.name == "database.url" { toml_of(value) } else { MASK.to_owned() };
        writeln!(out, "# {name} = {shown}  # {origin}")
    } else if mask::is_address(key.name) && mask::shown(key.name, value) != *value {
        writeln!(out, "# {name} = {}  # {origin}", toml_of(&mask::shown(key.name, value)))
    } else {
        writeln!(out, "{name} = {}  # {origin}", toml_of(value))
    };
}

fn toml_of(value: &Json) -> String {
    match value {
        Json::String(text) => toml::Value::String(text.clone()).to_string(),
        Json::Array(items) => format!("[{}]", items.iter().map(toml_of).collect::<Vec<_>>().join(", ")),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_not_broken_over_two_lines() {
        let mut out = String::new();
        wrap(&format!("{} as from: `echo whsec_$(openssl rand -base64 32)`.", "word ".repeat(15).trim()), &mut out);
        assert!(out.contains("`echo whsec_$(openssl rand -base64 32)`"), "{out}");
    }

    #[test]
    fn a_database_url_is_shown_without_its_password() {
        for (url, shown) in [
            ("sqlite://./data/a.db", "sqlite://./data/a.db"),
            ("postgres://u:p@h:5432/n", "postgres://u:********@h:5432/n"),
            ("postgres://u:p@ss@h/n?password=x", "postgres://u:********@h/n"),
            ("postgres://h/n", "postgres://h/n"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
