//! Files in the making: without their names until all of them is there.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::file::folder::Folder;

/// Where files are made before they get their names. Emptied at every start.
#[derive(Clone, Debug)]
pub(super) struct Workshop {
    folder: Arc<Folder>,
    made: Arc<AtomicU64>,
}

impl Workshop {
    /// Removes whatever a former process left here.
    pub(super) fn clear(folder: Folder) -> io::Result<Self> {
        for name in folder.names()? {
            folder.remove_all(&name)?;
        }
        Ok(Self { folder: Arc::new(folder), made: Arc::default() })
    }

    /// The folder itself.
    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// A name that nothing here has. The folder is ours alone, so a count does.
    pub(super) fn name(&self) -> String {
        format!("{:x}", self.made.fetch_add(1, Ordering::Relaxed))
    }

    /// A new file that vanishes unless it is moved out.
    pub(super) fn file(&self) -> io::Result<Unfinished> {
        let name = self.name();
        let file = self.folder.create(&name)?;
        Ok(Unfinished { workshop: self.clone(), name: Some(name), file })
    }
}

/// A file without its name yet. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct Unfinished {
    workshop: Workshop,
    name: Option<String>,
    file: File,
}

impl Unfinished {
    /// The file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its name, durably. Its bytes must be durable already.
    pub(super) fn move_to(mut self, folder: &Folder, name: &str) -> io::Result<()> {
        if let Some(unfinished) = &self.name {
            self.workshop.folder.rename(unfinished, folder, name)?;
            self.name = None;
        }
        folder.sync()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            // What cannot be removed now is removed at the next start.
            let _ = self.workshop.folder.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_file_vanishes_unless_it_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(dir.path().join("left/over")).expect("made");
        let workshop = Workshop::clear(Folder::at(dir.path()).expect("opened")).expect("cleared");
        assert_eq!(workshop.folder().names().expect("names"), Vec::<String>::new());
        drop(workshop.file().expect("made"));
        assert_eq!(workshop.folder().names().expect("names"), Vec::<String>::new());
        workshop.file().expect("made").move_to(workshop.folder(), "named").expect("named");
        assert_eq!(workshop.folder().names().expect("names"), vec!["named"]);
    }
}
