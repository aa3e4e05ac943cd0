//! The integration tests: one binary.

mod oss_sdks;
