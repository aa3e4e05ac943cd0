//! chunkgate: a resumable chunked-upload HTTP gateway.

pub mod clock;
pub mod domain;
pub mod emulator;
pub mod engine;
pub mod http;
pub mod ledger;
pub mod notify;
pub mod serve;
pub mod store;
pub mod units;
