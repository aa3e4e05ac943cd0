//! Servers as child processes, by their process ids: what they cost, and that
//! none is left behind.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server; it ends when it is dropped.
pub(crate) struct Server {
    child: Child,
}

impl Server {
    /// Starts it, with its output in `log`, and waits until it takes connections.
    pub(crate) async fn start(command: &mut Command, log: &Path, port: u16) -> Result<Self, String> {
        let file = fs::File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        let copy = file.try_clone().map_err(|error| error.to_string())?;
        let child = command.stdin(Stdio::null()).stdout(file).stderr(copy).spawn();
        let mut server = Self { child: child.map_err(|error| format!("{command:?}: {error}"))? };
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(server);
            }
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(format!("it ended with {status}: {}", fs::read_to_string(log).unwrap_or_default()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(format!("it takes no connection: {}", fs::read_to_string(log).unwrap_or_default()))
    }

    /// The process and all its children.
    fn processes(&self) -> Vec<u32> {
        let mut all = vec![self.child.id()];
        let mut next = 0;
        while let Some(&pid) = all.get(next) {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            next += 1;
        }
        all
    }

    /// Seconds of processor time that it has taken so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let ticks = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // Fields 14 and 15, utime and stime; the third follows the name.
            let mut fields = stat.rsplit_once(") ")?.1.split(' ');
            Some(fields.nth(11)?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
        };
        #[expect(clippy::cast_precision_loss, reason = "a time")]
        let ticks = self.processes().iter().filter_map(ticks).sum::<u64>() as f64;
        ticks / rustix::param::clock_ticks_per_second() as f64
    }

    /// Begins a new measurement of peaks.
    pub(crate) fn forget_peak(&self) {
        for pid in self.processes() {
            // Without the right to, the peak is that since the start.
            let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
    }

    /// Peak resident memory in MiB.
    pub(crate) fn peak_mib(&self) -> u64 {
        let peak = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        self.processes().iter().filter_map(peak).sum::<u64>() / 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for pid in self.processes() {
            if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let _ = self.child.wait();
    }
}
