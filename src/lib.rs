//! chunkgate: a resumable chunked-upload HTTP gateway.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod emulator;
pub mod engine;
pub mod http;
pub mod ledger;
pub mod logging;
pub mod notify;
pub mod serve;
pub mod store;
pub mod units;
