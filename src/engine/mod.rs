//! The use cases: what happens to uploads, carried out. Each lies in a file of
//! its own; what they decide is decided in `domain::rules`.

pub mod abort;
mod ahead;
pub mod config;
pub mod create;
pub mod deliver;
pub mod direct;
pub mod error;
pub mod files;
pub mod finish;
pub mod forms;
pub mod gate;
pub mod hooks;
pub mod inspect;
pub mod intake;
pub mod keys;
mod kinds;
mod lease;
mod objects;
pub mod put_chunk;
pub mod reins;
mod repeat;
pub mod session;
pub mod slots;
pub mod sweep;
pub mod turns;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::domain::event::{EventKind, Subject, event_id};
use crate::domain::kind::Kinds;
use crate::domain::{FileId, Owner, PartBounds, Upload, UploadId};
use crate::engine::gate::Gates;
use crate::ledger::{Allowance, Ledger, NewEvent};
use crate::notify::{Hooks, Subscription, envelope};
use crate::store::Store;

pub use config::{SweepConfig, UploadConfig};
pub use error::EngineError;

/// What the engine is told by configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `upload.*`
    pub upload: UploadConfig,
    /// `sweep.*`
    pub sweep: SweepConfig,
    /// The largest file, in bytes.
    pub file_bytes_max: u64,
    /// The kinds of files that are taken; none is any kind.
    pub kinds: Option<Kinds>,
    /// What one owner may take.
    pub allowance: Allowance,
    /// Chunks on their way into the store at once.
    pub chunks_in_flight_max: usize,
    /// Whether there may be several owners, of whom none may have all of these.
    pub owners_share: bool,
    /// How long a chunk waits for its turn.
    pub queue_wait: Duration,
    /// Where events go.
    pub subscriptions: Vec<Subscription>,
    /// Whom to ask before an upload begins, and once its file is there.
    pub hooks: Hooks,
}

/// The engine: cheap to clone, shared by every request.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ledger: Ledger,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    /// Who asks the application about an upload that would begin.
    asking: Gates<(Owner, FileId)>,
    /// What a vanished client must not cancel: chunks from their last byte on,
    /// merges, deliveries. Drain waits for it.
    tasks: TaskTracker,
    /// Stops the loops (sweeper, delivery); tasks in flight go on.
    stopping: CancellationToken,
    turns: turns::Turns,
    slots: slots::Slots,
    ahead: ahead::Ahead,
    /// Who asks the store to begin a multipart upload.
    beginnings: Gates<UploadId>,
    merges: finish::Merges,
    listings: direct::Listings,
    /// Something may be due in the outbox.
    events: watch::Sender<()>,
}

impl Engine {
    /// An engine on this ledger and this store. Starts nothing by itself.
    pub fn new(ledger: Ledger, store: Arc<dyn Store>, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        let turns = turns::Turns::new(settings.chunks_in_flight_max, settings.owners_share);
        let shared = Shared {
            ledger,
            store,
            clock,
            settings,
            asking: Gates::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            turns,
            slots: slots::Slots::default(),
            ahead: ahead::Ahead::default(),
            beginnings: Gates::default(),
            merges: finish::Merges::default(),
            listings: direct::Listings::default(),
            events: watch::Sender::new(()),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// What configuration says.
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Stops the background loops, and waits until every chunk that was read
    /// to its end is committed and every merge that was begun has ended.
    pub async fn drain(&self) {
        self.shared.stopping.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.forget_ahead().await;
    }

    /// Bounds of chunks: each is one part of the store.
    pub fn bounds(&self) -> PartBounds {
        self.shared.store.limits().parts
    }

    /// The event of how an upload ended, for every receiver of its kind; none
    /// when there is no receiver.
    fn events(&self, upload: &Upload, kind: EventKind, subject: &Subject<'_>) -> Vec<NewEvent> {
        let to = self.shared.settings.subscriptions.iter().filter(|to| to.kinds.contains(&kind));
        let endpoints: Vec<String> = to.map(|to| to.url.clone()).collect();
        if endpoints.is_empty() {
            return Vec::new();
        }
        let at = self.shared.clock.now();
        let body = envelope::body(kind, at, self.shared.store.bucket(), subject);
        vec![NewEvent {
            id: event_id(upload.id, kind),
            kind,
            upload: upload.id,
            owner: upload.owner.clone(),
            body,
            at,
            endpoints,
        }]
    }

    /// An event has been recorded: nobody waits for the next look at the outbox.
    fn deliver_soon(&self) {
        self.shared.events.send_replace(());
    }

    /// Spawns what nobody may cancel.
    fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.shared.tasks.spawn(task)
    }
}
