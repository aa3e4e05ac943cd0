//! `upload.*` and `sweep.*`

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units;

/// How uploads are taken.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct UploadConfig {
    /// How long an upload without a new chunk is kept.
    #[serde(with = "units::duration")]
    pub expires_after: Duration,
    /// How long a gateway may be silent in a merge before another takes it over.
    #[serde(with = "units::duration")]
    pub lease: Duration,
    /// Whether the last missing chunk starts the merge, where the client does not say.
    pub auto_complete: bool,
    /// The object's key. `{owner}`, `{yyyy}`, `{MM}`, `{dd}`, `{random}`, `{ext}`.
    pub key_template: String,
    /// The largest file that `POST /files` takes in one request, in bytes.
    #[serde(with = "units::bytes")]
    pub simple_max_bytes: u64,
    /// The kinds of files that are taken, as MIME types such as `image/*`; empty is any kind.
    pub allowed_types: Vec<String>,
    /// Make a fileId of owner, file name and chunk count for forms that bring
    /// none. Two versions of one name can then meet.
    pub derive_file_id: bool,
}

impl Default for UploadConfig {
    fn default() -> Self {
        Self {
            expires_after: Duration::from_secs(7 * 24 * 3600),
            lease: Duration::from_secs(30),
            auto_complete: true,
            key_template: "uploads/{owner}/{yyyy}{MM}{dd}/{random}{ext}".to_owned(),
            simple_max_bytes: 16 << 20,
            allowed_types: Vec::new(),
            derive_file_id: false,
        }
    }
}

/// How what was left behind is found and cleaned up.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SweepConfig {
    /// How often the sweeper runs.
    #[serde(with = "units::duration")]
    pub interval: Duration,
    /// How long a multipart upload that nobody claims is left alone.
    #[serde(with = "units::duration")]
    pub orphan_after: Duration,
    /// How long a completed upload's chunks are remembered, for late repeats.
    #[serde(with = "units::duration")]
    pub keep_chunks: Duration,
    /// Also abort multipart uploads under the key template's prefix that this
    /// ledger never began: only for a bucket that nobody else uses.
    pub whole_prefix: bool,
}

impl Default for SweepConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            orphan_after: Duration::from_secs(24 * 3600),
            keep_chunks: Duration::from_secs(7 * 24 * 3600),
            whole_prefix: false,
        }
    }
}
