//! The integration tests, in one binary.

mod ledger;
mod postgres;
