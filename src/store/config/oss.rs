//! `store.oss.*`

use serde::{Deserialize, Serialize};

use crate::units::Secret;

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
