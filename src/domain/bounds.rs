//! The numbers that a store sets to chunks.

/// What a store can hold, as numbers. Each chunk is one part, so these bound chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartBounds {
    /// The smallest part, in bytes; the last one of an upload is exempt.
    pub part_bytes_min: u64,
    /// The largest part, in bytes.
    pub part_bytes_max: u64,
    /// How many parts one object may have.
    pub parts_max: u32,
}

impl PartBounds {
    /// The largest object these parts can make, in bytes.
    pub const fn object_bytes_max(&self) -> u64 {
        self.part_bytes_max.saturating_mul(self.parts_max as u64)
    }
}
