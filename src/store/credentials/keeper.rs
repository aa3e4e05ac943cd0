//! Credentials, kept fresh: asked for once, however many wait; early, so that
//! nobody does; and at once when the store does not take them any more.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tracing::{info, warn};

use super::source::{Source, Tools};
use super::{Credentials, Fetched, NoCredentials, remedy, said};
use crate::clock::Clock;
use crate::store::identification::{Identification, shortened};

/// After a failure, whoever comes in this time is told the same, and what still
/// lives is used for so long before the next attempt.
const PAUSE: Duration = Duration::from_secs(1);

/// Credentials, kept fresh. Clones are the same ones.
#[derive(Clone)]
pub struct Keeper {
    inner: Arc<Inner>,
}

struct Inner {
    tools: Tools,
    state: RwLock<State>,
    /// Whose turn it is to ask.
    turn: Arc<Mutex<()>>,
}

struct State {
    source: Source,
    held: Option<Held>,
    /// Why there are none, and since when that is known.
    failed: Option<(Duration, NoCredentials)>,
}

/// Times are monotonic.
#[derive(Clone)]
struct Held {
    credentials: Arc<Credentials>,
    since: Duration,
    /// When to ask for others.
    due: Option<Duration>,
    /// When they are good for nothing any more.
    ends: Option<Duration>,
    /// The store does not take them.
    is_refused: bool,
}

/// What there is at a time.
enum View {
    Fresh(Arc<Credentials>),
    /// Good, but it is time to ask for others.
    Due(Arc<Credentials>),
    /// None, and just asked.
    Failed(NoCredentials),
    None,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keeper({})", self.kind())
    }
}

impl State {
    fn at(&self, now: Duration) -> View {
        let usable = self.held.as_ref().filter(|held| !held.is_refused && held.ends.is_none_or(|ends| now < ends));
        match (usable, &self.failed) {
            (Some(held), _) if held.due.is_some_and(|due| now >= due) => View::Due(held.credentials.clone()),
            (Some(held), _) => View::Fresh(held.credentials.clone()),
            (None, Some((at, why))) if now < *at + PAUSE => View::Failed(why.clone()),
            (None, _) => View::None,
        }
    }
}

impl Keeper {
    /// Asks nobody yet.
    pub fn new(source: Source, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let state = RwLock::new(State { source, held: None, failed: None });
        Ok(Self { inner: Arc::new(Inner { tools: Tools::new(clock)?, state, turn: Arc::default() }) })
    }

