//! A plan still to be learnt: where a chunk will lie is not known, so each
//! part is a file of its own, with its record behind its bytes, and joining
//! copies them together within the kernel.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{copy_file_range, fdatasync};
use rustix::io::Errno;

use crate::domain::{Crc64, Part, PartNumber};
use crate::store::file::cursor::Cursor;
use crate::store::file::fault::{on, on_upload};
use crate::store::file::folder::Folder;
use crate::store::file::intake::Sink;
use crate::store::file::layout::{RECORD_BYTES, part_name, part_of_name};
use crate::store::file::object;
use crate::store::file::record::{Boot, Record};
use crate::store::file::session::Session;
use crate::store::file::workshop::{Unfinished, Workshop};
use crate::store::{StoreError, StoredObject, StoredPart};

const WHAT: &str = "the part's file";

/// One part on its way in.
pub(super) struct PartSink {
    session: Arc<Session>,
    number: PartNumber,
    uploads: Arc<Folder>,
    work: Workshop,
    boot: Boot,
    file: Option<Unfinished>,
    cursor: Cursor,
}

impl PartSink {
    /// For a part of any size.
    pub(super) fn new(
        session: Arc<Session>,
        number: PartNumber,
        (uploads, work): (Arc<Folder>, Workshop),
        boot: Boot,
    ) -> Self {
        Self { session, number, uploads, work, boot, file: None, cursor: Cursor::from(0) }
    }
}

impl Sink for PartSink {
    type Stored = StoredPart;
    const OPERATION: &'static str = "UploadPart";

    fn write(&mut self, frames: &[Bytes]) -> Result<(), StoreError> {
        // A part that has no place yet disturbs nobody; the phase is only
        // asked so that bytes for an upload that is gone end early.
        drop(self.session.write(Self::OPERATION)?);
        let file = match self.file.take() {
            Some(file) => file,
            None => self.work.file().map_err(on(Self::OPERATION, WHAT))?,
        };
        self.cursor.write(file.file(), frames).map_err(on(Self::OPERATION, WHAT))?;
        self.file = Some(file);
        Ok(())
    }

    fn finish(self) -> Result<StoredPart, StoreError> {
        let Some(file) = self.file else { return Err(StoreError::Body) };
        let (crc64, bytes) = (self.cursor.crc64(), self.cursor.next());
        let record = Record { number: self.number, bytes, crc64, boot: self.boot };
        let durable = file.file().write_all_at(&record.encode(), bytes);
        durable.and_then(|()| Ok(fdatasync(file.file())?)).map_err(on(Self::OPERATION, WHAT))?;
        let _open = self.session.write(Self::OPERATION)?;
        let folder = folder_of(&self.uploads, &self.session, Self::OPERATION)?;
        file.move_to(&folder, &part_name(self.number)).map_err(on(Self::OPERATION, WHAT))?;
        let part = record.part();
        Ok(StoredPart { etag: part.etag, crc64: part.crc64 })
    }
}

fn folder_of(uploads: &Folder, session: &Session, operation: &'static str) -> Result<Folder, StoreError> {
    uploads.child(&session.name).map_err(on_upload(operation, "the upload's folder"))
}

/// All parts that are there.
pub(super) fn list(uploads: &Folder, session: &Session, operation: &'static str) -> Result<Vec<Part>, StoreError> {
    let folder = folder_of(uploads, session, operation)?;
    let read = || {
        let mut parts = Vec::new();
        for number in folder.names()?.iter().filter_map(|name| part_of_name(name)) {
            // A file got its name after it was durable, so a record that does
            // not fit it is damage, and the part is not there.
            if let Some(record) = record_of(&folder.open(&part_name(number))?)?.filter(|r| r.number == number) {
                parts.push(record.part());
            } else {
                tracing::warn!(session = session.name, part = number.get(), "a damaged part is not listed");
            }
        }
        parts.sort_by_key(|part| part.number);
        Ok::<_, io::Error>(parts)
    };
    read().map_err(on(operation, WHAT))
}

fn record_of(file: &File) -> io::Result<Option<Record>> {
    let length = file.metadata()?.len();
    let Some(bytes) = length.checked_sub(RECORD_BYTES as u64) else { return Ok(None) };
    let mut written = [0; RECORD_BYTES];
    file.read_exact_at(&mut written, bytes)?;
    Ok(Record::decode(&written).filter(|record| record.bytes == bytes))
}

/// Copies the parts together and gives the result its name. Every part was
/// verified before; the parts stay until the object has its name.
pub(super) fn join(
    (uploads, work): (&Folder, &Workshop),
    session: &Session,
    parts: &[Part],
    to: (&Folder, &str),
    crc64: Crc64,
) -> Result<StoredObject, StoreError> {
    const OPERATION: &str = "CompleteMultipartUpload";
    let folder = folder_of(uploads, session, OPERATION)?;
    let steps = || {
        let joined = work.file()?;
        let mut offset = 0;
        for part in parts {
            copy(&folder.open(&part_name(part.number))?, joined.file(), offset, part.bytes)?;
            offset += part.bytes;
        }
        let object = object::describe(joined.file(), crc64, session.header.content_type.as_deref())?;
        joined.file().sync_all()?;
        joined.move_to(to.0, to.1)?;
        Ok::<_, io::Error>(object)
    };
    steps().map_err(on(OPERATION, "the joined object"))
}

/// Copies the first bytes of one file to an offset of another.
fn copy(from: &File, to: &File, mut offset: u64, bytes: u64) -> io::Result<()> {
    let mut read = 0;
    while read < bytes {
        // The kernel copies 2 GiB at most in one call; on 32 bits less is asked for.
        let left = usize::try_from(bytes - read).unwrap_or(usize::MAX);
        match copy_file_range(from, Some(&mut read), to, Some(&mut offset), left) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::XDEV | Errno::INVAL) => {
                return copy_by_hand(from, to, read, offset, bytes);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// For file systems that cannot copy within the kernel.
fn copy_by_hand(from: &File, to: &File, mut read: u64, mut offset: u64, bytes: u64) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    while read < bytes {
        // At most the buffer's length.
        let wanted = (bytes - read).min(buffer.len() as u64) as usize;
        from.read_exact_at(&mut buffer[..wanted], read)?;
        to.write_all_at(&buffer[..wanted], offset)?;
        read += wanted as u64;
        offset += wanted as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_copying_agree() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let [from, kernel, hand] = [(); 3].map(|()| tempfile::tempfile().expect("a file"));
        from.write_all_at(&bytes, 0).expect("written");
        copy(&from, &kernel, 7, 2_500_001).expect("copied");
        copy_by_hand(&from, &hand, 0, 7, 2_500_001).expect("copied");
        for copied in [kernel, hand] {
            let mut read = vec![0; 2_500_001];
            copied.read_exact_at(&mut read, 7).expect("read");
            assert!(read == bytes[..2_500_001]);
            assert_eq!(copied.metadata().expect("metadata").len(), 2_500_008);
        }
    }
}
