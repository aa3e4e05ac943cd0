//! What clients, operators and misfortune do, and how a case is drawn.

use chunkgate::domain::Crc64;
use chunkgate::store::faulty::{Fault, Operation};
use proptest::prelude::*;

use super::model::FILES;
use super::shape::Shape;

/// One step of a case.
#[derive(Clone, Debug)]
pub(super) enum Command {
    One(Act),
    /// All at once.
    Together(Vec<Act>),
    /// The gateway dies in the middle of it (so many ticks after it began, or
    /// in this call to the store), and starts again.
    Crash(Act, Option<Operation>, u8),
    /// The next call of this kind suffers this.
    Arm(Operation, Fault),
    /// Hours pass.
    Pass(u8),
    /// Somebody writes over a part in the store, as a late PUT would.
    Spoil(usize, u32),
    /// Somebody removes the multipart upload from the store.
    Lose(usize),
}

/// What is asked of the gateway.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Create(Create),
    Put(Put),
    Complete(usize),
    Abort(usize),
    Sweep,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Create {
    pub(super) file: usize,
    pub(super) cut: Cut,
    pub(super) auto: bool,
    pub(super) restart: bool,
    pub(super) checksum: Option<u64>,
}

/// A file as its client cuts it: chunk size, last size, number of chunks.
pub(super) type Plan = (u64, u64, u32);

/// The last chunk of the second is larger than the others.
const PLANS: [Plan; 5] = [(4, 3, 3), (5, 8, 2), (7, 7, 1), (3, 2, 4), (4, 4, 3)];

/// What is said of a plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) plan: Plan,
    pub(super) words: Words,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// `POST /uploads` with all numbers.
    All,
    /// `POST /uploads` without the number of chunks: it is rounded up.
    WithoutCount,
    /// A form with nothing but the number of chunks.
    FormCount,
    FormChunk,
    FormTotal,
    FormAll,
}

impl Cut {
    pub(super) fn total(self) -> u64 {
        self.plan.0 * u64::from(self.plan.2 - 1) + self.plan.1
    }

    /// Number of chunks, chunk size, size of the file, where they are said.
    pub(super) fn said(self) -> (Option<u64>, Option<u64>, Option<u64>) {
        let (chunk, _, count) = self.plan;
        let (count, chunk, total) = (Some(u64::from(count)), Some(chunk), Some(self.total()));
        match self.words {
            Words::All | Words::FormAll => (count, chunk, total),
            Words::WithoutCount => (None, chunk, total),
            Words::FormCount => (count, None, None),
            Words::FormChunk => (count, chunk, None),
            Words::FormTotal => (count, None, total),
        }
    }

    /// What an upload that begins with these words knows.
    pub(super) fn shape(self) -> Shape {
        let (count, chunk, total) = self.said();
        let count = count.unwrap_or_else(|| self.total().div_ceil(self.plan.0));
        // The one chunk of a form is the file.
        let chunk = if self.words == Words::FormTotal && count == 1 { total } else { chunk };
        Shape { count: count as u32, chunk, last: None, total }
    }
}

/// A chunk as a client of this plan sends it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Put {
    pub(super) file: usize,
    pub(super) index: u32,
    pub(super) plan: Plan,
    pub(super) twist: Twist,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twist {
    Right,
    OtherBytes,
    /// One byte more than the plan says.
    Longer,
    /// One byte less than was announced.
    BreaksOff,
    /// The declared checksum is another.
    BadChecksum,
    /// The body's length is not announced.
    NoLength,
}

impl Put {
    fn planned(&self) -> u64 {
        if self.index + 1 == self.plan.2 { self.plan.1 } else { self.plan.0 }
    }

    pub(super) fn announced(&self) -> u64 {
        self.planned() + u64::from(self.twist == Twist::Longer)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let bytes = self.announced() - u64::from(self.twist == Twist::BreaksOff);
        content(self.file, self.index, bytes, self.twist == Twist::OtherBytes)
    }

    pub(super) fn checksum(&self) -> Option<u64> {
        (self.twist == Twist::BadChecksum).then(|| !Crc64::of(&self.bytes()).0)
    }

    /// What is wrong with its body, if it must have this many bytes.
    pub(super) fn flaw(&self, bytes: u64) -> Option<&'static str> {
        let sent = self.bytes().len() as u64;
        if sent > bytes {
            Some("body_too_long")
        } else if sent < bytes {
            Some("body_too_short")
        } else {
            (self.twist == Twist::BadChecksum).then_some("checksum_mismatch")
        }
    }
}

/// The bytes of a chunk: each file's and each index's are others.
pub(super) fn content(file: usize, index: u32, bytes: u64, other: bool) -> Vec<u8> {
    let first = file as u64 * 100 + u64::from(index) * 20 + u64::from(other) * 50;
    (first..first + bytes).map(|byte| byte as u8).collect()
}

/// What the gateway answers, as far as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// And whether it is a new upload.
    Created(bool),
    Stored {
        completed: bool,
        missing: Option<Vec<[u32; 2]>>,
    },
    Completed,
    Missing(Vec<[u32; 2]>),
    /// It goes on by itself.
    Later,
    /// Given up, or swept.
    Done,
    Refused(&'static str),
}

impl Answer {
    /// What does not depend on who of several comes first by a hair.
    pub(super) fn class(&self) -> &'static str {
        match self {
            Self::Created(_) => "created",
            Self::Stored { .. } => "stored",
            // A merge may be on its way while one asks.
            Self::Completed | Self::Later => "completed",
            Self::Missing(_) => "missing",
            Self::Done => "done",
            Self::Refused("upload_completing" | "upload_completed") => "completing",
            // Of two that wait for one merge, both hear why it failed.
            Self::Refused("integrity_failed" | "upload_failed") => "failed",
            // Two that teach sizes which contradict each other: by the plan, or by the record.
            Self::Refused("upload_conflict" | "chunk_size_mismatch") => "conflict",
            Self::Refused(code) => code,
        }
    }
}

