//! Taking a folder into use: one gateway at a time, and what a former one left
//! unfinished goes.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::clock::Clock;
use crate::share::Budget;
use crate::store::file::folder::Folder;
use crate::store::file::intake::{BATCH_BYTES, BATCHES_BYTES};
use crate::store::file::layout::{DATA, LOCK, OWN, UPLOADS, WORK};
use crate::store::file::places::Places;
use crate::store::file::record::Boot;
use crate::store::file::workshop::Workshop;
use crate::store::file::{FileStore, Inner};

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another gateway has it.
    #[error(
        "the folder is in use by {holder}: one folder serves one gateway; for several gateways use a store they can \
         share (store.kind = \"oss\")"
    )]
    Locked {
        /// Who, as far as the lock file says.
        holder: String,
    },
    /// It cannot be made, read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// What all downloads together read at a time, in bytes, beyond the least of each.
const DOWNLOADS_BYTES: usize = 32 << 20;
/// What one download reads at a time, in bytes.
const DOWNLOAD_BYTES: RangeInclusive<usize> = 32 << 10..=256 << 10;

fn trying<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> OpenError {
    move |source| OpenError::Io { what, source: source.into() }
}

impl FileStore {
    /// Takes the folder into use, making it if it is not there, and holds it
    /// until the last clone is dropped. Blocks; meant for the start.
    pub fn open(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let boot = Boot::current(&*clock);
        Self::open_in(dir, clock, boot)
    }

    /// As `open`, in a given boot of the machine.
    pub(super) fn open_in(dir: &Path, clock: Arc<dyn Clock>, boot: Boot) -> Result<Self, OpenError> {
        let root = make(dir).map_err(trying("the store's folder cannot be made"))?;
        let own = root.make_child(OWN).map_err(trying("the store's own folder cannot be made"))?;
        let lock = lock(&own)?;
        let uploads = own.make_child(UPLOADS).map_err(trying("the folder of uploads cannot be made"))?;
        let work = own.make_child(WORK).map_err(trying("the work folder cannot be made"))?;
        let work = Workshop::clear(work).map_err(trying("the work folder cannot be emptied"))?;
        let resolved = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        let name = resolved.file_name().unwrap_or(resolved.as_os_str()).to_string_lossy().into_owned();
        let root = Arc::new(root);
        let inner = Inner {
            name,
            places: Arc::new(Places::below(root.clone())),
            root,
            uploads: Arc::new(uploads),
            work,
            downloads: Budget::new(DOWNLOADS_BYTES, DOWNLOAD_BYTES),
            intakes: Budget::new(BATCHES_BYTES, BATCH_BYTES),
            boot,
            clock,
            sessions: Mutex::default(),
            lock,
        };
        inner.discard_completed().map_err(trying("the folder of uploads cannot be read"))?;
        Ok(Self(Arc::new(inner)))
    }
}

impl Inner {
    /// Uploads whose data became an object just before a crash.
    fn discard_completed(&self) -> io::Result<()> {
        for session in self.uploads.names()? {
            let in_place = self.header(&session).ok().flatten().is_some_and(|header| header.in_place().is_some());
            if in_place && is_absent(self.uploads.child(&session)?.open(DATA))? {
                self.discard(&session)?;
            }
        }
        Ok(())
    }
}

fn is_absent(opened: io::Result<File>) -> io::Result<bool> {
    match opened {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// The folder at a path, with all folders above it, made durably.
fn make(dir: &Path) -> io::Result<Folder> {
    if !dir.is_dir() {
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            make(parent)?;
        }
        std::fs::create_dir(dir).or_else(|error| if dir.is_dir() { Ok(()) } else { Err(error) })?;
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        Folder::at(parent.unwrap_or(Path::new(".")))?.sync()?;
    }
    Folder::at(dir)
}

/// Locks the folder and writes down who holds it.
fn lock(own: &Folder) -> Result<File, OpenError> {
    let mut file = own.create_or_open(LOCK).map_err(trying("the lock file cannot be opened"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(OpenError::Locked { holder: holder(&mut file) }),
        Err(error) => return Err(trying("the folder cannot be locked")(error)),
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .and_then(|()| file.sync_all())
        .and_then(|()| own.sync());
    written.map_err(trying("the lock file cannot be written"))?;
    Ok(file)
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok());
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
