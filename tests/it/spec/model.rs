//! The reference model: what uploads are and what each command makes of them,
//! too simple to be wrong. Where faults strike, or several commands run at once,
//! it allows more than one outcome.

use std::collections::{BTreeMap, BTreeSet};

use chunkgate::domain::{Crc64, Status};
use chunkgate::store::faulty::{Fault, Operation};

use super::command::{Act, Answer, Create, Put, Twist};
use super::shape::Shape;

/// How long an upload without a new chunk is kept.
pub(super) const SPAN_MILLIS: i64 = 24 * 3600 * 1000;
pub(super) const FILES: usize = 2;

/// All that clients may rely on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct World {
    pub(super) now: i64,
    /// The upload that each fileId means.
    pub(super) files: [Option<Upload>; FILES],
    /// How those that were replaced have ended.
    pub(super) past: Vec<Phase>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Upload {
    /// Which one it is, once it has been seen; it is never another then.
    pub(super) id: Option<uuid::Uuid>,
    pub(super) shape: Shape,
    pub(super) auto: bool,
    /// The CRC-64 that the whole file is declared to have.
    pub(super) checksum: Option<u64>,
    /// What was acknowledged.
    pub(super) chunks: BTreeMap<u32, Vec<u8>>,
    /// Whether the store has a multipart upload for it.
    pub(super) begun: bool,
    /// The store has lost it.
    pub(super) lost: bool,
    /// Chunks that somebody wrote over in the store.
    pub(super) spoiled: BTreeSet<u32>,
    pub(super) phase: Phase,
    pub(super) expires_at: i64,
    /// What a merge that is under way will make of it, while others run.
    pub(super) merging: Option<Box<Upload>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Open,
    Completing,
    Completed,
    /// The store no longer has it.
    Lost,
    /// Its bytes are not those that were declared.
    Wrong,
    Aborted,
    Expired,
}

/// What makes more than one outcome possible.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather<'a> {
    /// Faults of which some may have struck.
    pub(super) faults: &'a [(Operation, Fault)],
    /// Whether other commands run at the same time.
    pub(super) together: bool,
}

/// An outcome.
pub(super) type Outcome = (Answer, World);

impl Phase {
    pub(super) const fn status(self) -> Status {
        match self {
            Self::Open => Status::Uploading,
            Self::Completing => Status::Completing,
            Self::Completed => Status::Completed,
            Self::Lost | Self::Wrong => Status::Failed,
            Self::Aborted => Status::Aborted,
            Self::Expired => Status::Expired,
        }
    }

    /// Why an upload that has ended without a file takes nothing any more.
    const fn closed(self) -> Option<&'static str> {
        match self {
            Self::Open | Self::Completing | Self::Completed => None,
            Self::Lost => Some("upload_lost"),
            Self::Wrong => Some("upload_failed"),
            Self::Aborted => Some("upload_aborted"),
            Self::Expired => Some("upload_expired"),
        }
    }
}

impl Weather<'_> {
    pub(super) fn has(self, operations: &[Operation], faults: &[Fault]) -> bool {
        self.faults.iter().any(|(operation, fault)| operations.contains(operation) && faults.contains(fault))
    }
}

impl Upload {
    pub(super) fn missing(&self) -> Vec<[u32; 2]> {
        ranges((0..self.shape.count).filter(|index| !self.chunks.contains_key(index)))
    }

    pub(super) fn is_full(&self) -> bool {
        self.missing().is_empty()
    }

    pub(super) fn content(&self) -> Vec<u8> {
        self.chunks.values().flatten().copied().collect()
    }

    fn is_wrong(&self, content: &[u8]) -> bool {
        self.checksum.is_some_and(|declared| declared != Crc64::of(content).0)
    }

