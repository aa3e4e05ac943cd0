//! Who we are to S3: what is configured, and whom else to ask. `choice`, `remedy` and
//! `sts` are pure; `roles` ask.

pub mod choice;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod remedy;
mod roles;
mod sts;
