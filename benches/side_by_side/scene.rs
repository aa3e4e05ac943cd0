//! What is compared with what.

use std::time::Duration;

use chunkgate::bench::{Load, Report};

use crate::subjects::Subject;

/// Small files: so many, so large.
const SMALL_FILES: u32 = 10_000;
const SMALL_BYTES: u64 = 16 << 10;

/// One table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scene {
    /// Large files in chunks, before a store that keeps nothing
    Store,
    /// Large files in chunks, into a folder
    Folder,
    /// 10 000 files of 16 KiB, into a folder
    Small,
}

/// Sizes of a run of large files, as the command line has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Large {
    pub(crate) bytes: u64,
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
        }
    }

    /// By whom the others are measured, and its short name.
    pub(crate) const fn yardstick(self) -> (Subject, &'static str) {
        match self {
            Self::Store => (Subject::Nginx, "nginx"),
            Self::Folder => (Subject::Dd, "dd"),
            Self::Small => (Subject::RustusSynced, "rustus with fsync"),
        }
    }

    /// Uploads at once, where the command line says nothing.
    pub(crate) const fn parallel(self) -> &'static [u32] {
        match self {
            Self::Store => &[1, 4, 16, 64],
            Self::Folder => &[1, 4, 16],
            Self::Small => &[32],
        }
    }

    /// What a run consists of.
    pub(crate) fn load(self, parallel: u32, subject: Subject, large: Large) -> Load {
        let (files, file_bytes, chunk_bytes) = match self {
            Self::Store | Self::Folder => (parallel, large.bytes / u64::from(parallel), large.chunk_bytes),
            Self::Small => (SMALL_FILES, SMALL_BYTES, SMALL_BYTES),
        };
        Load {
            uploads: parallel,
            chunks: if subject.has_parallel_chunks() { large.chunks } else { 1 },
            files,
            file_bytes,
            chunk_bytes,
            think_time: Duration::ZERO,
            slow: 0,
            verify: 2,
        }
    }

    /// The unit of a rate, and of what a run costs in processor time.
    pub(crate) const fn units(self) -> (&'static str, &'static str) {
        match self {
            Self::Store | Self::Folder => ("MB/s", "CPU s/GiB"),
            Self::Small => ("files/s", "CPU ms/file"),
        }
    }

    /// A run's rate; none when not all went well.
    pub(crate) fn rate(self, report: &Report) -> Option<f64> {
        let megabytes = report.megabytes_per_second?;
        #[expect(clippy::cast_precision_loss, reason = "a size")]
        Some(match self {
            Self::Store | Self::Folder => megabytes,
            Self::Small => megabytes * 1e6 / SMALL_BYTES as f64,
        })
    }

    /// What so many seconds of processor time mean for a run of so many bytes.
    #[expect(clippy::cast_precision_loss, reason = "a size")]
    pub(crate) fn cost(self, cpu_seconds: f64, bytes: u64) -> f64 {
        match self {
            Self::Store | Self::Folder => cpu_seconds * f64::from(1 << 30) / bytes as f64,
            Self::Small => cpu_seconds * 1e3 * SMALL_BYTES as f64 / bytes as f64,
        }
    }
}
