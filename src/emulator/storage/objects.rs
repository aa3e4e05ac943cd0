//! Objects.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::blob::{Blob, BlobDir, BlobFile};
use super::record::{BlobId, ObjectRecord, ObjectType, Properties};
use super::{Record, Storage, StorageError, locked};
use crate::domain::join::joined;

/// An object. Its bytes stay readable for whoever holds it, also after it was
/// overwritten or deleted.
#[derive(Debug)]
pub(crate) struct Object {
    record: ObjectRecord,
    files: Vec<Arc<BlobFile>>,
}

impl std::ops::Deref for Object {
    type Target = ObjectRecord;

    fn deref(&self) -> &ObjectRecord {
        &self.record
    }
}

type Objects = BTreeMap<String, Arc<Object>>;

/// What must hold for an object to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// Nothing: an object of that key is replaced.
    None,
    /// `x-oss-forbid-overwrite: true`
    Absent,
}

impl Storage {
    /// The object with this key.
    pub(crate) fn object(&self, key: &str) -> Option<Arc<Object>> {
        locked(&self.objects).get(key).cloned()
    }

    /// Objects whose key is after `after`, and begins with `prefix`, in order.
    pub(crate) fn objects_after(&self, prefix: &str, after: &str) -> Vec<Arc<Object>> {
        let from = if after >= prefix { Bound::Excluded(after) } else { Bound::Included(prefix) };
        let objects = locked(&self.objects);
        let range = objects.range::<str, _>((from, Bound::Unbounded));
        range.take_while(|(key, _)| key.starts_with(prefix)).map(|(_, object)| Arc::clone(object)).collect()
    }

    /// How many objects there are.
    pub(crate) fn object_count(&self) -> usize {
        locked(&self.objects).len()
    }

    /// Writes an object of one blob.
    pub(crate) fn put_object(
        &self,
        key: &str,
        blob: Blob,
        properties: Properties,
        precondition: Precondition,
    ) -> Result<Arc<Object>, StorageError> {
        let object = self.publish_object(
            ObjectRecord {
                key: key.to_owned(),
                bytes: blob.bytes,
                etag: blob.etag(),
                crc64: blob.crc64.0,
                object_type: ObjectType::Normal,
                modified_millis: self.clock.now().millis(),
                properties,
                upload_id: None,
                segments: vec![blob.segment()],
            },
            precondition,
        )?;
        blob.keep();
        Ok(object)
    }

    /// Makes a record an object, over one of that key.
    pub(super) fn publish_object(
        &self,
        record: ObjectRecord,
        precondition: Precondition,
    ) -> Result<Arc<Object>, StorageError> {
        let written = self.write_record(&record)?;
        let mut objects = locked(&self.objects);
        if precondition == Precondition::Absent && objects.contains_key(&record.key) {
            return Err(StorageError::ObjectExists);
        }
        self.put_in_place(&mut objects, record, written)
    }

    /// Says something else of an object; what it says comes from what was said.
    pub(crate) fn change_object(
        &self,
        key: &str,
        change: impl FnOnce(&mut Properties),
    ) -> Result<Arc<Object>, StorageError> {
        let mut objects = locked(&self.objects);
        let mut record = objects.get(key).ok_or(StorageError::NoSuchObject)?.record.clone();
        change(&mut record.properties);
        let written = self.write_record(&record)?;
        self.put_in_place(&mut objects, record, written)
    }

    /// Adds a blob to an object, which begins with the first one.
    pub(crate) fn append_object(
        &self,
        key: &str,
        position: u64,
        blob: Blob,
        properties: Properties,
    ) -> Result<Arc<Object>, StorageError> {
        let mut objects = locked(&self.objects);
        let mut record = match objects.get(key) {
            Some(object) => object.record.clone(),
            None => ObjectRecord {
                key: key.to_owned(),
                bytes: 0,
                etag: String::new(),
                crc64: 0,
                object_type: ObjectType::Appendable,
                modified_millis: 0,
                properties,
                upload_id: None,
                segments: Vec::new(),
            },
        };
        if record.object_type != ObjectType::Appendable {
            return Err(StorageError::NotAppendable);
        }
        if record.bytes != position {
            return Err(StorageError::NotAtTheEnd { bytes: record.bytes });
        }
        record.crc64 = joined([(record.crc64(), record.bytes), (blob.crc64, blob.bytes)]).0;
        record.etag = format!("{}-{}", blob.etag(), record.segments.len() + 1);
        record.bytes += blob.bytes;
        record.modified_millis = self.clock.now().millis();
        record.segments.push(blob.segment());
        let written = self.write_record(&record)?;
        let object = self.put_in_place(&mut objects, record, written)?;
        blob.keep();
        Ok(object)
    }

    /// Makes a record that was written aside the object; files that the one
    /// before had, and this one has not, go.
    fn put_in_place(
        &self,
        objects: &mut Objects,
        record: ObjectRecord,
        written: Record,
    ) -> Result<Arc<Object>, StorageError> {
        written.publish(&object_path(&self.root, &record.key))?;
        let replaced = objects.remove(&record.key);
        let object = Arc::new(Object::new(record, &self.blobs, replaced.as_deref()));
        objects.insert(object.key.clone(), Arc::clone(&object));
        if let Some(replaced) = replaced {
            let kept: HashSet<BlobId> = object.files.iter().map(|file| file.id).collect();
            replaced.files.iter().filter(|file| !kept.contains(&file.id)).for_each(|file| file.drop_later());
        }
        Ok(object)
    }

    /// Removes an object; also when there is none.
    pub(crate) fn delete_object(&self, key: &str) -> Result<(), StorageError> {
        let removed = {
            let mut objects = locked(&self.objects);
            if !objects.contains_key(key) {
                return Ok(());
            }
            std::fs::remove_file(object_path(&self.root, key))?;
            objects.remove(key)
        };
        if let Some(removed) = removed {
            removed.files.iter().for_each(|file| file.drop_later());
        }
        Ok(())
    }
}

impl Object {
    /// With the files of its record, which it may share with the one it replaces.
    pub(super) fn new(record: ObjectRecord, blobs: &BlobDir, replaced: Option<&Self>) -> Self {
        let there = replaced.map(|object| object.files.as_slice()).unwrap_or_default();
        let there: HashMap<BlobId, &Arc<BlobFile>> = there.iter().map(|file| (file.id, file)).collect();
        let file = |id: BlobId| {
            there.get(&id).map_or_else(|| Arc::new(BlobFile::new(id, blobs.clone())), |file| Arc::clone(file))
        };
        let files = record.segments.iter().map(|segment| file(segment.blob)).collect();
        Self { record, files }
    }
}

/// Where an object's record lies: no path is ever made of a client's text.
pub(super) fn object_path(root: &Path, key: &str) -> PathBuf {
    let name = hex::encode(Sha256::digest(key.as_bytes()));
    root.join("objects").join(format!("{name}.json"))
}
