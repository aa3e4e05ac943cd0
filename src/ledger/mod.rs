//! The ledger: what was acknowledged, in SQLite or Postgres. The only SQL.

pub mod config;
pub use config::DatabaseConfig;
