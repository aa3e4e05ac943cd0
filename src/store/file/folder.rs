//! Folders by descriptor. Every name here is one segment, resolved in a folder
//! that is open already, and never through a symbolic link: what somebody
//! plants in the tree cannot lead out of it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, fsync, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

const FILE_MODE: Mode = Mode::from_raw_mode(0o640);
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o750);

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    /// How often a sync was asked for.
    asked: AtomicU64,
    synced: Mutex<Synced>,
}

/// What is durable of a folder.
#[derive(Debug, Default)]
struct Synced {
    /// All that was asked for up to here was tried.
    asked: u64,
    /// Of these, what may have been lost to a sync that failed: the next one,
    /// that does not, says nothing of it.
    lost: Range<u64>,
}

impl Folder {
    fn of(fd: OwnedFd) -> Self {
        Self { fd, asked: AtomicU64::new(0), synced: Mutex::default() }
    }

    /// The folder at a path that the operator gave: the one place where a
    /// symbolic link is followed.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::of(openat(CWD, path, flags, Mode::empty())?))
    }

    /// A folder in this one.
    pub(super) fn child(&self, name: &str) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self::of(openat(&self.fd, name, flags, Mode::empty())?))
    }

    /// A new folder in this one; its name is not durable yet.
    pub(super) fn create_child(&self, name: &str) -> io::Result<Self> {
        mkdirat(&self.fd, name, FOLDER_MODE)?;
        self.child(name)
    }

    /// A folder in this one, made durably if it is not there.
    pub(super) fn make_child(&self, name: &str) -> io::Result<Self> {
        match self.child(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        match mkdirat(&self.fd, name, FOLDER_MODE) {
            // Somebody else made it just now, and may not have synced it yet.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        self.sync()?;
        self.child(name)
    }

    /// A new file, to be written and read.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.fd, name, flags, FILE_MODE)?.into())
    }

    /// A file that several processes may reach for, made if it is not there.
    pub(super) fn create_or_open(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.fd, name, flags, FILE_MODE)?.into())
    }

    /// A file that is there, to be read. What is not a regular file is not found.
    pub(super) fn open(&self, name: &str) -> io::Result<File> {
        // NONBLOCK, or a named pipe that somebody planted would hold us up.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File = openat(&self.fd, name, flags, Mode::empty())?.into();
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// A file that is there, to be written and read.
    pub(super) fn open_to_write(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.fd, name, flags, Mode::empty())?.into())
    }

    /// Moves a file or folder, replacing a file that is there.
    pub(super) fn rename(&self, name: &str, to: &Self, new_name: &str) -> io::Result<()> {
        Ok(renameat(&self.fd, name, &to.fd, new_name)?)
    }

    /// Removes a file. False when it is not there.
    pub(super) fn remove(&self, name: &str) -> io::Result<bool> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file, or a folder with all that is in it.
    pub(super) fn remove_all(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // POSIX says EPERM for a folder, Linux says EISDIR.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        let folder = self.child(name)?;
        for inner in folder.names()? {
            folder.remove_all(&inner)?;
        }
        Ok(unlinkat(&self.fd, name, AtFlags::REMOVEDIR)?)
    }

    /// The names in it that are UTF-8, as all of ours are, in no order.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        Ok(names)
    }

    /// Makes durable which names are in it. Of several that ask at once, one
    /// syncs for all who had asked when it began.
    pub(super) fn sync(&self) -> io::Result<()> {
        let mine = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if synced.lost.contains(&mine) {
            return Err(Errno::IO.into());
        }
        if synced.asked < mine {
            let asked = self.asked.load(Ordering::SeqCst);
            let before = std::mem::replace(&mut synced.asked, asked);
            if let Err(error) = fsync(&self.fd) {
                let from = if synced.lost.is_empty() { before + 1 } else { synced.lost.start };
                synced.lost = from..asked + 1;
                return Err(error.into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_not_followed() {
        let (inside, outside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        std::fs::write(outside.path().join("secret"), "s").expect("written");
        std::os::unix::fs::symlink(outside.path(), inside.path().join("folder")).expect("linked");
        std::os::unix::fs::symlink(outside.path().join("secret"), inside.path().join("file")).expect("linked");
        let folder = Folder::at(inside.path()).expect("opened");
        assert!(folder.child("folder").is_err());
        assert!(folder.make_child("folder").is_err());
        assert!(folder.open("file").is_err());
        assert!(folder.open_to_write("file").is_err());
        assert!(folder.create("file").is_err());
        folder.remove_all("folder").expect("removed");
        assert!(outside.path().join("secret").exists(), "only the link went");
    }

    #[test]
    fn one_sync_serves_all_who_asked_before_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::at(dir.path()).expect("opened");
        std::thread::scope(|scope| {
            for n in 0..16 {
                let folder = &folder;
                scope.spawn(move || {
                    for i in 0..50 {
                        folder.create(&format!("{n}-{i}")).expect("made");
                        folder.sync().expect("synced");
                    }
                });
            }
        });
        let synced = folder.synced.lock().expect("no panic");
        assert_eq!((synced.asked, synced.lost.is_empty()), (16 * 50, true));
    }
}
