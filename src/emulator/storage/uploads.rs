//! Multipart uploads and their parts.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use md5::{Digest as _, Md5};

use super::blob::Blob;
use super::objects::{Object, Precondition};
use super::record::{Acl, BlobId, ObjectRecord, ObjectType, PartRecord, Properties, Segment, UploadRecord};
use super::{Storage, StorageError, locked};
use crate::domain::PartNumber;
use crate::domain::join::joined;

/// The smallest part that is not the last, in bytes. Checked only when the
/// upload is completed, as OSS does.
const PART_BYTES_MIN: u64 = 100 * 1024;

/// A multipart upload.
#[derive(Debug)]
pub(crate) struct Upload {
    record: UploadRecord,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Open(BTreeMap<u16, PartRecord>),
    /// Completed or aborted: a part that was under way comes too late.
    Closed,
}

impl std::ops::Deref for Upload {
    type Target = UploadRecord;

    fn deref(&self) -> &UploadRecord {
        &self.record
    }
}

/// The parts that a client wants joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Chosen {
    /// These numbers with these ETags, in this order.
    Listed(Vec<(u32, String)>),
    /// `x-oss-complete-all: yes`
    All,
}

impl Storage {
    /// Begins a multipart upload.
    pub(crate) fn initiate(
        &self,
        key: &str,
        properties: Properties,
        precondition: Precondition,
    ) -> Result<Arc<Upload>, StorageError> {
        if precondition == Precondition::Absent && self.object(key).is_some() {
            return Err(StorageError::ObjectExists);
        }
        let (upload_id, dir) = loop {
            let id = format!("{:032X}", self.clock.random());
            let dir = self.upload_dir(&id);
            match std::fs::create_dir(&dir) {
                Ok(()) => break (id, dir),
                // Only a clock that counts instead of drawing lots comes here.
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e.into()),
            }
        };
        let record = UploadRecord {
            upload_id,
            key: key.to_owned(),
            initiated_millis: self.clock.now().millis(),
            properties,
            forbid_overwrite: precondition == Precondition::Absent,
        };
        self.write_record(&record)?.publish(&dir.join("upload.json"))?;
        let upload = Arc::new(Upload::new(record, BTreeMap::new()));
        locked(&self.uploads).insert((upload.key.clone(), upload.upload_id.clone()), Arc::clone(&upload));
        Ok(upload)
    }

    /// The open upload of this key and id.
    pub(crate) fn upload(&self, key: &str, upload_id: &str) -> Result<Arc<Upload>, StorageError> {
        let uploads = locked(&self.uploads);
        uploads.get(&(key.to_owned(), upload_id.to_owned())).cloned().ok_or(StorageError::NoSuchUpload)
    }

    /// All open uploads, by key and id.
    pub(crate) fn uploads(&self) -> Vec<Arc<Upload>> {
        locked(&self.uploads).values().cloned().collect()
    }

    /// How many uploads are open, and how many parts they have.
    pub(crate) fn upload_counts(&self) -> (usize, usize) {
        let uploads = self.uploads();
        (uploads.len(), uploads.iter().filter_map(|u| u.parts().ok()).map(|parts| parts.len()).sum())
    }

    /// Makes a blob a part, over one of that number.
    pub(crate) fn put_part(&self, upload: &Upload, number: PartNumber, blob: Blob) -> Result<PartRecord, StorageError> {
        let part = PartRecord {
            number: number.get(),
            bytes: blob.bytes,
            etag: blob.etag(),
            crc64: blob.crc64.0,
            modified_millis: self.clock.now().millis(),
            blob: blob.id(),
        };
        let written = self.write_record(&part)?;
        let replaced = {
            let mut state = locked(&upload.state);
            let State::Open(parts) = &mut *state else { return Err(StorageError::NoSuchUpload) };
            written.publish(&self.upload_dir(&upload.upload_id).join(format!("{:05}.json", part.number)))?;
            parts.insert(part.number, part.clone())
        };
        blob.keep();
        if let Some(replaced) = replaced {
            self.blobs.remove(replaced.blob);
        }
        Ok(part)
    }

    /// Joins parts into the object, and forgets the upload and what is left of it.
    pub(crate) fn complete(
        &self,
        upload: &Upload,
        chosen: &Chosen,
        acl: Option<Acl>,
        precondition: Precondition,
    ) -> Result<Arc<Object>, StorageError> {
        // Held to the end: parts on their way and a second Complete wait, and
        // then find the upload gone.
        let mut state = locked(&upload.state);
        let State::Open(parts) = &*state else { return Err(StorageError::NoSuchUpload) };
        let joined = choose(parts, chosen)?;
        let precondition = if upload.forbid_overwrite { Precondition::Absent } else { precondition };
        let mut record = join(&upload.record, &joined, self.clock.now().millis());
        record.properties.acl = acl.unwrap_or(record.properties.acl);
        let kept: HashSet<BlobId> = joined.iter().map(|part| part.blob).collect();
        let left_over: Vec<_> = parts.values().map(|part| part.blob).filter(|blob| !kept.contains(blob)).collect();
        let object = self.publish_object(record, precondition)?;
        // The object is there: nothing from here on may fail the call.
        *state = State::Closed;
        drop(state);
        self.forget(upload);
        left_over.into_iter().for_each(|blob| self.blobs.remove(blob));
        Ok(object)
    }

    /// Drops an upload and its parts.
    pub(crate) fn abort(&self, upload: &Upload) -> Result<(), StorageError> {
        let State::Open(parts) = std::mem::replace(&mut *locked(&upload.state), State::Closed) else {
            return Err(StorageError::NoSuchUpload);
        };
        self.forget(upload);
        parts.values().for_each(|part| self.blobs.remove(part.blob));
        Ok(())
    }

    fn forget(&self, upload: &Upload) {
        locked(&self.uploads).remove(&(upload.key.clone(), upload.upload_id.clone()));
        // First what makes it an upload: what is left of the folder is rubbish then.
        let dir = self.upload_dir(&upload.upload_id);
        let gone = std::fs::remove_file(dir.join("upload.json")).and_then(|()| std::fs::remove_dir_all(&dir));
        if let Err(error) = gone {
            tracing::warn!(upload_id = upload.upload_id, %error, "emulator: a finished upload's records are left over");
        }
    }

    /// Upload ids are our own; those of clients are only looked up.
    fn upload_dir(&self, upload_id: &str) -> PathBuf {
        self.root.join("uploads").join(upload_id)
    }
}

