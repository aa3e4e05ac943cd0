//! Aliyun OSS.
//!
//! `setup`, `sign`, `endpoint`, `xml`, `request`, `answer` and `remedy` decide and are
//! pure;
//! `client` sends, `downloads` has the connections that objects are read from, `store` says each call of the trait in OSS's words.

pub mod answer;
pub mod client;
mod downloads;
pub mod endpoint;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
pub mod remedy;
pub mod request;
pub mod setup;
pub mod sign;
pub mod store;
pub mod xml;

pub use remedy::remedy;
pub use store::OssStore;

pub use crate::store::config::oss::{OssConfig, SignatureVersion};
