//! The integration tests, in one binary.

mod bad_config;
mod browser;
mod emulator;
mod engine;
mod forms;
mod harness;
mod hooks;
mod ledger;
mod load;
mod openapi;
mod oss_sdks;
mod oss_store;
mod postgres;
mod promise;
mod readme;
mod refusals;
mod spec;
mod upload;
