//! Turns: so many bodies are on their way into the store at once; others wait,
//! and owner after owner is served, so that none waits behind all of
//! another's. A quarter of the turns is for clients that send briskly; and
//! while one of those waits, one that hardly sends loses its turn.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::domain::{Owner, Refusal};
use crate::engine::reins::Reins;

/// A client that has sent less than this per second …
pub(super) const BYTES_PER_SECOND_MIN: u64 = 4 << 10;
/// … for so long gives its turn to one that waits.
const WINDOW: Duration = Duration::from_secs(5);
/// How often those who wait look for such a client.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The turns of one gateway.
#[derive(Clone, Debug)]
pub struct Turns {
    shared: Arc<Mutex<State>>,
    /// The most that one owner may have.
    owner_max: usize,
    /// Kept for those who send briskly.
    kept: usize,
}

/// A turn; given back when dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Turns,
    number: u64,
    owner: Owner,
}

#[derive(Debug)]
struct State {
    free: usize,
    numbered: u64,
    taken: HashMap<u64, Taken>,
    per_owner: HashMap<Owner, usize>,
    /// In the order in which they are served.
    waiting: VecDeque<Line>,
    looked_at: Option<Instant>,
}

/// How a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As anybody does who is not held up.
    Brisk,
    /// So slowly that it will hardly come to an end.
    Crawling,
}

/// An owner's bodies that wait.
#[derive(Debug)]
struct Line {
    owner: Owner,
    brisk: VecDeque<Waiter>,
    crawling: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    reins: Reins,
    turn: oneshot::Sender<Turn>,
}

#[derive(Debug)]
struct Taken {
    reins: Reins,
    /// When its progress was last measured, and how far it was.
    since: Instant,
    bytes: u64,
}

impl Turns {
    /// So many turns. Where several owners share them, one may not have all.
    pub fn new(count: usize, owners_share: bool) -> Self {
        let count = count.max(1);
        let reserved = if owners_share { count / 8 } else { 0 };
        let state = State {
            free: count,
            numbered: 0,
            taken: HashMap::new(),
            per_owner: HashMap::new(),
            waiting: VecDeque::new(),
            looked_at: None,
        };
        Self { shared: Arc::new(Mutex::new(state)), owner_max: count - reserved, kept: count / 4 }
    }

    /// A turn for a body of which nothing has come yet, if there are plenty.
    pub fn take_early(&self, owner: &Owner, reins: &Reins) -> Option<Turn> {
        let mut state = self.state();
        let plenty = state.free > self.kept && state.share(owner) < self.owner_max;
        plenty.then(|| state.grant(self, owner, reins))
    }

    /// A turn for a body with these reins, waiting up to `wait` for it.
    pub async fn take(&self, owner: &Owner, pace: Pace, reins: &Reins, wait: Duration) -> Result<Turn, Refusal> {
        let mut turn = match self.ask(owner, pace, reins) {
            Ok(turn) => return Ok(turn),
            Err(turn) => turn,
        };
        let until = Instant::now() + wait;
        loop {
            let look_at = until.min(Instant::now() + LOOK_EVERY);
            match tokio::time::timeout_at(look_at, &mut turn).await {
                Ok(turn) => return turn.map_err(|_| Refusal::Overloaded),
                Err(_) if look_at == until => return Err(Refusal::Overloaded),
                Err(_) => self.look(),
            }
        }
    }

