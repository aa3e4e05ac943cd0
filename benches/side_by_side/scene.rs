//! What is compared with what.

use std::time::Duration;

use chunkgate::bench::{Load, Report};

use crate::null_store;
use crate::subjects::Subject;

/// Small files: so many, so large.
const SMALL_FILES: u32 = 10_000;
const SMALL_BYTES: u64 = 16 << 10;
/// Clients that send 1 KiB a second.
const SLOW_CLIENTS: u32 = 1000;

/// One table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scene {
    /// Large files in chunks, before a store that keeps nothing
    Store,
    /// Large files in chunks, into a folder
    Folder,
    /// 10 000 files of 16 KiB, into a folder
    Small,
    /// A client alone, and beside 1 000 slow ones
    Fairness,
    /// Before a store that answers after 50 ms, and 1 % of the time with an error
    Faults,
    /// Before a store that reads 8 MiB of each body in a second
    SlowStore,
}

/// Sizes of a run of large files, as the command line has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Large {
    pub(crate) bytes: u64,
    pub(crate) files: u32,
    pub(crate) chunk_bytes: u64,
    pub(crate) chunks: u32,
}

impl Scene {
    /// Who is in it.
    pub(crate) const fn subjects(self) -> &'static [Subject] {
        match self {
            Self::Store => &[
                Subject::Store,
                Subject::Nginx,
                Subject::PassThrough,
                Subject::Chunkgate,
                Subject::ChunkgateForm,
                Subject::Tusd,
                Subject::TusdTuned,
                Subject::Rustus,
            ],
            Self::Folder => {
                &[Subject::Dd, Subject::ChunkgateFiles, Subject::TusdFiles, Subject::RustusFiles, Subject::RustusSynced]
            }
            Self::Small => {
                &[Subject::RustusSynced, Subject::RustusFiles, Subject::ChunkgateFiles, Subject::ChunkgatePostgres]
            }
            Self::Fairness => &[Subject::Chunkgate, Subject::ChunkgateBesideSlow],
            Self::Faults => &[Subject::Chunkgate, Subject::ChunkgateFaulty],
            Self::SlowStore => &[Subject::Store, Subject::Nginx, Subject::Chunkgate, Subject::ChunkgateForm],
        }
    }

    /// By whom the others are measured, and its short name.
    pub(crate) const fn yardstick(self) -> (Subject, &'static str) {
        match self {
            Self::Store => (Subject::Nginx, "nginx"),
            Self::Folder => (Subject::Dd, "dd"),
            Self::Small => (Subject::RustusSynced, "rustus with fsync"),
            Self::Fairness => (Subject::Chunkgate, "alone"),
            Self::Faults => (Subject::Chunkgate, "without errors"),
            Self::SlowStore => (Subject::Store, "straight"),
        }
    }

    /// Uploads at once, where the command line says nothing.
    pub(crate) const fn parallel(self) -> &'static [u32] {
        match self {
            Self::Store => &[1, 4, 16, 64],
            Self::Folder => &[1, 4, 16],
            Self::Small => &[32],
            Self::Fairness => &[1, 4],
            Self::Faults => &[16],
            Self::SlowStore => &[64],
        }
    }

    /// The store's bucket, and with it its manners.
    pub(crate) const fn bucket(self, subject: Subject) -> &'static str {
        match (self, subject) {
            (Self::Faults, Subject::ChunkgateFaulty) => null_store::FAULTY,
            (Self::Faults, _) => null_store::LATE,
            (Self::SlowStore, _) => null_store::SLOW,
            (Self::Store | Self::Folder | Self::Small | Self::Fairness, _) => null_store::QUICK,
        }
    }

    /// Whether it is about large files.
    pub(crate) const fn is_large(self) -> bool {
        !matches!(self, Self::Small)
    }

    /// What a run consists of.
    pub(crate) fn load(self, parallel: u32, subject: Subject, large: Large) -> Load {
        let (files, file_bytes, chunk_bytes) = if self.is_large() {
            (large.files, large.bytes / u64::from(large.files.max(1)), large.chunk_bytes)
        } else {
            (SMALL_FILES, SMALL_BYTES, SMALL_BYTES)
        };
        Load {
            uploads: parallel,
            chunks: if subject.has_parallel_chunks() { large.chunks } else { 1 },
            files,
            file_bytes,
            chunk_bytes,
            think_time: Duration::ZERO,
            slow: if subject == Subject::ChunkgateBesideSlow { SLOW_CLIENTS } else { 0 },
            verify: 2,
        }
    }

    /// The unit of a rate, and of what a run costs in processor time.
    pub(crate) const fn units(self) -> (&'static str, &'static str) {
        if self.is_large() { ("MB/s", "CPU s/GiB") } else { ("files/s", "CPU ms/file") }
    }

    /// A run's rate; none when not all went well.
    pub(crate) fn rate(self, report: &Report) -> Option<f64> {
        let megabytes = report.megabytes_per_second?;
        #[expect(clippy::cast_precision_loss, reason = "a size")]
        Some(if self.is_large() { megabytes } else { megabytes * 1e6 / SMALL_BYTES as f64 })
    }

    /// What so many seconds of processor time mean for a run of so many bytes.
    #[expect(clippy::cast_precision_loss, reason = "a size")]
    pub(crate) fn cost(self, cpu_seconds: f64, bytes: u64) -> f64 {
        let per = if self.is_large() { f64::from(1 << 30) } else { 1e3 * SMALL_BYTES as f64 };
        cpu_seconds * per / bytes as f64
    }
}
