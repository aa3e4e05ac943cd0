//! Who the gateway is to the store, and secrets that rotate while it runs.

pub(crate) mod gatekeeper;
mod rotation;
mod secrecy;
mod secrets;
pub(crate) mod services;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Emulator, Gateway, KIB, On, content};
use gatekeeper::{Gatekeeper, Key};
use services::{BASE, PROVIDER, ROLE, Services};

/// The emulator behind the gatekeeper.
pub(crate) struct Ground {
    pub(crate) emulator: Emulator,
    pub(crate) gatekeeper: Gatekeeper,
    pub(crate) folder: TempDir,
}

impl Ground {
    pub(crate) async fn prepare() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let emulator = Emulator::start(&folder.path().join("emulator")).await;
        let gatekeeper = Gatekeeper::before(emulator.address).await;
        Self { emulator, gatekeeper, folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A gateway that is told of the bucket, and by `more` of who it is.
    pub(crate) async fn gateway(&self, more: &[(&str, String)]) -> Gateway {
        let mut settings = self.emulator.environment();
        settings.retain(|(name, _)| !name.contains("ACCESS_KEY"));
        settings.push(("STORE__OSS__ENDPOINT".to_owned(), format!("http://{}", self.gatekeeper.address)));
        settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Gateway::start_with(On::FileAndSqlite, &settings).await
    }
}

/// Replaces a file in one step, as whoever rotates secrets should.
pub(crate) fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).expect("written");
    std::fs::rename(&beside, path).expect("renamed");
}

/// Uploads files of four chunks, one after the other, until the time is over;
/// how many chunks there were. None of them may fail.
async fn load(gateway: &Gateway, client: usize, until: tokio::time::Instant) -> usize {
    const CHUNK: usize = 128 * KIB;
    let mut chunks = 0;
    for n in 0.. {
        if tokio::time::Instant::now() >= until {
            break;
        }
        let (file_id, bytes) = (format!("f-{client}-{n}"), content(4 * CHUNK, (client * 1000 + n) as u64));
        let wanted = json!({"fileId": file_id, "fileName": "a.bin", "fileSize": bytes.len(), "chunkSize": CHUNK});
        let created = gateway.post("/uploads", wanted).await;
        assert_eq!(created.status, 201, "{created:?}\n{}", gateway.log());
        let last = gateway.put_all(&file_id, &bytes, CHUNK).await;
        assert_eq!(last.json["complete"], true, "{last:?}");
        chunks += 4;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    chunks
}
