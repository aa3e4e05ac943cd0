//! The integration tests, in one binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod browser;
mod emulator;
mod forms;
mod harness;
mod ledger;
mod load;
mod oss_sdks;
mod oss_store;
mod postgres;
mod promise;
mod refusals;
mod upload;
