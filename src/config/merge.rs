//! Settings become one configuration. Each is first tried alone against the
//! structs, so that a mistake is known by its key and its place.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::environment::variable_of;
use super::mask;
use super::reference::{self, KEYS, MASK};
use super::{Config, Origin, Problem, Setting};

/// Later settings win. What is wrong goes into `problems`, and its key keeps
/// the default.
pub(super) fn merge(settings: Vec<Setting>, problems: &mut Vec<Problem>) -> (Config, BTreeMap<String, Origin>) {
    let mut tree = Map::new();
    let mut origins = BTreeMap::new();
    for setting in settings {
        match value_of(&setting) {
            Ok(value) => {
                insert(&mut tree, &setting.key, value);
                origins.insert(setting.key, setting.origin);
            }
            Err(problem) => problems.push(problem),
        }
    }
    let config = serde_json::from_value(Json::Object(tree)).unwrap_or_else(|e| {
        // Each value was taken alone, and no struct looks at two of its fields.
        problems.push(Problem { subject: "the whole".to_owned(), origin: None, advice: e.to_string() });
        Config::default()
    });
    (config, origins)
}

/// The first reading that the key's type takes.
fn value_of(setting: &Setting) -> Result<Json, Problem> {
    let Some(key) = reference::find(&setting.key) else { return Err(unknown(setting)) };
    let mut errors = Vec::new();
    for reading in setting.value.readings() {
        let mut alone = Map::new();
        insert(&mut alone, &setting.key, reading.clone());
        match serde_json::from_value::<Config>(Json::Object(alone)) {
            Ok(_) => return Ok(reading),
            Err(e) => errors.push(e.to_string()),
        }
    }
    let value = setting.value.literal();
    let shown = if key.secret { MASK.to_owned() } else { mask::shown(key.name, &value).to_string() };
    Err(Problem {
        subject: format!("{} = {shown}", setting.key),
        origin: Some(setting.origin.clone()),
        advice: mask::advised(key.name, &value, &reason(&errors, key.secret)),
    })
}

/// What the types said, in the words of people. A type's own sentence counts
/// more than serde's, which only says that one reading was the wrong one.
fn reason(errors: &[String], secret: bool) -> String {
    let from_serde = |e: &&String| e.starts_with("invalid type") || e.starts_with("invalid value");
    let own = errors.iter().find(|e| !from_serde(e));
    let said = own.or(errors.first()).map_or("", String::as_str);
    // serde repeats the value, which may be secret, before it says what it wants.
    let wanted = said.rsplit_once(", expected ").map(|(_, wanted)| wanted);
    match wanted {
        Some("u16" | "u32" | "u64" | "usize") => "must be a whole number, such as 100".to_owned(),
        Some("a boolean") => "must be true or false".to_owned(),
        Some("a string" | "path string") => "must be text: put it in quotes".to_owned(),
        Some("a sequence") => "must be a list, such as [\"a\", \"b\"]".to_owned(),
        Some("socket address") => address_advice(),
        // Within a list of tables: it names the field.
        Some(_) if said.starts_with("unknown field") => said.to_owned(),
        Some(wanted) => format!("must be {wanted}"),
        None if said.contains("socket address") => address_advice(),
        None if secret && own.is_none() => "is not what this key takes".to_owned(),
        None => said.to_owned(),
    }
}

fn address_advice() -> String {
    "must be an IP address and a port, such as 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080".to_owned()
}

fn insert(tree: &mut Map<String, Json>, key: &str, value: Json) {
    match key.split_once('.') {
        None => {
            tree.insert(key.to_owned(), value);
        }
        Some((name, rest)) => {
            let inner = tree.entry(name).or_insert_with(|| Json::Object(Map::new()));
            if let Json::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

fn unknown(setting: &Setting) -> Problem {
    let variable = matches!(setting.origin, Origin::Variable(_));
    let written = |key: &str| if variable { variable_of(key) } else { key.to_owned() };
    let group = format!("{}.", setting.key);
    let advice = if let Some(inside) = KEYS.iter().find(|key| key.name.starts_with(&group)) {
        format!("is a group of keys: set one of them, such as {}", written(inside.name))
    } else {
        match nearest(&setting.key, &written) {
            Some(key) => format!("there is no such key; did you mean {}?", written(key)),
            None => "there is no such key; `chunkgate serve --print-config` shows all there are".to_owned(),
        }
    };
    let (subject, origin) = match &setting.origin {
        // The variable is the key: to name it once is enough.
        Origin::Variable(name) => (name.clone(), None),
        Origin::File { .. } | Origin::Flag(_) => (setting.key.clone(), Some(setting.origin.clone())),
    };
    Problem { subject, origin, advice }
}

/// The known key that is most like this one, in the way it was written.
fn nearest(key: &str, written: &dyn Fn(&str) -> String) -> Option<&'static str> {
    let wrong = written(key);
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let distance_max = (key.len() / 3).max(2);
    let chars = wrong.chars().count();
    let distance = |known: &str| {
        // `bucket` or `oss.bucket` for `store.oss.bucket`: the right word in the wrong group.
        if last(known) == last(key) {
            return Some(1);
        }
        // Names of very different lengths need no comparing, which takes as long as both are, multiplied.
        let known = written(known);
        let is_near = known.chars().count().abs_diff(chars) <= distance_max;
        is_near.then(|| strsim::damerau_levenshtein(&wrong, &known))
    };
    let best = KEYS.iter().filter_map(|known| Some((distance(known.name)?, known.name))).min()?;
    (best.0 <= distance_max).then_some(best.1)
}