fn file() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(0), 1 => 1..FILES]
}

/// Mostly the first of a few, so that commands meet.
fn plan() -> impl Strategy<Value = Plan> {
    prop_oneof![8 => Just(PLANS[0]), 4 => Just(PLANS[1]), 2 => prop::sample::select(&PLANS[..])]
}

fn create() -> impl Strategy<Value = Create> {
    use Words::{All, FormAll, FormChunk, FormCount, FormTotal, WithoutCount};
    let words = prop::sample::select(vec![All, All, WithoutCount, FormCount, FormCount, FormChunk, FormTotal, FormAll]);
    let checksum = prop_oneof![6 => Just(None), 3 => Just(Some(true)), 1 => Just(Some(false))];
    (file(), plan(), words, prop::bool::weighted(0.8), prop::bool::weighted(0.15), checksum).prop_map(
        |(file, plan, words, auto, restart, checksum)| {
            let bytes = |index| if index + 1 == plan.2 { plan.1 } else { plan.0 };
            let whole: Vec<u8> = (0..plan.2).flat_map(|index| content(file, index, bytes(index), false)).collect();
            let crc64 = Crc64::of(&whole).0;
            let checksum = checksum.map(|is_right| if is_right { crc64 } else { !crc64 });
            Create { file, cut: Cut { plan, words }, auto, restart, checksum }
        },
    )
}

fn put() -> impl Strategy<Value = Put> {
    use Twist::{BadChecksum, BreaksOff, Longer, NoLength, OtherBytes, Right};
    let twist = prop_oneof![
        10 => Just(Right),
        1 => prop::sample::select(vec![OtherBytes, OtherBytes, Longer, BreaksOff, BadChecksum, NoLength]),
    ];
    let index = prop_oneof![20 => 0..3u32, 1 => 3..6u32];
    (file(), index, plan(), twist).prop_map(|(file, index, plan, twist)| Put { file, index, plan, twist })
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => create().prop_map(Act::Create),
        10 => put().prop_map(Act::Put),
        2 => file().prop_map(Act::Complete),
        1 => file().prop_map(Act::Abort),
        1 => Just(Act::Sweep),
    ]
}

fn fault() -> impl Strategy<Value = (Operation, Fault)> {
    use Fault::{AnswerLost, Full, Hang, MidBody, NoSuchUpload, Refused, Unavailable, WrongProof};
    use Operation::{Abort, Begin, Complete, Head, ListParts, ListUploads, PutPart};
    let operation = prop::sample::select(vec![
        PutPart,
        PutPart,
        PutPart,
        Begin,
        ListParts,
        ListParts,
        Complete,
        Complete,
        Head,
        Abort,
        ListUploads,
    ]);
    let fault = prop::sample::select(vec![
        Unavailable,
        Unavailable,
        AnswerLost,
        AnswerLost,
        Hang,
        MidBody,
        Full,
        NoSuchUpload,
        Refused,
        WrongProof,
    ]);
    (operation, fault)
}

fn command() -> impl Strategy<Value = Command> {
    use Operation::{Begin, Complete, ListParts, PutPart};
    let within = prop::option::of(prop::sample::select(vec![Begin, PutPart, ListParts, Complete]));
    prop_oneof![
        30 => act().prop_map(Command::One),
        4 => prop::collection::vec(act(), 2..5).prop_map(Command::Together),
        3 => (act(), within, 0..40u8).prop_map(|(act, within, ticks)| Command::Crash(act, within, ticks)),
        5 => fault().prop_map(|(operation, fault)| Command::Arm(operation, fault)),
        1 => (1..40u8).prop_map(Command::Pass),
        1 => (file(), 0..3u32).prop_map(|(file, index)| Command::Spoil(file, index)),
        1 => file().prop_map(Command::Lose),
    ]
}

/// A file sent from its first chunk to its last, where the gateway may die, or
/// not be told whether the parts are joined.
fn whole_file() -> impl Strategy<Value = Vec<Command>> {
    use Operation::{Complete, ListParts, PutPart};
    let within = prop::sample::select(vec![None, Some(PutPart), Some(ListParts), Some(Complete)]);
    (file(), plan(), within, 0..3u8, 0..20u8).prop_map(|(file, plan, within, end, ticks)| {
        let put = |index| Act::Put(Put { file, index, plan, twist: Twist::Right });
        let mut commands: Vec<_> = (0..plan.2 - 1).map(|index| Command::One(put(index))).collect();
        let last = put(plan.2 - 1);
        if end == 0 {
            commands.push(Command::Arm(Complete, Fault::AnswerLost));
            commands.push(Command::Arm(Operation::Head, Fault::Refused));
        }
        commands.push(if end == 1 { Command::Crash(last, within, ticks) } else { Command::One(last) });
        commands
    })
}

/// A case begins with an upload, mostly.
pub(super) fn commands() -> impl Strategy<Value = Vec<Command>> {
    let some = prop_oneof![12 => command().prop_map(|command| vec![command]), 1 => whole_file()];
    (create(), prop::collection::vec(some, 5..35)).prop_map(|(create, commands)| {
        let begin = Command::One(Act::Create(create));
        std::iter::once(begin).chain(commands.into_iter().flatten()).collect()
    })
}
