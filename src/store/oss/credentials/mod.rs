//! Who we are to OSS: what is configured, and whom Aliyun has to ask. `choice`,
//! `remedy` and `sts` are pure; `roles` and `metadata` ask.

pub mod choice;
mod metadata;
mod remedy;
mod roles;
mod sts;
