//! The protocol's world at one moment, as small as it can be: one upload of two
//! chunks, its row in the ledger, what the store has, what two gateways are in
//! the middle of, and the calls that are still under way in the network.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use chunkgate::domain::event::EventKind;
use chunkgate::domain::merge::{End, Step};
use chunkgate::domain::{Crc64, Failure, Geometry, Learning, Part, PartNumber, Progress, rules};

pub(crate) const CHUNKS: usize = 2;
pub(crate) const SESSIONS: usize = 3;

/// What each chunk or part holds: nothing (0), the client's bytes (1), or other
/// bytes that came under the same index (2).
pub(crate) type Contents = [u8; CHUNKS];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) ledger: Row,
    pub(crate) store: Store,
    pub(crate) gateways: [Gateway; 2],
    /// Calls whose caller was told nothing: the store may still carry them out.
    pub(crate) flights: Vec<Flight>,
    /// What the client was told is safe, and was not told since is missing again.
    pub(crate) acknowledged: Contents,
    pub(crate) left: Budget,
}

/// The upload in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) phase: Phase,
    pub(crate) session: Option<u8>,
    pub(crate) begins: u8,
    pub(crate) chunks: Contents,
    /// Whether the sweeper is still to look for parts (`clean_at`).
    pub(crate) remains: bool,
    pub(crate) events: Vec<EventKind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    Open,
    Completing {
        /// Whether the lease has run out while its holder was stopped.
        lapsed: bool,
    },
    Completed(Contents),
    Failed(Failure),
    Aborted,
    Expired,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) sessions: [Session; SESSIONS],
    pub(crate) object: Option<Contents>,
    pub(crate) joins: u8,
    /// Whether somebody else removed the multipart upload (a lifecycle rule).
    pub(crate) lost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Session {
    NotBegun,
    Open(Contents),
    Joined,
    Aborted,
}

/// What a gateway is in the middle of, and forgets when it crashes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Gateway {
    pub(crate) put: Option<Put>,
    pub(crate) merge: Option<Merge>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Put {
    pub(crate) index: usize,
    pub(crate) content: u8,
    pub(crate) at: PutStep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PutStep {
    /// Record the intent to begin a multipart upload.
    Intend,
    Begin,
    /// Record the multipart upload that was begun.
    Name(u8),
    /// Abort one that was begun in vain, and go on with the other if there is one.
    Drop(u8, Option<u8>),
    Store(u8),
    Record,
    /// The store has no such multipart upload, and not all chunks are there.
    Doom,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Merge {
    /// Whether its lease is the one in the ledger.
    pub(crate) current: bool,
    pub(crate) in_doubt: bool,
    pub(crate) at: MergeStep,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum MergeStep {
    /// About to list the parts, with rows still to be read.
    Begin,
    /// About to ask the store this, for these rows.
    Ask(Step, Contents),
    /// About to write this into the ledger.
    End(End, Contents),
}

/// A call that is still on its way into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Flight {
    Begin,
    Put { session: u8, index: usize, content: u8 },
    Join { session: u8, parts: Contents },
}

/// How often what may go wrong still may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Chunks that the client sends.
    pub(crate) sends: u8,
    /// Chunks with other bytes.
    pub(crate) rivals: u8,
    /// Answers that never come.
    pub(crate) silences: u8,
    /// Refusals of the store.
    pub(crate) refusals: u8,
    pub(crate) crashes: u8,
    /// Leases that run out while their holder is stopped.
    pub(crate) stalls: u8,
    pub(crate) aborts: u8,
    /// Multipart uploads that somebody else removes.
    pub(crate) losses: u8,
}

impl World {
    /// Nothing has happened yet.
    pub(crate) fn new(left: Budget) -> Self {
        let ledger = Row {
            phase: Phase::Open,
            session: None,
            begins: 0,
            chunks: [0; CHUNKS],
            remains: false,
            events: Vec::new(),
        };
        let store = Store { sessions: [Session::NotBegun; SESSIONS], object: None, joins: 0, lost: false };
        let gateways = Default::default();
        Self { ledger, store, gateways, flights: Vec::new(), acknowledged: [0; CHUNKS], left }
    }

    /// All chunks but the last are there.
    pub(crate) fn all_but_the_last(left: Budget) -> Self {
        let mut world = Self::new(left);
        let mut chunks = [1; CHUNKS];
        chunks[CHUNKS - 1] = 0;
        world.ledger = Row { session: Some(0), begins: 1, chunks, ..world.ledger };
        world.store.sessions[0] = Session::Open(chunks);
        world.acknowledged = chunks;
        world
    }

    /// As the engine decides it.
    pub(crate) fn is_full(&self) -> bool {
        let learning = Learning { count: CHUNKS as u32, chunk_bytes: None, last_bytes: None, total_bytes: None };
        let chunks = self.ledger.chunks.iter().filter(|&&content| content > 0).count();
        rules::is_full(&Geometry::Learning(learning), Progress { chunks: chunks as u32, bytes: 0 })
    }

    /// Whether somebody has the lease who can still renew it.
    pub(crate) fn is_held(&self) -> bool {
        self.gateways.iter().flat_map(|gateway| &gateway.merge).any(|merge| merge.current)
    }

    pub(crate) fn has_ended(&self) -> bool {
        match self.ledger.phase {
            Phase::Open | Phase::Completing { .. } => false,
            Phase::Completed(_) | Phase::Failed(_) | Phase::Aborted | Phase::Expired => true,
        }
    }

    /// One of all worlds that differ in nothing but the names of the gateways
    /// and the order in which calls set out.
    pub(crate) fn canonical(mut self) -> Self {
        let print = |gateway: &Gateway| {
            let mut hasher = DefaultHasher::new();
            gateway.hash(&mut hasher);
            hasher.finish()
        };
        if print(&self.gateways[0]) > print(&self.gateways[1]) {
            self.gateways.swap(0, 1);
        }
        self.flights.sort_unstable();
        self
    }
}

/// Parts of these contents, as the ledger and the store name them.
pub(crate) fn parts_of(contents: Contents) -> Vec<Part> {
    let part = |(index, &content): (usize, &u8)| {
        let number = PartNumber::of_chunk(index as u32).expect("a part number");
        (content > 0).then(|| Part {
            number,
            bytes: 1,
            etag: content.to_string(),
            crc64: Some(Crc64(u64::from(content))),
        })
    };
    contents.iter().enumerate().filter_map(part).collect()
}

/// Size and checksum of the object of these contents.
pub(crate) fn whole_of(contents: Contents) -> (u64, Option<Crc64>) {
    rules::whole_of(&parts_of(contents)).expect("they are few")
}
