//! YAML as settings, from the parser's events, which know their lines. What
//! is written without quotes is text that becomes what its key asks for, so
//! that no guess of YAML's (`no`, `1e3`, `08:30`) is ever taken for a value.

use std::collections::HashSet;
use std::vec::IntoIter;

use serde_json::Value as Json;
use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::TScalarStyle;

use super::Raw;
use super::node::{Entry, Malformed, Node};

/// More levels than any key has. What reads them calls itself for each.
const DEPTH_MAX: usize = 64;

/// Reads one document, which is a mapping.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, Malformed> {
    let mut reader = Reader { events: events(text)?.into_iter(), line: 1 };
    match reader.next() {
        None => Ok(Vec::new()),
        Some(Event::MappingStart(..)) => {
            let entries = reader.mapping()?;
            if reader.next().is_some() {
                return Err(wrong(reader.line, "there is more than one document"));
            }
            Ok(entries)
        }
        // `---` and nothing but comments.
        Some(Event::Scalar(text, TScalarStyle::Plain, ..)) if is_nothing(&text) => Ok(Vec::new()),
        Some(_) => Err(wrong(reader.line, "a configuration is made of `key: value`")),
    }
}

fn wrong(line: usize, what: &str) -> Malformed {
    (Some(line.max(1)), format!("is not YAML that can be read here: {what}"))
}

fn is_nothing(plain: &str) -> bool {
    matches!(plain, "" | "~" | "null" | "Null" | "NULL")
}

/// What the parser says of the text, line by line, but for the frame around it.
fn events(text: &str) -> Result<Vec<(Event, usize)>, Malformed> {
    let mut parser = Parser::new_from_str(text);
    let mut events = Vec::new();
    let mut depth = 0usize;
    loop {
        let (event, mark) = parser.next_token().map_err(|e| wrong(e.marker().line(), e.info()))?;
        match event {
            Event::StreamEnd => return Ok(events),
            Event::Nothing | Event::StreamStart | Event::DocumentStart | Event::DocumentEnd => continue,
            Event::MappingStart(..) | Event::SequenceStart(..) => depth += 1,
            Event::MappingEnd | Event::SequenceEnd => depth = depth.saturating_sub(1),
            Event::Scalar(..) | Event::Alias(_) => {}
        }
        if depth > DEPTH_MAX {
            return Err(wrong(mark.line(), &format!("it has more than {DEPTH_MAX} levels")));
        }
        events.push((event, mark.line()));
    }
}

struct Reader {
    events: IntoIter<(Event, usize)>,
    /// Of the event that was read last.
    line: usize,
}

impl Reader {
    fn next(&mut self) -> Option<Event> {
        let (event, line) = self.events.next()?;
        self.line = line;
        Some(event)
    }

    /// The rest of a mapping that has begun.
    fn mapping(&mut self) -> Result<Vec<Entry>, Malformed> {
        let mut entries = Vec::new();
        let mut names = HashSet::new();
        loop {
            let name = match self.next() {
                Some(Event::MappingEnd) | None => return Ok(entries),
                Some(Event::Scalar(name, ..)) => name,
                Some(_) => return Err(wrong(self.line, "a key is plain text")),
            };
            let line = self.line;
            if !names.insert(name.clone()) {
                return Err(wrong(line, &format!("{name} is written twice")));
            }
            let node = match self.next() {
                Some(Event::MappingStart(..)) => Node::Table(self.mapping()?),
                Some(event) => self.leaf(event)?,
                None => Node::Nothing,
            };
            entries.push(Entry { name, line: Some(line), node });
        }
    }

    fn leaf(&mut self, event: Event) -> Result<Node, Malformed> {
        if let Event::Scalar(text, TScalarStyle::Plain, ..) = event {
            return Ok(if is_nothing(&text) { Node::Nothing } else { Node::Leaf(Raw::Text(text)) });
        }
        self.value(event).map(|json| Node::Leaf(Raw::Typed(json)))
    }

    /// A value within a list, where everything is text.
    fn value(&mut self, event: Event) -> Result<Json, Malformed> {
        match event {
            Event::Scalar(text, ..) => Ok(Json::String(text)),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next() {
                        Some(Event::SequenceEnd) | None => return Ok(Json::Array(items)),
                        Some(event) => items.push(self.value(event)?),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut table = serde_json::Map::new();
                while let Some(Event::Scalar(name, ..)) = self.next() {
                    let event = self.next().ok_or_else(|| wrong(self.line, "a value is missing"))?;
                    let value = self.value(event)?;
                    table.insert(name, value);
                }
                Ok(Json::Object(table))
            }
            Event::Alias(_) => Err(wrong(self.line, "anchors and aliases are not supported")),
            Event::SequenceEnd
            | Event::MappingEnd
            | Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart
            | Event::DocumentEnd => Err(wrong(self.line, "a value is missing")),
        }
    }
}
