//! Objects that are intended before anybody wants them.
//!
//! That an object will be put is said first, durably, so a small file waits for
//! the disk twice. Where many come at once, keys for the next ones are drawn and
//! intended meanwhile, many in one statement, and whoever comes finds one ready.
//! What was not used is forgotten; what a crash leaves is found by the sweeper,
//! like every intent.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::warn;

use crate::domain::{Grant, ObjectKey, Timestamp};
use crate::engine::create::CreateUpload;
use crate::engine::keys::Shape;
use crate::engine::{Engine, EngineError, Shared};
use crate::ledger::Intent;

/// Keys of one shape that are ready at most; with half as many left, more are made.
const READY_MAX: usize = 64;
/// Shapes for which there are some at most.
const SHAPES_MAX: usize = 256;
/// The oldest that is used, and no older than a quarter of `sweep.orphan_after`:
/// nothing must be put where the sweeper is about to remove it.
const FRESH_FOR: Duration = Duration::from_secs(60);

/// What is ready.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    by_shape: Mutex<HashMap<Shape, Ready>>,
}

/// Of one shape.
#[derive(Debug)]
struct Ready {
    /// The oldest first.
    intents: VecDeque<Intent>,
    /// Files that are about to come.
    lots: usize,
    is_being_filled: bool,
}

/// An id and a key for one object, perhaps intended already. One that is not
/// used goes to the next who comes.
#[derive(Debug)]
pub(super) struct Lot {
    shared: Arc<Shared>,
    shape: Shape,
    intent: Intent,
    is_intended: bool,
}

impl Lot {
    pub(super) const fn intent(&self) -> &Intent {
        &self.intent
    }

    /// Uses it up for an object that is to lie under this key. Says whether
    /// that is intended already; not if the application wanted another one.
    pub(super) fn spend(&mut self, key: &ObjectKey) -> bool {
        let is_intended = self.is_intended && *key == self.intent.key;
        self.is_intended &= !is_intended;
        is_intended
    }
}

impl Drop for Lot {
    fn drop(&mut self) {
        let unused = self.is_intended.then(|| self.intent.clone());
        self.shared.ahead.give_back(&self.shape, unused);
    }
}

impl Ahead {
    /// One that is ready, if there is one, and whether more are to be made.
    fn take(&self, shape: &Shape, fresh_since: Timestamp) -> (Option<Intent>, bool) {
        let mut by_shape = self.lock();
        let Some(ready) = by_shape.get_mut(shape) else {
            if by_shape.len() < SHAPES_MAX {
                let none = Ready { intents: VecDeque::new(), lots: 1, is_being_filled: false };
                by_shape.insert(shape.clone(), none);
            }
            return (None, false);
        };
        let is_one_of_many = ready.lots > 0;
        ready.lots += 1;
        // What is too old stays where it is until it is forgotten, behind it all is younger.
        let stale = ready.intents.partition_point(|intent| intent.at < fresh_since);
        let intent = ready.intents.remove(stale);
        let is_low = ready.intents.len() - stale < READY_MAX / 2;
        let fill = is_one_of_many && is_low && !ready.is_being_filled;
        ready.is_being_filled |= fill;
        (intent, fill)
    }

    /// One that was taken is of no more concern here, or was not used.
    fn give_back(&self, shape: &Shape, unused: Option<Intent>) {
        if let Some(ready) = self.lock().get_mut(shape) {
            // Of one that was taken before this shape was, when there were too many, nothing was counted.
            ready.lots = ready.lots.saturating_sub(1);
            unused.into_iter().for_each(|intent| ready.intents.push_front(intent));
        }
    }

    fn add(&self, shape: &Shape, intents: Vec<Intent>) {
        if let Some(ready) = self.lock().get_mut(shape) {
            ready.is_being_filled = false;
            ready.intents.extend(intents);
        }
    }

