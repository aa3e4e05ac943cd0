//! What an upload is and what may happen to it. Pure: no async, no I/O, no
//! clock, no database and no HTTP. Everything here decides; the layers above
//! carry out.

pub mod bounds;
pub mod checksum;
pub mod event;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
pub mod grant;
pub mod ids;
pub mod join;
pub mod kind;
pub mod merge;
pub mod plan;
pub mod ranges;
pub mod refusal;
pub mod rules;
pub mod time;
pub mod upload;

#[cfg(test)]
mod tests;

pub use bounds::PartBounds;
pub use checksum::{Checksum, ChecksumAlgorithm, Crc64};
pub use grant::{Grant, Scope, Scopes, Terms};
pub use ids::{EventId, FileId, LeaseToken, ObjectKey, Owner, PartNumber, SessionId, UploadId};
pub use plan::{Geometry, Learning, Plan};
pub use refusal::{KeyHolder, Refusal};
pub use time::Timestamp;
pub use upload::{Chunk, Failure, File, Lease, Object, Part, Progress, Received, State, Status, Upload};
