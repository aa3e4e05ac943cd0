//! `store.oss.*`

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::{self, Secret};

/// Where the bucket is and who we are to it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OssConfig {
    /// `oss-cn-hangzhou.aliyuncs.com`, or what people paste: `oss-cn-hangzhou`,
    /// a URL, a bucket domain.
    pub endpoint: Option<String>,
    /// The endpoint in every URL given out, when ours is internal.
    pub public_endpoint: Option<String>,
    /// The bucket.
    pub bucket: Option<String>,
    /// `cn-hangzhou`; derived from the endpoint where it can be.
    pub region: Option<String>,
    /// Falls back to `OSS_ACCESS_KEY_ID`.
    pub access_key_id: Option<String>,
    /// Falls back to `OSS_ACCESS_KEY_SECRET`.
    pub access_key_secret: Option<Secret>,
    /// Falls back to `OSS_SESSION_TOKEN`.
    pub security_token: Option<Secret>,
    /// V4 unless the endpoint is too old for it.
    pub signature: SignatureVersion,
    /// `/{bucket}/{key}` instead of `{bucket}.{endpoint}`: for test servers.
    pub path_style: bool,
    /// The endpoint is a domain bound to the bucket.
    pub cname: bool,
    /// Where OSS tells us of files that browsers put by forms:
    /// `https://upload.example.com/callbacks/oss`. None: it does not, and the
    /// sweeper looks for them.
    pub callback_url: Option<String>,
    /// Where else than at OSS the key of callbacks may come from: for test
    /// servers.
    pub callback_key_url: Option<String>,
    /// Where the access key comes from, when it is not written above.
    pub credentials: CredentialsConfig,
    /// What objects are made with.
    pub object: ObjectConfig,
}

/// `store.oss.object.*`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectConfig {
    /// None is the bucket's.
    pub storage_class: Option<StorageClass>,
    /// At rest; none is the bucket's.
    pub encryption: Option<Encryption>,
    /// For KMS: which key; none is the account's.
    pub kms_key_id: Option<String>,
    /// `name=value`, up to ten.
    pub tagging: Vec<String>,
    /// None is the bucket's.
    pub acl: Option<Acl>,
    /// `Cache-Control` of downloads from the store.
    pub cache_control: Option<String>,
    /// `Content-Disposition` of downloads from the store.
    pub content_disposition: Option<String>,
    /// `name=value`, each an `x-oss-meta-name`.
    pub metadata: Vec<String>,
    /// Fail rather than replace an object.
    pub forbid_overwrite: bool,
}

/// Where an object lies, by how often it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[expect(missing_docs, reason = "the names are OSS's")]
pub enum StorageClass {
    Standard,
    IA,
    Archive,
    ColdArchive,
    DeepColdArchive,
}

impl StorageClass {
    /// As OSS writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standard => "Standard",
            Self::IA => "IA",
            Self::Archive => "Archive",
            Self::ColdArchive => "ColdArchive",
            Self::DeepColdArchive => "DeepColdArchive",
        }
    }
}

/// Who encrypts an object at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Encryption {
    /// OSS, with keys of its own.
    #[serde(rename = "AES256")]
    Aes256,
    /// OSS, with keys of the key management service.
    #[serde(rename = "KMS")]
    Kms,
    /// OSS, with keys of its own, by the Chinese standard.
    #[serde(rename = "SM4")]
    Sm4,
}

impl Encryption {
    /// As OSS writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes256 => "AES256",
            Self::Kms => "KMS",
            Self::Sm4 => "SM4",
        }
    }
}

/// Who may read and write an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Acl {
    /// Whoever may for the bucket.
    Default,
    /// Its owner, and whom a policy lets.
    Private,
    /// Everybody reads.
    PublicRead,
    /// Everybody reads and writes.
    PublicReadWrite,
}

impl Acl {
    /// As OSS writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Private => "private",
            Self::PublicRead => "public-read",
            Self::PublicReadWrite => "public-read-write",
        }
    }
}

/// `store.oss.credentials.*`: which of the fields count is the kind's matter.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct CredentialsConfig {
    /// Where they come from; none is what is written, else what the environment offers.
    pub kind: Option<CredentialsKind>,
    /// For `file`: JSON, read again when it changes.
    pub file: Option<PathBuf>,
    /// For `command`: what `sh` runs; it writes the same JSON.
    pub command: Option<String>,
    /// For the roles of STS. Falls back to `ALIBABA_CLOUD_ROLE_ARN`.
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
    /// Where STS is; none is that of the region.
    pub sts_endpoint: Option<String>,
    /// For `oidc_role`. Falls back to `ALIBABA_CLOUD_OIDC_PROVIDER_ARN`.
    pub oidc_provider_arn: Option<String>,
    /// For `oidc_role`. Falls back to `ALIBABA_CLOUD_OIDC_TOKEN_FILE`.
    pub oidc_token_file: Option<PathBuf>,
    /// For `ecs_role`: which; none is the one that the instance has.
    pub ecs_role: Option<String>,
    /// For `ecs_role`: where the metadata service is.
    pub metadata_endpoint: String,
}

impl Default for CredentialsConfig {
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
            oidc_provider_arn: None,
            oidc_token_file: None,
            ecs_role: None,
            metadata_endpoint: "http://100.100.100.200".to_owned(),
        }
    }
}

/// Where credentials come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialsKind {
    /// `access_key_id`, `access_key_secret` and, of STS, `security_token`.
    Static,
    /// `OSS_ACCESS_KEY_ID` and its two neighbours.
    Environment,
    /// A file that somebody replaces.
    File,
    /// A command.
    Command,
    /// A role that the access key may assume.
    AssumeRole,
    /// The role of the ECS instance.
    EcsRole,
    /// The role of a pod of ACK (RRSA).
    OidcRole,
}

/// OSS's two signatures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureVersion {
    /// HMAC-SHA1.
    V1,
    /// HMAC-SHA256 over a canonical request, bound to region and day.
    #[default]
    V4,
}
