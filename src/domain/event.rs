//! Events: what is announced to the application once an upload has ended.

use crate::domain::ids::{EventId, UploadId};
use crate::domain::upload::{Failure, File, Upload};

/// What an event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The file is there.
    Completed,
    /// It cannot become a file.
    Failed,
    /// No chunk came for too long.
    Expired,
    /// The client gave it up.
    Aborted,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Completed, Self::Failed, Self::Expired, Self::Aborted];

    /// The `type` in the body.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "upload.completed",
            Self::Failed => "upload.failed",
            Self::Expired => "upload.expired",
            Self::Aborted => "upload.aborted",
        }
    }

    /// Reads the `type`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The id of this upload's event of this kind. An upload ends once, so the id
/// needs no lot: whoever announces the same end announces it under the same id.
pub fn event_id(upload: UploadId, kind: EventKind) -> EventId {
    let suffix = kind.name().trim_start_matches("upload.");
    EventId::new(format!("evt_{upload}_{suffix}"))
}

/// What an event says, before it is written as JSON.
#[derive(Clone, Debug)]
pub enum Subject<'a> {
    /// A file that is there.
    File(&'a File),
    /// An upload that became none, and why, if it failed.
    Upload(&'a Upload, Option<Failure>),
}
