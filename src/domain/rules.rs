//! The decisions: from what the ledger knows and what a client asks, what to
//! do or which refusal to give.

use std::collections::BTreeMap;

use crate::domain::bounds::PartBounds;
use crate::domain::checksum::{Checksum, Crc64};
use crate::domain::ids::PartNumber;
use crate::domain::join;
use crate::domain::plan::{Geometry, Lesson};
use crate::domain::refusal::Refusal;
use crate::domain::upload::{Chunk, Failure, Part, Progress, State, Upload};

/// The most pairs of metadata.
pub const METADATA_PAIRS_MAX: usize = 64;
/// The most bytes of metadata, keys and values together.
pub const METADATA_BYTES_MAX: usize = 8 << 10;
/// The longest file name, in bytes.
pub const FILE_NAME_BYTES_MAX: usize = 1024;

/// What to do with a chunk that a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Put it into the store and record it.
    Store {
        /// Exactly how long the body is.
        bytes: u64,
        /// What recording it teaches about the plan.
        lesson: Option<Lesson>,
    },
    /// It is recorded: read the body, compare, forward nothing.
    Compare(Chunk),
    /// Completed, and its row is swept: only the length can still be compared.
    CompareLength {
        /// How long the body must be.
        bytes: u64,
    },
    /// The one chunk of an empty file.
    Empty,
}

/// Why an upload in this state takes no chunk, if it takes none whatever it is.
pub const fn closed(state: &State) -> Option<Refusal> {
    match state {
        State::Open { .. } | State::Completing { .. } | State::Completed { .. } => None,
        State::Failed { failure: Failure::UploadLost } => Some(Refusal::UploadLost),
        State::Failed { failure: Failure::IntegrityFailed } => Some(Refusal::UploadFailed),
        State::Aborted => Some(Refusal::UploadAborted),
        State::Expired => Some(Refusal::UploadExpired),
    }
}

/// Decides about the chunk at `index` whose body is announced to have
/// `announced` bytes. `recorded` is its row, if there is one.
pub fn admit_chunk(
    upload: &Upload,
    recorded: Option<&Chunk>,
    index: i128,
    announced: Option<u64>,
    bounds: &PartBounds,
) -> Result<Admission, Refusal> {
    if let Some(refusal) = closed(&upload.state) {
        return Err(refusal);
    }
    let count = upload.geometry.count();
    let out_of_range = Refusal::ChunkIndexOutOfRange { index, count };
    if count == 0 && index == 0 {
        return match announced {
            None | Some(0) => Ok(Admission::Empty),
            got => Err(Refusal::ChunkSizeMismatch { expected: 0, got }),
        };
    }
    let index = u32::try_from(index).ok().filter(|&i| i < count).ok_or(out_of_range)?;
    if let Some(chunk) = recorded {
        return agree(chunk.bytes, announced).map(|_| Admission::Compare(chunk.clone()));
    }
    match (&upload.state, &upload.geometry) {
        (State::Completed { .. }, Geometry::Fixed(plan)) => {
            let bytes = plan.bytes_of(index).unwrap_or(0);
            agree(bytes, announced).map(|bytes| Admission::CompareLength { bytes })
        }
        // Somebody counted all chunks and began to merge, and this one was found
        // missing: it is wanted again in a moment.
        (State::Completing { .. } | State::Completed { .. }, _) => {
            Err(Refusal::StoreUnavailable { reason: "the upload is being merged" })
        }
        (_, Geometry::Fixed(plan)) => {
            let bytes = plan.bytes_of(index).unwrap_or(0);
            agree(bytes, announced).map(|bytes| Admission::Store { bytes, lesson: None })
        }
        (_, Geometry::Learning(learning)) => {
            let bytes = match (announced, learning.chunk_bytes) {
                (Some(bytes), _) => bytes,
                // A regular chunk of a learnt size may come without a length.
                (None, Some(known)) if index + 1 < count => known,
                (None, _) => return Err(Refusal::LengthRequired),
            };
            let lesson = learning.admit(index, bytes, bounds)?;
            Ok(Admission::Store { bytes, lesson: Some(lesson) })
        }
    }
}

fn agree(expected: u64, announced: Option<u64>) -> Result<u64, Refusal> {
    match announced {
        Some(bytes) if bytes != expected => Err(Refusal::ChunkSizeMismatch { expected, got: Some(bytes) }),
        _ => Ok(expected),
    }
}

