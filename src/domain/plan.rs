//! How a file is cut into chunks: declared at creation, or learnt from the
//! first chunks that are recorded.

use crate::domain::bounds::PartBounds;
use crate::domain::refusal::Refusal;

/// A file of `total_bytes` in `count` chunks of `chunk_bytes` each, but for the
/// last, which holds what is left: `0 < last < 2 × chunk_bytes`, for clients
/// round the count up or down. A file of no bytes has no chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    chunk_bytes: u64,
    count: u32,
    total_bytes: u64,
}

/// The chunk size that the server picks when the client leaves it open.
const CHUNK_BYTES_DEFAULT: u64 = 8 << 20;
/// A size the server picks is a multiple of this, once it must exceed the default.
const CHUNK_BYTES_STEP: u64 = 1 << 20;

impl Plan {
    /// The plan of a client that knows its file: the size it gave, and the
    /// chunk size and the number of chunks where it gave them.
    pub fn declare(
        total_bytes: u64,
        chunk_bytes: Option<u64>,
        count: Option<u64>,
        bounds: &PartBounds,
    ) -> Result<Self, Refusal> {
        if total_bytes > bounds.object_bytes_max() {
            return Err(Refusal::FileTooLarge { bytes: Some(total_bytes), bytes_max: bounds.object_bytes_max() });
        }
        if total_bytes == 0 {
            return match count {
                None | Some(0 | 1) => Ok(Self { chunk_bytes: chunk_bytes.unwrap_or(0), count: 0, total_bytes }),
                Some(given) => Err(Refusal::TotalChunksOutOfRange { given, expected: Some((0, 1)) }),
            };
        }
        let chunk_bytes = match (chunk_bytes, count) {
            (Some(bytes), _) => bytes,
            (None, Some(count)) => Self::size_for_count(total_bytes, count, bounds)?,
            (None, None) => Self::size_for_total(total_bytes, bounds),
        };
        let out_of_range = || Refusal::chunk_size(chunk_bytes, total_bytes, bounds);
        if chunk_bytes == 0 || chunk_bytes > bounds.part_bytes_max {
            return Err(out_of_range());
        }
        let rounded_up = total_bytes.div_ceil(chunk_bytes);
        let rounded_down = (total_bytes / chunk_bytes).max(1);
        let count = count.unwrap_or(rounded_up);
        if count != rounded_up && count != rounded_down {
            return Err(Refusal::TotalChunksOutOfRange { given: count, expected: Some((rounded_down, rounded_up)) });
        }
        let Some(count) = u32::try_from(count).ok().filter(|&c| c <= bounds.parts_max) else {
            return Err(out_of_range());
        };
        let plan = Self { chunk_bytes, count, total_bytes };
        let small = count > 1 && chunk_bytes < bounds.part_bytes_min;
        if small || plan.last_bytes() > bounds.part_bytes_max {
            return Err(out_of_range());
        }
        Ok(plan)
    }

    /// The plan that was declared or learnt before, as the ledger kept it.
    /// None when the numbers make no plan.
    pub fn restore(chunk_bytes: u64, count: u32, total_bytes: u64) -> Option<Self> {
        let plan = Self { chunk_bytes, count, total_bytes };
        if count == 0 {
            return (total_bytes == 0).then_some(plan);
        }
        let before_last = chunk_bytes.checked_mul(u64::from(count) - 1)?;
        let last = total_bytes.checked_sub(before_last)?;
        (last > 0 && last < chunk_bytes.checked_mul(2)?).then_some(plan)
    }

    fn size_for_total(total_bytes: u64, bounds: &PartBounds) -> u64 {
        let fits = total_bytes.div_ceil(u64::from(bounds.parts_max));
        let wanted =
            if fits <= CHUNK_BYTES_DEFAULT { CHUNK_BYTES_DEFAULT } else { fits.next_multiple_of(CHUNK_BYTES_STEP) };
        wanted.clamp(bounds.part_bytes_min, bounds.part_bytes_max)
    }

    /// The chunk size that cuts a file into as many chunks as the client says.
    fn size_for_count(total_bytes: u64, count: u64, bounds: &PartBounds) -> Result<u64, Refusal> {
        let refused = Refusal::TotalChunksOutOfRange { given: count, expected: None };
        if count == 0 || count > u64::from(bounds.parts_max) {
            return Err(refused);
        }
        let rounded_up = total_bytes.div_ceil(count);
        let rounded_down = total_bytes / count;
        if total_bytes.div_ceil(rounded_up) == count {
            Ok(rounded_up)
        } else if rounded_down > 0 && total_bytes / rounded_down == count {
            Ok(rounded_down)
        } else {
            Err(refused)
        }
    }

    /// Bytes in every chunk but the last.
    pub const fn chunk_bytes(&self) -> u64 {
        self.chunk_bytes
    }

    /// How many chunks; 0 for a file of no bytes.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Bytes in the whole file.
    pub const fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Bytes in the last chunk.
    pub const fn last_bytes(&self) -> u64 {
        match self.count {
            0 => 0,
            count => self.total_bytes - self.chunk_bytes * (count as u64 - 1),
        }
    }

