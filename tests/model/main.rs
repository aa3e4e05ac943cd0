//! The protocol of completion, leases and the sweeper as a model that is
//! checked exhaustively: two gateways, a client, a store whose answers may be
//! lost and whose calls may arrive late, and crashes between any two steps.
//!
//! What must happen some day is checked without temporal logic: a world in
//! which nothing that is certain to happen can happen any more must be as it
//! should end. That is exact, for certain steps make no circles: each moves a
//! task on, ends one, lets a call arrive, or ends the upload.

mod action;
mod protocol;
mod world;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chunkgate::domain::Failure;
use chunkgate::domain::event::EventKind;
use stateright::{Checker as _, HasDiscoveries, Model, Property};

use action::{Action, Broken};
use world::{Budget, Phase, Session, World};

/// Not a promise: a model in which nothing ever happens would keep them all.
const COMPLETES: &str = "an upload completes";

/// A protocol, and where it begins.
#[derive(Clone, Debug)]
struct Protocol {
    begin: World,
    broken: Broken,
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.begin.clone()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        Action::all(world, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        world.after(action, self.broken)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("I1: what was acknowledged is in the object", acknowledged_is_in_the_object),
            Property::always("I3: one object, which never changes", one_object_that_never_changes),
            Property::always("I4: an event if and only if ended, and one", one_event_if_ended),
            Property::always("I5: in the end no parts are left", |protocol, world| {
                !is_quiet(protocol, world) || nothing_is_left(world)
            }),
            Property::always("I7: nothing stays completing", |protocol, world| {
                !is_quiet(protocol, world) || world.has_ended()
            }),
            Property::always("what is finished is not taken for lost", |_, world: &World| {
                !is_lost(world) || world.store.object != Some(world.ledger.chunks)
            }),
            Property::always("nothing is lost that the store has not lost", |_, world: &World| {
                !is_lost(world) || world.store.lost || world.store.object.is_some()
            }),
            Property::always("what was given up has no object", given_up_has_no_object),
            Property::always("what was acknowledged never fails for its bytes", |_, world: &World| {
                world.ledger.phase != Phase::Failed(Failure::IntegrityFailed)
            }),
            Property::sometimes(COMPLETES, |_, world: &World| matches!(world.ledger.phase, Phase::Completed(_))),
        ]
    }
}

fn acknowledged_is_in_the_object(_: &Protocol, world: &World) -> bool {
    let Phase::Completed(_) = world.ledger.phase else { return true };
    let Some(object) = world.store.object else { return false };
    object == world.ledger.chunks && world.acknowledged.iter().zip(object).all(|(&ours, is)| ours == 0 || ours == is)
}

fn one_object_that_never_changes(_: &Protocol, world: &World) -> bool {
    let identity = match world.ledger.phase {
        Phase::Completed(object) => Some(object),
        Phase::Open | Phase::Completing { .. } | Phase::Failed(_) | Phase::Aborted | Phase::Expired => {
            world.store.object
        }
    };
    world.store.joins <= 1 && identity == world.store.object
}

fn one_event_if_ended(_: &Protocol, world: &World) -> bool {
    let expected = match world.ledger.phase {
        Phase::Open | Phase::Completing { .. } => None,
        Phase::Completed(_) => Some(EventKind::Completed),
        Phase::Failed(_) => Some(EventKind::Failed),
        Phase::Aborted => Some(EventKind::Aborted),
        Phase::Expired => Some(EventKind::Expired),
    };
    world.ledger.events.iter().copied().eq(expected)
}

fn nothing_is_left(world: &World) -> bool {
    !world.ledger.remains && !world.store.sessions.iter().any(|session| matches!(session, Session::Open(_)))
}

fn is_lost(world: &World) -> bool {
    world.ledger.phase == Phase::Failed(Failure::UploadLost)
}

/// But for two cases, in which a call to join arrives after the upload was
/// opened again: a holder that slept past its lease, and a part that was written
/// over and sent again. Nobody is told of that object, and nobody removes it.
fn given_up_has_no_object(protocol: &Protocol, world: &World) -> bool {
    let (before, left) = (&protocol.begin.left, &world.left);
    let is_excused = left.stalls < before.stalls || left.rivals < before.rivals;
    is_excused || !matches!(world.ledger.phase, Phase::Aborted | Phase::Expired) || world.store.object.is_none()
}

/// Whether nothing can happen any more that is certain to.
fn is_quiet(protocol: &Protocol, world: &World) -> bool {
    let mut actions = Vec::new();
    Action::all(world, &mut actions);
    !actions.into_iter().any(|action| action.is_certain() && world.after(action, protocol.broken).is_some())
}

