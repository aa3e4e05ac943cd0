//! AWS S3, and what speaks its dialect: MinIO, R2, garage, Ceph, …
//!
//! `setup`, `sign`, `endpoint`, `proof` and `remedy` decide and are pure; `identity` says who we are,
//! with `credentials`; `outgoing` is a body with its checksum behind it; `store` says each call of the trait in
//! S3's words, through `store::remote`.

pub mod credentials;
pub mod endpoint;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
pub mod identity;
pub mod outgoing;
pub mod proof;
pub mod remedy;
pub mod setup;
pub mod sign;
pub mod store;

pub use remedy::remedy;
pub use store::S3Store;

pub use crate::store::config::s3::{ProofConfig, S3Config, S3CredentialsConfig, S3CredentialsKind};
