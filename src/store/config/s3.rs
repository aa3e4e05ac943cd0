//! `store.s3.*`

use serde::{Deserialize, Serialize};

use crate::units::Secret;

/// Where the bucket is and who we are to it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Config {
    /// `s3.eu-central-1.amazonaws.com`, `minio:9000`, or what people paste: a
    /// region's name, a URL, a bucket domain.
    pub endpoint: Option<String>,
    /// The endpoint in every URL given out, when ours is internal.
    pub public_endpoint: Option<String>,
    /// The bucket.
    pub bucket: Option<String>,
    /// `eu-central-1`; derived from the endpoint where it can be, else
    /// `us-east-1`, which is what servers of one region call themselves.
    pub region: Option<String>,
    /// Falls back to `AWS_ACCESS_KEY_ID`.
    pub access_key_id: Option<String>,
    /// Falls back to `AWS_SECRET_ACCESS_KEY`.
    pub access_key_secret: Option<Secret>,
    /// Falls back to `AWS_SESSION_TOKEN`.
    pub session_token: Option<Secret>,
    /// `/{bucket}/{key}` instead of `{bucket}.{endpoint}`: for servers without a
    /// name per bucket.
    pub path_style: bool,
    /// What shows that a part came through whole.
    pub proof: ProofConfig,
}

/// How the store proves a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProofConfig {
    /// The best that the store has: it is tried, once.
    #[default]
    Auto,
    /// CRC-64/NVME.
    Crc64nvme,
    /// CRC-32C.
    Crc32c,
    /// CRC-32.
    Crc32,
    /// The ETag is the MD5: 1.4 s of a processor for each GB.
    Md5,
    /// Nothing but the size: for stores that show nothing else.
    Size,
}
