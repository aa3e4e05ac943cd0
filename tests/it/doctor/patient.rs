//! `chunkgate doctor`, run as people run it, and what it said.

use std::path::Path;
use std::process::Stdio;

use tokio::process::{Child, Command};

/// The page that shows it all.
const PAGE: &str = include_str!("../../../docs/doctor.md");
const STATUSES: [&str; 4] = ["ok ", "warning ", "FAILED ", "skipped "];

/// A run to be.
pub(super) struct Patient {
    command: Vec<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Patient {
    /// With settings as the environment has them: `("STORE__KIND", "oss")`.
    pub(super) fn new(settings: Vec<(String, String)>) -> Self {
        let command = vec![env!("CARGO_BIN_EXE_chunkgate").to_owned()];
        let environment = settings.into_iter().map(|(key, value)| (format!("CHUNKGATE_{key}"), value)).collect();
        Self { command, arguments: Vec::new(), environment }
    }

    /// With another setting, or another value of one.
    pub(super) fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        let key = format!("CHUNKGATE_{key}");
        self.environment.retain(|(known, _)| *known != key);
        self.environment.push((key, value.into()));
        self
    }

    /// With variables that are not ours.
    pub(super) fn beside(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment.extend(variables);
        self
    }

    pub(super) fn argue(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Started by a shell that does this first.
    pub(super) fn after(mut self, first: &str) -> Self {
        let script = format!("{first} && exec \"$0\" \"$@\"");
        self.command = ["sh", "-c", &script].into_iter().map(ToOwned::to_owned).chain(self.command).collect();
        self
    }

    /// In another view of the file system, in which a shell does this first.
    pub(super) fn apart(mut self, first: &str) -> Self {
        self = self.after(first);
        self.command = ["unshare", "-m"].into_iter().map(ToOwned::to_owned).chain(self.command).collect();
        self
    }

    /// Runs it, in this folder.
    pub(super) async fn examine(self, folder: &Path) -> Examined {
        self.start(folder).end().await
    }

    pub(super) fn start(self, folder: &Path) -> Started {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).arg("doctor").args(&self.arguments).env_clear().envs(self.environment);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env("PATH", path).current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        Started { child, folder: folder.display().to_string() }
    }
}

/// A run that goes on.
pub(super) struct Started {
    child: Child,
    folder: String,
}

impl Started {
    pub(super) fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Waits for its end.
    pub(super) async fn end(self) -> Examined {
        let output = self.child.wait_with_output().await.expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!complaints.contains("panicked"), "{complaints}");
        Examined { code: output.status.code(), said, complaints, folder: self.folder }
    }
}

/// What it said.
#[derive(Debug)]
pub(super) struct Examined {
    pub(super) code: Option<i32>,
    pub(super) said: String,
    complaints: String,
    folder: String,
}

impl Examined {
    /// Nothing failed.
    #[track_caller]
    pub(super) fn is_well(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{}{}", self.said, self.complaints);
        assert!(self.said.contains("nothing is wrong"), "{}", self.said);
        self
    }

    /// This check is the first cause.
    #[track_caller]
    pub(super) fn is_ill_at(&self, check: &str) -> &Self {
        let whole = format!("{}{}", self.said, self.complaints);
        assert_eq!(self.code, Some(1), "{whole}");
        let cause = self.said.lines().find_map(|line| line.strip_prefix("first cause: ")).unwrap_or_default();
        assert!(cause.starts_with(&format!("{check}: ")), "{check} is not the first cause:\n{whole}");
        self
    }

