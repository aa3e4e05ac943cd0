//! Aliyun OSS.
//!
//! `setup`, `sign`, `endpoint`, `object` and `codes` decide and are pure;
//! `credentials` says who we are, `identity` signs as that, `store` says each call of
//! the trait in OSS's words, through `store::remote`.

pub mod codes;
pub mod credentials;
pub mod endpoint;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
pub mod identity;
pub mod object;
pub mod setup;
pub mod sign;
pub mod store;

pub use store::OssStore;

pub use crate::store::config::oss::{
    Acl, CredentialsConfig, CredentialsKind, Encryption, ObjectConfig, OssConfig, SignatureVersion, StorageClass,
};
