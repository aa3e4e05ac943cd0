//! A load generator: uploads files as clients do, many at once, and says how
//! fast it went, how long each chunk took, and what was refused.
//!
//! ```text
//! load (how many at once) → protocol (one dialect of uploading) → server
//!   └─ tally → report
//! ```

mod config;
mod content;
mod gateway;
mod load;
mod protocol;
mod report;
mod tally;

pub use config::{BenchConfig, Mode};
pub use content::Content;
pub use gateway::GatewayProtocol;
pub use load::{Load, run};
pub use protocol::{Failed, Pace, Protocol, body_of, client};
pub use report::{Percentiles, Report};
