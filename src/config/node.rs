//! What all file formats come to.

use super::Raw;

/// What a name in a file stands for.
#[derive(Debug)]
pub(super) enum Node {
    /// More names.
    Table(Vec<Entry>),
    /// A value.
    Leaf(Raw),
    /// Written, but as good as not.
    Nothing,
}

/// A name in a file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    /// From 1, where the format tells.
    pub(super) line: Option<usize>,
    pub(super) node: Node,
}

/// A file that cannot be understood: where, and why.
pub(super) type Malformed = (Option<usize>, String);