impl Upload {
    pub(super) const fn new(record: UploadRecord, parts: BTreeMap<u16, PartRecord>) -> Self {
        Self { record, state: Mutex::new(State::Open(parts)) }
    }

    /// Its parts in ascending order.
    pub(crate) fn parts(&self) -> Result<Vec<PartRecord>, StorageError> {
        match &*locked(&self.state) {
            State::Open(parts) => Ok(parts.values().cloned().collect()),
            State::Closed => Err(StorageError::NoSuchUpload),
        }
    }
}

/// The parts that Complete joins, or why it refuses.
fn choose(parts: &BTreeMap<u16, PartRecord>, chosen: &Chosen) -> Result<Vec<PartRecord>, StorageError> {
    let joined: Vec<PartRecord> = match chosen {
        Chosen::All => parts.values().cloned().collect(),
        Chosen::Listed(listed) => {
            if listed.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
                return Err(StorageError::InvalidPartOrder);
            }
            let find = |(number, etag): &(u32, String)| {
                let part = u16::try_from(*number).ok().and_then(|number| parts.get(&number));
                part.filter(|part| part.etag.eq_ignore_ascii_case(etag.trim().trim_matches('"'))).cloned()
            };
            let found = |entry: &(u32, String)| find(entry).ok_or(StorageError::InvalidPart(entry.0));
            listed.iter().map(found).collect::<Result<_, _>>()?
        }
    };
    let (_, all_but_last) = joined.split_last().ok_or(StorageError::NoParts)?;
    match all_but_last.iter().find(|part| part.bytes < PART_BYTES_MIN) {
        Some(small) => Err(StorageError::PartTooSmall { number: small.number, bytes: small.bytes }),
        None => Ok(joined),
    }
}

