//! The local folder: the embedded default, for one gateway.
//!
//! What is acknowledged is durable, and a crash at any line leaves a part or
//! an object whole or absent. No path comes from a client: objects lie where
//! their keys say, everything else has a name of our own, and no symbolic
//! link is followed.

mod fault;
mod folder;
mod in_place;
mod intake;
mod layout;
mod object;
mod open;
mod record;
mod session;
mod side;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::task::spawn_blocking;

use crate::clock::Clock;
use crate::domain::{Crc64, ObjectKey, Part, PartBounds, PartNumber, SessionId};
use crate::store::{
    Begin, Body, Limits, ListedUpload, NewPart, Proof, Reading, Store, StoreError, StoredObject, StoredPart, Target,
    parts,
};

use fault::on;
use folder::{Folder, Workshop};
use layout::{HEADER, Header};
pub use open::OpenError;
use record::Boot;
use session::Session;

/// A folder as a store.
#[derive(Clone, Debug)]
pub struct FileStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The folder's name, for people and events.
    name: String,
    root: Arc<Folder>,
    uploads: Arc<Folder>,
    work: Workshop,
    boot: Boot,
    clock: Arc<dyn Clock>,
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    #[expect(dead_code, reason = "held, not read: the lock lasts as long as the file is open")]
    lock: std::fs::File,
}

const BOUNDS: PartBounds = PartBounds { part_bytes_min: 1, part_bytes_max: 5 << 30, parts_max: PartNumber::MAX as u32 };

const HEADER_WHAT: &str = "the upload's header";

