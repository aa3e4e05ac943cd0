//! `chunkgate emulator …`

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::units::Secret;

/// What the emulator serves, and to whom.
#[derive(Clone, Debug, clap::Args)]
pub struct EmulatorConfig {
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1:9000", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// The one bucket there is.
    #[arg(long)]
    pub bucket: String,
    /// The one access key there is.
    #[arg(long)]
    pub access_key_id: String,
    /// Its secret.
    #[arg(long, value_parser = secret)]
    pub access_key_secret: Secret,
    /// What V4 signatures are bound to.
    #[arg(long, default_value = "cn-hangzhou")]
    pub region: String,
    /// Where the bucket is kept.
    #[arg(long, default_value = "./emulator-data", value_name = "FOLDER")]
    pub data_dir: PathBuf,
}

#[expect(clippy::unnecessary_wraps, reason = "clap's value parsers return a Result")]
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}