    /// Where they come from.
    pub fn kind(&self) -> &'static str {
        self.inner.read().source.kind()
    }

    /// For how long those that are here are good; none is for ever.
    pub fn life_left(&self) -> Option<Duration> {
        let now = self.now();
        self.inner.read().held.as_ref()?.ends.map(|ends| ends.saturating_sub(now))
    }

    /// For how long what they sign now is good, of this: a token that ends takes
    /// along what it signed. In whole seconds, as signatures have it.
    pub fn within_life(&self, wanted: Duration) -> Duration {
        let left = self.life_left().map(|left| Duration::from_secs(left.as_secs()));
        left.map_or(wanted, |left| left.min(wanted))
    }

    /// Credentials that are good now.
    pub async fn get(&self) -> Result<Arc<Credentials>, NoCredentials> {
        match self.view() {
            View::Fresh(credentials) => return Ok(credentials),
            View::Failed(why) => return Err(why),
            View::Due(credentials) => {
                // One goes and asks. Nobody waits for it.
                if let Ok(turn) = self.inner.turn.clone().try_lock_owned() {
                    tokio::spawn(self.clone().refresh(turn));
                }
                return Ok(credentials);
            }
            View::None => {}
        }
        let turn = self.inner.turn.clone().lock_owned().await;
        match self.view() {
            View::Fresh(credentials) | View::Due(credentials) => return Ok(credentials),
            View::Failed(why) => return Err(why),
            View::None => {}
        }
        self.ask(turn).await
    }

    /// Whoever we are now. Others are asked for, whether it is time or not: so
    /// it shows whether they can be had before they have to.
    pub async fn identify(&self) -> Result<Identification, NoCredentials> {
        let turn = self.inner.turn.clone().lock_owned().await;
        let failing = self.ask(turn).await.err();
        let credentials = match (self.view(), failing.clone()) {
            (View::Fresh(credentials) | View::Due(credentials), _) => credentials,
            (View::Failed(why), _) | (View::None, Some(why)) => return Err(why),
            (View::None, None) => self.get().await?,
        };
        let (kind, origin) = {
            let state = self.inner.read();
            (state.source.kind(), state.source.origin())
        };
        Ok(Identification {
            kind,
            key: shortened(&credentials.access_key_id),
            origin,
            is_temporary: credentials.security_token.is_some(),
            life_left: self.life_left(),
            failing: failing.map(|why| why.fault("Credentials")),
        })
    }

    /// In a task of its own: whoever waits may go away, and others wait for the same.
    async fn ask(&self, turn: OwnedMutexGuard<()>) -> Result<Arc<Credentials>, NoCredentials> {
        let asking = tokio::spawn(self.clone().refresh(turn));
        asking.await.unwrap_or_else(|_| Err(NoCredentials::for_now("Panic", "asking for credentials panicked")))
    }

    /// The store does not take these. Whether there are others, which is found out at once.
    pub async fn refused(&self, used: &Credentials) -> bool {
        {
            let now = self.now();
            let mut state = self.inner.write();
            // Nobody who is asked over a network is asked all the time for what it just gave.
            let pause = if state.source.look_every().is_some() { Duration::ZERO } else { PAUSE };
            let is_fixed = matches!(state.source, Source::Written { .. }) && state.source.look_every().is_none();
            if let Some(held) = state.held.as_mut().filter(|held| held.credentials.are(used)) {
                if is_fixed || now < held.since + pause {
                    return false;
                }
                held.is_refused = true;
            }
        }
        self.get().await.is_ok_and(|others| !others.are(used))
    }

    /// From now on, these: what is configured has changed.
    pub fn replace(&self, source: Source) {
        let mut state = self.inner.write();
        state.source = source;
        state.failed = None;
        if let Some(held) = &mut state.held {
            // Those that are here serve until the others are.
            held.due = Some(Duration::ZERO);
        }
    }

    /// Asks, and keeps what comes.
    async fn refresh(self, turn: OwnedMutexGuard<()>) -> Result<Arc<Credentials>, NoCredentials> {
        let source = self.inner.read().source.clone();
        let fetched = source.fetch(&self.inner.tools).await;
        let kept = match fetched {
            Ok(fetched) => Ok(self.keep(&source, fetched)),
            Err(why) => Err(self.fail(remedy::explained(&source, why))),
        };
        drop(turn);
        kept
    }

    fn keep(&self, source: &Source, fetched: Fetched) -> Arc<Credentials> {
        let now = self.now();
        let mut state = self.inner.write();
        let look = source.look_every().map(|every| now + every);
        let due = fetched.life.map(|life| now + life - said::lead(life)).into_iter().chain(look).min();
        let ends = fetched.life.map(|life| now + life);
        let was_failing = state.failed.take().is_some();
        let same = state.held.as_ref().filter(|held| held.credentials.are(&fetched.credentials));
        let credentials = same.map_or_else(|| Arc::new(fetched.credentials), |held| held.credentials.clone());
        let is_new = state.held.as_ref().is_some_and(|held| !Arc::ptr_eq(&held.credentials, &credentials));
        let held = Held { credentials: credentials.clone(), since: now, due, ends, is_refused: false };
        state.held = Some(held);
        drop(state);
        metrics::gauge!("chunkgate_store_credentials_failing").set(0);
        if is_new || was_failing {
            metrics::counter!("chunkgate_store_credentials_renewed_total").increment(1);
            let seconds = fetched.life.map(|life| life.as_secs());
            info!(kind = source.kind(), life_seconds = seconds, "there are new credentials for the store");
        }
        credentials
    }

    fn fail(&self, why: NoCredentials) -> NoCredentials {
        let now = self.now();
        let mut state = self.inner.write();
        let is_known = state.failed.as_ref().is_some_and(|(_, known)| *known == why);
        state.failed = Some((now, why.clone()));
        if let Some(held) = &mut state.held {
            held.due = Some(now + PAUSE);
        }
        let (kind, left) = (state.source.kind(), state.held.as_ref().and_then(|held| held.ends));
        drop(state);
        metrics::gauge!("chunkgate_store_credentials_failing").set(1);
        if !is_known {
            let good_for_seconds = left.map(|ends| ends.saturating_sub(now).as_secs());
            warn!(kind, problem = %why, good_for_seconds, "new credentials for the store cannot be had; it is tried again");
        }
        why
    }

    fn view(&self) -> View {
        self.inner.read().at(self.now())
    }

    fn now(&self) -> Duration {
        self.inner.tools.clock.monotonic()
    }
}

impl Inner {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
