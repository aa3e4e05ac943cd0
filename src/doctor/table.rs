//! What was found, for people: pure.

use std::fmt::Write as _;

use crate::doctor::report::{Finding, Report, Status};

/// The width of the names of checks.
const NAME_WIDTH: usize = 26;
/// Where texts begin.
const INDENT: usize = 10 + NAME_WIDTH;
/// Where they end, for people; what goes into a file or a pipe has its lines whole.
const TEXT_WIDTH: usize = 76;

/// For whom it is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// In colours.
    pub is_coloured: bool,
    /// In lines that fit a terminal.
    pub is_folded: bool,
}

/// How a status is written and coloured (ANSI).
const fn looks(status: Status) -> (&'static str, &'static str) {
    match status {
        Status::Ok => ("ok", "\x1b[32m"),
        Status::Warning => ("warning", "\x1b[33m"),
        Status::Failed => ("FAILED", "\x1b[31;1m"),
        Status::Skipped => ("skipped", "\x1b[2m"),
    }
}

/// One finding: a line, and below it why and what to do.
pub fn finding_line(finding: &Finding, style: Style) -> String {
    let (word, colour) = looks(finding.status);
    let (colour, end) = if style.is_coloured { (colour, "\x1b[0m") } else { ("", "") };
    let hanging = |text: &str| hanging(text, style.is_folded);
    let mut text = format!("{colour}{word:<8}{end}  {:<NAME_WIDTH$}{}\n", finding.check, hanging(&finding.what));
    for (label, said) in [("why", &finding.why), ("fix", &finding.fix)] {
        if !said.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{:>width$}  {}", label, hanging(said), width = INDENT - 2);
        }
    }
    text
}

/// Lines after the first begin below it.
fn hanging(text: &str, is_folded: bool) -> String {
    let lines: Vec<String> =
        text.lines().flat_map(|line| if is_folded { folded(line) } else { vec![line.to_owned()] }).collect();
    lines.join(&format!("\n{:INDENT$}", ""))
}

/// Between words; a word that is too long stays whole, for it may be copied.
fn folded(line: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in line.split(' ') {
        let last = lines.len() - 1;
        let current = &mut lines[last];
        if current.is_empty() {
            current.push_str(word);
        } else if current.chars().count() + 1 + word.chars().count() <= TEXT_WIDTH {
            current.push(' ');
            current.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// What is said at the end.
pub fn ending(report: &Report, style: Style) -> String {
    let (bold, end) = if style.is_coloured { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let count = |status| report.count(status);
    let counts = format!(
        "{} ok, {} warnings, {} failed, {} skipped",
        count(Status::Ok),
        count(Status::Warning),
        count(Status::Failed),
        count(Status::Skipped)
    );
    match report.first_cause() {
        None => format!("\n{counts}\n{bold}nothing is wrong{end}\n"),
        Some(cause) => format!("\n{counts}\n{bold}first cause: {}{end}: {}\n", cause.check, cause.what),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_finding_says_what_why_and_how_to_mend_it() {
        let finding = Finding {
            check: "tcp",
            status: Status::Failed,
            what: "127.0.0.1:1 refuses".to_owned(),
            why: "nobody listens".to_owned(),
            fix: "a\nb".to_owned(),
            took: Duration::ZERO,
        };
        let plain = finding_line(&finding, Style::default());
        let below = " ".repeat(INDENT);
        assert_eq!(
            plain,
            format!(
                "FAILED    tcp                       127.0.0.1:1 refuses\n{0}why  nobody listens\n{0}fix  a\n{below}b\n",
                " ".repeat(INDENT - 5)
            )
        );
        let coloured = Style { is_coloured: true, is_folded: true };
        assert!(finding_line(&finding, coloured).starts_with("\x1b[31;1mFAILED  \x1b[0m  tcp "));
        let report = Report { findings: vec![finding] };
        assert!(ending(&report, Style::default()).ends_with("first cause: tcp: 127.0.0.1:1 refuses\n"));
    }

    #[test]
    fn lines_are_folded_between_words() {
        let long = format!("{} {}", "word ".repeat(20).trim_end(), "x".repeat(100));
        let lines = folded(&long);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[..2].iter().all(|line| line.len() <= TEXT_WIDTH) && lines[2].len() == 100, "{lines:?}");
        assert_eq!(lines.join(" "), long);
    }
}
