//! What lies where, and how it is written. Pure.
//!
//! ```text
//! {dir}/{key}                               objects, at the paths their keys say
//! {dir}/.chunkgate/lock                     held by the one gateway; its process id
//! {dir}/.chunkgate/work/                    files without a name yet; emptied at start
//! {dir}/.chunkgate/uploads/{session}/upload key, content type and plan
//! {dir}/.chunkgate/uploads/{session}/data   declared plan: all chunks in place, then the records
//! {dir}/.chunkgate/uploads/{session}/00001  plan still to be learnt: one part, then its record
//! ```

use serde::{Deserialize, Serialize};

use super::BOUNDS;
use crate::domain::{Crc64, ObjectKey, PartNumber, Plan, SessionId};

/// Our own folder in the store's; no key begins with it.
pub(super) const OWN: &str = ".chunkgate";
/// The lock file.
pub(super) const LOCK: &str = "lock";
/// Files without a name yet.
pub(super) const WORK: &str = "work";
/// Multipart uploads.
pub(super) const UPLOADS: &str = "uploads";
/// What an upload was begun with.
pub(super) const HEADER: &str = "upload";
/// All chunks of a declared plan, in place.
pub(super) const DATA: &str = "data";

/// The file of a part whose upload's plan is still to be learnt.
pub(super) fn part_name(number: PartNumber) -> String {
    format!("{:05}", number.get())
}

/// The part that a file of this name holds.
pub(super) fn part_of_name(name: &str) -> Option<PartNumber> {
    let digits = name.len() == 5 && name.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| name.parse().ok().and_then(PartNumber::new)).flatten()
}

/// A session is 128 random bits in hex: nothing else is a name in our folder.
pub(super) fn session_of(random: u128) -> SessionId {
    SessionId::new(format!("{random:032x}"))
}

/// Whether a session can be one of ours.
pub(super) fn is_session(session: &str) -> bool {
    session.len() == 32 && session.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Part or object with these bytes: the same bytes have the same ETag, so that
/// it can be computed again from the bytes alone.
pub(super) fn etag(crc64: Crc64, bytes: u64) -> String {
    format!("{:016x}-{bytes:x}", crc64.0)
}

/// Where things are in the file of a declared plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct InPlace {
    plan: Plan,
}

/// Bytes of a part's record: none straddles a disk's sector.
pub(super) const RECORD_BYTES: usize = 64;
/// The records begin on a page of their own, so that writing one never touches data.
const PAGE_BYTES: u64 = 4096;

impl InPlace {
    /// The layout of a plan; none for a plan without chunks, which needs no place.
    pub(super) fn of(plan: &Plan) -> Option<Self> {
        (plan.count() > 0).then_some(Self { plan: *plan })
    }

    /// How many parts.
    pub(super) fn count(&self) -> u32 {
        self.plan.count()
    }

    /// The object's bytes, which come first.
    pub(super) fn data_bytes(&self) -> u64 {
        self.plan.total_bytes()
    }

    /// Where the records begin.
    pub(super) fn records_at(&self) -> u64 {
        self.plan.total_bytes().next_multiple_of(PAGE_BYTES)
    }

    /// All records' bytes.
    pub(super) fn records_bytes(&self) -> u64 {
        u64::from(self.plan.count()) * RECORD_BYTES as u64
    }

    /// The file's bytes while parts are taken; once it has only `data_bytes`,
    /// it is on its way to being the object.
    pub(super) fn file_bytes(&self) -> u64 {
        self.records_at() + self.records_bytes()
    }

    /// Where a part's record is, if the plan has the part.
    pub(super) fn record_at(&self, number: PartNumber) -> Option<u64> {
        let index = number.chunk_index();
        (index < self.plan.count()).then(|| self.records_at() + u64::from(index) * RECORD_BYTES as u64)
    }

    /// Where a part's bytes are and how many, if the plan has the part.
    pub(super) fn place_of(&self, number: PartNumber) -> Option<(u64, u64)> {
        let index = number.chunk_index();
        self.plan.offset_of(index).zip(self.plan.bytes_of(index))
    }

    /// The numbers of all parts.
    pub(super) fn numbers(&self) -> impl Iterator<Item = PartNumber> {
        (1..=self.plan.count()).filter_map(PartNumber::new)
    }
}

/// What an upload was begun with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Where the object will lie.
    pub(super) key: ObjectKey,
    /// Its MIME type.
    pub(super) content_type: Option<String>,
    /// The plan, if it was declared.
    pub(super) plan: Option<Plan>,
}

