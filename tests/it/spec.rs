//! The executable specification: a reference model of uploads beside the real
//! engine. Each case is a row of commands, right ones and wrong ones, alone and at
//! once, with faults of the store, crashes and the passing of time between them;
//! after each, the answer and all that can be seen must be what the model allows,
//! and in the end nothing may be lost, doubled or left over.
//!
//! `PROPTEST_CASES` runs more cases. A case that fails is printed, and kept in
//! `tests/proptest-regressions`, from where it is tried first ever after.

mod command;
mod house;
mod model;
mod order;
mod shape;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use chunkgate::clock::{Clock as _, SystemClock};
use chunkgate::domain::event::{EventKind, event_id};
use chunkgate::domain::{Crc64, Status, UploadId};
use chunkgate::store::faulty::{Fault, Operation, Rates};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use command::{Act, Answer, Command, Put, Twist};
use house::{House, Seen};
use model::{FILES, Phase, SPAN_MILLIS, Upload, Weather, World};

const CASES: u32 = 250;
const HOUR: Duration = Duration::from_secs(3600);

/// One case: the engine and the model, side by side.
struct Case {
    house: House,
    world: World,
    /// Faults that may strike, by script or by lot.
    armed: Vec<(Operation, Fault)>,
}

type Verdict = Result<(), TestCaseError>;

fn differs(
    command: &dyn Debug,
    answers: &dyn Debug,
    before: &World,
    allowed: &[World],
    seen: &dyn Debug,
) -> TestCaseError {
    TestCaseError::fail(format!(
        "{command:?}\nwas answered {answers:?}\nbefore: {before:?}\nallowed: {}\nseen: {seen:?}",
        allowed.iter().map(|world| format!("\n  {world:?}")).collect::<String>()
    ))
}

impl Case {
    fn new(seed: u64) -> Self {
        let house = House::new(seed);
        let mut armed = Vec::new();
        // Every fourth store is a bad one, all the time.
        if seed.is_multiple_of(4) {
            let rates = Rates { unavailable_per_mille: 60, answer_lost_per_mille: 60, ..Rates::default() };
            for operation in
                [Operation::Begin, Operation::PutPart, Operation::ListParts, Operation::Complete, Operation::Head]
            {
                house.faulty.set_rates(operation, rates);
                armed.extend([(operation, Fault::Unavailable), (operation, Fault::AnswerLost)]);
            }
        }
        let world = World { now: house.now(), files: Default::default(), past: Vec::new() };
        Self { house, world, armed }
    }

