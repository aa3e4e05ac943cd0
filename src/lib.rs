//! chunkgate: a resumable chunked-upload HTTP gateway.

pub mod clock;
pub mod domain;
pub mod emulator;
pub mod ledger;
pub mod store;
pub mod units;
