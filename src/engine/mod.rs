//! The use cases: what happens to uploads, carried out.

pub mod config;
pub mod keys;

pub use config::{SweepConfig, UploadConfig};