    /// Bytes in this chunk, if the plan has it.
    pub fn bytes_of(&self, index: u32) -> Option<u64> {
        if index >= self.count {
            None
        } else if index + 1 == self.count {
            Some(self.last_bytes())
        } else {
            Some(self.chunk_bytes)
        }
    }

    /// Where this chunk begins in the file, if the plan has it.
    pub fn offset_of(&self, index: u32) -> Option<u64> {
        (index < self.count).then(|| self.chunk_bytes * u64::from(index))
    }
}

/// What is known of how a file is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Geometry {
    /// All of it.
    Fixed(Plan),
    /// The number of chunks, and what the chunks recorded so far have taught.
    Learning(Learning),
}

/// A plan of which the number of chunks is known and the rest is learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learning {
    /// How many chunks; at least 1.
    pub count: u32,
    /// Bytes in every chunk but the last, once declared or recorded.
    pub chunk_bytes: Option<u64>,
    /// Bytes in the last chunk, once recorded.
    pub last_bytes: Option<u64>,
    /// Bytes in the whole file, if declared.
    pub total_bytes: Option<u64>,
}

/// What recording a chunk teaches about its upload's plan. The ledger applies
/// it by compare-and-set, together with the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// Every chunk but the last has this many bytes.
    ChunkBytes(u64),
    /// The last chunk has this many bytes.
    LastBytes(u64),
}

impl Learning {
    /// With what is known, the plan if that settles it. None also when the
    /// numbers contradict each other, which no lesson that was admitted makes.
    pub fn settled(&self) -> Option<Plan> {
        let others = u64::from(self.count) - 1;
        let (chunk_bytes, total_bytes) = match (self.chunk_bytes, self.last_bytes, self.total_bytes) {
            // One chunk is the first and the last: what was said of the others says nothing of it.
            (chunk, Some(last), _) if others == 0 => (chunk.filter(|&c| last / 2 < c).unwrap_or(last), last),
            (Some(chunk), _, Some(total)) => (chunk, total),
            (Some(chunk), Some(last), None) => (chunk, chunk.checked_mul(others)?.checked_add(last)?),
            (None, Some(last), Some(total)) => (total.checked_sub(last)?.checked_div(others)?, total),
            (None, _, _) | (Some(_), None, None) => return None,
        };
        let plan = Plan::restore(chunk_bytes, self.count, total_bytes)?;
        let agrees = self.last_bytes.is_none_or(|last| last == plan.last_bytes());
        (agrees && self.total_bytes.is_none_or(|total| total == total_bytes)).then_some(plan)
    }

    /// What is known once this is learnt too; none when both cannot be true.
    #[must_use]
    pub fn with(self, lesson: Lesson) -> Option<Self> {
        let (known, given, with) = match lesson {
            Lesson::ChunkBytes(bytes) => (self.chunk_bytes, bytes, Self { chunk_bytes: Some(bytes), ..self }),
            Lesson::LastBytes(bytes) => (self.last_bytes, bytes, Self { last_bytes: Some(bytes), ..self }),
        };
        (known.is_none_or(|known| known == given) && with.is_possible()).then_some(with)
    }

    /// How large the file is at the least, by what is known.
    pub fn bytes_at_least(&self) -> u64 {
        let others = u64::from(self.count) - 1;
        let others = self.chunk_bytes.unwrap_or(0).saturating_mul(others);
        self.total_bytes.unwrap_or(0).max(others.saturating_add(self.last_bytes.unwrap_or(1)))
    }

    /// What to set aside for the file, by what is known: all of it once its
    /// size is, and until then as many chunks of one size as there are.
    pub fn bytes_to_reserve(&self) -> u64 {
        let known = self.settled().map(|plan| plan.total_bytes()).or(self.total_bytes);
        let learnt = || self.chunk_bytes.map_or(self.last_bytes, |bytes| Some(bytes.saturating_mul(self.count.into())));
        known.or_else(learnt).unwrap_or(0)
    }

    /// Any two of the three sizes make the third, and with one chunk the last
    /// one does: then they must make a plan.
    fn is_possible(&self) -> bool {
        let known = [self.chunk_bytes, self.last_bytes, self.total_bytes].into_iter().flatten().count();
        let is_determined = if self.count == 1 { self.last_bytes.is_some() } else { known >= 2 };
        !is_determined || self.settled().is_some()
    }

