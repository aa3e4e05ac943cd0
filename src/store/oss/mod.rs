//! Aliyun OSS.

pub mod config;
pub mod sign;

pub use config::{OssConfig, SignatureVersion};
