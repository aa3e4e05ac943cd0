//! What holds of every text that is a configuration, or means to be one.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::secrets::SecretFiles;
use super::{Environment, Loaded, Origin, Problem, Setting, Strictness};
use super::{check, file, merge, print};
use crate::access::ApiKey;
use crate::fuzzing::Input;
use crate::units::{self, Rate};

pub(crate) fn config(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.byte();
    // To write all keys and read them again takes a while: not of every input.
    let is_written = mode & 0x80 != 0;
    match mode % 5 {
        0 => of_file("a.toml", input.rest(), is_written),
        1 => of_file("a.yaml", input.rest(), is_written),
        2 => of_file("a.json", input.rest(), is_written),
        3 => of_flags(&mut input, is_written),
        _ => input.texts().into_iter().for_each(values),
    }
}

fn of_file(name: &str, data: &[u8], is_written: bool) {
    let text = String::from_utf8_lossy(data);
    match file::parse(Path::new(name), &text) {
        Ok(settings) => is_loaded(settings, is_written),
        Err(problem) => assert!(problem.to_string().starts_with(name)),
    }
}

fn of_flags(input: &mut Input<'_>, is_written: bool) {
    let pairs = input.texts().into_iter().filter_map(|text| units::parse_pair(text).ok());
    let flag = |(key, value): (String, String)| Setting::text(&key, &value, Origin::Flag("--set".to_owned()));
    is_loaded(pairs.map(flag).collect(), is_written);
}

/// Every setting is taken or is told to be wrong; what is taken is written
/// down so that it can be read again, and means the same then.
fn is_loaded(settings: Vec<Setting>, is_written: bool) {
    let (loaded, problems) = load(settings);
    assert!(problems.iter().all(|problem| !problem.advice.is_empty()));
    if !problems.is_empty() || !is_written {
        return;
    }
    let values = print::effective(&loaded.config);
    // Secrets are not written down, and what needs one cannot do without it.
    if values.to_string().contains("********") {
        return;
    }
    let written = print::to_toml(&loaded);
    let settings = file::parse(Path::new("a.toml"), &written).unwrap_or_else(|e| panic!("{e}: {written}"));
    let (again, problems) = load(settings);
    assert!(problems.is_empty(), "{problems:?}: {written}");
    assert_eq!(print::effective(&again.config), values, "{written}");
}

fn load(settings: Vec<Setting>) -> (Loaded, Vec<Problem>) {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let (config, origins): (_, BTreeMap<_, _>) = merge::merge(settings, &mut problems);
    if problems.is_empty() {
        let environment = Environment::default();
        let given = check::Given { origins: &origins, environment: &environment, strictness: Strictness::default() };
        check::check(&config, given, &mut problems, &mut warnings);
    }
    (Loaded { config, origins, warnings, secrets: SecretFiles::default() }, problems)
}

fn values(text: &str) {
    if let Ok(duration) = units::parse_duration(text) {
        let whole = Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        assert_eq!(units::parse_duration(&units::format_duration(duration)), Ok(whole));
    }
    if let Ok(bytes) = units::parse_bytes(text) {
        assert_eq!(units::parse_bytes(&units::format_bytes(bytes)), Ok(bytes));
    }
    if let Ok(rate) = Rate::parse(text) {
        assert!(rate.count > 0);
        assert_eq!(Rate::parse(&rate.to_string()), Ok(rate));
    }
    if let Ok(key) = ApiKey::parse(text) {
        assert_eq!(format!("{key:?}"), format!("{}:********", key.name));
    }
}
