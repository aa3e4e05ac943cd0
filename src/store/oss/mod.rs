//! Aliyun OSS.
//!
//! `setup`, `sign`, `endpoint`, `lifecycle` and `remedy` decide and are pure; `store` says each call
//! of the trait in OSS's words, through `store::remote`.

pub mod endpoint;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
pub mod lifecycle;
pub mod remedy;
pub mod setup;
pub mod sign;
pub mod store;

pub use remedy::remedy;
pub use store::OssStore;

pub use crate::store::config::oss::{OssConfig, SignatureVersion};
