//! Gates that one at a time goes through: what many would ask somebody else
//! for, one asks for, and the others find what came of it. Behind one that
//! failed, those who waited for it fail likewise: each would only wait for the
//! same silence again.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

use crate::domain::Refusal;

type Gate = tokio::sync::Mutex<Option<Refusal>>;

/// A gate for each key that somebody is at.
#[derive(Debug)]
pub struct Gates<K> {
    underway: Mutex<HashMap<K, Weak<Gate>>>,
}

/// Who went through, alone until this is dropped.
#[derive(Debug)]
pub struct Passage<'g, K: Eq + Hash> {
    gates: &'g Gates<K>,
    key: K,
    failed: OwnedMutexGuard<Option<Refusal>>,
}

impl<K> Default for Gates<K> {
    fn default() -> Self {
        Self { underway: Mutex::default() }
    }
}

impl<K: Clone + Eq + Hash> Gates<K> {
    /// Goes through after all who came before, unless the one before failed.
    pub async fn pass(&self, key: K) -> Result<Passage<'_, K>, Refusal> {
        let failed = self.of(&key).lock_owned().await;
        match &*failed {
            Some(refusal) => Err(refusal.clone()),
            None => Ok(Passage { gates: self, key, failed }),
        }
    }

    fn of(&self, key: &K) -> Arc<Gate> {
        let mut underway = self.underway.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = underway.get(key).and_then(Weak::upgrade) {
            return gate;
        }
        underway.retain(|_, gate| gate.strong_count() > 0);
        let gate = Arc::new(Gate::default());
        underway.insert(key.clone(), Arc::downgrade(&gate));
        gate
    }
}

impl<K: Eq + Hash> Passage<'_, K> {
    /// Fails those who wait here. Who comes from now on tries anew.
    pub fn fail(&mut self, refusal: Refusal) {
        *self.failed = Some(refusal);
        self.gates.underway.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_behind_a_failure_fails_likewise_and_who_comes_later_does_not() {
        let gates = Gates::default();
        let mut first = gates.pass(1).await.expect("nobody is before it");
        let waiting = gates.pass(1);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        gates.pass(2).await.expect("another gate");
        first.fail(Refusal::HookUnavailable);
        let later = gates.pass(1).await.expect("tried anew");
        drop(first);
        assert_eq!(waiting.await.err(), Some(Refusal::HookUnavailable));
        drop(later);
        let first = gates.pass(1).await.expect("nobody is before it");
        let waiting = gates.pass(1);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(first);
        waiting.await.expect("its turn");
    }
}
