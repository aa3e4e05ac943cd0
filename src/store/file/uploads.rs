//! Multipart uploads from begin to end. All of it blocks, and runs to its end
//! even when its caller has left.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::domain::{Crc64, ObjectKey, Part, SessionId, Timestamp, join};
use crate::store::file::fault::{self, on};
use crate::store::file::layout::{self, HEADER, Header};
use crate::store::file::session::Session;
use crate::store::file::{Inner, in_place, object, side};
use crate::store::{ListedUpload, StoreError, StoredObject, Target, parts};

const HEADER_WHAT: &str = "the upload's header";

impl Inner {
    /// The upload, if it is there and of this key.
    pub(super) fn session(&self, target: &Owned, operation: &'static str) -> Result<Arc<Session>, StoreError> {
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

    /// The upload, if this process has seen it before: needs no disk.
    pub(super) fn known(&self, target: &Owned) -> Option<Arc<Session>> {
        self.sessions().get(target.session.as_str()).filter(|session| session.header.key == target.key).cloned()
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an upload was begun with; none when there is no such upload.
    pub(super) fn header(&self, name: &str) -> io::Result<Option<Header>> {
        let mut text = String::new();
        let read = self.uploads.child(name).and_then(|folder| folder.open(HEADER)?.read_to_string(&mut text));
        match read {
            Ok(_) => Header::decode(&text).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// When the upload was begun: its header is written once.
    fn begun_at(&self, name: &str) -> Option<Timestamp> {
        let header = self.uploads.child(name).and_then(|folder| folder.open(HEADER)).ok()?;
        let since = header.metadata().ok()?.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_millis()).ok().map(Timestamp::from_millis)
    }

    /// Begins an upload durably.
    pub(super) fn begin(&self, header: &Header) -> Result<SessionId, StoreError> {
        const OPERATION: &str = "InitiateMultipartUpload";
        object::admit(&header.key, OPERATION)?;
        let session = self.unused_session();
        let name = self.work.name();
        // Made aside and moved in, so that what is in `uploads` is whole.
        let steps = || {
            let folder = self.work.folder().create_child(&name)?;
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

    /// A name that no upload here has. 128 random bits would do, but a test's
    /// clock draws the same ones again after a restart.
    fn unused_session(&self) -> SessionId {
        let mut session = layout::session_of(self.clock.random());
        while self.uploads.child(session.as_str()).is_ok() {
            session = layout::session_of(self.clock.random());
        }
        session
    }

    /// All parts that are there, in ascending order.
    pub(super) fn list_parts(&self, session: &Session, operation: &'static str) -> Result<Vec<Part>, StoreError> {
        match session.header.in_place() {
            Some(layout) => in_place::list(&self.uploads, session, layout, self.boot, operation),
            None => side::list(&self.uploads, session, operation),
        }
    }

    /// Joins the parts given, which must be those that are there.
    pub(super) fn complete(&self, target: &Owned, given: &[Part]) -> Result<StoredObject, StoreError> {
        const OPERATION: &str = "CompleteMultipartUpload";
        let session = self.session(target, OPERATION)?;
        let closing = session.begin_join(OPERATION)?;
        let stored = self.list_parts(&session, OPERATION)?;
        parts::verify(given, &stored)?;
        let in_place = session.header.in_place();
        if let Some(planned) = in_place.map(|layout| layout.count()).filter(|&planned| planned as usize != given.len())
        {
            return Err(StoreError::PartsDiffer(format!("{} parts of a plan of {planned}", given.len())));
        }
        // Every part of this store has a checksum, and those given run from 1.
        let crc64 = join::joined_crc64(&stored[..given.len()]).unwrap_or(Crc64::EMPTY);
        // Whatever can fail for want of space or rights fails here, before the
        // parts are touched.
        let (path, name) = object::place(&session.header.key);
        let folder = self.places.make(path).map_err(on(OPERATION, "the object's folder"))?;
        let to = (&*folder, name);
        let object = match in_place {
            Some(layout) => in_place::join(&self.uploads, &session, layout, to, crc64)?,
            None => side::join((&self.uploads, &self.work), &session, given, to, crc64)?,
        };
        closing.gone();
        // The object is there, whatever becomes of the empty folder: it need
        // not go durably, since the next start or an abort finds it.
        if let Err(error) = self.discard(&session.name) {
            tracing::warn!(session = session.name, %error, "remains of a completed upload are left");
        }
        // Last: as long as the folder is there, nobody may take it for an upload.
        self.sessions().remove(&session.name);
        Ok(object)
    }

    /// Drops the upload durably, if it is there.
    pub(super) fn abort(&self, target: &Owned) -> Result<(), StoreError> {
        const OPERATION: &str = "AbortMultipartUpload";
        let dropped = self.session(target, OPERATION).and_then(|session| {
            let closing = session.begin_drop(OPERATION)?;
            let dropped = self.discard(&session.name).and_then(|()| self.uploads.sync());
            dropped.map_err(on(OPERATION, "the upload's folder"))?;
            closing.gone();
            self.sessions().remove(&session.name);
            Ok(())
        });
        match dropped {
            Err(StoreError::NoSuchUpload) => Ok(()),
            Ok(()) | Err(_) => dropped,
        }
    }

    /// Takes an upload's folder away at once, then removes what was in it;
    /// what cannot be removed now is removed at the next start.
    pub(super) fn discard(&self, session: &str) -> io::Result<()> {
        let name = self.work.name();
        match self.uploads.rename(session, self.work.folder(), &name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed?,
        }
        if let Err(error) = self.work.folder().remove_all(&name) {
            tracing::warn!(session, %error, "remains of an upload are left until the next start");
        }
        Ok(())
    }

    /// All uploads whose keys begin so. One whose header is damaged is left alone.
    pub(super) fn list_uploads(&self, prefix: &str) -> Result<Vec<ListedUpload>, StoreError> {
        let names = self.uploads.names().map_err(on("ListMultipartUploads", "the folder of uploads"))?;
        let mut listed = Vec::new();
        for name in names.into_iter().filter(|name| layout::is_session(name)) {
            match self.header(&name) {
                Ok(Some(header)) if header.key.as_str().starts_with(prefix) => {
                    listed.push(ListedUpload {
                        key: header.key.as_str().to_owned(),
                        begun_at: self.begun_at(&name),
                        session: SessionId::new(name),
                    });
                }
                // Of another prefix, or gone in this moment.
                Ok(_) => {}
                Err(error) => tracing::warn!(session = name, %error, "an upload's header cannot be read"),
            }
        }
        Ok(listed)
    }
}

/// A target that outlives the caller's: blocking work goes on when its caller
/// has left.
pub(super) struct Owned {
    key: ObjectKey,
    session: SessionId,
}

impl From<Target<'_>> for Owned {
    fn from(target: Target<'_>) -> Self {
        Self { key: target.key.clone(), session: target.session.clone() }
    }
}
