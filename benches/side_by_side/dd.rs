//! `dd conv=fsync`: as fast as files get onto this disk.

use std::path::PathBuf;

use async_trait::async_trait;
use chunkgate::bench::{Content, Failed, Pace, Protocol};
use tokio::process::Command;

/// Makes files in this folder, one process for each.
#[derive(Debug)]
pub(crate) struct Dd {
    pub(crate) folder: PathBuf,
}

#[async_trait]
impl Protocol for Dd {
    async fn begin(&self, file: &Content) -> Result<String, Failed> {
        Ok(file.id.clone())
    }

    /// All of the file with its first chunk.
    async fn send(&self, _: &str, file: &Content, index: u64, _: Option<Pace>) -> Result<(), Failed> {
        if index > 0 {
            return Ok(());
        }
        let failed = |error: std::io::Error| Failed::new(error.to_string());
        let to = self.folder.join(&file.id);
        let done = Command::new("dd")
            .args(["if=/dev/zero", "conv=fsync", "status=none"])
            .args([
                format!("of={}", to.display()),
                format!("bs={}", file.chunk_bytes),
                format!("count={}", file.chunks()),
            ])
            .status();
        if done.await.map_err(failed)?.success() { Ok(()) } else { Err(Failed::new("dd failed")) }
    }

    async fn end(&self, _: &str, _: &Content) -> Result<(), Failed> {
        Ok(())
    }

    async fn is_whole(&self, id: &str, file: &Content) -> Result<bool, Failed> {
        let metadata = std::fs::metadata(self.folder.join(id)).map_err(|error| Failed::new(error.to_string()))?;
        Ok(metadata.len() == file.bytes)
    }
}
