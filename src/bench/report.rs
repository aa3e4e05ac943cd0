//! The figures of one run.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::bench::tally::Taken;

/// How it went.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Acknowledged.
    pub bytes: u64,
    /// Acknowledged bytes by time, in 10⁶ bytes a second; none of a run with
    /// errors or with a wrong file.
    pub megabytes_per_second: Option<f64>,
    /// Files that are there.
    pub files: u64,
    /// What one chunk took, in milliseconds.
    pub chunk_millis: Percentiles,
    /// What one file took, in milliseconds.
    pub file_millis: Percentiles,
    /// Answers after which the same was sent again, by code.
    pub refusals: BTreeMap<String, u64>,
    /// What ended a file before it was there, by code.
    pub errors: BTreeMap<String, u64>,
    /// Files that were compared afterwards.
    pub verified: u32,
    /// Those of them that are not what was sent.
    pub wrong: Vec<String>,
}

/// Of many durations, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many there are.
    pub count: usize,
    /// Half took no longer.
    pub p50: f64,
    /// Nine in ten took no longer.
    pub p90: f64,
    /// 99 in 100 took no longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Percentiles {
    /// By nearest rank.
    pub fn of(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        let count = durations.len();
        let at = |percent: usize| {
            let rank = (count * percent).div_ceil(100).max(1);
            durations.get(rank - 1).map_or(0.0, |duration| duration.as_secs_f64() * 1e3)
        };
        Self { count, p50: at(50), p90: at(90), p99: at(99), max: at(100) }
    }
}

impl Report {
    pub(super) fn new(took: Duration, bytes: u64, taken: Taken, verified: u32, wrong: Vec<String>) -> Self {
        let Taken { chunks, files, refusals, errors } = taken;
        let seconds = took.as_secs_f64();
        let sound = errors.is_empty() && wrong.is_empty();
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = bytes as f64 / 1e6 / seconds;
        Self {
            seconds,
            bytes,
            megabytes_per_second: sound.then_some(rate),
            files: files.len() as u64,
            chunk_millis: Percentiles::of(chunks),
            file_millis: Percentiles::of(files),
            refusals,
            errors,
            verified,
            wrong,
        }
    }

    /// Whether the figures are of files that are there and whole.
    pub fn is_sound(&self) -> bool {
        self.megabytes_per_second.is_some()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files, {} bytes in {:.3} s", self.files, self.bytes, self.seconds)?;
        match self.megabytes_per_second {
            Some(rate) => writeln!(f, ": {rate:.0} MB/s")?,
            None => writeln!(f, "; no rate, for not all of it went well")?,
        }
        writeln!(f, "{:>10} {:>8} {:>10} {:>10} {:>10} {:>10}", "ms", "count", "p50", "p90", "p99", "max")?;
        for (name, p) in [("chunk", self.chunk_millis), ("file", self.file_millis)] {
            writeln!(f, "{name:>10} {:>8} {:>10.1} {:>10.1} {:>10.1} {:>10.1}", p.count, p.p50, p.p90, p.p99, p.max)?;
        }
        for (what, codes) in [("sent again", &self.refusals), ("failed", &self.errors)] {
            for (code, count) in codes {
                writeln!(f, "{what}: {count} × {code}")?;
            }
        }
        match (self.verified, self.wrong.len()) {
            (0, _) => writeln!(f, "no file was compared"),
            (count, 0) => writeln!(f, "{count} compared by SHA-256: what was sent"),
            (count, _) => writeln!(f, "{count} compared by SHA-256: WRONG: {}", self.wrong.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let all = (1..=200).map(Duration::from_millis).collect();
        let of_all = Percentiles::of(all);
        assert_eq!((of_all.count, of_all.p50, of_all.p90, of_all.p99, of_all.max), (200, 100.0, 180.0, 198.0, 200.0));
        let one = Percentiles::of(vec![Duration::from_millis(7)]);
        assert_eq!((one.count, one.p50, one.max), (1, 7.0, 7.0));
        assert_eq!(Percentiles::of(Vec::new()), Percentiles::default());
    }

    #[test]
    fn a_run_with_errors_has_no_rate() {
        let report = |errors: &[(&str, u64)], wrong: &[&str]| {
            let errors = errors.iter().map(|(code, count)| ((*code).to_owned(), *count)).collect();
            let taken = Taken { errors, ..Taken::default() };
            let wrong = wrong.iter().map(|&name| name.to_owned()).collect();
            Report::new(Duration::from_secs(2), 4_000_000, taken, 1, wrong)
        };
        assert_eq!(report(&[], &[]).megabytes_per_second, Some(2.0));
        for unsound in [report(&[("connection lost", 1)], &[]), report(&[], &["a: other bytes"])] {
            assert!(!unsound.is_sound());
            assert!(!unsound.to_string().contains("MB/s"), "{unsound}");
        }
    }
}
