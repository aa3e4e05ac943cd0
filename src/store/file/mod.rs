//! The local folder: the embedded default, for one gateway.
//!
//! What is acknowledged is durable, and a crash at any line leaves a part, or
//! an object that was joined, whole or absent; a small one that was being put
//! may be there in part, and is one of those that the ledger knows to be under
//! way. No path comes from a client: objects lie where
//! their keys say, everything else has a name of our own, and no symbolic
//! link is followed.

mod cursor;
mod fault;
mod folder;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod in_place;
mod intake;
mod layout;
mod object;
mod open;
mod places;
mod record;
mod session;
mod side;
#[cfg(test)]
mod tests;
mod uploads;
mod workshop;

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::spawn_blocking;

use crate::clock::Clock;
use crate::domain::{ObjectKey, Part, PartBounds, PartNumber, SessionId};
use crate::share::Budget;
use crate::store::{
    Abandoned, Begin, Body, Download, Joined, Limits, ListedUpload, NewPart, Proof, Reading, SignedGet, SignedPut,
    Store, StoreConfig, StoreError, StoredObject, StoredPart, Target,
};

use fault::on;
use folder::Folder;
use layout::Header;
pub use open::OpenError;
use places::Places;
use record::Boot;
use session::Session;
use uploads::Owned;
use workshop::Workshop;

/// A folder as a store.
#[derive(Clone, Debug)]
pub struct FileStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The folder's name, for people and events.
    name: String,
    root: Arc<Folder>,
    /// Where objects lie, below the root.
    places: Arc<Places>,
    uploads: Arc<Folder>,
    work: Workshop,
    /// What downloads read at a time.
    downloads: Budget,
    /// What bodies are written at a time.
    intakes: Budget,
    boot: Boot,
    clock: Arc<dyn Clock>,
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    #[expect(dead_code, reason = "held, not read: the lock lasts as long as the file is open")]
    lock: File,
}

const BOUNDS: PartBounds = PartBounds { part_bytes_min: 1, part_bytes_max: 5 << 30, parts_max: PartNumber::MAX as u32 };

impl Inner {
    /// An object's open file and properties, if there is one.
    fn object(&self, key: &ObjectKey, operation: &'static str) -> Result<Option<(File, StoredObject)>, StoreError> {
        object::admit(key, operation)?;
        let opened = || match object::open(&self.root, key)? {
            Some(file) => object::properties(&file).map(|object| Some((file, object))),
            None => Ok(None),
        };
        opened().map_err(on(operation, "the object"))
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
            direct: false,
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
        let inner = &self.0;
        let session = match inner.known(&target) {
            Some(session) => session,
            None => self.blocking(OPERATION, move |inner| inner.session(&target, OPERATION)).await?,
        };
        match session.header.in_place() {
            Some(layout) => {
                let writer = session.writer(part.number);
                let sink = in_place::PartSink::new(writer, inner.uploads.clone(), layout, inner.boot, part.bytes)?;
                intake::pump(part.body, part.bytes, sink, inner.intakes.share()).await
            }
            None => {
                let folders = (inner.uploads.clone(), inner.work.clone());
                let sink = side::PartSink::new(session, part.number, folders, inner.boot);
                intake::pump(part.body, part.bytes, sink, inner.intakes.share()).await
            }
        }
    }

    async fn list_parts(&self, target: Target<'_>) -> Result<Vec<Part>, StoreError> {
        const OPERATION: &str = "ListParts";
        let target = Owned::from(target);
        self.blocking(OPERATION, move |inner| inner.list_parts(&*inner.session(&target, OPERATION)?, OPERATION)).await
    }

    async fn complete(&self, target: Target<'_>, parts: &[Part]) -> Result<Joined, StoreError> {
        let (target, parts) = (Owned::from(target), parts.to_vec());
        self.blocking("CompleteMultipartUpload", move |inner| inner.complete(&target, &parts).map(Joined::from)).await
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
            (inner.places.clone(), inner.work.clone()),
            key.clone(),
            content_type.map(str::to_owned),
        );
        intake::pump(body, bytes, sink, inner.intakes.share()).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<StoredObject>, StoreError> {
        let key = key.clone();
        const OPERATION: &str = "HeadObject";
        let found = move |inner: &Inner| {
            let Some((_, object)) = inner.object(&key, OPERATION)? else { return Ok(None) };
            // Who asks takes it for the outcome of a merge that nobody saw the end of: the name
            // may have been given a moment before a crash, or before a sync that failed.
            object::sync_name(&inner.root, &key).map_err(on(OPERATION, "the object's folder"))?;
            Ok(Some(object))
        };
        self.blocking(OPERATION, found).await
    }

    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Reading, StoreError> {
        const OPERATION: &str = "GetObject";
        let key = key.clone();
        let found = self.blocking(OPERATION, move |inner| inner.object(&key, OPERATION)).await?;
        let (file, object) = found.ok_or(StoreError::NoSuchObject)?;
        let range = range.unwrap_or(0..object.bytes);
        if range.start > range.end || range.end > object.bytes {
            let message = format!("bytes {}..{} of {}", range.start, range.end, object.bytes);
            return Err(fault::refused(OPERATION, "InvalidRange", message));
        }
        Ok(Reading { object, stream: object::read(file, range, self.0.downloads.share()) })
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        const OPERATION: &str = "DeleteObject";
        object::admit(key, OPERATION)?;
        let key = key.clone();
        let remove = move |inner: &Inner| object::remove(&inner.root, &key).map_err(on(OPERATION, "the object"));
        self.blocking(OPERATION, remove).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<ListedUpload>, StoreError> {
        let prefix = prefix.to_owned();
        self.blocking("ListMultipartUploads", move |inner| inner.list_uploads(&prefix)).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.blocking("Check", Inner::check).await
    }

    async fn abandoned(&self, _: &ObjectKey) -> Result<Abandoned, StoreError> {
        Ok(Abandoned::Swept)
    }

    fn renew(&self, _: &StoreConfig, _: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
        Ok(())
    }

    async fn download_url(&self, _: &Download<'_>) -> Result<Option<SignedGet>, StoreError> {
        Ok(None)
    }

    async fn sign_part(&self, _: Target<'_>, _: PartNumber, _: Duration) -> Result<Option<SignedPut>, StoreError> {
        Ok(None)
    }
}
