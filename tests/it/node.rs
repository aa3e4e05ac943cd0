//! Node with the packages that a folder of `tests/clients` names.

use std::path::{Path, PathBuf};

use tokio::process::Command;
use tokio::sync::Mutex;

const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

/// One folder is filled at a time, and those who need it wait.
static INSTALLING: Mutex<()> = Mutex::const_new(());

/// The folder, with what its `package-lock.json` names.
pub(crate) async fn folder(name: &str, package: &str) -> PathBuf {
    let _one = INSTALLING.lock().await;
    let folder = Path::new(CLIENTS).join(name);
    if !folder.join("node_modules").join(package).is_dir() {
        let npm = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder).output().await;
        let npm = npm.expect("npm runs: these tests need node 20, npm and Chromium (apt-get install chromium npm)");
        assert!(npm.status.success(), "npm ci: {}", String::from_utf8_lossy(&npm.stderr));
    }
    folder
}
