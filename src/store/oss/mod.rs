//! Aliyun OSS.

pub mod config;
pub mod endpoint;
pub mod sign;
pub mod xml;

pub use config::{OssConfig, SignatureVersion};
