//! A declared plan: every chunk is written at its own offset of one file, its
//! record behind the data, and one sync makes both durable. Joining is
//! cutting the records off and giving the file its name.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use rustix::fs::{FallocateFlags, fallocate, fdatasync};
use rustix::io::Errno;

use crate::domain::checksum::Crc64Stream;
use crate::domain::{Crc64, Part, PartNumber};
use crate::store::file::cursor::Cursor;
use crate::store::file::fault::{self, on, on_upload};
use crate::store::file::folder::Folder;
use crate::store::file::intake::Sink;
use crate::store::file::layout::{self, DATA, InPlace, RECORD_BYTES};
use crate::store::file::object;
use crate::store::file::record::{Boot, Record};
use crate::store::file::session::{Session, Writer, completing};
use crate::store::{StoreError, StoredObject, StoredPart};

const WHAT: &str = "the upload's data";

/// Makes the file of a plan, with its space if the file system can promise it.
pub(super) fn prepare(folder: &Folder, layout: InPlace) -> io::Result<()> {
    let file = folder.create(DATA)?;
    match fallocate(&file, FallocateFlags::empty(), 0, layout.file_bytes()) {
        Ok(()) => {}
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => file.set_len(layout.file_bytes())?,
        Err(error) => return Err(error.into()),
    }
    file.sync_all()
}

/// One part on its way in.
pub(super) struct PartSink {
    writer: Writer,
    uploads: std::sync::Arc<Folder>,
    layout: InPlace,
    boot: Boot,
    /// The call's own descriptor: a sync that fails is reported once to each,
    /// and so to every call whose bytes it lost.
    file: Option<File>,
    cursor: Cursor,
    bytes: u64,
    record_at: u64,
}

impl PartSink {
    /// For a part of the plan with exactly the plan's bytes.
    pub(super) fn new(
        writer: Writer,
        uploads: std::sync::Arc<Folder>,
        layout: InPlace,
        boot: Boot,
        bytes: u64,
    ) -> Result<Self, StoreError> {
        let place = layout.place_of(writer.number()).zip(layout.record_at(writer.number()));
        match place {
            Some(((offset, planned), record_at)) if planned == bytes => {
                Ok(Self { writer, uploads, layout, boot, file: None, cursor: Cursor::from(offset), bytes, record_at })
            }
            Some(_) | None => Err(fault::refused(
                Self::OPERATION,
                "PartNotInPlan",
                format!("the declared plan has no part {} of {bytes} bytes", writer.number()),
            )),
        }
    }

    /// Opens the file and sees to it that no record vouches for what is about
    /// to be written over.
    fn open(&self) -> Result<File, StoreError> {
        let file = open(&self.uploads, self.writer.session(), true, Self::OPERATION)?;
        let length = file.metadata().map_err(on(Self::OPERATION, WHAT))?.len();
        if length != self.layout.file_bytes() {
            return Err(completing(Self::OPERATION));
        }
        let mut written = [0; RECORD_BYTES];
        file.read_exact_at(&mut written, self.record_at).map_err(on(Self::OPERATION, WHAT))?;
        if written != [0; RECORD_BYTES] {
            // Durable before the first byte: the disk may keep either first.
            self.erase(&file).map_err(on(Self::OPERATION, WHAT))?;
        }
        Ok(file)
    }

    fn erase(&self, file: &File) -> io::Result<()> {
        file.write_all_at(&[0; RECORD_BYTES], self.record_at)?;
        Ok(fdatasync(file)?)
    }
}

impl Sink for PartSink {
    type Stored = StoredPart;
    const OPERATION: &'static str = "UploadPart";

    fn write(&mut self, frames: &[Bytes]) -> Result<(), StoreError> {
        let _open = self.writer.session().write(Self::OPERATION)?;
        let (file, _ours) = match self.file.take() {
            Some(file) => (file, self.writer.hold(Self::OPERATION)?),
            None => {
                let ours = self.writer.take();
                (self.open()?, ours)
            }
        };
        self.cursor.write(&file, frames).map_err(on(Self::OPERATION, WHAT))?;
        self.file = Some(file);
        Ok(())
    }

    fn finish(self) -> Result<StoredPart, StoreError> {
        let _open = self.writer.session().write(Self::OPERATION)?;
        let _ours = self.writer.hold(Self::OPERATION)?;
        let Some(file) = &self.file else { return Err(StoreError::Body) };
        let crc64 = self.cursor.crc64();
        let record = Record { number: self.writer.number(), bytes: self.bytes, crc64, boot: self.boot };
        let durable = file.write_all_at(&record.encode(), self.record_at).and_then(|()| Ok(fdatasync(file)?));
        if let Err(error) = durable {
            // Bytes are lost, so the record must not stay. Should the disk
            // keep it all the same, it is one of a former boot by the time
            // anybody reads it from there.
            let _ = self.erase(file);
            return Err(fault::failed(Self::OPERATION, WHAT, &error));
        }
        Ok(StoredPart { etag: layout::etag(crc64, self.bytes), crc64: Some(crc64) })
    }
}

