//! `chunkgate doctor`: why uploads fail.
//!
//! [`outward`] goes the way from this gateway to what it depends on, step by
//! step; [`inward`] the way from a browser to a gateway, through whatever
//! stands between. Each step is a check, in a file of its own; it needs others
//! before it, and is skipped when one of those failed. So the first that failed
//! is the cause ([`Report::first_cause`]), and what was skipped are its effects.

mod course;
pub mod inward;
pub(crate) mod net;
pub mod outward;
pub mod report;
mod table;

pub use course::{Course, Listener};
pub use inward::{Inward, inward};
pub use outward::{Outward, outward};
pub use report::{Finding, Report, Status, Verdict};
pub use table::{Style, ending, finding_line};