impl Inner {
    /// The upload, if it is there and of this key.
    fn session(&self, target: &Owned, operation: &'static str) -> Result<Arc<Session>, StoreError> {
        let name = target.session.as_str();
        if !layout::is_session(name) {
            return Err(StoreError::NoSuchUpload);
        }
        // Locked while the header is read, so that no two of them come to be.
        let mut sessions = self.sessions();
        let session = match sessions.get(name) {
            Some(session) => session.clone(),
            None => {
                let header = self.header(name).map_err(on(operation, HEADER_WHAT))?;
                let header = header.ok_or(StoreError::NoSuchUpload)?;
                let session = Arc::new(Session::new(name.to_owned(), header));
                sessions.insert(name.to_owned(), session.clone());
                session
            }
        };
        if session.header.key == target.key { Ok(session) } else { Err(StoreError::NoSuchUpload) }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an upload was begun with; none when there is no such upload.
    fn header(&self, name: &str) -> io::Result<Option<Header>> {
        let mut text = String::new();
        let read = self.uploads.child(name).and_then(|folder| folder.open(HEADER)?.read_to_string(&mut text));
        match read {
            Ok(_) => Header::decode(&text).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn begin(&self, header: &Header) -> Result<SessionId, StoreError> {
        const OPERATION: &str = "InitiateMultipartUpload";
        object::admit(&header.key, OPERATION)?;
        let session = layout::session_of(self.clock.random());
        let name = self.work.name();
        // Made aside and moved in, so that what is in `uploads` is whole.
        let steps = || {
            let folder = self.work.folder().make_child(&name)?;
            let mut file = folder.create(HEADER)?;
            file.write_all(header.encode()?.as_bytes())?;
            if let Some(layout) = header.in_place() {
                in_place::prepare(&folder, layout)?;
            }
            file.sync_all()?;
            folder.sync()?;
            self.work.folder().rename(&name, &self.uploads, session.as_str())?;
            self.uploads.sync()
        };
        steps().map_err(|error| {
            // What cannot be removed now is removed at the next start.
            let _ = self.work.folder().remove_all(&name);
            fault::failed(OPERATION, "the new upload", &error)
        })?;
        Ok(session)
    }

    fn list_parts(&self, session: &Session, operation: &'static str) -> Result<Vec<Part>, StoreError> {
        match session.header.in_place() {
            Some(layout) => in_place::list(&self.uploads, session, layout, self.boot, operation),
            None => side::list(&self.uploads, session, operation),
        }
    }

    fn complete(&self, target: &Owned, given: &[Part]) -> Result<StoredObject, StoreError> {
        const OPERATION: &str = "CompleteMultipartUpload";
        let session = self.session(target, OPERATION)?;
        let closing = session.close(OPERATION)?;
        let stored = self.list_parts(&session, OPERATION)?;
        parts::verify(given, &stored)?;
        let crc64 = joined_crc64(&stored[..given.len()]);
        // Whatever can fail for want of space or rights fails here, before the
        // parts are touched.
        let (folder, name) =
            object::make_place(&self.root, &session.header.key).map_err(on(OPERATION, "the object's folder"))?;
        let to = (&*folder, name.as_str());
        let object = match session.header.in_place() {
            Some(layout) if layout.count() as usize != given.len() => {
                let planned = layout.count();
                return Err(StoreError::PartsDiffer(format!("{} parts of a plan of {planned}", given.len())));
            }
            Some(layout) => in_place::join(&self.uploads, &session, layout, to, crc64)?,
            None => side::join((&self.uploads, &self.work), &session, given, to, crc64)?,
        };
        closing.gone();
        self.sessions().remove(&session.name);
        // The object is there. Remains that cannot be removed now are removed
        // by an abort or at the next start.
        if let Err(error) = self.discard(&session.name) {
            tracing::warn!(session = session.name, %error, "remains of a completed upload are left");
        }
        Ok(object)
    }

    fn abort(&self, target: &Owned) -> Result<(), StoreError> {
        const OPERATION: &str = "AbortMultipartUpload";
        let dropped = self.session(target, OPERATION).and_then(|session| {
            let closing = session.close(OPERATION)?;
            self.discard(&session.name).map_err(on(OPERATION, "the upload's folder"))?;
            closing.gone();
            self.sessions().remove(&session.name);
            Ok(())
        });
        match dropped {
            Err(StoreError::NoSuchUpload) => Ok(()),
            Ok(()) | Err(_) => dropped,
        }
    }

    /// Takes an upload's folder away durably, then removes what was in it.
    fn discard(&self, session: &str) -> io::Result<()> {
        let name = self.work.name();
        self.uploads.rename(session, self.work.folder(), &name)?;
        self.uploads.sync()?;
        self.work.folder().remove_all(&name)
    }

    fn list_uploads(&self, prefix: &str) -> Result<Vec<ListedUpload>, StoreError> {
        let names = self.uploads.names().map_err(on("ListMultipartUploads", "the folder of uploads"))?;
        let mut listed = Vec::new();
        for name in names.into_iter().filter(|name| layout::is_session(name)) {
            match self.header(&name) {
                Ok(Some(header)) if header.key.as_str().starts_with(prefix) => {
                    listed.push(ListedUpload { key: header.key.as_str().to_owned(), session: SessionId::new(name) });
                }
                // Of another prefix, or gone in this moment.
                Ok(_) => {}
                Err(error) => tracing::warn!(session = name, %error, "an upload's header cannot be read"),
            }
        }
        Ok(listed)
    }

    /// A file can be made, synced and removed.
    fn check(&self) -> Result<(), StoreError> {
        let steps = || {
            let probe = self.work.file()?;
            probe.file().write_all(b"chunkgate")?;
            probe.file().sync_all()
        };
        steps().map_err(on("Check", "a file to try with"))
    }
}

/// The CRC-64 of parts that follow one another.
fn joined_crc64(parts: &[Part]) -> Crc64 {
    parts.iter().fold(Crc64::EMPTY, |sum, part| {
        // Every part of this store has one.
        part.crc64.map_or(sum, |crc64| sum.followed_by(crc64, part.bytes))
    })
}

/// A target that outlives the caller's: blocking work goes on when its caller
/// has left.
struct Owned {
    key: ObjectKey,
    session: SessionId,
}

impl From<Target<'_>> for Owned {
    fn from(target: Target<'_>) -> Self {
        Self { key: target.key.clone(), session: target.session.clone() }
    }
}

impl FileStore {
    /// Does blocking work where it may block, to its end even if the caller leaves.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = self.0.clone();
        spawn_blocking(move || work(&inner)).await.map_err(|error| fault::lost(operation, &error))?
    }
}

#[async_trait]
impl Store for FileStore {
    fn kind(&self) -> &'static str {
        "file"
    }

    fn bucket(&self) -> &str {
        &self.0.name
    }

