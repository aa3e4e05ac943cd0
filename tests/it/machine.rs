//! What a machine does to the processes on it: stops them, runs out of disk or
//! of descriptors, cannot write to its disk, sets its clock. Most of it needs
//! root; without it, a test says which command it could not run.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal};
use tempfile::TempDir;

fn pid_of(process: u32) -> Pid {
    i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process id")
}

/// SIGSTOP, and waits until every thread of the process stands still: one that
/// runs on the other core goes on for a moment.
pub(crate) async fn stop(pid: u32) {
    signal(pid, Signal::STOP);
    let stands = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'));
    while !of_threads(pid, "stat").all(stands) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

pub(crate) fn signal(process: u32, signal: Signal) {
    rustix::process::kill_process(pid_of(process), signal).expect("it can be signalled");
}

/// Peak resident memory of a process so far, in bytes.
pub(crate) fn peak_bytes(pid: u32) -> usize {
    status_bytes(pid, "VmHWM:")
}

/// Resident memory of a process now, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> usize {
    status_bytes(pid, "VmRSS:")
}

fn status_bytes(pid: u32, name: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with(name)).expect("a size");
    let kib: usize = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kib * 1024
}

/// How many threads of a process have this name.
pub(crate) fn threads_named(name: &str, pid: u32) -> usize {
    of_threads(pid, "comm").filter(|found| found.trim_end() == name).count()
}

/// What the kernel says of each thread of a process; one may end meanwhile.
fn of_threads(pid: u32, what: &str) -> impl Iterator<Item = String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    threads.filter_map(move |thread| fs::read_to_string(thread.ok()?.path().join(what)).ok())
}

/// A process that stands still: SIGSTOP, and SIGCONT when this is dropped.
pub(crate) struct Frozen(u32);

impl Frozen {
    pub(crate) fn freeze(process: u32) -> Self {
        signal(process, Signal::STOP);
        Self(process)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // It may have been killed meanwhile.
        let _ = rustix::process::kill_process(pid_of(self.0), Signal::CONT);
    }
}

/// How many descriptors a process has.
pub(crate) fn descriptors(process: u32) -> u64 {
    fs::read_dir(format!("/proc/{process}/fd")).expect("a process").count() as u64
}

/// Lets a process have this many descriptors and no more. Those above it stay.
pub(crate) fn limit_descriptors(process: u32, count: u64) {
    let set = rustix::process::prlimit(Some(pid_of(process)), Resource::Nofile, limit(count));
    set.unwrap_or_else(|error| panic!("prlimit --pid {process} --nofile={count}: {error}"));
}

/// As many descriptors for this process and its children as `count`, or no test.
pub(crate) fn need_descriptors(count: u64) {
    if rustix::process::getrlimit(Resource::Nofile).current.is_some_and(|soft| soft < count) {
        rustix::process::setrlimit(Resource::Nofile, limit(count))
            .unwrap_or_else(|error| panic!("this test needs {count} descriptors (ulimit -n {count}): {error}"));
    }
}

/// Leaves the hard limit as it is: raising it takes more than root in a container.
fn limit(count: u64) -> Rlimit {
    Rlimit { current: Some(count), maximum: rustix::process::getrlimit(Resource::Nofile).maximum }
}

/// A file system of a few MiB. Unmounted when it is dropped.
pub(crate) struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    pub(crate) fn mount(bytes: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let size = format!("size={bytes}");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "chunkgate-test"]).arg(folder.path()));
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Fills it to the last page.
    pub(crate) fn fill(&self) {
        self.fill_but(0);
    }

    /// Fills it until so many bytes are left.
    pub(crate) fn fill_but(&self, bytes: usize) {
        let mut ballast = File::options().append(true).create(true).open(self.ballast()).expect("a file");
        let page = vec![0xA5; 4096];
        while ballast.write_all(&page).is_ok() {}
        let filled = ballast.metadata().expect("a file").len();
        ballast.set_len(filled.saturating_sub(bytes as u64)).expect("shortened");
    }

    /// Takes no more writes.
    pub(crate) fn read_only(&self) {
        run(Command::new("mount").args(["-o", "remount,ro"]).arg(self.path()));
    }

    /// Gives back what `fill` took.
    pub(crate) fn empty(&self) {
        fs::remove_file(self.ballast()).expect("removed");
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a gateway may still have a file open there.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Runs a command that needs root.
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "this test runs as root (sudo): {command:?}: {said}");
}

