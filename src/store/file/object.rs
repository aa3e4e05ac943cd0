//! Objects: files at the paths that their keys say. What a file system does
//! not keep of an object (its CRC-64 and MIME type) stands in an extended
//! attribute, where there are any; without, an object has no CRC-64 and its
//! ETag comes from its size, time and inode.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use rustix::buffer::spare_capacity;
use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};
use rustix::io::{Errno, pread};
use tokio::task::spawn_blocking;

use crate::domain::{Crc64, ObjectKey};
use crate::share::Share;
use crate::store::file::cursor::Cursor;
use crate::store::file::fault::{self, on};
use crate::store::file::folder::Folder;
use crate::store::file::intake::Sink;
use crate::store::file::layout::{self, OWN};
use crate::store::file::places::{Named, Places};
use crate::store::file::workshop::{Unfinished, Workshop};
use crate::store::{ObjectStream, StoreError, StoredObject};

const WHAT: &str = "the object";
const ATTRIBUTE: &str = "user.chunkgate.object";
/// Beyond this a MIME type is not kept: attributes share a small space.
const CONTENT_TYPE_BYTES_MAX: usize = 255;

/// No key may reach into our own folder.
pub(super) fn admit(key: &ObjectKey, operation: &'static str) -> Result<(), StoreError> {
    if key.as_str().split('/').next() == Some(OWN) {
        return Err(fault::refused(operation, "ReservedKey", format!("{OWN} is the store's own folder")));
    }
    Ok(())
}

/// The path of the folder that a key's object lies in, and its name there.
pub(super) fn place(key: &ObjectKey) -> (&str, &str) {
    key.as_str().rsplit_once('/').unwrap_or(("", key.as_str()))
}

/// The folder that a key's object lies in, if there is one, and its name there.
fn find_place<'k>(root: &Arc<Folder>, key: &'k ObjectKey) -> io::Result<(Arc<Folder>, &'k str)> {
    let (path, name) = place(key);
    let mut folder = root.clone();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        folder = Arc::new(folder.child(segment)?);
    }
    Ok((folder, name))
}

/// The object's file, if there is one.
pub(super) fn open(root: &Arc<Folder>, key: &ObjectKey) -> io::Result<Option<File>> {
    absent_or(find_place(root, key).and_then(|(folder, name)| folder.open(name)))
}

/// Makes the object's name durable, if there is one.
pub(super) fn sync_name(root: &Arc<Folder>, key: &ObjectKey) -> io::Result<()> {
    absent_or(find_place(root, key).and_then(|(folder, _)| folder.sync())).map(|_| ())
}

/// Removes the object durably, if there is one.
pub(super) fn remove(root: &Arc<Folder>, key: &ObjectKey) -> io::Result<()> {
    let removed = find_place(root, key).and_then(|(folder, name)| match folder.remove(name)? {
        true => folder.sync(),
        false => Ok(()),
    });
    absent_or(removed).map(|_| ())
}

/// No such file, no such folder, or a file where a folder would be: absent.
fn absent_or<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is known of an object's bytes beside the bytes, as it is written into
/// the attribute. It holds for the size and time it names and for no others:
/// bytes that somebody edited by hand have no CRC-64.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Note {
    crc64: Crc64,
    bytes: u64,
    modified_ns: i128,
    content_type: Option<String>,
}

impl Note {
    fn encode(&self) -> String {
        let content_type = self.content_type.as_deref().unwrap_or_default();
        format!("1 {} {} {} {content_type}", self.crc64, self.bytes, self.modified_ns)
    }

    /// What the store says of an object with this note.
    fn object(self) -> StoredObject {
        StoredObject {
            bytes: self.bytes,
            etag: layout::etag(self.crc64, self.bytes),
            crc64: Some(self.crc64),
            content_type: self.content_type,
        }
    }

    fn decode(text: &str) -> Option<Self> {
        let mut words = text.splitn(5, ' ');
        if words.next()? != "1" {
            return None;
        }
        Some(Self {
            crc64: Crc64::parse(words.next()?)?,
            bytes: words.next()?.parse().ok()?,
            modified_ns: words.next()?.parse().ok()?,
            content_type: words.next().filter(|text| !text.is_empty()).map(str::to_owned),
        })
    }
}

fn modified_ns(metadata: &std::fs::Metadata) -> i128 {
    i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec())
}

/// Notes what is known of a file whose bytes are all there, and says what
/// `properties` will say of it from now on, its CRC-64 in any case.
pub(super) fn describe(file: &File, crc64: Crc64, content_type: Option<&str>) -> io::Result<StoredObject> {
    let metadata = file.metadata()?;
    let note = Note {
        crc64,
        bytes: metadata.len(),
        modified_ns: modified_ns(&metadata),
        content_type: content_type.filter(|text| text.len() <= CONTENT_TYPE_BYTES_MAX).map(str::to_owned),
    };
    match fsetxattr(file, ATTRIBUTE, note.encode().as_bytes(), XattrFlags::empty()) {
        Ok(()) => Ok(note.object()),
        // No attributes here, or no room for one: the object does without.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::NOSPC | Errno::TOOBIG) => {
            Ok(StoredObject { crc64: Some(crc64), ..properties(file)? })
        }
        Err(error) => Err(error.into()),
    }
}

/// What the store says of an object.
pub(super) fn properties(file: &File) -> io::Result<StoredObject> {
    let metadata = file.metadata()?;
    let (bytes, modified) = (metadata.len(), modified_ns(&metadata));
    let mut value = [0; 512];
    let note = match fgetxattr(file, ATTRIBUTE, &mut value) {
        Ok(length) => std::str::from_utf8(&value[..length]).ok().and_then(Note::decode),
        Err(_) => None,
    };
    Ok(match note.filter(|note| note.bytes == bytes && note.modified_ns == modified) {
        Some(note) => note.object(),
        None => StoredObject {
            bytes,
            etag: format!("{modified:x}-{:x}-{bytes:x}", metadata.ino()),
            crc64: None,
            content_type: None,
        },
    })
}