    /// What a merge makes of it: the answer to who waits for it, and the upload.
    fn merged(&self, weather: Weather<'_>) -> Vec<(Answer, Self)> {
        const ASKED: [Operation; 2] = [Operation::ListParts, Operation::Complete];
        let ended = |answer, phase| (answer, Self { phase, ..self.clone() });
        let lost = ended(Answer::Refused("upload_lost"), Phase::Lost);
        let mut outcomes = vec![if self.is_wrong(&self.content()) {
            ended(Answer::Refused("integrity_failed"), Phase::Wrong)
        } else if self.lost {
            lost.clone()
        } else if !self.spoiled.is_empty() {
            self.without(self.spoiled.clone())
        } else {
            ended(Answer::Completed, Phase::Completed)
        }];
        if weather.has(&ASKED, &[Fault::Refused, Fault::Full]) {
            outcomes.push(ended(Answer::Later, Phase::Open));
        }
        if weather.has(&ASKED, &[Fault::NoSuchUpload]) || weather.has(&[Operation::Head], &[Fault::WrongProof]) {
            outcomes.push(lost);
        }
        if weather.has(&[Operation::ListParts], &[Fault::WrongProof]) {
            outcomes.push(self.without(self.spoiled.iter().copied().chain([0]).collect()));
        }
        if weather.has(&[Operation::Complete], &[Fault::WrongProof]) {
            outcomes.push(ended(Answer::Refused("upload_failed"), Phase::Wrong));
        }
        if !weather.faults.is_empty() {
            // It takes so long that the answer does not wait for it.
            outcomes.extend(outcomes.clone().into_iter().map(|(_, upload)| (Answer::Later, upload)));
            outcomes.push(ended(Answer::Later, Phase::Completing));
        }
        outcomes
    }

    /// The store does not have these chunks: they are missing again.
    fn without(&self, gone: BTreeSet<u32>) -> (Answer, Self) {
        let mut open = Self { phase: Phase::Open, ..self.clone() };
        open.chunks.retain(|index, _| !gone.contains(index));
        open.spoiled.retain(|index| !gone.contains(index));
        (Answer::Missing(ranges(gone.into_iter())), open)
    }
}

fn ranges(indexes: impl Iterator<Item = u32>) -> Vec<[u32; 2]> {
    let mut ranges: Vec<[u32; 2]> = Vec::new();
    for index in indexes {
        match ranges.last_mut() {
            Some([_, last]) if *last + 1 == index => *last = index,
            Some(_) | None => ranges.push([index, index]),
        }
    }
    ranges
}