/// System calls of a running process that fail, until this is dropped.
pub(crate) struct Failing {
    tracer: Child,
    log: TempDir,
}

impl Failing {
    /// `calls` as strace names them, comma-separated; on this file only, if one is given.
    pub(crate) fn calls(process: u32, calls: &str, error: &str, file: Option<&Path>) -> Self {
        Self::inject(process, calls, &format!("error={error}"), file)
    }

    /// The same with another injection: `delay_exit=5s`.
    pub(crate) fn inject(process: u32, calls: &str, what: &str, file: Option<&Path>) -> Self {
        let log = tempfile::tempdir().expect("a folder");
        let said = File::create(log.path().join("stderr")).expect("a file");
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-p", &process.to_string(), "-e", &format!("trace={calls}")]);
        command.args(["-e", &format!("inject={calls}:{what}"), "-o"]).arg(log.path().join("calls"));
        if let Some(file) = file {
            command.arg("-P").arg(file);
        }
        let tracer = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn();
        let tracer = tracer.unwrap_or_else(|error| panic!("{command:?}: {error}: apt-get install strace"));
        let mut failing = Self { tracer, log };
        for _ in 0..400 {
            let said = fs::read_to_string(failing.log.path().join("stderr")).unwrap_or_default();
            if said.contains("attached") {
                return failing;
            }
            let ended = failing.tracer.try_wait().expect("a child");
            assert!(ended.is_none(), "this test runs as root (sudo): {command:?}: {said}");
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("{command:?} does not attach");
    }

    /// The calls that failed, or were held up, one line each.
    pub(crate) fn struck(&self) -> Vec<String> {
        joined(&fs::read_to_string(self.log.path().join("calls")).unwrap_or_default())
            .into_iter()
            .filter(|call| call.contains("INJECTED") || call.contains("DELAYED"))
            .collect()
    }
}

/// The calls of a tracer's log. One that another thread's came in between
/// stands there in two lines; here it is whole again.
fn joined(log: &str) -> Vec<String> {
    let mut begun = HashMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let (thread, call) = line.split_once(' ').unwrap_or(("", line));
        let call = call.trim_start();
        if let Some(begins) = call.strip_suffix("<unfinished ...>") {
            begun.insert(thread, begins);
        } else if let Some((_, ends)) = call.split_once("resumed>").filter(|_| call.starts_with("<... ")) {
            calls.push(format!("{thread} {}{ends}", begun.remove(thread).unwrap_or_default()));
        } else {
            calls.push(line.to_owned());
        }
    }
    calls
}

#[test]
fn calls_that_overlap_are_read_whole() {
    let log = "\
71  fdatasync(12</a/data> <unfinished ...>
72  fdatasync(13</a/data> <unfinished ...>
71  <... fdatasync resumed>) = -1 EIO (Input/output error) (INJECTED)
73  fsync(14</a>) = 0
72  <... fdatasync resumed>) = -1 EIO (Input/output error) (INJECTED)
";
    let calls = [
        "71 fdatasync(12</a/data> ) = -1 EIO (Input/output error) (INJECTED)",
        "73  fsync(14</a>) = 0",
        "72 fdatasync(13</a/data> ) = -1 EIO (Input/output error) (INJECTED)",
    ];
    assert_eq!(joined(log), calls);
}

impl Drop for Failing {
    fn drop(&mut self) {
        // Told to end, it lets the process go first.
        signal(self.tracer.id(), Signal::TERM);
        let _ = self.tracer.wait();
    }
}

/// A wall clock for one process that tests set, while it runs (libfaketime).
/// Its monotonic clock goes on as ever.
pub(crate) struct WallClock {
    folder: TempDir,
}

impl WallClock {
    pub(crate) fn new() -> Self {
        let clock = Self { folder: tempfile::tempdir().expect("a folder") };
        clock.set(0);
        clock
    }

    /// So many seconds ahead of the machine's, or behind it.
    pub(crate) fn set(&self, seconds: i64) {
        // Renamed: it is read at every look at the clock.
        let next = self.folder.path().join("next");
        fs::write(&next, format!("{seconds:+}")).expect("written");
        fs::rename(next, self.file()).expect("renamed");
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    /// What the process is started with.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let libraries = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let library = libraries
            .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
            .find(|library| library.exists())
            .expect("libfaketime is not installed: apt-get install faketime");
        let pairs = [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            // Files keep their own times.
            ("NO_FAKE_STAT", "1".to_owned()),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}
