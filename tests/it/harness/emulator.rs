//! The OSS emulator as a process, the store of a gateway under test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::running::Running;
use super::{client, free_address};

/// The emulator as a store.
pub(crate) struct Emulator {
    pub(crate) address: SocketAddr,
    folder: PathBuf,
    process: Option<Running>,
}

impl Emulator {
    pub(crate) async fn start(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("a folder");
        let mut emulator = Self { address: free_address(), folder: folder.to_owned(), process: None };
        emulator.boot().await;
        emulator
    }

    pub(crate) async fn boot(&mut self) {
        let (address, data) = (self.address.to_string(), self.folder.join("data").display().to_string());
        let arguments = ["emulator", "--listen", &address, "--bucket", "bkt", "--access-key-id", "ak"];
        let more = ["--access-key-secret", "sk", "--data-dir", &data];
        let log = self.folder.join("emulator.log");
        let arguments: Vec<&str> = arguments.into_iter().chain(more).collect();
        let mut running = Running::spawn(&arguments, std::iter::empty(), &self.folder, &log);
        running.wait_until_live(&format!("http://{address}/-/stats"), &log).await;
        self.process = Some(running);
    }

    pub(crate) fn stop(&mut self) {
        drop(self.process.take());
    }

    /// How a gateway is told of it.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let pairs = [
            ("STORE__KIND", "oss".to_owned()),
            ("STORE__OSS__ENDPOINT", format!("http://{}", self.address)),
            ("STORE__OSS__BUCKET", "bkt".to_owned()),
            ("STORE__OSS__REGION", "cn-hangzhou".to_owned()),
            ("STORE__OSS__ACCESS_KEY_ID", "ak".to_owned()),
            ("STORE__OSS__ACCESS_KEY_SECRET", "sk".to_owned()),
            ("STORE__OSS__PATH_STYLE", "true".to_owned()),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// How often an operation was called.
    pub(crate) async fn calls(&self, operation: &str) -> u64 {
        let url = format!("http://{}/-/stats", self.address);
        let stats: Value = client().get(url).send().await.expect("stats").json().await.expect("json");
        stats[operation].as_u64().unwrap_or_else(|| panic!("no {operation} in {stats}"))
    }
}
