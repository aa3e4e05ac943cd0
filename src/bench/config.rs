//! `chunkgate bench`: what is asked for on the command line.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::units::{Secret, parse_bytes, parse_duration};

/// How files are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Chunks as raw bodies: PUT /chunks/{fileId}/{chunkIndex}
    #[default]
    Put,
    /// Chunks as forms: POST /chunks
    Form,
    /// Whole small files: POST /files
    File,
}

/// What load there is to be.
#[derive(Clone, Debug, Args)]
pub struct BenchConfig {
    /// The gateway
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// How files are sent
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,
    /// Files at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = at_least_one)]
    pub uploads: u32,
    /// Chunks of each file at once
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one)]
    pub chunks: u32,
    /// Files in all [default: one for each of --uploads]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub files: Option<u32>,
    /// Size of each file
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_bytes)]
    pub file_size: u64,
    /// Size of each chunk
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = size)]
    pub chunk_size: u64,
    /// Pause before each chunk, as of a page that reads its file
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    pub think_time: Duration,
    /// Clients beside them that send 1 KiB a second
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub slow: u32,
    /// Files that are downloaded afterwards and compared by SHA-256
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub verify: u32,
    /// The API key or token that is sent
    #[arg(long, value_name = "KEY", env = "CHUNKGATE_BENCH_KEY", hide_env_values = true, value_parser = secret)]
    pub key: Option<Secret>,
    /// Print the figures as JSON
    #[arg(long)]
    pub json: bool,
}

fn at_least_one(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "write a number from 1 on".to_owned())
}

fn size(text: &str) -> Result<u64, String> {
    parse_bytes(text)
        .and_then(|bytes| if bytes > 0 { Ok(bytes) } else { Err("a chunk has at least one byte".to_owned()) })
}

#[expect(clippy::unnecessary_wraps, reason = "the shape that clap asks for")]
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text.to_owned()))
}
