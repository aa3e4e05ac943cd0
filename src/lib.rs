//! chunkgate: a resumable chunked-upload HTTP gateway.

pub mod clock;
pub mod domain;
pub mod ledger;
pub mod serve;
pub mod store;
pub mod units;
