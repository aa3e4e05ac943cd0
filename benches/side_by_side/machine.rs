//! What the figures were taken on.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use chunkgate::clock::{Clock as _, SystemClock};

/// The machine in one line.
pub(crate) fn describe(folder: &Path) -> String {
    let first = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpu = first("/proc/cpuinfo");
    let cpu =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("?", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "Linux {}, {cores} cores, {cpu}; TCP congestion control {}; fdatasync {}",
        first("/proc/sys/kernel/osrelease"),
        first("/proc/sys/net/ipv4/tcp_congestion_control"),
        fsync(folder).map_or_else(|error| error.to_string(), |millis| format!("{millis:.2} ms")),
    )
}

/// The median time of an fdatasync after 4 KiB, in milliseconds.
fn fsync(folder: &Path) -> std::io::Result<f64> {
    let (clock, path) = (SystemClock::new(), folder.join("fsync"));
    let mut file = fs::File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..50 {
        file.write_all(&[7; 4096])?;
        let began = clock.monotonic();
        file.sync_data()?;
        times.push((clock.monotonic() - began).as_secs_f64() * 1e3);
    }
    fs::remove_file(path)?;
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