    /// Whether a chunk of this many bytes at this index can be part of the
    /// plan, and what recording it would teach.
    pub fn admit(&self, index: u32, bytes: u64, bounds: &PartBounds) -> Result<Lesson, Refusal> {
        if index >= self.count {
            return Err(Refusal::ChunkIndexOutOfRange { index: i128::from(index), count: self.count });
        }
        let is_last = index + 1 == self.count;
        let (known, lesson) = if is_last {
            (self.last_bytes, Lesson::LastBytes(bytes))
        } else {
            (self.chunk_bytes, Lesson::ChunkBytes(bytes))
        };
        if let Some(expected) = known.filter(|&known| known != bytes) {
            return Err(Refusal::ChunkSizeMismatch { expected, got: Some(bytes) });
        }
        // A single empty chunk makes an empty file, which has a plan from the start.
        let smallest = if is_last { 1 } else { bounds.part_bytes_min.max(1) };
        if bytes < smallest || bytes > bounds.part_bytes_max {
            return Err(Refusal::chunk_size(bytes, 0, bounds));
        }
        let Some(with) = self.with(lesson) else {
            return Err(Refusal::conflict(if is_last {
                "the last chunk must be smaller than two of the others, and fit the declared fileSize"
            } else {
                "with chunks of this size the last one does not fit"
            }));
        };
        // The last chunk and the size of the file tell how large the others must be.
        match with.settled() {
            Some(plan) if self.count > 1 && plan.chunk_bytes() < bounds.part_bytes_min => {
                Err(Refusal::chunk_size(plan.chunk_bytes(), plan.total_bytes(), bounds))
            }
            Some(plan) if plan.chunk_bytes().max(plan.last_bytes()) > bounds.part_bytes_max => {
                Err(Refusal::chunk_size(plan.chunk_bytes(), plan.total_bytes(), bounds))
            }
            Some(_) | None => Ok(lesson),
        }
    }
}

impl Geometry {
    /// The geometry of a form that declares the number of chunks and perhaps more.
    pub fn from_form(
        count: u64,
        chunk_bytes: Option<u64>,
        total_bytes: Option<u64>,
        bounds: &PartBounds,
    ) -> Result<Self, Refusal> {
        let parts = u32::try_from(count).ok().filter(|&c| c <= bounds.parts_max);
        let Some(parts) = parts else {
            return Err(Refusal::TotalChunksOutOfRange {
                given: count,
                expected: Some((1, u64::from(bounds.parts_max))),
            });
        };
        if let (Some(chunk), Some(total)) = (chunk_bytes, total_bytes) {
            return Plan::declare(total, Some(chunk), Some(count), bounds).map(Self::Fixed);
        }
        if parts == 0 || total_bytes == Some(0) {
            return Plan::declare(0, chunk_bytes, Some(count), bounds).map(Self::Fixed);
        }
        if let Some(chunk) =
            chunk_bytes.filter(|&c| parts > 1 && (c == 0 || c < bounds.part_bytes_min || c > bounds.part_bytes_max))
        {
            return Err(Refusal::chunk_size(chunk, 0, bounds));
        }
        let learning = Learning { count: parts, chunk_bytes, last_bytes: None, total_bytes };
        // One chunk of a declared size leaves nothing to learn.
        if let (1, Some(total)) = (parts, total_bytes) {
            return Plan::declare(total, Some(total), Some(1), bounds).map(Self::Fixed);
        }
        Ok(Self::Learning(learning))
    }

    /// From the ledger's columns. None when they contradict each other.
    pub fn restore(
        count: u32,
        chunk_bytes: Option<u64>,
        last_bytes: Option<u64>,
        total_bytes: Option<u64>,
    ) -> Option<Self> {
        if count == 0 {
            return Plan::restore(chunk_bytes.unwrap_or(0), 0, total_bytes?).map(Self::Fixed);
        }
        let learning = Learning { count, chunk_bytes, last_bytes, total_bytes };
        Some(learning.settled().map_or(Self::Learning(learning), Self::Fixed))
    }

    /// How many chunks.
    pub const fn count(&self) -> u32 {
        match self {
            Self::Fixed(plan) => plan.count(),
            Self::Learning(learning) => learning.count,
        }
    }

    /// Bytes in every chunk but the last, if known.
    pub const fn chunk_bytes(&self) -> Option<u64> {
        match self {
            Self::Fixed(plan) => Some(plan.chunk_bytes()),
            Self::Learning(learning) => learning.chunk_bytes,
        }
    }

    /// Bytes in the whole file, if known.
    pub const fn total_bytes(&self) -> Option<u64> {
        match self {
            Self::Fixed(plan) => Some(plan.total_bytes()),
            Self::Learning(learning) => learning.total_bytes,
        }
    }

    /// What to set aside for the file, by what is known.
    pub fn bytes_to_reserve(&self) -> u64 {
        match self {
            Self::Fixed(plan) => plan.total_bytes(),
            Self::Learning(learning) => learning.bytes_to_reserve(),
        }
    }

    /// Bytes in the last chunk, if known.
    pub const fn last_bytes(&self) -> Option<u64> {
        match self {
            Self::Fixed(plan) => Some(plan.last_bytes()),
            Self::Learning(learning) => learning.last_bytes,
        }
    }

    /// The complete plan, if it is known.
    pub const fn plan(&self) -> Option<&Plan> {
        match self {
            Self::Fixed(plan) => Some(plan),
            Self::Learning(_) => None,
        }
    }

    /// Where this chunk begins in the file, if that is known yet.
    pub fn offset_of(&self, index: u32) -> Option<u64> {
        if index >= self.count() {
            return None;
        }
        match self.chunk_bytes() {
            Some(chunk) => chunk.checked_mul(u64::from(index)),
            None => None,
        }
    }
}
