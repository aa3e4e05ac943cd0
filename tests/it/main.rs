//! The integration tests, in one binary.

mod access;
mod application;
mod bad_config;
mod bench;
mod browser;
mod chaos;
mod emulator;
mod engine;
mod faults;
mod forms;
mod harness;
mod hooks;
mod ledger;
mod load;
mod machine;
mod openapi;
mod oss_proxy;
mod oss_sdks;
mod oss_store;
mod postgres;
mod promise;
mod readme;
mod refusals;
mod soak;
mod spec;
mod upload;
