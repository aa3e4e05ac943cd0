//! What this process knows of a multipart upload: what it was begun with, who
//! is writing which part, and whether it is being joined or dropped. The truth
//! about its parts is on the disk.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::domain::PartNumber;
use crate::store::StoreError;
use crate::store::file::fault;
use crate::store::file::layout::Header;

/// A multipart upload.
#[derive(Debug)]
pub(super) struct Session {
    /// Its folder's name, which is the store's name for it.
    pub(super) name: String,
    /// What it was begun with.
    pub(super) header: Header,
    phase: RwLock<Phase>,
    writers: Mutex<HashMap<PartNumber, Arc<Mutex<Ticket>>>>,
    tickets: AtomicU64,
    /// Parts of a former boot that were read: whether their bytes are theirs.
    pub(super) judged: Mutex<HashMap<PartNumber, bool>>,
}

/// What may be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Parts are taken.
    Open,
    /// Its parts are being joined.
    Completing,
    /// It is being dropped: there is no way back but a failure of the disk.
    Dropping,
    /// It was joined or dropped.
    Gone,
}

/// Names one writer of one part. 0 is nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ticket(u64);

impl Session {
    /// One whose folder is there.
    pub(super) fn new(name: String, header: Header) -> Self {
        Self {
            name,
            header,
            phase: RwLock::new(Phase::Open),
            writers: Mutex::default(),
            tickets: AtomicU64::new(1),
            judged: Mutex::default(),
        }
    }

    /// The right to write for a moment: as long as it is held, the upload is
    /// neither joined nor dropped. Never held while a body is waited for.
    pub(super) fn write(&self, operation: &'static str) -> Result<Writing<'_>, StoreError> {
        let phase = self.phase.read().unwrap_or_else(PoisonError::into_inner);
        match *phase {
            Phase::Open => Ok(Writing(phase)),
            Phase::Completing => Err(completing(operation)),
            Phase::Dropping | Phase::Gone => Err(StoreError::NoSuchUpload),
        }
    }

    /// The right to join it. Writers in mid-body find it taken with their next bytes.
    pub(super) fn begin_join(&self, operation: &'static str) -> Result<Closing<'_>, StoreError> {
        self.close(Phase::Completing, operation)
    }

    /// The right to drop it, likewise.
    pub(super) fn begin_drop(&self, operation: &'static str) -> Result<Closing<'_>, StoreError> {
        self.close(Phase::Dropping, operation)
    }

    fn close(&self, next: Phase, operation: &'static str) -> Result<Closing<'_>, StoreError> {
        let mut phase = self.set();
        match *phase {
            Phase::Open => {
                *phase = next;
                Ok(Closing { session: self, to: Phase::Open })
            }
            Phase::Completing => Err(completing(operation)),
            Phase::Dropping | Phase::Gone => Err(StoreError::NoSuchUpload),
        }
    }

    fn set(&self) -> RwLockWriteGuard<'_, Phase> {
        self.phase.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Comes in as a writer of this part.
    pub(super) fn writer(self: &Arc<Self>, number: PartNumber) -> Writer {
        let place = self.writers().entry(number).or_default().clone();
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
        Writer { session: self.clone(), number, place, ticket }
    }

    fn writers(&self) -> MutexGuard<'_, HashMap<PartNumber, Arc<Mutex<Ticket>>>> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it lives, the upload is neither joined nor dropped.
pub(super) struct Writing<'a>(#[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'a, Phase>);

/// The upload is being joined or dropped; open again if that comes to nothing.
pub(super) struct Closing<'a> {
    session: &'a Session,
    to: Phase,
}

impl Closing<'_> {
    /// It is joined or dropped for good.
    pub(super) fn gone(mut self) {
        self.to = Phase::Gone;
    }
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        *self.session.set() = self.to;
    }
}

/// One call's place among the writers of a part. The last to begin writing
/// has the part; whoever had it before is told so with its next bytes, so
/// that bytes of a call that was given up never land among those of the next.
pub(super) struct Writer {
    session: Arc<Session>,
    number: PartNumber,
    place: Arc<Mutex<Ticket>>,
    ticket: Ticket,
}

impl Writer {
    /// The upload.
    pub(super) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Which part.
    pub(super) fn number(&self) -> PartNumber {
        self.number
    }

    /// Takes the part over, and holds it.
    pub(super) fn take(&self) -> MutexGuard<'_, Ticket> {
        let mut holder = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        *holder = self.ticket;
        holder
    }

    /// Holds the part that was taken before, if it still is ours.
    pub(super) fn hold(&self, operation: &'static str) -> Result<MutexGuard<'_, Ticket>, StoreError> {
        let holder = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if *holder == self.ticket {
            Ok(holder)
        } else {
            Err(fault::busy(operation, "Superseded", "a later request writes this part"))
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut writers = self.session.writers();
        // The map's and ours: nobody else has come in, and nobody can while
        // the map is locked.
        if Arc::strong_count(&self.place) == 2 {
            writers.remove(&self.number);
        }
    }
}

pub(super) fn completing(operation: &'static str) -> StoreError {
    fault::busy(operation, "UploadCompleting", "the upload is being completed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ObjectKey;

    fn session() -> Arc<Session> {
        let key = ObjectKey::parse("a").expect("a key");
        Arc::new(Session::new("s".to_owned(), Header { key, content_type: None, plan: None }))
    }

    fn number() -> PartNumber {
        PartNumber::new(1).expect("a number")
    }

    #[test]
    fn the_last_to_begin_has_the_part() {
        let session = session();
        let (first, second) = (session.writer(number()), session.writer(number()));
        drop(first.take());
        assert!(first.hold("UploadPart").is_ok());
        drop(second.take());
        assert!(first.hold("UploadPart").is_err_and(|e| e.is_transient()));
        assert!(second.hold("UploadPart").is_ok());
        drop((first, second));
        assert!(session.writers().is_empty(), "nothing is kept of writers that left");
    }

    #[test]
    fn nobody_writes_while_it_is_closed_and_a_failed_close_opens_again() {
        let session = session();
        let closing = session.begin_join("CompleteMultipartUpload").expect("open");
        assert!(session.write("UploadPart").is_err_and(|e| e.is_transient()));
        assert!(session.begin_drop("AbortMultipartUpload").is_err());
        drop(closing);
        assert!(session.write("UploadPart").is_ok());
        session.begin_drop("AbortMultipartUpload").expect("open").gone();
        assert!(matches!(session.write("UploadPart").map(drop), Err(StoreError::NoSuchUpload)));
    }
}