const HEADER_MAGIC: &str = "chunkgate-upload-1";

#[derive(Deserialize, Serialize)]
struct WrittenHeader {
    key: String,
    content_type: Option<String>,
    plan: Option<(u64, u32, u64)>,
}

impl Header {
    /// As it is written: a line with the checksum of the next, and JSON.
    pub(super) fn encode(&self) -> serde_json::Result<String> {
        let written = WrittenHeader {
            key: self.key.as_str().to_owned(),
            content_type: self.content_type.clone(),
            plan: self.plan.map(|plan| (plan.chunk_bytes(), plan.count(), plan.total_bytes())),
        };
        let json = serde_json::to_string(&written)?;
        Ok(format!("{HEADER_MAGIC} {}\n{json}\n", Crc64::of(json.as_bytes())))
    }

    /// Reads it. None when it is damaged.
    pub(super) fn decode(text: &str) -> Option<Self> {
        let (first, json) = text.split_once('\n')?;
        let json = json.strip_suffix('\n')?;
        let crc64 = Crc64::parse(first.strip_prefix(HEADER_MAGIC)?.strip_prefix(' ')?)?;
        if crc64 != Crc64::of(json.as_bytes()) {
            return None;
        }
        let written: WrittenHeader = serde_json::from_str(json).ok()?;
        let plan = match written.plan {
            None => None,
            Some((chunk_bytes, count, total_bytes)) => Some(Plan::restore(chunk_bytes, count, total_bytes)?),
        };
        // No upload that we took is larger: where its records lie could not be said.
        let fits = |plan: &Plan| plan.count() <= BOUNDS.parts_max && plan.total_bytes() <= BOUNDS.object_bytes_max();
        if !plan.as_ref().is_none_or(fits) {
            return None;
        }
        Some(Self { key: ObjectKey::parse(&written.key)?, content_type: written.content_type, plan })
    }

    /// The layout, if the chunks are written in place.
    pub(super) fn in_place(&self) -> Option<InPlace> {
        self.plan.as_ref().and_then(InPlace::of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written_or_not_at_all() {
        for plan in [None, Plan::restore(100, 3, 350)] {
            let key = ObjectKey::parse("uploads/local/a.bin").expect("a key");
            let header = Header { key, content_type: Some("text/plain".to_owned()), plan };
            let text = header.encode().expect("encoded");
            assert_eq!(Header::decode(&text), Some(header));
            for at in 0..text.len() {
                let mut damaged = text.clone().into_bytes();
                damaged[at] ^= 1;
                let damaged = String::from_utf8_lossy(&damaged).into_owned();
                assert_eq!(Header::decode(&damaged), None, "byte {at}");
                assert_eq!(Header::decode(&text[..at]), None, "cut at {at}");
            }
        }
    }

    #[test]
    fn a_plan_beyond_all_bounds_is_damage() {
        for (chunk_bytes, count, total_bytes) in [(u64::MAX / 2, 1, u64::MAX - 2), (1, 10_001, 10_001)] {
            let plan = Plan::restore(chunk_bytes, count, total_bytes);
            assert!(plan.is_some());
            let key = ObjectKey::parse("a").expect("a key");
            let text = Header { key, content_type: None, plan }.encode().expect("encoded");
            assert_eq!(Header::decode(&text), None);
        }
    }

    #[test]
    fn records_lie_behind_the_data_and_nothing_overlaps() {
        let plan = Plan::restore(100, 3, 350).expect("a plan");
        let layout = InPlace::of(&plan).expect("it has chunks");
        let number = |n| PartNumber::new(n).expect("a number");
        assert_eq!(layout.place_of(number(3)), Some((200, 150)));
        assert_eq!(layout.place_of(number(4)), None);
        assert_eq!(layout.records_at(), 4096);
        assert_eq!(layout.record_at(number(3)), Some(4096 + 128));
        assert_eq!(layout.record_at(number(4)), None);
        assert_eq!(layout.file_bytes(), 4096 + 192);
    }

    #[test]
    fn names_of_parts_and_sessions_are_ours_alone() {
        let number = PartNumber::new(42).expect("a number");
        assert_eq!(part_of_name(&part_name(number)), Some(number));
        for name in ["00000", "10001", "1", "+0001", "upload", "data"] {
            assert_eq!(part_of_name(name), None, "{name}");
        }
        assert!(is_session(session_of(7).as_str()));
        for session in ["", "..", "../uploads", "0004B9895DBBB6EC98E36FFFFFFFFFFF", "g0000000000000000000000000000000"]
        {
            assert!(!is_session(session), "{session}");
        }
    }
}