    fn limits(&self) -> Limits {
        Limits {
            parts: BOUNDS,
            put_bytes_max: BOUNDS.part_bytes_max,
            object_bytes_max: BOUNDS.object_bytes_max(),
            proof: Proof::Crc64Xz,
        }
    }

    async fn begin(&self, begin: Begin<'_>) -> Result<SessionId, StoreError> {
        let header = Header {
            key: begin.key.clone(),
            content_type: begin.content_type.map(str::to_owned),
            plan: begin.plan.copied(),
        };
        self.blocking("InitiateMultipartUpload", move |inner| inner.begin(&header)).await
    }

    async fn put_part(&self, target: Target<'_>, part: NewPart) -> Result<StoredPart, StoreError> {
        const OPERATION: &str = "UploadPart";
        let target = Owned::from(target);
        let session = self.blocking(OPERATION, move |inner| inner.session(&target, OPERATION)).await?;
        let inner = &self.0;
        match session.header.in_place() {
            Some(layout) => {
                let writer = session.writer(part.number);
                let sink = in_place::PartSink::new(writer, inner.uploads.clone(), layout, inner.boot, part.bytes)?;
                intake::pump(part.body, part.bytes, sink).await
            }
            None => {
                let folders = (inner.uploads.clone(), inner.work.clone());
                let sink = side::PartSink::new(session, part.number, folders, inner.boot);
                intake::pump(part.body, part.bytes, sink).await
            }
        }
    }

    async fn list_parts(&self, target: Target<'_>) -> Result<Vec<Part>, StoreError> {
        const OPERATION: &str = "ListParts";
        let target = Owned::from(target);
        self.blocking(OPERATION, move |inner| inner.list_parts(&*inner.session(&target, OPERATION)?, OPERATION)).await
    }

    async fn complete(&self, target: Target<'_>, parts: &[Part]) -> Result<StoredObject, StoreError> {
        let (target, parts) = (Owned::from(target), parts.to_vec());
        self.blocking("CompleteMultipartUpload", move |inner| inner.complete(&target, &parts)).await
    }

    async fn abort(&self, target: Target<'_>) -> Result<(), StoreError> {
        let target = Owned::from(target);
        self.blocking("AbortMultipartUpload", move |inner| inner.abort(&target)).await
    }

    async fn put(
        &self,
        key: &ObjectKey,
        content_type: Option<&str>,
        bytes: u64,
        body: Body,
    ) -> Result<StoredObject, StoreError> {
        object::admit(key, "PutObject")?;
        let inner = &self.0;
        let sink = object::ObjectSink::new(
            (inner.root.clone(), inner.work.clone()),
            key.clone(),
            content_type.map(str::to_owned),
        );
        intake::pump(body, bytes, sink).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<StoredObject>, StoreError> {
        let key = key.clone();
        let read = move |inner: &Inner| {
            let file = object::open(&inner.root, &key)?;
            file.map(|file| object::properties(&file)).transpose()
        };
        self.blocking("HeadObject", move |inner| read(inner).map_err(on("HeadObject", "the object"))).await
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Reading, StoreError> {
        const OPERATION: &str = "GetObject";
        let key = key.clone();
        let open = move |inner: &Inner| {
            let file = object::open(&inner.root, &key)?;
            file.map(|file| object::properties(&file).map(|object| (file, object))).transpose()
        };
        let found = self.blocking(OPERATION, move |inner| open(inner).map_err(on(OPERATION, "the object"))).await?;
        let (file, object) = found.ok_or(StoreError::NoSuchObject)?;
        let range = range.unwrap_or(0..object.bytes);
        if range.start > range.end || range.end > object.bytes {
            let message = format!("bytes {}..{} of {}", range.start, range.end, object.bytes);
            return Err(fault::refused(OPERATION, "InvalidRange", message));
        }
        Ok(Reading { object, stream: object::read(file, range) })
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        object::admit(key, "DeleteObject")?;
        let key = key.clone();
        let remove = move |inner: &Inner| object::remove(&inner.root, &key);
        self.blocking("DeleteObject", move |inner| remove(inner).map_err(on("DeleteObject", "the object"))).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<ListedUpload>, StoreError> {
        let prefix = prefix.to_owned();
        self.blocking("ListMultipartUploads", move |inner| inner.list_uploads(&prefix)).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.blocking("Check", Inner::check).await
    }
}