    fn run(&mut self, command: &Command) -> Verdict {
        match command {
            Command::One(act) => self.act(std::slice::from_ref(act)),
            Command::Together(acts) => self.act(acts),
            Command::Crash(act, within, ticks) => self.crash(act, *within, *ticks),
            Command::Arm(operation, fault) => {
                self.house.faulty.fail_next(*operation, *fault);
                self.armed.push((*operation, *fault));
                Ok(())
            }
            Command::Pass(hours) => {
                self.pass(HOUR * u32::from(*hours));
                Ok(())
            }
            Command::Spoil(file, index) => {
                if self.house.spoil(*file, *index)
                    && let Some(upload) = &mut self.world.files[*file]
                    && upload.chunks.contains_key(index)
                {
                    upload.spoiled.insert(*index);
                }
                Ok(())
            }
            Command::Lose(file) => {
                let is_lost = self.house.lose(*file);
                self.world.files[*file].iter_mut().for_each(|upload| upload.lost |= is_lost);
                Ok(())
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        // An event that nobody takes for days is given up.
        self.house.deliver();
        self.house.clock.advance(time);
        self.world.now = self.house.now();
    }

    fn act(&mut self, acts: &[Act]) -> Verdict {
        let struck = self.house.faulty.struck();
        let answers = match acts {
            [act] => vec![self.house.perform(act)],
            acts => self.house.together(acts),
        };
        let sweeps = acts.iter().any(|act| matches!(act, Act::Sweep));
        let seen = self.look(!sweeps);
        let faults: &[_] = if self.house.faulty.struck() > struck { &self.armed } else { &[] };
        let weather = Weather { faults, together: acts.len() > 1 };
        let answered: Vec<(Act, Answer)> = acts.iter().cloned().zip(answers).collect();
        let allowed = self.world.after_all(&answered, weather);
        let past = self.house.past(&seen);
        let world =
            allowed.iter().find(|world| world.past() == past && self.is_seen(world, &seen, weather.faults.is_empty()));
        let Some(world) = world else { return Err(differs(&acts, &answered, &self.world, &allowed, &seen)) };
        self.world = synced(world, &seen);
        Ok(())
    }

    fn crash(&mut self, act: &Act, within: Option<Operation>, ticks: u8) -> Verdict {
        let struck = self.house.faulty.struck();
        if let Some(operation) = within {
            self.house.faulty.hang_next(operation);
        }
        self.house.crash(act, within.is_some(), ticks);
        let seen = self.house.look(|_| true);
        let faults: &[_] = if self.house.faulty.struck() > struck { &self.armed } else { &[] };
        let allowed = self.world.after_crash(act, Weather { faults, together: false });
        let past = self.house.past(&seen);
        let world = allowed.iter().find(|world| world.past() == past && self.is_seen(world, &seen, false));
        let Some(world) = world else { return Err(differs(&act, &"a crash", &self.world, &allowed, &seen)) };
        self.world = synced(world, &seen);
        Ok(())
    }

    /// Whether this world is what is seen. Whether there is a multipart upload is
    /// not compared after faults and crashes: it may have been begun in vain.
    fn is_seen(&self, world: &World, seen: &[Option<Seen>], exactly: bool) -> bool {
        (0..FILES).all(|file| match (&world.files[file], &seen[file]) {
            (None, None) => true,
            (Some(upload), Some(seen)) => {
                let chunks =
                    upload.chunks.iter().map(|(&index, bytes)| (index, (bytes.len() as u64, Crc64::of(bytes).0)));
                let (chunk, last, total) = upload.shape.shown();
                let failure = match upload.phase {
                    Phase::Lost => Some("upload_lost"),
                    Phase::Wrong => Some("integrity_failed"),
                    Phase::Open | Phase::Completing | Phase::Completed | Phase::Aborted | Phase::Expired => None,
                };
                let before = self.world.files[file].as_ref().and_then(|upload| upload.id);
                let expected = Seen {
                    // One that was not there before has an id of its own.
                    id: upload.id.or(Some(seen.id).filter(|_| before != Some(seen.id))).unwrap_or_default(),
                    status: upload.phase.status(),
                    failure,
                    shape: (upload.shape.count, chunk, last, total),
                    chunks: chunks.collect(),
                    missing: upload.missing(),
                    auto: upload.auto,
                    checksum: upload.checksum.map(|crc64| crc64.to_string()),
                    begun: seen.begun.map(|begun| if exactly { upload.begun } else { begun }),
                    expires_at: upload.expires_at,
                };
                expected == *seen
            }
            (None, Some(_)) | (Some(_), None) => false,
        })
    }

    /// What is there once no merge is under way; one whose gateway died stays
    /// until somebody sweeps.
    fn look(&mut self, orphans_stay: bool) -> Vec<Option<Seen>> {
        let is_orphan = |upload: &Option<Upload>| upload.as_ref().is_some_and(|u| u.phase == Phase::Completing);
        let orphans = self.world.files.each_ref().map(|upload| orphans_stay && is_orphan(upload));
        let is_merging = |seen: &Option<Seen>| seen.as_ref().is_some_and(|seen| seen.status == Status::Completing);
        self.house.look(|seen| seen.iter().zip(orphans).all(|(seen, orphan)| orphan || !is_merging(seen)))
    }

    /// The store is well again; whoever comes back sends what is missing; time
    /// passes. Nothing is lost, nothing doubled, nothing left.
    fn end(&mut self, finish: bool) -> Verdict {
        self.house.heal();
        self.armed.clear();
        self.act(&[Act::Sweep])?;
        for file in (0..FILES).filter(|_| finish) {
            // What somebody wrote over is found by the first merge, and sent again.
            self.send_the_rest(file)?;
            self.send_the_rest(file)?;
            let is_open = self.world.files[file].as_ref().is_some_and(|upload| upload.phase == Phase::Open);
            prop_assert!(!is_open, "all was sent: {:?}", self.world);
        }
        for time in [Duration::from_millis(SPAN_MILLIS as u64), HOUR, HOUR] {
            self.pass(time);
            self.act(&[Act::Sweep])?;
        }
        self.nothing_is_lost_doubled_or_left()
    }

    fn send_the_rest(&mut self, file: usize) -> Verdict {
        let Some(upload) = self.world.files[file].clone().filter(|upload| upload.phase == Phase::Open) else {
            return Ok(());
        };
        let plan = upload.shape.some_plan();
        for index in (0..upload.shape.count).filter(|index| !upload.chunks.contains_key(index)) {
            self.act(&[Act::Put(Put { file, index, plan, twist: Twist::Right })])?;
        }
        self.act(&[Act::Complete(file)])
    }

    fn nothing_is_lost_doubled_or_left(&mut self) -> Verdict {
        let completed: BTreeSet<Vec<u8>> =
            self.world.files.iter().flatten().filter(|u| u.phase == Phase::Completed).map(Upload::content).collect();
        let (mut events, mut contents) = (BTreeSet::new(), BTreeSet::new());
        for (&id, key) in &self.house.known.clone() {
            let (status, object) = (self.house.status_of(id), self.house.memory.object(key));
            let kind = match status {
                Status::Completed => EventKind::Completed,
                Status::Failed => EventKind::Failed,
                Status::Expired => EventKind::Expired,
                Status::Aborted => EventKind::Aborted,
                Status::Uploading | Status::Completing => {
                    return Err(TestCaseError::fail(format!("{id} has not ended")));
                }
            };
            events.insert(event_id(UploadId(id), kind).as_str().to_owned());
            match status {
                Status::Completed => contents.extend(object.map(|object| object.to_vec())),
                // Kept for inspection.
                Status::Failed => {}
                Status::Expired | Status::Aborted | Status::Uploading | Status::Completing => {
                    prop_assert!(object.is_none(), "{id} is {}, but has an object", status.name())
                }
            }
        }
        prop_assert_eq!(contents, completed, "the objects are what was acknowledged");
        self.house.deliver();
        prop_assert_eq!(&self.house.delivered, &events, "one event for each");
        prop_assert_eq!(self.house.memory.open_uploads(), 0, "no parts are left");
        prop_assert!(self.house.memory.keys().len() <= self.house.known.len(), "at most one object for each");
        Ok(())
    }
}

fn synced(world: &World, seen: &[Option<Seen>]) -> World {
    let mut world = world.clone();
    for (upload, seen) in world.files.iter_mut().zip(seen) {
        if let (Some(upload), Some(seen)) = (upload, seen) {
            upload.id = Some(seen.id);
            upload.begun = seen.begun.unwrap_or(upload.begun);
        }
    }
    world
}

#[test]
fn the_engine_does_what_the_model_allows() {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let cases = wanted.unwrap_or(CASES);
    // The same cases each time, unless somebody asks for more: then others, so that some are new.
    let rng = match wanted {
        None => TestRng::deterministic_rng(RngAlgorithm::ChaCha),
        Some(_) => TestRng::from_seed(RngAlgorithm::ChaCha, &SystemClock::new().random().to_be_bytes().repeat(2)),
    };
    let config = Config { cases, source_file: Some(file!()), max_shrink_time: 120_000, ..Config::default() };
    let (run, commanded, struck, crashed) = (Cell::new(0u64), Cell::new(0), Cell::new(0), Cell::new(0));
    let add = |to: &Cell<u64>, more: u64| to.set(to.get() + more);
    let strategy = (any::<u64>(), command::commands(), any::<bool>());
    let outcome = TestRunner::new_with_rng(config, rng).run(&strategy, |(seed, commands, finish)| {
        let mut case = Case::new(seed);
        for command in &commands {
            case.run(command)?;
        }
        add(&struck, case.house.faulty.struck());
        case.end(finish)?;
        add(&run, 1);
        add(&commanded, commands.len() as u64);
        add(&crashed, commands.iter().filter(|command| matches!(command, Command::Crash(..))).count() as u64);
        Ok(())
    });
    println!("cases {}, commands {}, faults {}, crashes {}", run.get(), commanded.get(), struck.get(), crashed.get());
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, case)) => panic!("{reason}\nin the case {case:?}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}
