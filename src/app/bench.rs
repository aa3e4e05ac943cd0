//! `chunkgate bench`: puts the load generator together and says how it went.

use std::io::{IsTerminal as _, Write as _, stderr, stdout};
use std::sync::Arc;
use std::time::Duration;

use super::{AppError, misconfigured};
use crate::bench::{BenchConfig, GatewayProtocol, Load, Mode, client, run};
use crate::clock::SystemClock;

/// Loads a gateway, prints the figures, and fails if they are of nothing whole.
pub async fn bench(config: &BenchConfig) -> Result<(), AppError> {
    if reqwest::Url::parse(&config.url).is_err() {
        return Err(misconfigured(format!("--url is {:?}: write a URL such as http://127.0.0.1:8080", config.url)));
    }
    let client = client().map_err(|error| AppError::Failed(error.to_string()))?;
    let protocol = Arc::new(GatewayProtocol::new(client, &config.url, config.mode, config.key.clone()));
    let report = run(&load(config), protocol, Arc::new(SystemClock::new()), progress).await;
    if stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    let text = if config.json {
        serde_json::to_string_pretty(&report).map_err(|error| AppError::Failed(error.to_string()))? + "\n"
    } else {
        report.to_string()
    };
    // Whoever reads it may stop reading.
    let _ = stdout().write_all(text.as_bytes());
    if report.is_sound() { Ok(()) } else { Err(AppError::Failed("not every file arrived as it was sent".to_owned())) }
}

fn load(config: &BenchConfig) -> Load {
    Load {
        uploads: config.uploads,
        chunks: config.chunks,
        files: config.files.unwrap_or(config.uploads),
        file_bytes: config.file_size,
        // A small file is one chunk.
        chunk_bytes: if config.mode == Mode::File { config.file_size.max(1) } else { config.chunk_size },
        think_time: config.think_time,
        slow: config.slow,
        verify: config.verify,
    }
}

/// One line that is written over again; one after the other where that cannot be seen.
fn progress(bytes: u64, after: Duration) {
    let (megabytes, seconds) = (bytes / 1_000_000, after.as_secs());
    let rate = megabytes / seconds.max(1);
    let end = if stderr().is_terminal() { "\r" } else { "\n" };
    eprint!("{seconds} s: {megabytes} MB, {rate} MB/s{end}");
}
