//! Aliyun OSS.

pub mod config;

pub use config::{OssConfig, SignatureVersion};
