//! Who we are to S3: what is configured, and whom else to ask. `choice` and `sts`
//! are pure; `roles` ask.

pub mod choice;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod roles;
mod sts;
