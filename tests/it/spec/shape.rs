//! How a file is cut, found out by trying all sizes there are.

use super::command::{Cut, Plan};

/// What is known of how a file is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shape {
    pub(super) count: u32,
    pub(super) chunk: Option<u64>,
    pub(super) last: Option<u64>,
    pub(super) total: Option<u64>,
}

/// No file here has larger chunks.
const CHUNK_MAX: u64 = 24;

impl Shape {
    /// All pairs of chunk size and last size that agree with what is known.
    fn candidates(&self) -> impl Iterator<Item = (u64, u64)> {
        let Self { count, chunk, last, total } = *self;
        let pairs = (1..=CHUNK_MAX).flat_map(|chunk| (1..2 * chunk).map(move |last| (chunk, last)));
        pairs.filter(move |&(c, l)| {
            let whole = c * u64::from(count - 1) + l;
            chunk.is_none_or(|chunk| chunk == c)
                && last.is_none_or(|last| last == l)
                && total.is_none_or(|total| total == whole)
        })
    }

    /// Chunk size and last size, once nothing is left to learn.
    pub(super) fn settled(&self) -> Option<(u64, u64)> {
        if self.count == 1 {
            // The only chunk is the last one: a chunk size that was declared binds it little.
            let last = self.last.or(self.total)?;
            return Some((self.chunk.filter(|chunk| last < 2 * chunk).unwrap_or(last), last));
        }
        let known = [self.chunk, self.last, self.total].into_iter().flatten().count();
        if known >= 2 { self.candidates().next() } else { None }
    }

    /// As answers show it: chunk size, last size, size of the file.
    pub(super) fn shown(&self) -> (Option<u64>, Option<u64>, Option<u64>) {
        match self.settled() {
            Some((chunk, last)) => (Some(chunk), Some(last), Some(chunk * u64::from(self.count - 1) + last)),
            None => (self.chunk, self.last, self.total),
        }
    }

    /// A plan that agrees with all that is known.
    pub(super) fn some_plan(&self) -> Plan {
        let (chunk, last) = self.settled().or_else(|| self.candidates().next()).expect("no upload contradicts itself");
        (chunk, last, self.count)
    }

    /// How long this chunk must be, if that is known.
    pub(super) fn bytes_of(&self, index: u32) -> Option<u64> {
        let (chunk, last, _) = self.shown();
        if index + 1 == self.count { last } else { chunk }
    }

    /// How long the body of this chunk must be, and what it teaches.
    pub(super) fn admit(&self, index: u32, announced: Option<u64>) -> Result<(u64, Self), &'static str> {
        let is_last = index + 1 == self.count;
        match (self.bytes_of(index), announced) {
            (Some(expected), Some(bytes)) if expected != bytes => Err("chunk_size_mismatch"),
            // What was learnt of the last chunk alone does not tell a body without a length apart.
            (Some(_), None) if is_last && self.settled().is_none() => Err("length_required"),
            (Some(expected), _) => self.taught(is_last, expected),
            (None, None) => Err("length_required"),
            (None, Some(bytes)) => self.taught(is_last, bytes),
        }
    }

    fn taught(&self, is_last: bool, bytes: u64) -> Result<(u64, Self), &'static str> {
        let mut taught = *self;
        *(if is_last { &mut taught.last } else { &mut taught.chunk }) = Some(bytes);
        let is_possible = taught.count == 1 || taught.candidates().next().is_some();
        if is_possible { Ok((bytes, taught)) } else { Err("upload_conflict") }
    }

    /// Whether what a client says of the cut contradicts nothing that is known.
    pub(super) fn agrees(&self, cut: Cut) -> bool {
        let ((chunk, _, total), said) = (self.shown(), cut.said());
        let same = |known: Option<u64>, given: Option<u64>| known.is_none() || given.is_none() || known == given;
        same(Some(u64::from(self.count)), said.0) && same(chunk, said.1) && same(total, said.2)
    }
}
