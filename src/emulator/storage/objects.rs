//! Objects.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha256};

use super::blob::{Blob, BlobDir};
use super::record::{KeptHeaders, ObjectRecord, ObjectType};
use super::{Storage, StorageError, locked};

/// An object. Its bytes stay readable for whoever holds it, also after it was
/// overwritten or deleted.
#[derive(Debug)]
pub(crate) struct Object {
    record: ObjectRecord,
    blobs: BlobDir,
    removed: AtomicBool,
}

impl std::ops::Deref for Object {
    type Target = ObjectRecord;

    fn deref(&self) -> &ObjectRecord {
        &self.record
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if self.removed.load(Ordering::Acquire) {
            self.record.segments.iter().for_each(|segment| self.blobs.remove(segment.blob));
        }
    }
}

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
        headers: KeptHeaders,
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
                headers,
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
        let place = object_path(&self.root, &record.key);
        let object = Arc::new(Object::new(record, self.blobs.clone()));
        let replaced = {
            let mut objects = locked(&self.objects);
            if precondition == Precondition::Absent && objects.contains_key(&object.key) {
                return Err(StorageError::ObjectExists);
            }
            written.publish(&place)?;
            objects.insert(object.key.clone(), Arc::clone(&object))
        };
        if let Some(replaced) = replaced {
            replaced.removed.store(true, Ordering::Release);
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
            removed.removed.store(true, Ordering::Release);
        }
        Ok(())
    }
}

impl Object {
    pub(super) const fn new(record: ObjectRecord, blobs: BlobDir) -> Self {
        Self { record, blobs, removed: AtomicBool::new(false) }
    }
}

/// Where an object's record lies: no path is ever made of a client's text.
pub(super) fn object_path(root: &Path, key: &str) -> PathBuf {
    let name = hex::encode(Sha256::digest(key.as_bytes()));
    root.join("objects").join(format!("{name}.json"))
}
