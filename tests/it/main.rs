//! The integration tests, in one binary.

mod harness;
mod postgres;
mod promise;
mod upload;