/// What a client says of an upload that is known already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Declared<'a> {
    /// `fileSize`
    pub total_bytes: Option<u64>,
    /// `chunkSize`
    pub chunk_bytes: Option<u64>,
    /// `totalChunks`
    pub count: Option<u64>,
    /// The checksum of the whole file.
    pub checksum: Option<&'a Checksum>,
}

/// Whether what a client declares agrees with the upload that is known, where
/// both say something.
pub fn agrees(upload: &Upload, declared: &Declared<'_>) -> Result<(), Refusal> {
    let geometry = &upload.geometry;
    let differs =
        |name: &str, known: u64, given: u64| Err(Refusal::conflict(format!("{name} is {known}, not {given}")));
    if let (Some(known), Some(given)) = (geometry.total_bytes(), declared.total_bytes)
        && known != given
    {
        return differs("fileSize", known, given);
    }
    let known_count = u64::from(geometry.count());
    if let Some(given) = declared.count {
        // An empty file has no chunks, or one empty chunk, as its client sees it.
        let both_empty = known_count == 0 && given <= 1;
        if given != known_count && !both_empty {
            return differs("totalChunks", known_count, given);
        }
    }
    // Without any chunk the chunk size is what was said once, and binds nobody.
    if let (Some(known), Some(given)) = (geometry.chunk_bytes(), declared.chunk_bytes)
        && known != given
        && known_count > 0
    {
        return differs("chunkSize", known, given);
    }
    match (&upload.checksum, declared.checksum) {
        (Some(known), Some(given)) if known.algorithm() == given.algorithm() && known != given => {
            Err(Refusal::conflict(format!("the checksum is {}, not {}", known.tagged(), given.tagged())))
        }
        _ => Ok(()),
    }
}

/// What metadata beyond its bounds is refused with.
pub const fn metadata_too_large() -> Refusal {
    Refusal::MetadataTooLarge { pairs_max: METADATA_PAIRS_MAX, bytes_max: METADATA_BYTES_MAX }
}

/// Whether all chunks are recorded.
pub const fn is_full(geometry: &Geometry, progress: Progress) -> bool {
    progress.chunks >= geometry.count()
}

/// The parts that the store does not have as they were acknowledged: absent,
/// or with another size, ETag or checksum (a late PUT of a former holder).
pub fn differing_parts(recorded: &[Part], listed: &[Part]) -> Vec<PartNumber> {
    let listed: BTreeMap<PartNumber, &Part> = listed.iter().map(|part| (part.number, part)).collect();
    let same = |ours: &Part| {
        listed.get(&ours.number).is_some_and(|theirs| {
            ours.bytes == theirs.bytes
                && ours.etag.eq_ignore_ascii_case(&theirs.etag)
                && (theirs.crc64.is_none() || ours.crc64 == theirs.crc64)
        })
    };
    recorded.iter().filter(|part| !same(part)).map(|part| part.number).collect()
}

/// The size of the object that these parts make and, if each of them has one,
/// its checksum. None if they are more than can be.
pub fn whole_of(parts: &[Part]) -> Option<(u64, Option<Crc64>)> {
    let bytes = parts.iter().try_fold(0u64, |bytes, part| bytes.checked_add(part.bytes))?;
    Some((bytes, join::joined_crc64(parts)))
}

/// Whether the file name can be kept as data.
pub fn check_file_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.len() > FILE_NAME_BYTES_MAX || name.contains('\0') {
        return Err(Refusal::invalid(format!("fileName is 1 to {FILE_NAME_BYTES_MAX} bytes of text without NUL")));
    }
    Ok(())
}

/// Whether a MIME type can be kept and handed back in a header.
pub fn check_content_type(value: &str) -> Result<(), Refusal> {
    let fits = !value.is_empty() && value.len() <= 255 && value.bytes().all(|b| (0x20..0x7f).contains(&b));
    if fits && value.contains('/') {
        Ok(())
    } else {
        Err(Refusal::invalid("contentType is a MIME type such as image/png: up to 255 visible ASCII characters"))
    }
}

/// Whether the metadata is within its bounds.
pub fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let bytes: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if metadata.len() > METADATA_PAIRS_MAX || bytes > METADATA_BYTES_MAX {
        return Err(metadata_too_large());
    }
    Ok(())
}
