//! What can happen, what may go wrong with it, and what the protocol may lack.

use crate::world::{CHUNKS, World};

/// What is left out of the protocol, to see that the model finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Nothing,
    /// An upload that is gone is lost: the object is not asked for.
    SkipsHead,
    /// An upload that is gone is finished.
    TrustsNoSuchUpload,
    /// Whatever lies there is joined.
    SkipsListParts,
    /// And nobody looks at what came of it.
    SkipsListPartsAndVerdict,
    /// Who writes under a lease is not asked whether it is still its own.
    ForgetsLease,
    /// A refusal opens the upload again, even if its parts may be joined.
    OpensInDoubt,
    /// The event is not written in the transaction of the state.
    ForgetsEvent,
    /// The parts of an ended upload are aborted once.
    SweepsOnce,
    /// The intent to begin a multipart upload is not recorded.
    ForgetsIntent,
    /// A merge whose holder died is left alone.
    NobodyTakesOver,
    /// A repeat with other bytes writes over what was recorded.
    OverwritesRows,
}

/// What befalls a call to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Fine,
    /// No answer comes; whether the call arrives is open.
    Silent,
    /// It is refused for good, having done nothing.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The client sends a chunk to a gateway.
    Send { to: usize, index: usize, content: u8 },
    /// The client gives the upload up.
    Abort,
    /// A gateway's chunk takes its next step.
    Put { on: usize, weather: Weather },
    /// A gateway's merge takes its next step.
    Merge { on: usize, weather: Weather },
    /// The last chunk, the client or the sweeper starts the merge.
    Start { on: usize },
    /// The sweeper takes over a merge whose lease has run out.
    TakeOver { on: usize },
    /// The sweeper ends an upload whose time is over.
    Expire,
    /// The sweeper looks for what an ended upload left.
    Clean,
    /// A gateway dies, and begins anew.
    Crash { on: usize },
    /// The holder of the lease is stopped for longer than the lease.
    Stall,
    /// Somebody else removes the multipart upload.
    Lose,
    /// A call that nobody waits for arrives; a part may survive an abort that overtook it.
    Land { flight: usize, survives: bool },
    /// Or it never does.
    Vanish { flight: usize },
}

impl Action {
    /// Whether it happens some day if it can; what may go wrong need not.
    pub(crate) const fn is_certain(self) -> bool {
        match self {
            Self::Put { weather: Weather::Fine, .. }
            | Self::Merge { weather: Weather::Fine, .. }
            | Self::Start { .. }
            | Self::TakeOver { .. }
            | Self::Expire
            | Self::Clean
            | Self::Vanish { .. } => true,
            Self::Put { weather: Weather::Silent | Weather::Refused, .. }
            | Self::Merge { weather: Weather::Silent | Weather::Refused, .. }
            | Self::Send { .. }
            | Self::Abort
            | Self::Crash { .. }
            | Self::Stall
            | Self::Lose
            | Self::Land { .. } => false,
        }
    }

    /// All there are, possible or not.
    pub(crate) fn all(world: &World, actions: &mut Vec<Self>) {
        let weathers = [Weather::Fine, Weather::Silent, Weather::Refused];
        for on in 0..world.gateways.len() {
            for index in 0..CHUNKS {
                actions.extend([1, 2].map(|content| Self::Send { to: on, index, content }));
            }
            actions.extend(weathers.map(|weather| Self::Put { on, weather }));
            actions.extend(weathers.map(|weather| Self::Merge { on, weather }));
            actions.extend([Self::Start { on }, Self::TakeOver { on }, Self::Crash { on }]);
        }
        actions.extend([Self::Abort, Self::Expire, Self::Clean, Self::Stall, Self::Lose]);
        for flight in 0..world.flights.len() {
            actions.extend([false, true].map(|survives| Self::Land { flight, survives }));
            actions.push(Self::Vanish { flight });
        }
    }
}
