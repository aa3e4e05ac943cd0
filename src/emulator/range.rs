//! Byte ranges of objects: pure.

use std::ops::Range;

use super::storage::Segment;

/// What a `Range` header asks of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// All of it, with status 200.
    Whole,
    /// These bytes, with status 206.
    Part(Range<u64>),
    /// Nothing that is there, with status 416.
    Nothing,
}

/// Reads a `Range` header as OSS does: a range that does not lie within the
/// object is passed over and the whole is answered; with `standard`
/// (`x-oss-range-behavior: standard`) it is cut, or refused, as in RFC 9110.
pub(crate) fn asked(range: Option<&str>, bytes: u64, standard: bool) -> Asked {
    let Some((first, last)) = range.and_then(parse) else { return Asked::Whole };
    let wanted = match (first, last) {
        (Some(first), last) => first..last.map_or(bytes, |last| last.saturating_add(1)),
        (None, Some(suffix)) if standard => bytes.saturating_sub(suffix)..bytes,
        (None, Some(suffix)) => bytes.checked_sub(suffix).unwrap_or(bytes)..bytes,
        (None, None) => return Asked::Whole,
    };
    let within = wanted.start < wanted.end && wanted.start < bytes;
    match (within, wanted.end <= bytes) {
        (true, true) => Asked::Part(wanted),
        (true, false) if standard => Asked::Part(wanted.start..bytes),
        (false, _) if standard => Asked::Nothing,
        (true, false) | (false, _) => Asked::Whole,
    }
}

/// `bytes=1-2`, `bytes=1-`, `bytes=-2`; anything else is none.
fn parse(range: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (first, last) = range.trim().strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if text.is_empty() { Some(None) } else { digits.then(|| text.parse().ok()).flatten().map(Some) }
    };
    let (first, last) = (number(first.trim())?, number(last.trim())?);
    // `bytes=2-1` is no range at all.
    let backwards = first.zip(last).is_some_and(|(first, last)| last < first);
    (!backwards && (first.is_some() || last.is_some())).then_some((first, last))
}

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    /// Which file, whole.
    pub segment: Segment,
    /// Where in it.
    pub offset: u64,
    /// How much of it.
    pub bytes: u64,
}

/// The pieces that make a range of an object.
pub(crate) fn slices(segments: &[Segment], range: &Range<u64>) -> Vec<Slice> {
    let mut begins = 0;
    let mut slices = Vec::new();
    for &segment in segments {
        let ends = begins + segment.bytes;
        let (from, to) = (range.start.max(begins), range.end.min(ends));
        if from < to {
            slices.push(Slice { segment, offset: from - begins, bytes: to - from });
        }
        begins = ends;
    }
    slices
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::storage::BlobId;

    #[test]
    fn a_range_outside_of_the_object_is_the_whole() {
        for (range, expected) in [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=2-5", Asked::Part(2..6)),
            ("bytes=2-", Asked::Part(2..10)),
            ("bytes=-3", Asked::Part(7..10)),
            ("bytes=0-9", Asked::Part(0..10)),
            ("bytes=5-10", Asked::Whole),
            ("bytes=10-", Asked::Whole),
            ("bytes=-11", Asked::Whole),
            ("bytes=-0", Asked::Whole),
            ("bytes=5-4", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("bytes=0-1,3-4", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=18446744073709551615-", Asked::Whole),
            ("bytes=0-18446744073709551615", Asked::Whole),
            ("items=0-1", Asked::Whole),
        ] {
            assert_eq!(asked(Some(range), 10, false), expected, "{range}");
        }
        assert_eq!(asked(None, 10, false), Asked::Whole);
        assert_eq!(asked(Some("bytes=0-"), 0, false), Asked::Whole);
    }

    #[test]
    fn the_standard_behaviour_cuts_and_refuses() {
        for (range, expected) in [
            ("bytes=2-5", Asked::Part(2..6)),
            ("bytes=5-10", Asked::Part(5..10)),
            ("bytes=-11", Asked::Part(0..10)),
            ("bytes=10-", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=5-4", Asked::Whole),
        ] {
            assert_eq!(asked(Some(range), 10, true), expected, "{range}");
        }
    }

    #[test]
    fn a_range_is_cut_into_pieces_of_files() {
        let segment = |id, bytes| Segment { blob: BlobId(id), bytes };
        let segments = [segment(1, 4), segment(2, 4), segment(3, 2)];
        let cut =
            |range| slices(&segments, &range).iter().map(|s| (s.segment.blob.0, s.offset, s.bytes)).collect::<Vec<_>>();
        assert_eq!(cut(0..10), [(1, 0, 4), (2, 0, 4), (3, 0, 2)]);
        assert_eq!(cut(3..5), [(1, 3, 1), (2, 0, 1)]);
        assert_eq!(cut(4..8), [(2, 0, 4)]);
        assert_eq!(cut(9..10), [(3, 1, 1)]);
        assert_eq!(cut(0..0), []);
    }
}
