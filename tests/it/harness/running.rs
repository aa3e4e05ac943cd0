//! A process of ours, by its process id.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use reqwest::StatusCode;

use super::client;

/// A child process that dies with its owner, by its process id.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    pub(super) fn spawn(
        arguments: &[&str],
        environment: impl Iterator<Item = (String, String)>,
        folder: &Path,
        log: &Path,
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chunkgate"));
        command.args(arguments).env_clear().envs(environment).current_dir(folder);
        Self::start(&mut command, log)
    }

    /// Any program, whose words go into the log.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let log = File::options().append(true).create(true).open(log).expect("a log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        Self { child: command.spawn().expect("the binary starts") }
    }

    pub(super) async fn wait_until_live(&mut self, url: &str, log: &Path) {
        self.wait_until(url, log, |status| status.is_success()).await;
    }

    /// Until it answers so.
    pub(crate) async fn wait_until(&mut self, url: &str, log: &Path, is_well: fn(StatusCode) -> bool) {
        let http = client();
        for _ in 0..400 {
            if http.get(url).send().await.is_ok_and(|answer| is_well(answer.status())) {
                return;
            }
            if let Some(status) = self.child.try_wait().expect("a child") {
                panic!("it ended with {status}: {}", std::fs::read_to_string(log).unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("it does not answer: {}", std::fs::read_to_string(log).unwrap_or_default());
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, once it does.
    pub(super) async fn ended(&mut self) -> Option<ExitStatus> {
        for _ in 0..600 {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }

    pub(super) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("it can be signalled");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SIGKILL, by its process id, and waited for: nothing outlives a test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
