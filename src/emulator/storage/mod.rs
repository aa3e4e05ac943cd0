//! Where the emulator keeps a bucket: a folder that survives restarts and
//! kill -9 (not a loss of power: it does not fsync).
//!
//! ```text
//! {data_dir}/{bucket}/lock                     held by the running emulator
//!                     blobs/ab…                bytes: parts, objects
//!                     objects/cd….json         an object; named by the SHA-256 of its key
//!                     uploads/{id}/upload.json a multipart upload
//!                     uploads/{id}/00001.json  one of its parts
//!                     settings/cors.xml        what the bucket is told about itself
//!                     tmp/                     records being written
//! ```
//!
//! Bytes come first, then the record that names them, by a rename: a record
//! is there as a whole or not at all, and a blob that no record names is
//! rubbish. An object names all the blobs it is made of, so that completing
//! an upload is one small record, however large the object.
//!
//! All records are in memory too. The functions here block: they are called
//! where blocking is allowed.

mod blob;
mod load;
mod objects;
mod record;
mod settings;
mod uploads;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::clock::Clock;

pub(crate) use blob::{Blob, BlobDir, NewBlob};
pub use load::OpenError;
pub(crate) use objects::{Object, Precondition};
#[cfg(any(test, fuzzing))]
pub(crate) use record::BlobId;
pub(crate) use record::{
    Acl, KeptHeaders, ObjectRecord, ObjectType, PartRecord, Properties, Segment, Tags, UploadRecord,
};
pub(crate) use settings::Setting;
pub(crate) use uploads::{Chosen, Upload};

/// Why the storage did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StorageError {
    /// There is no such multipart upload.
    #[error("no such upload")]
    NoSuchUpload,
    /// There is no such object.
    #[error("no such object")]
    NoSuchObject,
    /// The object was not begun by appending.
    #[error("the object cannot grow")]
    NotAppendable,
    /// What is appended does not begin where the object ends.
    #[error("the object has {bytes} bytes")]
    NotAtTheEnd {
        /// Where it ends.
        bytes: u64,
    },
    /// The object is there and must not be overwritten.
    #[error("the object exists")]
    ObjectExists,
    /// Complete lists a part that is not there, or not with that ETag.
    #[error("invalid part {0}")]
    InvalidPart(u32),
    /// Complete lists parts out of order.
    #[error("parts out of order")]
    InvalidPartOrder,
    /// Complete lists no parts.
    #[error("no parts")]
    NoParts,
    /// A part that is not the last is too small.
    #[error("part {number} has {bytes} bytes")]
    PartTooSmall {
        /// Which.
        number: u16,
        /// Its size.
        bytes: u64,
    },
    /// The disk failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// One bucket.
#[derive(Debug)]
pub(crate) struct Storage {
    root: PathBuf,
    blobs: BlobDir,
    clock: Arc<dyn Clock>,
    objects: Mutex<BTreeMap<String, Arc<Object>>>,
    /// By key and upload id, as ListMultipartUploads orders them.
    uploads: Mutex<BTreeMap<(String, String), Arc<Upload>>>,
    settings: Mutex<BTreeMap<Setting, String>>,
    records_written: AtomicU64,
    /// Locked until the process ends, however it ends.
    _lock: File,
}

impl Storage {
    /// A new, empty blob.
    pub(crate) fn create_blob(&self) -> io::Result<NewBlob> {
        self.blobs.create(&*self.clock)
    }

    /// Where blobs lie.
    pub(crate) const fn blobs(&self) -> &BlobDir {
        &self.blobs
    }

    /// Writes a record aside; `Record::publish` then puts it in its place.
    fn write_record(&self, record: &impl Serialize) -> io::Result<Record> {
        self.write_aside(&serde_json::to_vec(record)?)
    }

    fn write_aside(&self, content: &[u8]) -> io::Result<Record> {
        let number = self.records_written.fetch_add(1, Ordering::Relaxed);
        let record_file = Record(self.root.join("tmp").join(number.to_string()));
        std::fs::write(&record_file.0, content)?;
        Ok(record_file)
    }
}

/// A record that was written aside.
struct Record(PathBuf);

impl Record {
    /// Puts it in its place, over one that is there: from here on it counts.
    fn publish(self, place: &Path) -> io::Result<()> {
        std::fs::rename(&self.0, place)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // After `publish` there is nothing of this name.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What a panic left in a map is a whole entry or none: go on with it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
