//! What the stores that are reached over HTTP have in common: S3's dialect, and
//! OSS's, which comes from it.
//!
//! `answer`, `encode`, `endpoint`, `lifecycle`, `policy`, `request`, `setup` and `xml` decide and are pure;
//! `client` sends what a store signs, `downloads` has the connections that objects
//! are read from, `calls` are those that both dialects say alike.

pub mod answer;
pub mod calls;
pub mod client;
mod downloads;
pub mod encode;
pub mod endpoint;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
pub mod lifecycle;
pub mod policy;
pub mod request;
#[cfg(test)]
pub(crate) mod script;
pub mod setup;
mod skew;
pub mod xml;
