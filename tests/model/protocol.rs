//! What can happen next: each step of a gateway, the sweeper's and the
//! client's, and all that can go wrong. Which step a merge takes after which
//! answer is decided by `chunkgate::domain::merge`, as in the engine.

use std::ops::ControlFlow::{Break, Continue};

use chunkgate::domain::Failure;
use chunkgate::domain::event::EventKind;
use chunkgate::domain::merge::{self, End, Next, Step};

use crate::action::{Action, Broken, Weather};
use crate::world::{
    CHUNKS, Contents, Flight, Gateway, Merge, MergeStep, Phase, Put, PutStep, Session, World, parts_of, whole_of,
};

/// Takes one of what is left, if there is any.
fn spend(left: &mut u8) -> Option<()> {
    *left = left.checked_sub(1)?;
    Some(())
}

impl World {
    /// The world after this; none if it cannot happen, or changes nothing.
    pub(crate) fn after(&self, action: Action, broken: Broken) -> Option<Self> {
        let mut next = self.clone();
        match action {
            Action::Send { to, index, content } => next.send(to, index, content, broken)?,
            Action::Abort => {
                spend(&mut next.left.aborts)?;
                next.end_open(Phase::Aborted, EventKind::Aborted, broken)?;
            }
            Action::Put { on, weather } => next.put(on, weather, broken)?,
            Action::Merge { on, weather } => next.merge(on, weather, broken)?,
            Action::Start { on } => next.start(on)?,
            Action::TakeOver { .. } if broken == Broken::NobodyTakesOver => return None,
            Action::TakeOver { on } => next.take_over(on)?,
            Action::Expire => next.end_open(Phase::Expired, EventKind::Expired, broken)?,
            Action::Clean => next.clean(broken)?,
            Action::Crash { on } => {
                spend(&mut next.left.crashes)?;
                if next.gateways[on] == Gateway::default() {
                    return None;
                }
                next.gateways[on] = Gateway::default();
            }
            Action::Stall => {
                spend(&mut next.left.stalls)?;
                if self.ledger.phase != (Phase::Completing { lapsed: false }) || !self.is_held() {
                    return None;
                }
                next.ledger.phase = Phase::Completing { lapsed: true };
            }
            Action::Lose => {
                spend(&mut next.left.losses)?;
                let session = usize::from(self.ledger.session?);
                let Session::Open(_) = self.store.sessions[session] else { return None };
                next.store.sessions[session] = Session::Aborted;
                next.store.lost = true;
            }
            Action::Land { flight, survives } => {
                let flight = next.flights.remove(flight);
                next.land(flight, survives)?;
            }
            Action::Vanish { flight } => {
                next.flights.remove(flight);
            }
        }
        Some(next.canonical())
    }

    /// Out of `uploading`, by compare-and-set; the event is in the transaction.
    fn end_open(&mut self, phase: Phase, event: EventKind, broken: Broken) -> Option<()> {
        if self.ledger.phase != Phase::Open {
            return None;
        }
        self.end(phase, event, self.ledger.begins > 0, broken);
        Some(())
    }

    fn end(&mut self, phase: Phase, event: EventKind, remains: bool, broken: Broken) {
        self.ledger.phase = phase;
        self.ledger.remains = remains;
        if broken != Broken::ForgetsEvent {
            self.ledger.events.push(event);
        }
    }

    fn send(&mut self, to: usize, index: usize, content: u8, broken: Broken) -> Option<()> {
        if self.gateways[to].put.is_some() {
            return None;
        }
        spend(&mut self.left.sends)?;
        if content > 1 {
            spend(&mut self.left.rivals)?;
        }
        if self.ledger.phase != Phase::Open {
            return None;
        }
        let recorded = self.ledger.chunks[index];
        if recorded > 0 && broken != Broken::OverwritesRows {
            // Compared and dropped. What it is told, it has been told before.
            return None;
        }
        let at = self.ledger.session.map_or(PutStep::Intend, PutStep::Store);
        self.gateways[to].put = Some(Put { index, content, at });
        Some(())
    }

