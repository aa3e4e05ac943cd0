//! The integration tests: one binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod ledger;
mod oss_sdks;
mod postgres;