/// The object that parts make.
fn join(upload: &UploadRecord, parts: &[PartRecord], now_millis: i64) -> ObjectRecord {
    let crc64 = joined(parts.iter().map(|part| (part.crc64(), part.bytes)));
    let mut md5 = Md5::new();
    // An ETag is hex by construction.
    parts.iter().for_each(|part| md5.update(hex::decode(&part.etag).unwrap_or_default()));
    ObjectRecord {
        key: upload.key.clone(),
        bytes: parts.iter().map(|part| part.bytes).sum(),
        etag: format!("{}-{}", hex::encode_upper(md5.finalize()), parts.len()),
        crc64: crc64.0,
        object_type: ObjectType::Multipart,
        modified_millis: now_millis,
        properties: upload.properties.clone(),
        upload_id: Some(upload.upload_id.clone()),
        segments: parts.iter().map(|part| Segment { blob: part.blob, bytes: part.bytes }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Crc64;

    fn parts(sizes: &[(u16, u64)]) -> BTreeMap<u16, PartRecord> {
        let part = |&(number, bytes): &(u16, u64)| {
            let etag = hex::encode_upper(Md5::digest(number.to_be_bytes()));
            (number, PartRecord { number, bytes, etag, crc64: 0, modified_millis: 0, blob: BlobId(number.into()) })
        };
        sizes.iter().map(part).collect()
    }

    fn listed(parts: &BTreeMap<u16, PartRecord>, numbers: &[u16]) -> Chosen {
        Chosen::Listed(numbers.iter().map(|n| (u32::from(*n), format!("\"{}\"", parts[n].etag))).collect())
    }

    #[test]
    fn complete_takes_an_ascending_list_of_parts_that_are_there() {
        let there = parts(&[(1, PART_BYTES_MIN), (3, PART_BYTES_MIN), (7, 1)]);
        let numbers = |chosen: &Chosen| {
            choose(&there, chosen).map(|parts| parts.iter().map(|part| part.number).collect::<Vec<_>>())
        };
        assert_eq!(numbers(&listed(&there, &[1, 3, 7])).ok(), Some(vec![1, 3, 7]));
        assert_eq!(numbers(&listed(&there, &[3])).ok(), Some(vec![3]));
        assert_eq!(numbers(&Chosen::All).ok(), Some(vec![1, 3, 7]));
        for (chosen, expected) in [
            (listed(&there, &[3, 1]), "parts out of order"),
            (listed(&there, &[1, 1]), "parts out of order"),
            (Chosen::Listed(vec![(2, "x".to_owned())]), "invalid part 2"),
            (Chosen::Listed(vec![(1, "x".to_owned())]), "invalid part 1"),
            (Chosen::Listed(vec![(65_537, "x".to_owned())]), "invalid part 65537"),
            (Chosen::Listed(vec![]), "no parts"),
        ] {
            assert_eq!(numbers(&chosen).expect_err(expected).to_string(), expected);
        }
    }

    #[test]
    fn only_the_last_part_may_be_small() {
        let there = parts(&[(1, PART_BYTES_MIN - 1), (2, PART_BYTES_MIN)]);
        assert!(choose(&there, &listed(&there, &[1])).is_ok());
        let error = choose(&there, &Chosen::All).expect_err("too small").to_string();
        assert_eq!(error, "part 1 has 102399 bytes");
    }

    #[test]
    fn the_parts_checksums_make_the_objects() {
        let (a, b) = (b"1234".as_slice(), b"56789".as_slice());
        let part = |number, bytes: &[u8]| PartRecord {
            number,
            bytes: bytes.len() as u64,
            etag: hex::encode_upper(Md5::digest(bytes)),
            crc64: Crc64::of(bytes).0,
            modified_millis: 0,
            blob: BlobId(number.into()),
        };
        let upload = UploadRecord {
            upload_id: "ID".to_owned(),
            key: "k".to_owned(),
            initiated_millis: 0,
            properties: Properties::default(),
            forbid_overwrite: false,
        };
        let object = join(&upload, &[part(1, a), part(2, b)], 5);
        assert_eq!(object.crc64(), Crc64::of(b"123456789"));
        assert_eq!(object.bytes, 9);
        assert!(object.etag.ends_with("-2") && object.etag.len() == 34, "{}", object.etag);
    }
}
