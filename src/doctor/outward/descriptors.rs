//! How many files and sockets the process may have.

use rustix::process::{Resource, getrlimit};

use crate::config::Config;
use crate::doctor::course::Course;
use crate::doctor::report::Verdict;

/// For all that is not a client's connection: the database, logs, idle connections.
const KEPT: u64 = 256;

/// Compares what there may be with what is configured.
pub(super) fn check(course: &mut Course<'_>, config: &Config) {
    let limits = getrlimit(Resource::Nofile);
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    // A chunk holds its client's connection, one to the store, and for a folder its file.
    let chunks = config.limits.max_concurrent_chunks as u64;
    let connections = config.limits.max_connections.map(|connections| connections as u64);
    let verdict = judge(limits.current, limits.maximum, open, connections, chunks);
    course.tell("descriptors", &["configuration"], verdict);
}

fn judge(soft: Option<u64>, hard: Option<u64>, open: u64, connections: Option<u64>, chunks: u64) -> Verdict {
    let Some(soft) = soft else { return Verdict::ok(format!("{open} are open, and there is no limit")) };
    let hard = hard.map_or("no limit".to_owned(), |hard| hard.to_string());
    let what = format!("{open} are open, of {soft} that this process may have (hard limit {hard})");
    let needed = connections.map_or(chunks * 2 + KEPT, |connections| (connections.max(chunks) * 2) + KEPT);
    if soft >= needed {
        return Verdict::ok(what);
    }
    let whose = if connections.is_some() { "limits.max_connections" } else { "limits.max_concurrent_chunks" };
    Verdict::failed(
        format!("{what}; {whose} takes {needed}"),
        "accepting pauses and connections to the store fail under load: \"Too many open files\"",
        "LimitNOFILE=65536 in the systemd unit, ulimits: {nofile: 65536} in docker-compose.yml, or ulimit -n 65536 before \
         the start",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Status;

    #[test]
    fn the_limit_is_compared_with_what_is_configured() {
        let of = |soft, connections| judge(Some(soft), Some(4096), 9, connections, 256).status;
        assert_eq!(of(1024, None), Status::Ok);
        assert_eq!(of(767, None), Status::Failed);
        assert_eq!(of(1024, Some(10_000)), Status::Failed);
        assert_eq!(of(65_536, Some(10_000)), Status::Ok);
        assert_eq!(judge(None, None, 9, Some(10_000), 256).status, Status::Ok);
    }
}
