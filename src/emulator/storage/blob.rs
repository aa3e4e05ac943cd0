//! Files of bytes. A blob counts only once a record names it: until then
//! dropping it removes the file, and so does the next start after a crash.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use md5::{Digest as _, Md5};

use super::record::{BlobId, Segment};
use crate::clock::Clock;
use crate::domain::Crc64;
use crate::domain::checksum::Crc64Stream;

/// Where blobs lie: `{dir}/{32 hex digits}`.
#[derive(Clone, Debug)]
pub(crate) struct BlobDir(pub(super) PathBuf);

impl BlobDir {
    /// A blob's file.
    pub(crate) fn path(&self, id: BlobId) -> PathBuf {
        self.0.join(String::from(id))
    }

    /// Opens a blob to read it.
    pub(crate) fn open(&self, id: BlobId) -> io::Result<File> {
        File::open(self.path(id))
    }

    /// Removes a blob. What cannot be removed is no longer named by any
    /// record, and the next start tries again.
    pub(super) fn remove(&self, id: BlobId) {
        let _ = std::fs::remove_file(self.path(id));
    }

    /// A new, empty blob.
    pub(super) fn create(&self, clock: &dyn Clock) -> io::Result<NewBlob> {
        loop {
            let id = BlobId(clock.random());
            let path = self.path(id);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(NewBlob { file, digests: Digests::new(), unkept: Unkept { id, path } }),
                // Only a clock that counts instead of drawing lots comes here.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// All blobs there are.
    pub(super) fn list(&self) -> io::Result<Vec<BlobId>> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            all.extend(entry?.file_name().into_string().ok().and_then(|name| BlobId::try_from(name).ok()));
        }
        Ok(all)
    }
}

/// A file that an object is made of. It stays while anybody reads the object,
/// and goes with the last of them once no object has it any more.
#[derive(Debug)]
pub(crate) struct BlobFile {
    pub(super) id: BlobId,
    blobs: BlobDir,
    rubbish: AtomicBool,
}

impl BlobFile {
    pub(super) const fn new(id: BlobId, blobs: BlobDir) -> Self {
        Self { id, blobs, rubbish: AtomicBool::new(false) }
    }

    /// No object has it any more.
    pub(super) fn drop_later(&self) {
        self.rubbish.store(true, Ordering::Release);
    }
}

impl Drop for BlobFile {
    fn drop(&mut self) {
        if self.rubbish.load(Ordering::Acquire) {
            self.blobs.remove(self.id);
        }
    }
}

/// A blob that is being written.
#[derive(Debug)]
pub(crate) struct NewBlob {
    file: File,
    digests: Digests,
    unkept: Unkept,
}

/// A file to be removed, unless it is kept.
#[derive(Debug)]
struct Unkept {
    id: BlobId,
    path: PathBuf,
}

impl Drop for Unkept {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

struct Digests {
    bytes: u64,
    crc64: Crc64Stream,
    md5: Md5,
}

impl std::fmt::Debug for Digests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Digests").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Digests {
    fn new() -> Self {
        Self { bytes: 0, crc64: Crc64Stream::new(), md5: Md5::new() }
    }
}

impl NewBlob {
    /// These bytes come next.
    pub(crate) fn append(&mut self, frames: &[Bytes]) -> io::Result<()> {
        for frame in frames {
            self.digests.bytes += frame.len() as u64;
            self.digests.crc64.update(frame);
            self.digests.md5.update(frame);
            self.file.write_all(frame)?;
        }
        Ok(())
    }

    /// No more bytes come.
    pub(crate) fn finish(self) -> Blob {
        let Digests { bytes, crc64, md5 } = self.digests;
        Blob { bytes, crc64: crc64.value(), md5: md5.finalize().into(), unkept: self.unkept }
    }
}

/// A blob with all its bytes, that no record names yet.
#[derive(Debug)]
pub(crate) struct Blob {
    /// Its length.
    pub bytes: u64,
    /// Of its bytes.
    pub crc64: Crc64,
    /// Of its bytes.
    pub md5: [u8; 16],
    unkept: Unkept,
}

impl Blob {
    /// The MD5 in upper-case hex, without quotes.
    pub(crate) fn etag(&self) -> String {
        hex::encode_upper(self.md5)
    }

    /// For the record that will name it.
    pub(super) const fn id(&self) -> BlobId {
        self.unkept.id
    }

    /// For the record that will name it.
    pub(super) const fn segment(&self) -> Segment {
        Segment { blob: self.unkept.id, bytes: self.bytes }
    }

    /// A record names it.
    pub(super) fn keep(mut self) {
        self.unkept.path = PathBuf::new();
    }
}
