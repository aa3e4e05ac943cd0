//! The file store as a whole.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::clock::SystemClock;
use crate::store::conformance;

fn open(dir: &Path) -> FileStore {
    FileStore::open(dir, Arc::new(SystemClock::new())).expect("opened")
}

#[tokio::test]
async fn the_file_store_conforms() {
    let dir = tempfile::tempdir().expect("a folder");
    conformance::run(Arc::new(open(dir.path())), "uploads/conformance").await;
}
