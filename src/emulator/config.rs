//! `chunkgate emulator …`

use std::net::SocketAddr;
use std::path::PathBuf;

use super::faults::Fault;
use super::keys::GrantedKey;
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
    /// What it can do without.
    #[command(flatten)]
    pub options: EmulatorOptions,
}

/// What the emulator can do without.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct EmulatorOptions {
    /// A key of STS that is accepted too; may be repeated
    #[arg(long, value_name = "ID:SECRET:TOKEN[:EXPIRES]")]
    pub sts: Vec<GrantedKey>,
    /// Where it says its callback key is [default: http://LISTEN/-/callback_pub_key_v1.pem]
    #[arg(long, value_name = "URL")]
    pub callback_key_url: Option<String>,
    /// What goes wrong on purpose, such as error=503:0.2; may be repeated
    #[arg(long, value_name = "FAULT", long_help = FAULT_HELP)]
    pub fault: Vec<Fault>,
    /// What the faults are drawn from, to have a run again [default: another one each time]
    #[arg(long, value_name = "NUMBER")]
    pub fault_seed: Option<u64>,
}

const FAULT_HELP: &str = "What goes wrong on purpose; may be repeated

  slow=200ms            requests wait before they are looked at
  error=503:0.2         a fifth of them is refused with this status
  deny=DeleteObject     as if the key had no right to it
  reset=0.05            the connection ends in the middle of the request
  lose-answer=0.1       it is done, and the connection ends without an answer
  corrupt=0.01          one bit of the bytes, on their way in or out, is another

Each takes a share (0 to 1) and an operation, separated by colons:
lose-answer=CompleteMultipartUpload:0.5";

#[expect(clippy::unnecessary_wraps, reason = "clap's value parsers return a Result")]
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}
