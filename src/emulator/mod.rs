//! An OSS emulator.
pub mod storage;