    /// Gives up what is older than this.
    fn forget(&self, fresh_since: Timestamp) -> Vec<Intent> {
        let mut by_shape = self.lock();
        let mut forgotten = Vec::new();
        for ready in by_shape.values_mut() {
            let stale = ready.intents.partition_point(|intent| intent.at < fresh_since);
            forgotten.extend(ready.intents.drain(..stale));
        }
        by_shape.retain(|_, ready| ready.is_being_filled || ready.lots > 0 || !ready.intents.is_empty());
        forgotten
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Shape, Ready>> {
        // The map is whole after every statement: a panic elsewhere cannot have broken it.
        self.by_shape.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// A lot for a file that comes in one request.
    pub(super) fn lot(&self, grant: &Grant, wanted: &CreateUpload) -> Result<Lot, EngineError> {
        let now = self.shared.clock.now();
        let shape = self.shape(grant, wanted, now);
        let (ready, fill) = self.shared.ahead.take(&shape, now.minus(self.fresh_for()));
        if fill {
            let (engine, shape) = (self.clone(), shape.clone());
            drop(self.spawn(async move { engine.fill(&shape).await }));
        }
        let is_intended = ready.is_some();
        match ready.or_else(|| self.draw(&shape, now)) {
            Some(intent) => Ok(Lot { shared: self.shared.clone(), shape, intent, is_intended }),
            None => {
                self.shared.ahead.give_back(&shape, None);
                Err(self.no_key())
            }
        }
    }

    /// Intends the next ones of this shape.
    async fn fill(&self, shape: &Shape) {
        let now = self.shared.clock.now();
        let drawn: Option<Vec<Intent>> = (0..READY_MAX).map(|_| self.draw(shape, now)).collect();
        let made = async {
            let drawn = drawn.ok_or_else(|| self.no_key())?;
            self.shared.ledger.intend_objects(drawn.clone()).await?;
            Ok::<_, EngineError>(drawn)
        };
        let made = made.await.unwrap_or_else(|error| {
            // Whoever comes says so by himself, and hears what is wrong.
            warn!(%error, "no keys could be made ready");
            Vec::new()
        });
        self.shared.ahead.add(shape, made);
    }

    /// Forgets what was not used for so long that it will not be.
    pub(super) async fn forget_unused(&self) {
        self.forget_intents(self.shared.clock.now().minus(self.fresh_for())).await;
    }

    /// Forgets all that was not used: nobody comes any more.
    pub(super) async fn forget_ahead(&self) {
        self.forget_intents(Timestamp::from_millis(i64::MAX)).await;
    }

    async fn forget_intents(&self, fresh_since: Timestamp) {
        let forgotten = self.shared.ahead.forget(fresh_since);
        if !forgotten.is_empty()
            && let Err(error) = self.shared.ledger.forget_intents(&forgotten).await
        {
            warn!(%error, intents = forgotten.len(), "objects that nobody will put are left to the sweeper");
        }
    }

    fn fresh_for(&self) -> Duration {
        FRESH_FOR.min(self.shared.settings.sweep.orphan_after / 4)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{Owner, UploadId};

    const NEVER: Timestamp = Timestamp::from_millis(0);

    fn shape(name: &str) -> Shape {
        Shape::new("{owner}/{random}{ext}", None, &Owner::local(), name, NEVER)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn intents(shape: &Shape, count: u128, at: Timestamp) -> Vec<Intent> {
        let intent = |n| Intent { id: UploadId(Uuid::from_u128(n)), key: shape.key(n).expect("a key"), at };
        (0..count).map(intent).collect()
    }

    #[test]
    fn who_comes_alone_makes_none_ready() {
        let (ahead, pdf) = (Ahead::default(), shape("a.pdf"));
        for _ in 0..10 {
            let (ready, fill) = ahead.take(&pdf, NEVER);
            assert!(ready.is_none() && !fill);
            ahead.give_back(&pdf, None);
        }
        assert!(!ahead.take(&pdf, NEVER).1);
        let (ready, fill) = ahead.take(&pdf, NEVER);
        assert!(ready.is_none() && fill, "the second at once");
        assert!(!ahead.take(&pdf, NEVER).1, "one of them is about it");
        assert!(!ahead.take(&shape("a.png"), NEVER).1, "another shape");
    }

    #[test]
    fn each_is_given_once_and_the_oldest_first() {
        let (ahead, pdf) = (Ahead::default(), shape("a.pdf"));
        ahead.take(&pdf, NEVER);
        ahead.add(&pdf, intents(&pdf, 40, at(1)));
        let mut given = Vec::new();
        for left in (0..40).rev() {
            let (ready, fill) = ahead.take(&pdf, NEVER);
            given.push(ready.expect("one is ready").id.0.as_u128());
            assert_eq!(fill, left == READY_MAX / 2 - 1, "{left}: more once, when half are left");
        }
        assert_eq!(given, (0..40).collect::<Vec<_>>());
        assert!(ahead.take(&pdf, NEVER).0.is_none());
        ahead.give_back(&pdf, intents(&pdf, 8, at(1)).pop());
        assert_eq!(ahead.take(&pdf, NEVER).0.map(|intent| intent.id.0.as_u128()), Some(7), "it was not used");
    }

    #[test]
    fn what_is_too_old_is_not_given_but_forgotten() {
        let (ahead, pdf) = (Ahead::default(), shape("a.pdf"));
        ahead.take(&pdf, NEVER);
        ahead.add(&pdf, intents(&pdf, 3, at(1)));
        ahead.add(&pdf, intents(&pdf, 2, at(50)));
        let (ready, fill) = ahead.take(&pdf, at(10));
        assert!(fill);
        ahead.add(&pdf, Vec::new());
        assert_eq!(ready.expect("a fresh one").at, at(50));
        assert_eq!(ahead.forget(at(10)).len(), 3);
        assert_eq!(ahead.forget(at(10)).len(), 0);
        assert_eq!(ahead.forget(at(200)).len(), 1);
        ahead.give_back(&pdf, None);
        assert_eq!(ahead.lock().len(), 1, "another one is still about it");
        ahead.give_back(&pdf, None);
        ahead.forget(at(200));
        assert!(ahead.lock().is_empty(), "nobody is");
    }

    #[test]
    fn shapes_are_bounded() {
        let ahead = Ahead::default();
        for n in 0..2 * SHAPES_MAX {
            ahead.take(&shape(&format!("a.{n}")), NEVER);
        }
        assert_eq!(ahead.lock().len(), SHAPES_MAX);
    }
}