    /// How many are taken, and how many wait.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.taken.len(), state.waiting.iter().map(|line| line.brisk.len() + line.crawling.len()).sum())
    }

    fn ask(&self, owner: &Owner, pace: Pace, reins: &Reins) -> Result<Turn, oneshot::Receiver<Turn>> {
        let mut state = self.state();
        let kept = if pace == Pace::Brisk { 0 } else { self.kept };
        // A free turn that others wait for is one that they may not have.
        if state.free > kept && state.share(owner) < self.owner_max {
            return Ok(state.grant(self, owner, reins));
        }
        let (turn, receiver) = oneshot::channel();
        let waiter = Waiter { reins: reins.clone(), turn };
        match state.waiting.iter_mut().find(|line| line.owner == *owner) {
            Some(line) => line.queue(pace).push_back(waiter),
            None => {
                let mut line = Line { owner: owner.clone(), brisk: VecDeque::new(), crawling: VecDeque::new() };
                line.queue(pace).push_back(waiter);
                state.waiting.push_back(line);
            }
        }
        Err(receiver)
    }

    /// Breaks off those who hardly send while others wait who would.
    fn look(&self) {
        let mut state = self.state();
        let now = Instant::now();
        if state.looked_at.is_some_and(|at| now - at < LOOK_EVERY / 2) {
            return;
        }
        state.looked_at = Some(now);
        state.forget_gone();
        let places = state.waiting.iter().map(|line| line.brisk.len()).sum();
        let mut slow: Vec<(u64, Reins)> = state.taken.values_mut().filter_map(|taken| taken.crawls(now)).collect();
        slow.sort_by_key(|(bytes, _)| *bytes);
        for (_, reins) in slow.into_iter().take(places) {
            reins.break_off(Refusal::Overloaded);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn share(&self, owner: &Owner) -> usize {
        self.per_owner.get(owner).copied().unwrap_or(0)
    }

    fn grant(&mut self, turns: &Turns, owner: &Owner, reins: &Reins) -> Turn {
        self.free -= 1;
        self.numbered += 1;
        *self.per_owner.entry(owner.clone()).or_default() += 1;
        let (bytes, _) = reins.progress();
        self.taken.insert(self.numbered, Taken { reins: reins.clone(), since: Instant::now(), bytes });
        Turn { turns: turns.clone(), number: self.numbered, owner: owner.clone() }
    }

    fn forget_gone(&mut self) {
        for line in &mut self.waiting {
            line.brisk.retain(|waiter| !waiter.turn.is_closed());
            line.crawling.retain(|waiter| !waiter.turn.is_closed());
        }
        self.waiting.retain(|line| !line.is_empty());
    }

    /// The next who may have a free turn: the first owner in line that may
    /// have one more, who then stands at the end of the line.
    fn next(&mut self, owner_max: usize, kept: usize) -> Option<(Owner, Waiter)> {
        if self.free == 0 {
            return None;
        }
        let for_all = self.free > kept;
        loop {
            let may = |line: &Line| self.share(&line.owner) < owner_max && (for_all || !line.brisk.is_empty());
            let at = self.waiting.iter().position(may)?;
            let mut line = self.waiting.remove(at)?;
            let owner = line.owner.clone();
            // Those who went away are passed over one by one: the line may be long.
            let waiter = std::iter::from_fn(|| line.pop(for_all)).find(|waiter| !waiter.turn.is_closed());
            if !line.is_empty() {
                self.waiting.push_back(line);
            }
            if let Some(waiter) = waiter {
                return Some((owner, waiter));
            }
        }
    }
}

impl Line {
    fn queue(&mut self, pace: Pace) -> &mut VecDeque<Waiter> {
        match pace {
            Pace::Brisk => &mut self.brisk,
            Pace::Crawling => &mut self.crawling,
        }
    }

    fn pop(&mut self, for_all: bool) -> Option<Waiter> {
        let brisk = self.brisk.pop_front();
        if brisk.is_none() && for_all { self.crawling.pop_front() } else { brisk }
    }

    fn is_empty(&self) -> bool {
        self.brisk.is_empty() && self.crawling.is_empty()
    }
}

impl Taken {
    /// Its bytes in this window, if its client has hardly sent any.
    fn crawls(&mut self, now: Instant) -> Option<(u64, Reins)> {
        let window = now - self.since;
        if window < WINDOW {
            return None;
        }
        let (bytes, waits) = self.reins.progress();
        let moved = bytes - self.bytes;
        (self.since, self.bytes) = (now, bytes);
        let is_slow = moved < BYTES_PER_SECOND_MIN * window.as_secs();
        (waits && is_slow).then(|| (moved, self.reins.clone()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut unwanted = Vec::new();
        let mut state = self.turns.state();
        state.taken.remove(&self.number);
        state.free += 1;
        if let Some(share) = state.per_owner.get_mut(&self.owner) {
            *share -= 1;
            if *share == 0 {
                state.per_owner.remove(&self.owner);
            }
        }
        while let Some((owner, waiter)) = state.next(self.turns.owner_max, self.turns.kept) {
            let turn = state.grant(&self.turns, &owner, &waiter.reins);
            // Who went away in this moment hands it back, once the lock is free.
            unwanted.extend(waiter.turn.send(turn).err());
        }
        drop(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(20);

    fn owner(name: &str) -> Owner {
        Owner::parse(name).expect("an owner")
    }

    fn ask(turns: &Turns, name: &str) -> tokio::task::JoinHandle<Result<Turn, Refusal>> {
        let (turns, owner) = (turns.clone(), owner(name));
        tokio::spawn(async move { turns.take(&owner, Pace::Brisk, &Reins::default(), WAIT).await })
    }

    async fn settle() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_refused() {
        let turns = Turns::new(1, true);
        let turn = ask(&turns, "a").await.expect("no panic").expect("a turn");
        let began = Instant::now();
        assert_eq!(ask(&turns, "b").await.expect("no panic").err(), Some(Refusal::Overloaded));
        assert_eq!(began.elapsed(), WAIT);
        drop(turn);
        assert_eq!(turns.counts(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn owners_are_served_in_turn() {
        let turns = Turns::new(1, true);
        let first = ask(&turns, "a").await.expect("no panic").expect("a turn");
        let many: Vec<_> = (0..3).map(|_| ask(&turns, "a")).collect();
        settle().await;
        let one = ask(&turns, "b");
        settle().await;
        drop(first);
        settle().await;
        let served = |tasks: &[tokio::task::JoinHandle<_>]| tasks.iter().filter(|task| task.is_finished()).count();
        assert_eq!((served(&many), one.is_finished()), (1, false));
        let next = many.into_iter().find(|task| task.is_finished()).expect("one is served");
        drop(next.await);
        settle().await;
        assert!(one.is_finished(), "b does not wait behind all of a's");
    }

    #[tokio::test]
    async fn some_turns_are_kept_for_those_who_send() {
        let turns = Turns::new(8, false);
        let early: Vec<_> = std::iter::from_fn(|| turns.take_early(&owner("a"), &Reins::default())).collect();
        assert_eq!(early.len(), 6);
        assert!(turns.take(&owner("a"), Pace::Brisk, &Reins::default(), WAIT).await.is_ok());
        assert!(Turns::new(1, true).take_early(&owner("a"), &Reins::default()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_crawls_waits_behind_who_does_not_and_has_none_of_the_kept_turns() {
        let turns = Turns::new(8, false);
        let take = |pace| {
            let (turns, owner) = (turns.clone(), owner("a"));
            tokio::spawn(async move { turns.take(&owner, pace, &Reins::default(), WAIT).await })
        };
        let crawling: Vec<_> = (0..20).map(|_| take(Pace::Crawling)).collect();
        settle().await;
        assert_eq!(turns.counts(), (6, 14));
        let brisk: Vec<_> = (0..3).map(|_| take(Pace::Brisk)).collect();
        settle().await;
        assert_eq!(turns.counts(), (8, 15), "two of three at once");
        let (taken, crawling): (Vec<_>, Vec<_>) = crawling.into_iter().partition(|task| task.is_finished());
        drop(brisk);
        settle().await;
        let served = || crawling.iter().filter(|task| task.is_finished()).count();
        assert_eq!(served(), 0, "what is kept stays kept");
        let began = Instant::now();
        for task in crawling {
            let _ = task.await;
        }
        assert_eq!(began.elapsed(), WAIT);
        drop(taken);
    }

    #[tokio::test(start_paused = true)]
    async fn one_owner_does_not_have_all() {
        let turns = Turns::new(16, true);
        let mut of_a = Vec::new();
        for _ in 0..14 {
            of_a.push(ask(&turns, "a").await.expect("no panic").expect("a turn"));
        }
        let another = ask(&turns, "a");
        settle().await;
        assert!(!another.is_finished());
        assert!(ask(&turns, "b").await.expect("no panic").is_ok());
        of_a.pop();
        settle().await;
        assert!(another.is_finished());
        // Where there is but one owner, it has all.
        let alone = Turns::new(16, false);
        let mut all = Vec::new();
        for _ in 0..16 {
            all.push(ask(&alone, "a").await.expect("no panic").expect("a turn"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_others_wait_who_hardly_sends_loses_its_turn() {
        let turns = Turns::new(3, false);
        let (slow, steady, stuck) = (Reins::default(), Reins::default(), Reins::default());
        let mut taken = Vec::new();
        for reins in [&slow, &steady, &stuck] {
            reins.waits();
            taken.push(turns.take(&owner("a"), Pace::Brisk, reins, WAIT).await.expect("a turn"));
        }
        // The store takes its time with this one: its client is not to blame.
        stuck.moved(1);
        let feed = tokio::spawn({
            let (slow, steady) = (slow.clone(), steady.clone());
            async move {
                loop {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    slow.moved(1000);
                    steady.moved(10_000);
                    slow.waits();
                    steady.waits();
                }
            }
        });
        tokio::time::sleep(WAIT).await;
        assert!(!slow.broken_off().is_cancelled(), "nobody waits");
        let (a, b) = (ask(&turns, "a"), ask(&turns, "b"));
        slow.broken_off().cancelled().await;
        assert_eq!(slow.why(), Refusal::Overloaded);
        drop(taken.remove(0));
        assert!(a.await.expect("no panic").is_ok());
        assert!(b.await.expect("no panic").is_err() || !steady.broken_off().is_cancelled());
        assert!(!steady.broken_off().is_cancelled() && !stuck.broken_off().is_cancelled());
        feed.abort();
    }
}
