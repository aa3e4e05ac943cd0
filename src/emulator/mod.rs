//! An OSS emulator.
mod access;
mod address;
mod error;
mod operation;
mod range;
mod stats;
mod storage;
mod xml;
