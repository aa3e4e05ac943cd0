//! Where objects lie: folders that are kept open, and files that have their
//! names in them at once.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::store::file::folder::Folder;

/// A file that has its name before its bytes are there. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct Named {
    folder: Arc<Folder>,
    /// None once it is to stay.
    name: Option<String>,
    file: File,
}

impl Named {
    /// A new file of this name.
    pub(super) fn create(folder: Arc<Folder>, name: String) -> io::Result<Self> {
        let file = folder.create(&name)?;
        Ok(Self { folder, name: Some(name), file })
    }

    /// The file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Makes its name durable. Its bytes must be durable already.
    pub(super) fn keep(mut self) -> io::Result<()> {
        self.folder.sync()?;
        self.name = None;
        Ok(())
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            // What cannot be removed now is an object that belongs to nothing: the sweeper's.
            let _ = self.folder.remove(&name);
        }
    }
}

/// Folders that files were lately put into, kept open.
#[derive(Debug)]
pub(super) struct Places {
    root: Arc<Folder>,
    /// By their paths, the last one first.
    known: Mutex<Vec<(String, Arc<Folder>)>>,
}

impl Places {
    /// So many are kept: owners that upload at the same time, times days.
    const MAX: usize = 32;

    /// Places below this folder.
    pub(super) fn below(root: Arc<Folder>) -> Self {
        Self { root, known: Mutex::default() }
    }

    /// The folder at this path, made durably if need be. One that is known may
    /// have been removed since.
    pub(super) fn folder(&self, path: &str) -> io::Result<Arc<Folder>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = known.iter().position(|(known, _)| known == path) {
            let place = known.remove(at);
            let folder = place.1.clone();
            known.insert(0, place);
            return Ok(folder);
        }
        drop(known);
        self.make(path)
    }

    /// The same, looked up anew.
    pub(super) fn make(&self, path: &str) -> io::Result<Arc<Folder>> {
        let mut folder = self.root.clone();
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            folder = Arc::new(folder.make_child(segment)?);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(known, _)| known != path);
        known.insert(0, (path.to_owned(), folder.clone()));
        known.truncate(Self::MAX);
        Ok(folder)
    }

    /// It is opened anew next time: it was removed, or could not be synced.
    pub(super) fn forget(&self, path: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|(known, _)| known != path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_was_removed_is_made_anew() {
        let dir = tempfile::tempdir().expect("a folder");
        let places = Places::below(Arc::new(Folder::at(dir.path()).expect("opened")));
        let folder = places.folder("a/b").expect("made");
        assert!(Arc::ptr_eq(&folder, &places.folder("a/b").expect("known")));
        std::fs::remove_dir_all(dir.path().join("a")).expect("removed");
        assert!(folder.create("c").is_err());
        places.forget("a/b");
        drop(Named::create(places.folder("a/b").expect("made"), "c".to_owned()).expect("made"));
        assert!(!dir.path().join("a/b/c").exists());
        Named::create(places.folder("a/b").expect("made"), "c".to_owned()).expect("made").keep().expect("kept");
        assert!(dir.path().join("a/b/c").exists());
    }
}