    /// This check is the first cause, and its finding is on the page, below
    /// this heading. With `DOCTOR_BLOCKS` it is written into that folder.
    #[track_caller]
    pub(super) fn first_fails_at(&self, check: &str, heading: &str) -> &Self {
        self.is_ill_at(check);
        let block = self.finding("FAILED", check);
        if let Some(folder) = std::env::var_os("DOCTOR_BLOCKS") {
            let text = format!("### {heading}\n\n```text\n{}```\n", folded(&block));
            let name = heading.replace([' ', '/'], "-");
            std::fs::write(Path::new(&folder).join(name), text).expect("written");
            return self;
        }
        let section = PAGE.split("\n### ").find(|section| section.starts_with(&format!("{heading}\n")));
        let section = section.unwrap_or_else(|| panic!("docs/doctor.md has no {heading:?}; it would show:\n{block}"));
        let shown = section.split("```").nth(1).and_then(|shown| shown.strip_prefix("text\n")).unwrap_or_default();
        // The page has it in shorter lines.
        assert_eq!(words(shown), words(&block), "docs/doctor.md shows something else below {heading:?}");
        self
    }

    /// This check ended so.
    #[track_caller]
    pub(super) fn has(&self, status: &str, check: &str) -> &Self {
        self.finding(status, check);
        self
    }

    /// A finding's lines, without what is different each time.
    #[track_caller]
    pub(super) fn finding(&self, status: &str, check: &str) -> String {
        let begins = format!("{status:<8}  {check:<26}");
        let is_next = |line: &&str| !STATUSES.iter().any(|status| line.starts_with(status)) && !line.is_empty();
        let mut lines = self.said.lines().skip_while(|line| !line.starts_with(&begins));
        let first = lines.next().unwrap_or_else(|| panic!("{check} is not {status}:\n{}", self.said));
        let rest = lines.take_while(is_next);
        [first].into_iter().chain(rest).map(|line| self.masked(line) + "\n").collect()
    }

    fn masked(&self, line: &str) -> String {
        let line = line.replace(&self.folder, "/srv");
        let line = number_after(&line, "127.0.0.1:", "9000");
        let line = number_after(&line, "localhost:", "9000");
        let line = number_after(&line, "TCP port ", "9000");
        let line = number_after(&line, " at line ", "414");
        let line = number_after(&line, "nginx/1.", "22").replace("nginx/1.22.1", "nginx/1.22");
        // How a cut shows is the kernel's affair.
        let line = line.replace("Connection reset by peer (os error 104)", "unexpected end of file");
        let line = id_after(&line, "request id ");
        let line = number_before(&line, " s ahead of", "3600");
        let line = number_before(&line, " are open, of", "12");
        number_before(&line, " MiB are free", "0")
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// In lines that a page has room for, each below where its text begins.
fn folded(block: &str) -> String {
    const INDENT: usize = 36;
    const WIDTH: usize = 110;
    let mut text = String::new();
    for line in block.lines() {
        let (head, rest) = line.split_at(line.floor_char_boundary(INDENT));
        let mut current = head.to_owned();
        for word in rest.split(' ') {
            let is_first = current.trim_end().len() <= head.trim_end().len() || current.len() == INDENT;
            if !is_first && current.chars().count() + 1 + word.chars().count() > WIDTH {
                text.push_str(current.trim_end());
                text.push('\n');
                current = " ".repeat(INDENT);
            } else if !is_first {
                current.push(' ');
            }
            current.push_str(word);
        }
        text.push_str(current.trim_end());
        text.push('\n');
    }
    text
}

fn number_after(line: &str, mark: &str, shown: &str) -> String {
    let mut pieces = line.split(mark);
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |line, rest| {
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        format!("{line}{mark}{shown}{rest}")
    })
}

fn number_before(line: &str, mark: &str, shown: &str) -> String {
    match line.split_once(mark) {
        Some((before, rest)) => {
            let before = before.trim_end_matches(|c: char| c.is_ascii_digit());
            format!("{before}{shown}{mark}{rest}")
        }
        None => line.to_owned(),
    }
}

fn id_after(line: &str, mark: &str) -> String {
    match line.split_once(mark) {
        Some((before, rest)) => {
            let rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
            format!("{before}{mark}5C3D9175B6FC201293AD4890{rest}")
        }
        None => line.to_owned(),
    }
}
