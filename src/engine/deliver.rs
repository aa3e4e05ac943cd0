//! The outbox, emptied: each event is sent to each receiver until it answers
//! 2xx, under a lease, so that of several gateways one sends it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tracing::{debug, error, warn};

use crate::engine::Engine;
use crate::ledger::Delivery;
use crate::notify::Notifier;

/// How long an event is tried before it is dead.
const GIVE_UP_AFTER: Duration = Duration::from_secs(3 * 24 * 3600);
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// How often the outbox is looked at when nothing says that it is due.
const POLL: Duration = Duration::from_secs(1);
/// Attempts of one gateway at one receiver at once: a slow one holds up no other.
const PER_RECEIVER: usize = 16;
/// Deliveries claimed at once.
const CLAIM: u32 = 64;
/// Longer than an attempt may take.
const LEASE: Duration = Duration::from_secs(60);

/// The pause after the `attempts`-th failure: doubled each time, with up to a
/// quarter of jitter either way so that receivers are not hit in step.
pub fn pause_after(attempts: u32, initial: Duration, lot: u128) -> Duration {
    let doubled = initial.saturating_mul(1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX));
    let pause = doubled.min(PAUSE_MAX);
    let spread = u64::try_from(pause.as_millis() / 2).unwrap_or(u64::MAX).max(1);
    let jitter = Duration::from_millis(u64::try_from(lot % u128::from(spread)).unwrap_or(0));
    pause * 3 / 4 + jitter
}

/// A receiver's URL as the log may show it: queries carry secrets.
fn place_of(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

impl Engine {
    /// Delivers what is due until the engine drains.
    pub async fn run_delivery(&self, notifier: Notifier, retry_initial: Duration) {
        let places: HashMap<String, Arc<Semaphore>> =
            notifier.endpoints().into_iter().map(|e| (e, Arc::new(Semaphore::new(PER_RECEIVER)))).collect();
        while !self.shared.stopping.is_cancelled() {
            let free: u32 = places.values().map(|p| u32::try_from(p.available_permits()).unwrap_or(0)).sum();
            let claimed = match free {
                0 => Vec::new(),
                free => self.claim(free.min(CLAIM)).await,
            };
            let more = !claimed.is_empty();
            for delivery in claimed {
                self.send(&notifier, &places, delivery, retry_initial).await;
            }
            if !more {
                tokio::select! {
                    () = self.shared.events.notified() => {}
                    () = tokio::time::sleep(POLL) => {}
                    () = self.shared.stopping.cancelled() => {}
                }
            }
        }
    }

    async fn claim(&self, limit: u32) -> Vec<Delivery> {
        self.shared.ledger.claim_deliveries(limit, LEASE).await.unwrap_or_else(|error| {
            warn!(%error, "the outbox could not be read");
            Vec::new()
        })
    }

    async fn send(
        &self,
        notifier: &Notifier,
        places: &HashMap<String, Arc<Semaphore>>,
        delivery: Delivery,
        retry_initial: Duration,
    ) {
        let place = match places.get(&delivery.endpoint) {
            Some(place) => match place.clone().try_acquire_owned() {
                Ok(place) => Some(place),
                // This receiver is slow and its places are taken: the lease runs out and it is claimed again.
                Err(_) => return self.put_off(&delivery, retry_initial).await,
            },
            None => None,
        };
        let (engine, notifier) = (self.clone(), notifier.clone());
        self.spawn(async move {
            let _place = place;
            engine.attempt(&notifier, &delivery, retry_initial).await;
        });
    }

    async fn put_off(&self, delivery: &Delivery, retry_initial: Duration) {
        let next = self.shared.clock.now().plus(retry_initial);
        let put_off = self.shared.ledger.release_delivery(delivery, next).await;
        if let Err(error) = put_off {
            warn!(event = %delivery.event, %error, "a delivery could not be put off; its lease will run out");
        }
    }

    async fn attempt(&self, notifier: &Notifier, delivery: &Delivery, retry_initial: Duration) {
        let now = self.shared.clock.now();
        let attempt = notifier.attempt(&delivery.endpoint, &delivery.event, &delivery.body, now).await;
        let outcome = if attempt.error.is_none() { "delivered" } else { "failed" };
        metrics::counter!("chunkgate_webhook_attempts_total", "outcome" => outcome).increment(1);
        let ledger = &self.shared.ledger;
        let now = self.shared.clock.now();
        let marked = match (&attempt.error, attempt.status) {
            (None, status) => {
                debug!(event = %delivery.event, endpoint = place_of(&delivery.endpoint), "event delivered");
                ledger.delivered(delivery, status.unwrap_or(200)).await
            }
            (Some(reason), status) if now.since(delivery.created_at) > GIVE_UP_AFTER => {
                error!(event = %delivery.event, endpoint = place_of(&delivery.endpoint), attempts = delivery.attempts + 1, reason, "event not delivered for three days: given up");
                ledger.bury_delivery(delivery, status, reason).await
            }
            (Some(reason), status) => {
                let pause = pause_after(delivery.attempts + 1, retry_initial, self.shared.clock.random());
                warn!(event = %delivery.event, endpoint = place_of(&delivery.endpoint), attempts = delivery.attempts + 1, reason, "event not delivered; trying again");
                ledger.retry_delivery(delivery, now.plus(pause), status, reason).await
            }
        };
        if let Err(error) = marked {
            // Its lease runs out, and it is sent once more under the same id.
            warn!(event = %delivery.event, %error, "an attempt could not be recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_an_hour() {
        let initial = Duration::from_secs(2);
        let bounds = |attempts| (pause_after(attempts, initial, 0), pause_after(attempts, initial, u128::MAX / 7));
        assert_eq!(bounds(1).0, Duration::from_millis(1500));
        assert_eq!(bounds(2).0, Duration::from_secs(3));
        assert_eq!(bounds(40).0, Duration::from_secs(2700));
        for attempts in 1..60 {
            let (low, high) = bounds(attempts);
            assert!(low <= high && high <= PAUSE_MAX * 5 / 4, "{attempts}: {low:?} {high:?}");
        }
    }
}