impl World {
    /// How those have ended that were replaced, in order.
    pub(super) fn past(&self) -> Vec<&'static str> {
        let mut past: Vec<_> = self.past.iter().map(|phase| phase.status().name()).collect();
        past.sort_unstable();
        past
    }

    pub(super) fn with(&self, file: usize, upload: Upload) -> Self {
        let mut world = self.clone();
        world.files[file] = Some(upload);
        world
    }

    pub(super) fn same(&self, answer: Answer) -> Vec<Outcome> {
        vec![(answer, self.clone())]
    }

    fn refused(&self, code: &'static str) -> Vec<Outcome> {
        self.same(Answer::Refused(code))
    }

    pub(super) fn create(&self, create: &Create, weather: Weather<'_>) -> Vec<Outcome> {
        let shape = create.cut.shape();
        let new = Upload {
            id: None,
            shape,
            auto: create.auto,
            checksum: create.checksum,
            chunks: BTreeMap::new(),
            begun: false,
            lost: false,
            spoiled: BTreeSet::new(),
            phase: Phase::Open,
            expires_at: self.now + SPAN_MILLIS,
            merging: None,
        };
        let mut created = self.with(create.file, new);
        let Some(known) = &self.files[create.file] else { return vec![(Answer::Created(true), created)] };
        match known.phase {
            Phase::Lost | Phase::Wrong | Phase::Aborted | Phase::Expired => {
                created.past.push(known.phase);
                vec![(Answer::Created(true), created)]
            }
            Phase::Completing if create.restart => self.refused("upload_completing"),
            Phase::Completed if create.restart => self.refused("upload_completed"),
            Phase::Open if create.restart => {
                created.past.push(Phase::Aborted);
                let mut outcomes = vec![(Answer::Created(true), created)];
                if weather.together {
                    // Somebody else began it anew at the same time.
                    outcomes.extend(self.refused("upload_conflict"));
                    // Or began it after what was there had ended: that is as new as could be.
                    outcomes.extend(self.same(Answer::Created(false)));
                }
                outcomes
            }
            Phase::Open | Phase::Completing | Phase::Completed => {
                let contradicts = matches!((known.checksum, create.checksum), (Some(a), Some(b)) if a != b);
                if contradicts || !known.shape.agrees(create.cut) {
                    return self.refused("upload_conflict");
                }
                let mut known = known.clone();
                let mut outcomes = Vec::new();
                if weather.together {
                    // It ended, or began to be merged, between the look and the declaration.
                    outcomes.push((Answer::Created(false), self.clone()));
                }
                if known.phase == Phase::Open {
                    known.checksum = known.checksum.or(create.checksum);
                }
                outcomes.push((Answer::Created(false), self.with(create.file, known)));
                outcomes
            }
        }
    }

    pub(super) fn put(&self, put: &Put, weather: Weather<'_>) -> Vec<Outcome> {
        let Some(upload) = &self.files[put.file] else { return self.refused("upload_not_found") };
        if let Some(code) = upload.phase.closed() {
            return self.refused(code);
        }
        if put.index >= upload.shape.count {
            return self.refused("chunk_index_out_of_range");
        }
        let announced = (put.twist != Twist::NoLength).then_some(put.announced());
        if let Some(recorded) = upload.chunks.get(&put.index) {
            let bytes = recorded.len() as u64;
            if announced.is_some_and(|announced| announced != bytes) {
                return self.refused("chunk_size_mismatch");
            }
            return match put.flaw(bytes) {
                Some(code) => self.refused(code),
                None if *recorded != put.bytes() => self.refused("chunk_conflict"),
                // A repeat, too, starts a merge that nobody has come to.
                None if upload.phase == Phase::Open => self.stored(put, upload, weather),
                None => self.same(Answer::Stored { completed: upload.phase == Phase::Completed, missing: None }),
            };
        }
        if upload.phase != Phase::Open {
            return self.refused("store_unavailable");
        }
        let (bytes, taught) = match upload.shape.admit(put.index, announced) {
            Ok(admitted) => admitted,
            Err(code) => return self.refused(code),
        };
        self.store(put, upload, bytes, taught, weather)
    }

    /// A chunk that was admitted, on its way into the store.
    fn store(&self, put: &Put, upload: &Upload, bytes: u64, taught: Shape, weather: Weather<'_>) -> Vec<Outcome> {
        let begun = Upload { begun: true, ..upload.clone() };
        let ended = |code, phase| (Answer::Refused(code), self.with(put.file, Upload { phase, ..begun.clone() }));
        let mut outcomes = if upload.lost {
            vec![ended("upload_lost", Phase::Lost)]
        } else if let Some(code) = put.flaw(bytes) {
            vec![ended(code, Phase::Open)]
        } else if upload.shape.count == 1 && upload.is_wrong(&put.bytes()) {
            vec![ended("integrity_failed", Phase::Wrong)]
        } else {
            let mut stored = Upload { shape: taught, ..begun.clone() };
            stored.chunks.insert(put.index, put.bytes());
            if self.now + SPAN_MILLIS - stored.expires_at > SPAN_MILLIS / 10 {
                stored.expires_at = self.now + SPAN_MILLIS;
            }
            self.stored(put, &stored, weather)
        };
        if !weather.faults.is_empty() {
            outcomes.push(ended("store_unavailable", Phase::Open));
            outcomes.extend(self.refused("store_unavailable"));
        }
        if weather.has(&[Operation::Begin, Operation::PutPart], &[Fault::Full]) {
            outcomes.push(ended("storage_full", Phase::Open));
            outcomes.extend(self.refused("storage_full"));
        }
        if weather.has(&[Operation::PutPart], &[Fault::NoSuchUpload]) {
            outcomes.push(ended("upload_lost", Phase::Lost));
        }
        if weather.has(&[Operation::Begin], &[Fault::NoSuchUpload]) {
            outcomes.extend(self.refused("upload_lost"));
        }
        outcomes
    }

    fn stored(&self, put: &Put, stored: &Upload, weather: Weather<'_>) -> Vec<Outcome> {
        let answer = |completed, missing| Answer::Stored { completed, missing };
        if !stored.auto || !stored.is_full() {
            return vec![(answer(false, None), self.with(put.file, stored.clone()))];
        }
        let outcome = |(merged, upload): (Answer, Upload)| {
            let answer = match merged {
                Answer::Completed => answer(true, None),
                // The very chunk is among those that the store lacks: it is not acknowledged.
                Answer::Missing(_) if !upload.chunks.contains_key(&put.index) => Answer::Refused("store_unavailable"),
                Answer::Missing(missing) => answer(false, Some(missing)),
                Answer::Later => answer(false, None),
                refused @ (Answer::Refused(_) | Answer::Created(_) | Answer::Stored { .. } | Answer::Done) => refused,
            };
            (answer, self.with(put.file, upload))
        };
        stored.merged(weather).into_iter().map(outcome).collect()
    }

    pub(super) fn complete(&self, file: usize, weather: Weather<'_>) -> Vec<Outcome> {
        let Some(upload) = &self.files[file] else { return self.refused("upload_not_found") };
        if let Some(code) = upload.phase.closed() {
            return self.refused(code);
        }
        if upload.phase == Phase::Completed {
            return self.same(Answer::Completed);
        }
        if upload.phase == Phase::Completing {
            // Its gateway died: the sweeper will take it over.
            return self.same(Answer::Later);
        }
        if !upload.is_full() {
            return self.same(Answer::Missing(upload.missing()));
        }
        upload.merged(weather).into_iter().map(|(answer, upload)| (answer, self.with(file, upload))).collect()
    }

    pub(super) fn abort(&self, file: usize) -> Vec<Outcome> {
        let Some(upload) = &self.files[file] else { return self.refused("upload_not_found") };
        match upload.phase {
            Phase::Completing => self.refused("upload_completing"),
            Phase::Completed => self.refused("upload_completed"),
            Phase::Open => {
                let aborted = Upload { phase: Phase::Aborted, ..upload.clone() };
                vec![(Answer::Done, self.with(file, aborted))]
            }
            Phase::Lost | Phase::Wrong | Phase::Aborted | Phase::Expired => self.same(Answer::Done),
        }
    }

    /// A turn of the sweeper, to the end of the merges it begins.
    pub(super) fn sweep(&self, weather: Weather<'_>) -> Vec<Outcome> {
        let mut worlds = vec![self.clone()];
        for file in 0..FILES {
            worlds = worlds.iter().flat_map(|world| world.swept(file, weather)).collect();
        }
        worlds.into_iter().map(|world| (Answer::Done, world)).collect()
    }

    fn swept(&self, file: usize, weather: Weather<'_>) -> Vec<Self> {
        let Some(upload) = &self.files[file] else { return vec![self.clone()] };
        let is_due = upload.phase == Phase::Open && upload.expires_at <= self.now;
        let merges = match upload.phase {
            Phase::Completing => true,
            Phase::Open => upload.auto && upload.is_full(),
            Phase::Completed | Phase::Lost | Phase::Wrong | Phase::Aborted | Phase::Expired => false,
        };
        let mut outcomes = Vec::new();
        if merges {
            // One that is due as well may be found by either first.
            outcomes.extend(upload.merged(weather).into_iter().map(|(_, upload)| upload));
        }
        if is_due {
            outcomes.push(Upload { phase: Phase::Expired, ..upload.clone() });
        }
        if outcomes.is_empty() {
            outcomes.push(upload.clone());
        }
        outcomes.into_iter().map(|upload| self.with(file, upload)).collect()
    }

    /// What may come of one act.
    pub(super) fn outcomes(&self, act: &Act, weather: Weather<'_>) -> Vec<Outcome> {
        match act {
            Act::Create(create) => self.create(create, weather),
            Act::Put(put) => self.put(put, weather),
            Act::Complete(file) => self.complete(*file, weather),
            Act::Abort(file) => self.abort(*file),
            Act::Sweep => self.sweep(weather),
        }
    }
}
