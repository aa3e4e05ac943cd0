//! What a start finds on the disk, and what it clears away.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use serde::de::DeserializeOwned;

use super::blob::BlobDir;
use super::objects::Object;
use super::record::{BlobId, ObjectRecord, PartRecord, UploadRecord};
use super::settings::{CORS_OF_A_NEW_BUCKET, Setting};
use super::uploads::Upload;
use super::{Storage, locked};
use crate::clock::Clock;

/// Why the emulator's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The bucket's name is not one.
    #[error("{0:?} is not a bucket's name: 3 to 63 of a-z, 0-9 and '-', not at either end")]
    BucketName(String),
    /// Another emulator runs on it.
    #[error("{0} is in use by another emulator")]
    InUse(PathBuf),
    /// A record is not what was written.
    #[error("{path} is damaged: {error}")]
    Damaged {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// Nobody can be called back.
    #[error("no HTTP client: {0}")]
    Client(reqwest::Error),
    /// The disk failed, or permissions are missing.
    #[error("{path}: {error}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
}

impl Storage {
    /// Opens a bucket's folder, or makes it.
    pub(crate) fn open(data_dir: &Path, bucket: &str, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        if !is_bucket_name(bucket) {
            return Err(OpenError::BucketName(bucket.to_owned()));
        }
        let root = data_dir.join(bucket);
        let failed = |error| OpenError::Io { path: root.clone(), error };
        std::fs::create_dir_all(&root).map_err(failed)?;
        let lock = File::create(root.join("lock")).map_err(failed)?;
        lock.try_lock().map_err(|_| OpenError::InUse(root.clone()))?;
        let blobs = prepare(&root).map_err(failed)?;

        let objects = load_objects(&root, &blobs)?;
        let uploads = load_uploads(&root)?;
        let settings = load_settings(&root).map_err(failed)?;
        let storage = Self {
            objects: Mutex::new(objects),
            uploads: Mutex::new(uploads),
            settings: Mutex::new(settings),
            blobs,
            clock,
            records_written: AtomicU64::new(0),
            _lock: lock,
            root: root.clone(),
        };
        storage.clear_away().map_err(failed)?;
        Ok(storage)
    }

    /// What a crash left: uploads that were completed, blobs that nobody names.
    fn clear_away(&self) -> io::Result<()> {
        let completed: HashSet<String> =
            locked(&self.objects).values().filter_map(|object| object.upload_id.clone()).collect();
        locked(&self.uploads).retain(|(_, id), _| !completed.contains(id));
        let open: HashSet<String> = locked(&self.uploads).keys().map(|(_, id)| id.clone()).collect();
        for entry in std::fs::read_dir(self.root.join("uploads"))? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(|name| open.contains(name)) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        let mut named: HashSet<BlobId> = HashSet::new();
        for object in locked(&self.objects).values() {
            named.extend(object.segments.iter().map(|segment| segment.blob));
        }
        for upload in self.uploads() {
            named.extend(upload.parts().unwrap_or_default().iter().map(|part| part.blob));
        }
        let rubbish = self.blobs.list()?.into_iter().filter(|id| !named.contains(id));
        rubbish.for_each(|id| self.blobs.remove(id));
        Ok(())
    }
}

/// Makes the folders, and empties the one of unfinished records.
fn prepare(root: &Path) -> io::Result<BlobDir> {
    let unfinished = root.join("tmp");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished)?;
    }
    for name in ["blobs", "objects", "uploads", "tmp"] {
        std::fs::create_dir_all(root.join(name))?;
    }
    if !root.join("settings").exists() {
        std::fs::create_dir(root.join("settings"))?;
        std::fs::write(root.join("settings").join(Setting::Cors.file_name()), CORS_OF_A_NEW_BUCKET)?;
    }
    Ok(BlobDir(root.join("blobs")))
}