    fn put(&mut self, on: usize, weather: Weather, broken: Broken) -> Option<()> {
        let mut put = self.gateways[on].put?;
        let calls = matches!(put.at, PutStep::Begin | PutStep::Store(_));
        match weather {
            Weather::Fine => {}
            Weather::Silent if calls => {
                spend(&mut self.left.silences)?;
                self.flights.push(match put.at {
                    PutStep::Store(session) => Flight::Put { session, index: put.index, content: put.content },
                    PutStep::Begin
                    | PutStep::Intend
                    | PutStep::Name(_)
                    | PutStep::Drop(..)
                    | PutStep::Record
                    | PutStep::Doom => Flight::Begin,
                });
                // The client is told to try again.
                self.gateways[on].put = None;
                return Some(());
            }
            // A refusal is an answer that leaves everything as it was: like a send that was not.
            Weather::Silent | Weather::Refused => return None,
        }
        let is_open = self.ledger.phase == Phase::Open;
        let next = match put.at {
            PutStep::Intend => {
                if is_open && broken != Broken::ForgetsIntent {
                    self.ledger.begins += 1;
                }
                is_open.then_some(PutStep::Begin)
            }
            PutStep::Begin => Some(PutStep::Name(self.begin()?)),
            PutStep::Name(session) => match self.ledger.session {
                None if is_open => {
                    self.ledger.session = Some(session);
                    Some(PutStep::Store(session))
                }
                winner => Some(PutStep::Drop(session, winner.filter(|_| is_open))),
            },
            PutStep::Drop(session, winner) => {
                self.abort(session);
                winner.map(PutStep::Store)
            }
            PutStep::Store(session) => match &mut self.store.sessions[usize::from(session)] {
                Session::Open(parts) => {
                    parts[put.index] = put.content;
                    Some(PutStep::Record)
                }
                // Not all chunks are recorded, so it cannot have been joined.
                Session::NotBegun | Session::Joined | Session::Aborted => {
                    (is_open && !self.is_full()).then_some(PutStep::Doom)
                }
            },
            PutStep::Record => {
                self.record(put, broken);
                None
            }
            PutStep::Doom => {
                self.end_open(Phase::Failed(Failure::UploadLost), EventKind::Failed, broken);
                None
            }
        };
        put.at = next.unwrap_or(put.at);
        self.gateways[on].put = next.map(|_| put);
        Some(())
    }

    /// A row is written once; the same again is fine, other bytes are a conflict.
    fn record(&mut self, put: Put, broken: Broken) {
        let row = &mut self.ledger.chunks[put.index];
        if self.ledger.phase == Phase::Open && (*row == 0 || broken == Broken::OverwritesRows) {
            *row = put.content;
        }
        let is_closed = self.has_ended() && !matches!(self.ledger.phase, Phase::Completed(_));
        if self.ledger.chunks[put.index] == put.content && !is_closed {
            // A client that was told of other bytes is never told of these.
            if self.acknowledged[put.index] == 0 {
                self.acknowledged[put.index] = put.content;
            }
        }
    }

    /// The next multipart upload, if the model has room for one more.
    fn begin(&mut self) -> Option<u8> {
        let free = self.store.sessions.iter().position(|session| *session == Session::NotBegun)?;
        self.store.sessions[free] = Session::Open([0; CHUNKS]);
        u8::try_from(free).ok()
    }

    fn abort(&mut self, session: u8) {
        if let session @ Session::Open(_) = &mut self.store.sessions[usize::from(session)] {
            *session = Session::Aborted;
        }
    }

    /// The store joins exactly these parts, or refuses.
    fn join(&mut self, session: u8, parts: Contents) -> bool {
        if self.store.sessions[usize::from(session)] != Session::Open(parts) {
            return false;
        }
        self.store.sessions[usize::from(session)] = Session::Joined;
        self.store.object = Some(parts);
        self.store.joins += 1;
        true
    }

    fn land(&mut self, flight: Flight, survives: bool) -> Option<()> {
        match flight {
            Flight::Begin if !survives => self.begin().map(|_| ()),
            Flight::Join { session, parts } if !survives => self.join(session, parts).then_some(()),
            Flight::Begin | Flight::Join { .. } => None,
            Flight::Put { session, index, content } => {
                let session = &mut self.store.sessions[usize::from(session)];
                let mut parts = match *session {
                    Session::Open(parts) if !survives => parts,
                    Session::Aborted if survives => [0; CHUNKS],
                    Session::Open(_) | Session::Aborted | Session::NotBegun | Session::Joined => return None,
                };
                parts[index] = content;
                *session = Session::Open(parts);
                Some(())
            }
        }
    }

    /// `uploading` → `completing`, by compare-and-set.
    fn start(&mut self, on: usize) -> Option<()> {
        let is_free = self.gateways[on].merge.is_none();
        (is_free && self.ledger.phase == Phase::Open && self.is_full()).then_some(())?;
        self.lease(on, false);
        Some(())
    }

    fn take_over(&mut self, on: usize) -> Option<()> {
        let Phase::Completing { lapsed } = self.ledger.phase else { return None };
        let is_free = self.gateways[on].merge.is_none();
        (is_free && (lapsed || !self.is_held())).then_some(())?;
        self.lease(on, true);
        Some(())
    }

    fn lease(&mut self, on: usize, in_doubt: bool) {
        for merge in self.gateways.iter_mut().flat_map(|gateway| &mut gateway.merge) {
            merge.current = false;
        }
        self.ledger.phase = Phase::Completing { lapsed: false };
        self.gateways[on].merge = Some(Merge { current: true, in_doubt, at: MergeStep::Begin });
    }

