//! `store.s3.*`

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::{self, Secret};

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
    /// Where the access key comes from, when it is not written above.
    pub credentials: S3CredentialsConfig,
}

/// `store.s3.credentials.*`: which of the fields count is the kind's matter.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3CredentialsConfig {
    /// Where they come from; none is what is written, else what the environment offers.
    pub kind: Option<S3CredentialsKind>,
    /// For `file`: JSON, read again when it changes.
    pub file: Option<PathBuf>,
    /// For `command`: what `sh` runs; it writes the same JSON.
    pub command: Option<String>,
    /// For the roles of STS. Falls back to `AWS_ROLE_ARN`.
    pub role_arn: Option<String>,
    /// What the session is called in the audit log.
    pub role_session_name: Option<String>,
    /// What the role's trust policy may ask for.
    pub external_id: Option<String>,
    /// Narrows what the session may do: a policy in JSON.
    pub policy: Option<String>,
    /// How long a session lasts.
    #[serde(with = "units::duration")]
    pub session_duration: Duration,
    /// Where STS is; none is AWS's of the region, or the server itself (MinIO).
    pub sts_endpoint: Option<String>,
    /// For `web_identity`. Falls back to `AWS_WEB_IDENTITY_TOKEN_FILE`.
    pub web_identity_token_file: Option<PathBuf>,
}

impl Default for S3CredentialsConfig {
    fn default() -> Self {
        Self {
            kind: None,
            file: None,
            command: None,
            role_arn: None,
            role_session_name: None,
            external_id: None,
            policy: None,
            session_duration: Duration::from_secs(3600),
            sts_endpoint: None,
            web_identity_token_file: None,
        }
    }
}

/// Where credentials come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum S3CredentialsKind {
    /// `access_key_id`, `access_key_secret` and, of STS, `session_token`.
    Static,
    /// `AWS_ACCESS_KEY_ID` and its two neighbours.
    Environment,
    /// A file that somebody replaces.
    File,
    /// A command.
    Command,
    /// A role that the access key may assume.
    AssumeRole,
    /// A role that a token of somebody else's may assume (IRSA).
    WebIdentity,
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
