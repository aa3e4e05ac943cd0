//! One index, one writer within a gateway. A second request for the same chunk
//! waits for the first; if the first does not get on because its client is no
//! longer there, it is cancelled and the second proceeds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::{FileId, Owner, Refusal};
use crate::engine::reins::Reins;

/// How long a second request waits before it supersedes the first.
pub const PATIENCE: Duration = Duration::from_secs(2);

type Key = (Owner, FileId, i128);

/// The chunks in flight on this gateway.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    taken: Arc<Mutex<HashMap<Key, Occupant>>>,
}

#[derive(Clone, Debug)]
struct Occupant {
    reins: Reins,
    gone: CancellationToken,
}

/// The right to write one chunk; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Slots,
    key: Key,
    occupant: Occupant,
}

impl Slots {
    /// Takes the slot of this chunk, waiting and superseding as need be.
    pub async fn take(&self, owner: &Owner, file_id: &FileId, index: i128) -> Slot {
        let key = (owner.clone(), file_id.clone(), index);
        loop {
            let holder = match self.try_take(&key) {
                Ok(occupant) => return Slot { slots: self.clone(), key, occupant },
                Err(holder) => holder,
            };
            if tokio::time::timeout(PATIENCE, holder.gone.cancelled()).await.is_err() {
                // Heard only while its body is being read; awaited to its end in any case.
                let index = u32::try_from(key.2).unwrap_or(u32::MAX);
                holder.reins.break_off(Refusal::ChunkSuperseded { index });
                holder.gone.cancelled().await;
            }
        }
    }

    fn try_take(&self, key: &Key) -> Result<Occupant, Occupant> {
        let mut taken = self.lock();
        if let Some(holder) = taken.get(key) {
            return Err(holder.clone());
        }
        let occupant = Occupant { reins: Reins::default(), gone: CancellationToken::new() };
        taken.insert(key.clone(), occupant.clone());
        Ok(occupant)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Occupant>> {
        // The map is whole after every statement: a panic elsewhere cannot have broken it.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The reins of the chunk's body: it breaks off when a newer request for
    /// the same chunk takes over.
    pub fn reins(&self) -> &Reins {
        &self.occupant.reins
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().remove(&self.key);
        self.occupant.gone.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn take(slots: &Slots, index: i128) -> Slot {
        slots.take(&Owner::local(), &FileId::parse("f").expect("an id"), index).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_request_waits_for_the_first() {
        let slots = Slots::default();
        let first = take(&slots, 0).await;
        let _another_index_is_free = take(&slots, 1).await;
        let second = tokio::spawn({
            let slots = slots.clone();
            async move { take(&slots, 0).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!first.reins().broken_off().is_cancelled());
        drop(first);
        second.await.expect("no panic");
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_that_does_not_get_on_is_superseded() {
        let slots = Slots::default();
        let first = take(&slots, 0).await;
        let reins = first.reins().clone();
        let second = tokio::spawn({
            let slots = slots.clone();
            async move { take(&slots, 0).await }
        });
        reins.broken_off().cancelled().await;
        assert!(!second.is_finished(), "the first is awaited to its end");
        drop(first);
        second.await.expect("no panic");
    }
}
