//! `log.*`, and the log itself: text for people, JSON for machines.

use std::io::{self, IsTerminal as _};

use serde::{Deserialize, Serialize};
use tracing::Level;
use tracing::field::Field;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt};

/// How much is logged, and how.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// For people or for machines.
    pub format: LogFormat,
    /// `info`, or per module: `info,chunkgate::store=debug`.
    pub level: String,
}

/// Who reads the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// People: one line per event, coloured on a terminal.
    #[default]
    Text,
    /// Machines: one JSON object per event.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

/// Reads `log.level`. A word that is no level is refused: tracing would take
/// it for a module's name and log everything of it, and nothing else.
pub fn targets(level: &str) -> Result<Targets, String> {
    let mut targets = Targets::new();
    for item in level.split(',').map(str::trim) {
        let (module, word) = item.split_once('=').map_or((None, item), |(module, word)| (Some(module), word));
        let filter = filter_of(word)
            .ok_or_else(|| format!("{word:?} is not a level: write off, error, warn, info, debug or trace"))?;
        targets = match module {
            None => targets.with_default(filter),
            Some(module) => targets.with_target(module, filter),
        };
    }
    Ok(targets)
}

fn filter_of(word: &str) -> Option<LevelFilter> {
    if word.eq_ignore_ascii_case("off") {
        return Some(LevelFilter::OFF);
    }
    // Level's own parser also takes 1 to 5.
    word.bytes().all(|b| b.is_ascii_alphabetic()).then(|| word.parse::<Level>().ok()).flatten().map(Into::into)
}

/// Starts the log, once per process. It goes to stderr: stdout is for what
/// was asked for, such as a printed key.
///
/// Control characters in what clients sent cannot forge a line or recolour a
/// terminal: we write them out (tracing itself leaves line ends in messages and
/// in `%values` as they are, and JSON all that is not ASCII).
pub fn start(config: &LogConfig) -> Result<(), StartError> {
    let targets = targets(&config.level).map_err(StartError::Level)?;
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let layer = layer(config.format, colour, io::stderr);
    tracing_subscriber::registry().with(layer.with_filter(targets)).try_init().map_err(StartError::Twice)
}

fn layer<W>(format: LogFormat, colour: bool, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    match format {
        LogFormat::Text => {
            let fields = fmt::format::debug_fn(write_field).delimited(" ");
            fmt::layer().fmt_fields(fields).with_ansi(colour).with_writer(writer).boxed()
        }
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(Tame(writer)).boxed(),
    }
}

fn write_field(to: &mut fmt::format::Writer<'_>, field: &Field, value: &dyn std::fmt::Debug) -> std::fmt::Result {
    let value = escaped(format!("{value:?}"));
    if field.name() == "message" { write!(to, "{value}") } else { write!(to, "{}={value}", field.name()) }
}

/// What ends a line, moves a cursor or turns the reading direction.
fn acts(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// With all of that written out.
fn escaped(text: String) -> String {
    if !text.contains(acts) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if acts(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Writes JSON in which that is escaped, too: outside of ASCII JSON leaves it
/// as it is, and a terminal that shows the log would do it. It only ever stands
/// in strings.
struct Tame<W>(W);

impl<'w, W: fmt::MakeWriter<'w>> fmt::MakeWriter<'w> for Tame<W> {
    type Writer = Tame<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        Tame(self.0.make_writer())
    }
}

impl<W: io::Write> io::Write for Tame<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let acts = |c: char| c != '\n' && acts(c);
        // A line is written whole, and is text.
        match str::from_utf8(line) {
            Ok(text) if text.contains(acts) => {
                let mut out = String::with_capacity(text.len() + 16);
                for c in text.chars() {
                    if acts(c) { out.push_str(&format!("\\u{:04x}", u32::from(c))) } else { out.push(c) }
                }
                self.0.write_all(out.as_bytes())?;
            }
            Ok(_) | Err(_) => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Why the log did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `log.level` is wrong.
    #[error("log.level: {0}")]
    Level(String),
    /// There is one already.
    #[error("the log was started twice: {0}")]
    Twice(TryInitError),
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for good in ["info", "WARN", "off", "info,chunkgate::store=debug", "warn, sqlx=error"] {
            assert!(targets(good).is_ok(), "{good}");
        }
        for bad in ["", "verbose", "infoo", "info,", "chunkgate=loud", "3"] {
            assert!(targets(bad).is_err(), "{bad}");
        }
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("lock").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool) -> String {
        let lines = Lines::default();
        let writer = {
            let lines = lines.clone();
            move || lines.clone()
        };
        let layer = layer(if json { LogFormat::Json } else { LogFormat::Text }, false, writer);
        let hostile = "a\nINFO forged \u{1b}[31m\r\u{7}\u{9b}31m\u{85}\u{202e}\u{2028}";
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(file_name = hostile, shown = %hostile, "message {hostile}");
            let span = tracing::info_span!("span", owner = %hostile);
            let _entered = span.enter();
            tracing::info!("inside");
        });
        String::from_utf8(lines.0.lock().expect("lock").clone()).expect("UTF-8")
    }

    #[test]
    fn what_clients_send_forges_no_line() {
        for json in [false, true] {
            let text = logged(json);
            assert_eq!(text.matches('\n').count(), 2, "{text:?}");
            assert!(!text.lines().any(|line| line.contains(acts)), "{text:?}");
        }
    }
}