/// A small object on its way in. It gets its name at once, which is the
/// cheapest way to give it one: until it is whole, nobody knows of it but the
/// ledger, which has it among the objects that are under way.
pub(super) struct ObjectSink {
    places: Arc<Places>,
    work: Workshop,
    key: ObjectKey,
    content_type: Option<String>,
    file: Option<New>,
    cursor: Cursor,
}

enum New {
    Named(Named),
    /// Its name is taken: it replaces what is there once it is whole.
    Unfinished(Unfinished),
}

impl New {
    fn file(&self) -> &File {
        match self {
            Self::Named(named) => named.file(),
            Self::Unfinished(unfinished) => unfinished.file(),
        }
    }
}

impl ObjectSink {
    /// Under this key.
    pub(super) fn new((places, work): (Arc<Places>, Workshop), key: ObjectKey, content_type: Option<String>) -> Self {
        Self { places, work, key, content_type, file: None, cursor: Cursor::from(0) }
    }

    fn create(&self) -> io::Result<New> {
        let (path, name) = place(&self.key);
        let named = || Named::create(self.places.folder(path)?, name.to_owned());
        let created = named().or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            // Somebody removed the folder since it was opened.
            self.places.forget(path);
            named()
        });
        match created {
            Ok(named) => Ok(New::Named(named)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(New::Unfinished(self.work.file()?)),
            Err(error) => Err(error),
        }
    }

    fn name_it(&self, file: New) -> io::Result<()> {
        let (path, name) = place(&self.key);
        let named = match file {
            New::Named(named) => named.keep(),
            New::Unfinished(unfinished) => unfinished.move_to(&*self.places.folder(path)?, name),
        };
        if named.is_err() {
            self.places.forget(path);
        }
        named
    }
}

impl Sink for ObjectSink {
    type Stored = StoredObject;
    const OPERATION: &'static str = "PutObject";

    fn write(&mut self, frames: &[Bytes]) -> Result<(), StoreError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.create().map_err(on(Self::OPERATION, WHAT))?,
        };
        self.cursor.write(file.file(), frames).map_err(on(Self::OPERATION, WHAT))?;
        self.file = Some(file);
        Ok(())
    }

    fn finish(mut self) -> Result<StoredObject, StoreError> {
        let Some(file) = self.file.take() else { return Err(StoreError::Body) };
        let steps = || {
            let object = describe(file.file(), self.cursor.crc64(), self.content_type.as_deref())?;
            file.file().sync_all()?;
            self.name_it(file)?;
            Ok::<_, io::Error>(object)
        };
        steps().map_err(on(Self::OPERATION, WHAT))
    }
}

/// The bytes of a range that lies within a file, in frames as large as the share is.
pub(super) fn read(file: File, range: Range<u64>, share: Share) -> ObjectStream {
    let state = (Arc::new(file), range, share);
    Box::pin(stream::try_unfold(state, |(file, range, mut share)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let reader = file.clone();
        let from = range.start;
        let wanted = (range.end - from).min(share.bytes() as u64);
        // Made here: threads that block are many, and what one has freed is of no use to another.
        let frame = Vec::with_capacity(share.bytes());
        let frame = spawn_blocking(move || read_frame(&reader, from, wanted, frame)).await;
        let frame = frame.map_err(|error| fault::lost("GetObject", &error))?.map_err(on("GetObject", WHAT))?;
        // Whoever asks for a second one has taken the first.
        share.grow();
        Ok(Some((Bytes::from(frame), (file, from + wanted..range.end, share))))
    }))
}

/// Reads so many bytes into an empty frame that has room for them.
fn read_frame(file: &File, mut offset: u64, bytes: u64, mut frame: Vec<u8>) -> io::Result<Vec<u8>> {
    // At most a share, which is a usize.
    let bytes = bytes as usize;
    while frame.len() < bytes {
        match pread(file, spare_capacity(&mut frame), offset) {
            // Cut short under our hands.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => offset += read as u64,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocation may be larger than asked for, and so may the read.
    frame.truncate(bytes);
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        for content_type in [None, Some("text/plain; charset=utf-8".to_owned())] {
            let note = Note { crc64: Crc64(u64::MAX), bytes: 7, modified_ns: 1_795_255_740_000_000_007, content_type };
            assert_eq!(Note::decode(&note.encode()), Some(note));
        }
        for text in ["", "1", "2 1 1 1 ", "1 x 1 1 ", "1 1 1"] {
            assert_eq!(Note::decode(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_note_holds_only_for_the_bytes_it_was_made_of() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b"abc").expect("written");
        let described = describe(file.as_file(), Crc64::of(b"abc"), Some("text/plain")).expect("described");
        let before = properties(file.as_file()).expect("properties");
        assert_eq!(before.etag, described.etag);
        file.write_all(b"d").expect("written");
        let after = properties(file.as_file()).expect("properties");
        assert_eq!(after.crc64, None);
        assert_ne!(after.etag, before.etag);
    }

    #[test]
    fn a_file_that_shrinks_is_an_error_and_not_a_short_read() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(10).expect("sized");
        assert_eq!(read_frame(&file, 2, 8, Vec::with_capacity(8)).expect("read"), vec![0; 8]);
        assert!(read_frame(&file, 2, 9, Vec::with_capacity(9)).is_err());
    }
}
