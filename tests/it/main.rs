//! The integration tests: one binary.

mod emulator;
mod oss_sdks;
mod oss_store;