    fn merge(&mut self, on: usize, weather: Weather, broken: Broken) -> Option<()> {
        let mut merge = self.gateways[on].merge.take()?;
        let (step, rows) = match merge.at {
            // Each attempt looks first whether its lease is still the one.
            MergeStep::Begin if !merge.current && broken != Broken::ForgetsLease => {
                return (weather == Weather::Fine).then_some(());
            }
            MergeStep::Begin if self.is_full() => (Step::List, self.ledger.chunks),
            MergeStep::Begin => {
                (weather == Weather::Fine).then_some(())?;
                self.settle(&merge, End::Reopen(Vec::new()), self.ledger.chunks, broken);
                return Some(());
            }
            MergeStep::Ask(step, rows) => (step, rows),
            MergeStep::End(ref end, rows) => {
                (weather == Weather::Fine).then_some(())?;
                let end = end.clone();
                self.settle(&merge, end, rows, broken);
                return Some(());
            }
        };
        let next = match weather {
            Weather::Fine => self.ask(step, rows, broken)?,
            Weather::Silent => {
                spend(&mut self.left.silences)?;
                if let (Step::Join, Some(session)) = (step, self.ledger.session) {
                    self.flights.push(Flight::Join { session, parts: rows });
                }
                merge.in_doubt = merge::may_be_joined(step, merge.in_doubt, true);
                merge.at = MergeStep::Begin;
                self.gateways[on].merge = Some(merge);
                return Some(());
            }
            Weather::Refused => {
                spend(&mut self.left.refusals)?;
                merge.in_doubt = merge::may_be_joined(step, merge.in_doubt, false);
                if merge.in_doubt && broken != Broken::OpensInDoubt {
                    merge.at = MergeStep::Begin;
                    self.gateways[on].merge = Some(merge);
                    return Some(());
                }
                Break(End::Reopen(Vec::new()))
            }
        };
        merge.at = match next {
            Continue(step) => MergeStep::Ask(step, rows),
            Break(end) => MergeStep::End(end, rows),
        };
        self.gateways[on].merge = Some(merge);
        Some(())
    }

    /// What the store answers, and what comes next.
    fn ask(&mut self, step: Step, rows: Contents, broken: Broken) -> Option<Next> {
        let session = self.ledger.session?;
        let listed = match self.store.sessions[usize::from(session)] {
            Session::Open(parts) => Some(parts),
            Session::NotBegun | Session::Joined | Session::Aborted => None,
        };
        let skips_list = matches!(broken, Broken::SkipsListParts | Broken::SkipsListPartsAndVerdict);
        let next = match step {
            Step::List if skips_list => Continue(Step::Join),
            Step::List => merge::after_listing(&parts_of(rows), listed.map(parts_of).as_deref()),
            Step::Join => {
                let parts = if skips_list { listed.unwrap_or(rows) } else { rows };
                match listed {
                    Some(found) if !self.join(session, parts) => {
                        debug_assert_ne!(found, rows);
                        // The parts differ from those that were listed.
                        Break(End::Reopen(Vec::new()))
                    }
                    found => merge::after_joining(found.is_some()),
                }
            }
            Step::Ask => merge::after_asking(self.store.object.is_some()),
            Step::Verify { .. } if broken == Broken::SkipsListPartsAndVerdict => Break(End::Record),
            Step::Verify { joined } => merge::after_verifying(whole_of(self.store.object?) == whole_of(rows), joined),
        };
        Some(match (broken, next) {
            (Broken::SkipsHead, Continue(Step::Ask)) => Break(End::Fail(Failure::UploadLost)),
            (Broken::TrustsNoSuchUpload, Continue(Step::Ask)) => Break(End::Record),
            // It asks for nothing that is not known: the object was in the answer.
            (_, Continue(verify @ Step::Verify { .. })) => return self.ask(verify, rows, broken),
            (_, next) => next,
        })
    }

    /// Writes how a merge has ended, if its lease still holds.
    fn settle(&mut self, merge: &Merge, end: End, rows: Contents, broken: Broken) {
        let Phase::Completing { .. } = self.ledger.phase else { return };
        if !merge.current && broken != Broken::ForgetsLease {
            return;
        }
        match end {
            End::Record => {
                let object = self.store.object.unwrap_or(rows);
                self.end(Phase::Completed(object), EventKind::Completed, self.ledger.begins > 1, broken);
            }
            End::Fail(failure) => self.end(Phase::Failed(failure), EventKind::Failed, true, broken),
            End::Reopen(forget) => {
                self.ledger.phase = Phase::Open;
                for index in forget {
                    self.ledger.chunks[index as usize] = 0;
                    self.acknowledged[index as usize] = 0;
                }
            }
        }
        // Whoever held the lease holds none any more.
        for other in self.gateways.iter_mut().flat_map(|gateway| &mut gateway.merge) {
            other.current = false;
        }
    }

    /// Aborts what is known, or listed under the key if more was begun than is
    /// known, and looks again until nothing can be on its way any more.
    fn clean(&mut self, broken: Broken) -> Option<()> {
        let before = self.clone();
        if !self.ledger.remains {
            return None;
        }
        if let Some(session) = self.ledger.session {
            self.abort(session);
        }
        if self.ledger.begins > u8::from(self.ledger.session.is_some()) {
            (0..self.store.sessions.len()).for_each(|session| self.abort(session as u8));
        }
        let in_flight = !self.flights.is_empty() || self.gateways.iter().any(|gateway| gateway.put.is_some());
        if !in_flight || broken == Broken::SweepsOnce {
            self.ledger.remains = false;
        }
        (*self != before).then_some(())
    }
}