fn load_settings(root: &Path) -> io::Result<BTreeMap<Setting, String>> {
    let mut settings = BTreeMap::new();
    for setting in Setting::ALL {
        match std::fs::read_to_string(root.join("settings").join(setting.file_name())) {
            Ok(document) => drop(settings.insert(setting, document)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(settings)
}

fn load_objects(root: &Path, blobs: &BlobDir) -> Result<BTreeMap<String, Arc<Object>>, OpenError> {
    let mut objects = BTreeMap::new();
    for path in entries(&root.join("objects"))? {
        let record: ObjectRecord = read(&path)?;
        objects.insert(record.key.clone(), Arc::new(Object::new(record, blobs, None)));
    }
    Ok(objects)
}

fn load_uploads(root: &Path) -> Result<BTreeMap<(String, String), Arc<Upload>>, OpenError> {
    let mut uploads = BTreeMap::new();
    for dir in entries(&root.join("uploads"))? {
        let head = dir.join("upload.json");
        // Without its head it is being begun or forgotten.
        if !head.exists() {
            continue;
        }
        let record: UploadRecord = read(&head)?;
        let mut parts = BTreeMap::new();
        for path in entries(&dir)?.into_iter().filter(|path| *path != head) {
            let part: PartRecord = read(&path)?;
            parts.insert(part.number, part);
        }
        uploads.insert((record.key.clone(), record.upload_id.clone()), Arc::new(Upload::new(record, parts)));
    }
    Ok(uploads)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let list = || -> io::Result<Vec<PathBuf>> { std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect() };
    list().map_err(|error| OpenError::Io { path: dir.to_owned(), error })
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, OpenError> {
    let bytes = std::fs::read(path).map_err(|error| OpenError::Io { path: path.to_owned(), error })?;
    serde_json::from_slice(&bytes).map_err(|error| OpenError::Damaged { path: path.to_owned(), error })
}

fn is_bucket_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (3..=63).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::clock::{SystemClock, TestClock};
    use crate::domain::{PartNumber, Timestamp};
    use crate::emulator::storage::{Blob, Chosen, Precondition, Properties};

    fn open(dir: &Path) -> Storage {
        Storage::open(dir, "bkt", Arc::new(TestClock::at(Timestamp::from_millis(0)))).expect("opens")
    }

    fn blob(storage: &Storage, bytes: &'static [u8]) -> Blob {
        let mut blob = storage.create_blob().expect("a blob");
        blob.append(&[Bytes::from_static(bytes)]).expect("is written");
        blob.finish()
    }

    fn number(n: u32) -> PartNumber {
        PartNumber::new(n).expect("a number")
    }

    #[test]
    fn what_was_there_is_there_after_a_restart() {
        let dir = tempfile::tempdir().expect("a folder");
        let upload_id = {
            let storage = open(dir.path());
            storage
                .put_object("a/b", blob(&storage, b"hello"), Properties::default(), Precondition::None)
                .expect("put");
            let upload = storage.initiate("k", Properties::default(), Precondition::None).expect("begun");
            storage.put_part(&upload, number(2), blob(&storage, b"old")).expect("part");
            storage.put_part(&upload, number(2), blob(&storage, b"new one")).expect("part");
            drop(blob(&storage, b"broken off"));
            upload.upload_id.clone()
        };
        let storage = open(dir.path());
        assert_eq!(storage.object("a/b").map(|o| o.bytes), Some(5));
        let upload = storage.upload("k", &upload_id).expect("is there");
        let parts = upload.parts().expect("open");
        assert_eq!(parts.iter().map(|p| (p.number, p.bytes)).collect::<Vec<_>>(), [(2, 7)]);
        assert_eq!(storage.blobs.list().expect("lists").len(), 2, "one object, one part");
    }

    #[test]
    fn a_completed_upload_is_gone_and_its_object_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let storage = open(dir.path());
        let upload = storage.initiate("k", Properties::default(), Precondition::None).expect("begun");
        storage.put_part(&upload, number(1), blob(&storage, b"left over")).expect("part");
        let last = storage.put_part(&upload, number(2), blob(&storage, b"kept")).expect("part");
        let chosen = Chosen::Listed(vec![(2, last.etag)]);
        let object = storage.complete(&upload, &chosen, None, Precondition::None).expect("completes");
        assert_eq!(object.bytes, 4);
        let late = blob(&storage, b"too late");
        assert!(storage.put_part(&upload, number(3), late).is_err());
        assert!(storage.complete(&upload, &chosen, None, Precondition::None).is_err());
        assert!(storage.abort(&upload).is_err());
        assert_eq!(storage.upload_counts(), (0, 0));
        assert_eq!(storage.blobs.list().expect("lists").len(), 1);
        drop((storage, upload, object));
        assert_eq!(open(dir.path()).object_count(), 1);
    }

    #[test]
    fn an_object_can_be_read_while_it_is_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        let storage = open(dir.path());
        let old =
            storage.put_object("k", blob(&storage, b"old"), Properties::default(), Precondition::None).expect("put");
        storage.put_object("k", blob(&storage, b"new"), Properties::default(), Precondition::None).expect("put");
        assert!(storage.blobs.open(old.segments[0].blob).is_ok());
        let segment = old.segments[0];
        drop(old);
        assert!(storage.blobs.open(segment.blob).is_err());
        let refused = storage.put_object("k", blob(&storage, b"x"), Properties::default(), Precondition::Absent);
        assert!(refused.is_err());
        storage.delete_object("k").expect("deletes");
        storage.delete_object("k").expect("is gone");
        assert_eq!(storage.blobs.list().expect("lists"), []);
    }

    #[test]
    fn what_an_object_shares_with_its_successor_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let storage = open(dir.path());
        let append = |position, bytes| {
            storage
                .append_object("k", position, blob(&storage, bytes), Properties::default())
                .map_err(|e| e.to_string())
        };
        let first = append(0, b"12345").expect("begins");
        assert_eq!(append(4, b"x").expect_err("not its end"), "the object has 5 bytes");
        let whole = append(5, b"6789").expect("grows");
        assert_eq!((whole.bytes, whole.crc64()), (9, crate::domain::Crc64::of(b"123456789")));
        drop((first, whole));
        storage
            .change_object("k", |properties| properties.tags.push(("a".to_owned(), "b".to_owned())))
            .expect("is there");
        assert_eq!(storage.blobs.list().expect("lists").len(), 2);
        drop(storage);
        let storage = open(dir.path());
        let object = storage.object("k").expect("is there");
        assert_eq!((object.segments.len(), object.properties.tags.len()), (2, 1));
        storage.put_object("k", blob(&storage, b"new"), Properties::default(), Precondition::None).expect("put");
        assert!(storage.append_object("k", 3, blob(&storage, b"x"), Properties::default()).is_err());
        drop(object);
        assert_eq!(storage.blobs.list().expect("lists").len(), 1);
    }

    #[test]
    fn one_folder_has_one_emulator() {
        let dir = tempfile::tempdir().expect("a folder");
        let _first = open(dir.path());
        let second = Storage::open(dir.path(), "bkt", Arc::new(SystemClock::new()));
        assert!(matches!(second, Err(OpenError::InUse(_))), "{second:?}");
        for bad in ["", "ab", "-abc", "../x", "Abc"] {
            assert!(Storage::open(dir.path(), bad, Arc::new(SystemClock::new())).is_err(), "{bad}");
        }
    }
}