fn open(uploads: &Folder, session: &Session, write: bool, operation: &'static str) -> Result<File, StoreError> {
    let folder = uploads.child(&session.name);
    let file = folder.and_then(|folder| if write { folder.open_to_write(DATA) } else { folder.open(DATA) });
    file.map_err(on_upload(operation, WHAT))
}

/// All parts that are there.
pub(super) fn list(
    uploads: &Folder,
    session: &Session,
    layout: InPlace,
    boot: Boot,
    operation: &'static str,
) -> Result<Vec<Part>, StoreError> {
    let file = open(uploads, session, false, operation)?;
    let length = file.metadata().map_err(on(operation, WHAT))?.len();
    if length == layout.data_bytes() {
        // Its records are cut off already, which only happens after all of
        // them were found valid: the bytes say what the records said.
        layout.numbers().map(|number| part_of_bytes(&file, layout, number).map_err(on(operation, WHAT))).collect()
    } else if length == layout.file_bytes() {
        listed(&file, session, layout, boot).map_err(on(operation, WHAT))
    } else {
        Err(fault::refused(operation, "DamagedUpload", format!("{WHAT} has {length} bytes")))
    }
}

fn listed(file: &File, session: &Session, layout: InPlace, boot: Boot) -> io::Result<Vec<Part>> {
    // At most 10 000 records: 640 kB.
    let mut written = vec![0; layout.count() as usize * RECORD_BYTES];
    file.read_exact_at(&mut written, layout.records_at())?;
    let (records, _) = written.as_chunks::<RECORD_BYTES>();
    let mut parts = Vec::new();
    for (number, record) in layout.numbers().zip(records) {
        let Some(record) = Record::decode(record) else { continue };
        let place = layout.place_of(number);
        if record.number != number || place.is_none_or(|(_, bytes)| bytes != record.bytes) {
            continue;
        }
        if record.boot == boot || is_whole(file, session, layout, &record)? {
            parts.push(record.part());
        }
    }
    Ok(parts)
}

/// Whether the bytes of a record of a former boot are there. They are read
/// once; the record cannot come true later.
fn is_whole(file: &File, session: &Session, layout: InPlace, record: &Record) -> io::Result<bool> {
    let judged = || session.judged.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(&whole) = judged().get(&record.number) {
        return Ok(whole);
    }
    let whole = part_of_bytes(file, layout, record.number)?.crc64 == Some(record.crc64);
    if !whole {
        tracing::warn!(
            session = session.name,
            part = record.number.get(),
            "a part was cut short by a power failure and is not listed"
        );
    }
    judged().insert(record.number, whole);
    Ok(whole)
}

/// A part as its bytes say it.
fn part_of_bytes(file: &File, layout: InPlace, number: PartNumber) -> io::Result<Part> {
    let (mut offset, bytes) = layout.place_of(number).ok_or(io::ErrorKind::InvalidInput)?;
    let end = offset + bytes;
    let mut buffer = vec![0; 1 << 20];
    let mut crc64 = Crc64Stream::new();
    while offset < end {
        // At most the buffer's length.
        let wanted = (end - offset).min(buffer.len() as u64) as usize;
        file.read_exact_at(&mut buffer[..wanted], offset)?;
        crc64.update(&buffer[..wanted]);
        offset += wanted as u64;
    }
    let crc64: Crc64 = crc64.value();
    Ok(Part { number, bytes, etag: layout::etag(crc64, bytes), crc64: Some(crc64) })
}

/// Cuts the records off and gives the file its name. Every part was verified
/// before; a crash between any two steps leaves the object unnamed or whole.
pub(super) fn join(
    uploads: &Folder,
    session: &Session,
    layout: InPlace,
    to: (&Folder, &str),
    crc64: Crc64,
) -> Result<StoredObject, StoreError> {
    const OPERATION: &str = "CompleteMultipartUpload";
    let file = open(uploads, session, true, OPERATION)?;
    let steps = || {
        file.set_len(layout.data_bytes())?;
        let object = object::describe(&file, crc64, session.header.content_type.as_deref())?;
        file.sync_all()?;
        uploads.child(&session.name)?.rename(DATA, to.0, to.1)?;
        to.0.sync()?;
        Ok::<_, io::Error>(object)
    };
    steps().map_err(on(OPERATION, WHAT))
}