/// Checks all there is, prints how much that is, and returns what does not
/// hold, each with the shortest way there that was found.
fn check(name: &str, begin: World, broken: Broken) -> BTreeMap<&'static str, String> {
    let mut checker = Protocol { begin, broken }.checker().threads(2);
    if broken != Broken::Nothing {
        checker = checker.finish_when(HasDiscoveries::AnyFailures);
    }
    let checker = checker.spawn_bfs().join();
    let (states, unique, depth) = (checker.state_count(), checker.unique_state_count(), checker.max_depth());
    println!("{name}: states {states}, unique {unique}, depth {depth}");
    let discoveries = checker.discoveries().into_iter().filter(|(name, _)| *name != COMPLETES);
    discoveries.map(|(name, path)| (name, story(path.into_vec()))).collect()
}

fn story(path: Vec<(World, Option<Action>)>) -> String {
    let mut story = String::new();
    for (World { ledger, store, gateways, flights, .. }, action) in path {
        let _ = write!(story, "\n{ledger:?}\n  {store:?}\n  {gateways:?}\n  {flights:?}\n→ {action:?}");
    }
    story
}

#[track_caller]
fn holds(name: &str, begin: World) {
    let found = check(name, begin, Broken::Nothing);
    if let Some((property, story)) = found.first_key_value() {
        panic!("does not hold: {property}{story}");
    }
}

/// The model without one of its cares: this property is found not to hold.
#[track_caller]
fn is_found(broken: Broken, begin: World, properties: &[&str]) {
    let found = check(&format!("{broken:?}"), begin, broken);
    let known = found.keys().any(|found| properties.iter().any(|property| found.starts_with(property)));
    assert!(known, "found {:?}, not one of {properties:?}", found.keys());
}

#[test]
fn from_the_first_chunk_on() {
    let left = Budget { sends: 3, silences: 2, crashes: 1, aborts: 1, ..Budget::default() };
    holds("from the first chunk on", World::new(left));
}

#[test]
fn from_the_last_chunk_on() {
    let left = Budget { sends: 3, rivals: 1, silences: 1, refusals: 1, crashes: 2, stalls: 1, aborts: 1, losses: 0 };
    holds("from the last chunk on", World::all_but_the_last(left));
}

#[test]
fn with_answers_that_are_lost() {
    let left = Budget { sends: 2, rivals: 1, silences: 3, refusals: 1, crashes: 1, stalls: 1, aborts: 1, losses: 0 };
    holds("with answers that are lost", World::all_but_the_last(left));
}

#[test]
fn with_a_store_that_forgets() {
    let left = Budget { sends: 2, rivals: 1, silences: 1, refusals: 1, crashes: 1, stalls: 1, aborts: 1, losses: 1 };
    holds("with a store that forgets", World::all_but_the_last(left));
}

/// Enough going wrong for every care to be needed.
fn storm() -> World {
    World::all_but_the_last(Budget {
        sends: 3,
        rivals: 1,
        silences: 1,
        refusals: 1,
        crashes: 1,
        stalls: 1,
        aborts: 1,
        losses: 0,
    })
}

#[test]
fn without_asking_for_the_object_it_is_found() {
    is_found(Broken::SkipsHead, storm(), &["what is finished is not taken for lost"]);
}

#[test]
fn trusting_that_a_vanished_upload_is_finished_is_found() {
    let left = Budget { sends: 1, losses: 1, ..Budget::default() };
    is_found(Broken::TrustsNoSuchUpload, World::all_but_the_last(left), &["I1", "I3"]);
}

#[test]
fn without_listing_the_parts_it_is_found() {
    is_found(Broken::SkipsListParts, storm(), &["what was acknowledged never fails for its bytes"]);
}

#[test]
fn without_listing_the_parts_and_without_the_verdict_it_is_found() {
    is_found(Broken::SkipsListPartsAndVerdict, storm(), &["I1"]);
}

#[test]
fn without_the_lease_check_it_is_found() {
    let left = Budget { sends: 3, rivals: 1, stalls: 1, silences: 1, ..Budget::default() };
    is_found(Broken::ForgetsLease, World::all_but_the_last(left), &["I1", "I3", "what is finished"]);
}

#[test]
fn opening_an_upload_in_doubt_again_is_found() {
    let left = Budget { sends: 1, silences: 1, refusals: 1, aborts: 1, ..Budget::default() };
    is_found(Broken::OpensInDoubt, World::all_but_the_last(left), &["what was given up has no object"]);
}

#[test]
fn an_event_outside_of_the_transaction_is_found() {
    is_found(Broken::ForgetsEvent, storm(), &["I4"]);
}

#[test]
fn aborting_the_parts_only_once_is_found() {
    is_found(Broken::SweepsOnce, storm(), &["I5"]);
}

#[test]
fn without_the_intent_to_begin_it_is_found() {
    let left = Budget { sends: 2, silences: 1, crashes: 1, aborts: 1, ..Budget::default() };
    is_found(Broken::ForgetsIntent, World::new(left), &["I5"]);
}

#[test]
fn writing_over_what_was_recorded_is_found() {
    is_found(Broken::OverwritesRows, storm(), &["I1"]);
}

#[test]
fn a_merge_that_nobody_takes_over_is_found() {
    let left = Budget { sends: 1, crashes: 1, ..Budget::default() };
    is_found(Broken::NobodyTakesOver, World::all_but_the_last(left), &["I7"]);
}
