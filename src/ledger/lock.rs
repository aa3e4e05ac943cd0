//! A SQLite file belongs to one gateway. The lock is the kernel's, on a file
//! beside the database, so it ends with the process however that ends; the
//! process id in it is for people.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use crate::ledger::error::OpenError;

/// The right to write to a SQLite file, until it is dropped.
pub(super) struct DatabaseLock {
    _file: File,
}

impl DatabaseLock {
    /// Takes it, or says who has it.
    pub(super) fn take(database: &Path) -> Result<Self, OpenError> {
        let failed = |e: std::io::Error| OpenError::File { path: database.to_owned(), reason: e.to_string() };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path_of_lock(database))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Who has it is only for the message.
                let _ = file.read_to_string(&mut text);
                return Err(OpenError::Locked { path: database.to_owned(), pid: text.trim().parse().ok() });
            }
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        let written = file.set_len(0).and_then(|()| file.rewind());
        written.and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// `chunkgate.db.lock` beside `chunkgate.db`. The file stays: removing it would
/// let two processes lock two files of one name.
fn path_of_lock(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_told_who_was_first() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("a.db");
        let first = DatabaseLock::take(&database).unwrap();
        match DatabaseLock::take(&database) {
            Err(OpenError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{:?}", other.map(|_| ())),
        }
        drop(first);
        DatabaseLock::take(&database).unwrap();
    }
}
