//! The outbox, emptied: each event is sent to each receiver until it answers
//! 2xx, under a lease, so that of several gateways one sends it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tracing::{debug, error, warn};

use crate::domain::Refusal;
use crate::engine::{Engine, EngineError, Shared};
use crate::ledger::{Delivery, DeliveryCursor, DeliveryPage, DeliveryState};
use crate::notify::Notifier;

/// How long an event is tried before it is dead.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(3 * 24 * 3600);
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// How often the outbox is looked at when nothing says that it is due.
const POLL: Duration = Duration::from_secs(1);
/// Attempts of one gateway at one receiver at once: a slow event holds up no other.
const AT_ONCE: usize = 16;
/// Longer than an attempt may take.
const LEASE: Duration = Duration::from_secs(25);

/// The pause after the `attempts`-th failure: doubled each time, with up to a
/// quarter of jitter either way so that receivers are not hit in step.
pub fn pause_after(attempts: u32, initial: Duration, lot: u128) -> Duration {
    let pause = doubled(attempts, initial).min(PAUSE_MAX);
    let spread = u64::try_from(pause.as_millis() / 2).unwrap_or(u64::MAX).max(1);
    let jitter = Duration::from_millis(u64::try_from(lot % u128::from(spread)).unwrap_or(0));
    pause * 3 / 4 + jitter
}

fn doubled(attempts: u32, initial: Duration) -> Duration {
    initial.saturating_mul(1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX))
}

/// Whether an event that has failed so often, and is so old, is dead. Age alone
/// says nothing: it may be that no gateway was running.
fn is_spent(attempts: u32, age: Duration, initial: Duration) -> bool {
    age > GIVE_UP_AFTER && doubled(attempts, initial) >= PAUSE_MAX
}

/// A receiver's URL as it may be shown: queries carry secrets.
pub fn place_of(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

impl Engine {
    /// Delivers what is due until the engine drains: to each receiver apart, so
    /// that none waits for another.
    pub async fn run_delivery(&self, notifier: Notifier, retry_initial: Duration) {
        let receivers = notifier.subscriptions().iter().map(|to| {
            let endpoint = to.url.clone();
            let courier = Courier { engine: self.clone(), notifier: notifier.clone(), endpoint, retry_initial };
            courier.run()
        });
        join_all(receivers).await;
    }

    /// A page of deliveries, those of the newest uploads first.
    pub async fn deliveries(
        &self,
        state: Option<DeliveryState>,
        after: Option<&DeliveryCursor>,
        limit: u32,
    ) -> Result<DeliveryPage, EngineError> {
        Ok(self.shared.ledger.list_deliveries(state, after, limit).await?)
    }

    /// Sends an event to all its receivers again, and says to how many.
    pub async fn redeliver(&self, event: &str) -> Result<u64, EngineError> {
        let receivers = self.shared.ledger.redeliver(event).await?.ok_or(Refusal::EventNotFound)?;
        self.deliver_soon();
        Ok(receivers)
    }
}

/// What delivers to one receiver.
#[derive(Clone)]
struct Courier {
    engine: Engine,
    notifier: Notifier,
    endpoint: String,
    retry_initial: Duration,
}

impl Courier {
    async fn run(self) {
        let shared = &self.engine.shared;
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut events = shared.events.subscribe();
        while !shared.stopping.is_cancelled() {
            events.mark_unchanged();
            // Only as many as can be sent at once: a lease on what waits in line would run out.
            let Ok(first) = places.clone().acquire_owned().await else { return };
            let mut free = vec![first];
            free.extend(std::iter::from_fn(|| places.clone().try_acquire_owned().ok()));
            let claimed = self.claim(free.len()).await;
            let idle = claimed.is_empty();
            for (delivery, place) in claimed.into_iter().zip(free) {
                let courier = self.clone();
                self.engine.spawn(async move {
                    let _place = place;
                    courier.attempt(&delivery).await;
                });
            }
            if idle {
                tokio::select! {
                    _ = events.changed() => {}
                    () = tokio::time::sleep(POLL) => {}
                    () = shared.stopping.cancelled() => {}
                }
            }
        }
    }

    async fn claim(&self, limit: usize) -> Vec<Delivery> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let claimed = self.engine.shared.ledger.claim_deliveries(&self.endpoint, limit, LEASE).await;
        claimed.unwrap_or_else(|error| {
            warn!(%error, "the outbox could not be read");
            Vec::new()
        })
    }

    async fn attempt(&self, delivery: &Delivery) {
        let Shared { ledger, clock, .. } = &*self.engine.shared;
        let now = clock.now();
        let attempt = self.notifier.attempt(&delivery.endpoint, &delivery.event, &delivery.body, now).await;
        let outcome = if attempt.error.is_none() { "delivered" } else { "failed" };
        metrics::counter!("chunkgate_webhook_attempts_total", "outcome" => outcome).increment(1);
        let now = clock.now();
        let marked = match (&attempt.error, attempt.status) {
            (None, status) => {
                debug!(event = %delivery.event, endpoint = place_of(&delivery.endpoint), "event delivered");
                ledger.delivered(delivery, status.unwrap_or(200)).await
            }
            (Some(reason), status)
                if is_spent(delivery.attempts + 1, now.since(delivery.created_at), self.retry_initial) =>
            {
                error!(event = %delivery.event, endpoint = place_of(&delivery.endpoint), attempts = delivery.attempts + 1, reason, "event not delivered for three days: given up");
                ledger.bury_delivery(delivery, status, reason).await
            }
            (Some(reason), status) => {
                let pause = pause_after(delivery.attempts + 1, self.retry_initial, clock.random());
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
    use crate::ledger::ATTEMPTS_KEPT;
    use crate::notify::config::WebhookConfig;

    #[test]
    fn an_event_is_spent_by_age_and_attempts() {
        let (initial, old) = (Duration::from_secs(2), GIVE_UP_AFTER + Duration::from_secs(1));
        assert!(is_spent(40, old, initial));
        assert!(!is_spent(40, GIVE_UP_AFTER, initial), "not for three days yet");
        assert!(!is_spent(1, old, initial), "no gateway was running: its receiver may just be starting, too");
        assert_eq!((1..40).find(|&attempts| is_spent(attempts, old, initial)), Some(12));
    }

    /// What is listed of an event that nobody took is all of it.
    #[test]
    fn all_attempts_of_three_days_are_kept() {
        let initial = WebhookConfig::default().retry_initial;
        // The shortest pauses that there can be.
        let mut after = Duration::ZERO;
        let attempts = (1..).take_while(|&attempts| {
            let spent = is_spent(attempts, after, initial);
            after += pause_after(attempts, initial, 0);
            !spent
        });
        assert!((60..ATTEMPTS_KEPT as usize).contains(&(attempts.count() + 1)));
    }

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
