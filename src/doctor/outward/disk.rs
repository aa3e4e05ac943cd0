//! The local folder's disk: space, and how long a sync takes.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;

use crate::clock::Clock;
use crate::doctor::report::Verdict;
use crate::units::format_bytes;

/// The test upload, and a little more.
const BYTES_MIN: u64 = 32 << 20;
const BYTES_COMFORTABLE: u64 = 1 << 30;
const SYNC_SLOW: Duration = Duration::from_millis(50);
const SYNCS: usize = 5;

/// Looks at the file system of this folder.
pub(super) async fn check(folder: &Path, clock: &Arc<dyn Clock>) -> Verdict {
    let (place, clock) = (folder.to_owned(), clock.clone());
    let looked = spawn_blocking(move || look(&place, &*clock)).await;
    let name = folder.display();
    match looked.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok((free, sync)) => judge(&name.to_string(), free, sync),
        Err(error) => Verdict::failed(
            format!("{name}: {error}"),
            "no chunk can be stored",
            "give the gateway's user a folder that it may write to: store.file.dir, or data_dir",
        ),
    }
}

/// Free bytes, and the usual time of a sync.
fn look(folder: &Path, clock: &dyn Clock) -> io::Result<(u64, Duration)> {
    // One that is not there yet will be where its parent is.
    let existing = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    let disk = rustix::fs::statvfs(existing)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if existing != folder {
        return Ok((free, Duration::ZERO));
    }
    let path: PathBuf = folder.join(format!(".chunkgate-doctor-{:032x}", clock.random()));
    let mut times = Vec::with_capacity(SYNCS);
    let mut write = || {
        let mut file = File::create(&path)?;
        for _ in 0..SYNCS {
            let began = clock.monotonic();
            file.write_all(&[0; 4096])?;
            file.sync_data()?;
            times.push(clock.monotonic().saturating_sub(began));
        }
        Ok(())
    };
    let written: io::Result<()> = write();
    let removed = std::fs::remove_file(&path);
    match written {
        // Told by the space, in its own words.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok((0, Duration::ZERO)),
        written => written.and(removed)?,
    }
    times.sort_unstable();
    Ok((free, times[SYNCS / 2]))
}

fn judge(folder: &str, free: u64, sync: Duration) -> Verdict {
    let mebibytes = free >> 20;
    if free < BYTES_MIN {
        return Verdict::failed(
            format!("the disk of {folder} is full: {mebibytes} MiB are free"),
            "chunks get 507 storage_full",
            "make space, or set store.file.dir to a folder on a larger disk",
        );
    }
    let what = format!("{folder}: {mebibytes} MiB free; a sync takes {} µs", sync.as_micros());
    if free < BYTES_COMFORTABLE {
        return Verdict::warning(
            what,
            format!("a few files of {} fill it", format_bytes(BYTES_COMFORTABLE / 4)),
            "make space before it is full",
        );
    }
    if sync > SYNC_SLOW {
        return Verdict::warning(
            what,
            "a chunk is acknowledged only once it is durable: each waits for this",
            "use a local disk rather than a network file system, an SSD rather than a hard disk",
        );
    }
    Verdict::ok(what)
}

/// The folder is another gateway's, or cannot be used.
pub(super) fn not_open(reason: &str) -> Verdict {
    if reason.contains("in use by") {
        return Verdict::warning(
            reason,
            "while a gateway runs, nobody else looks into its folder",
            "ask that gateway: curl -H 'Authorization: Bearer ck_…' http://127.0.0.1:8081/admin/doctor",
        );
    }
    Verdict::failed(
        reason,
        "no gateway starts without its store",
        "give the gateway's user a folder that it may write to: store.file.dir, or data_dir",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Status;

    #[test]
    fn a_full_disk_a_small_one_and_a_slow_one_are_told_apart() {
        let of = |free, millis| judge("d", free, Duration::from_millis(millis)).status;
        assert_eq!(of(BYTES_MIN - 1, 1), Status::Failed);
        assert_eq!(of(BYTES_COMFORTABLE - 1, 1), Status::Warning);
        assert_eq!(of(BYTES_COMFORTABLE, 51), Status::Warning);
        assert_eq!(of(BYTES_COMFORTABLE, 1), Status::Ok);
        assert_eq!(not_open("the folder is in use by process 7: …").status, Status::Warning);
        assert_eq!(not_open("Permission denied").status, Status::Failed);
    }
}
