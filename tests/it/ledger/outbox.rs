//! Events wait for their deliveries.

use std::time::Duration;

use chunkgate::clock::Clock as _;
use chunkgate::domain::event::EventKind;
use chunkgate::ledger::{ATTEMPTS_KEPT, Delivery, OutboxCounts, PastAttempt};

use super::{Gate, HOOK, on_both};

on_both!(
    an_event_is_delivered_once_per_endpoint,
    many_claimers_share_what_is_due,
    a_claim_that_was_left_is_due_again,
    a_failed_delivery_comes_back_later_and_dies_in_the_end,
    what_nobody_delivers_is_given_up,
    the_newest_attempts_are_kept_and_counted,
    a_page_has_no_more_attempts_than_it_may,
);

const CLAIM: Duration = Duration::from_secs(60);

impl Gate {
    /// So many uploads that were aborted, each announced.
    async fn announced(&self, count: u32) {
        for n in 0..count {
            let upload = self.upload(&format!("u{n}"), 1).await;
            let event = self.event(&upload, EventKind::Aborted);
            assert!(self.ledger.abort(upload.id, &[event]).await.unwrap());
            self.clock.advance(Duration::from_millis(1));
        }
    }

    async fn claim(&self, limit: u32) -> Vec<Delivery> {
        self.ledger.claim_deliveries(HOOK, limit, CLAIM).await.unwrap()
    }

    /// So many attempts at each of these, the n-th at the n-th second from now.
    async fn fail(&self, deliveries: u32, attempts: u32) {
        for nth in 1..=attempts {
            self.clock.advance(Duration::from_secs(1));
            for delivery in self.claim(deliveries).await {
                let now = self.clock.now();
                assert!(self.ledger.retry_delivery(&delivery, now, Some(500), &nth.to_string()).await.unwrap());
            }
        }
    }

    async fn counts(&self) -> (u64, u64) {
        let OutboxCounts { pending, dead } = self.ledger.outbox_counts().await.unwrap();
        (pending, dead)
    }
}

async fn an_event_is_delivered_once_per_endpoint(gate: Gate) {
    let upload = gate.upload("a", 1).await;
    let mut event = gate.event(&upload, EventKind::Aborted);
    event.endpoints.push("https://other.example/".to_owned());
    assert!(gate.ledger.abort(upload.id, &[event.clone()]).await.unwrap());
    let claimed = gate.claim(10).await;
    assert_eq!(claimed.len(), 1, "of this endpoint");
    assert_eq!(gate.ledger.claim_deliveries("https://other.example/", 10, CLAIM).await.unwrap().len(), 1);
    let first = &claimed[0];
    assert_eq!((first.endpoint.as_str(), first.attempts, first.kind), (HOOK, 0, EventKind::Aborted));
    assert_eq!((&first.event, &first.body, first.created_at), (&event.id, &event.body, event.at));
    assert!(gate.ledger.delivered(first, 204).await.unwrap());
    assert!(!gate.ledger.delivered(first, 204).await.unwrap());
    assert_eq!(gate.counts().await, (1, 0));
    // What nobody is to hear is not recorded.
    let quiet = gate.upload("b", 1).await;
    let mut event = gate.event(&quiet, EventKind::Aborted);
    event.endpoints.clear();
    assert!(gate.ledger.abort(quiet.id, &[event]).await.unwrap());
    assert_eq!(gate.counts().await, (1, 0));
}

async fn many_claimers_share_what_is_due(gate: Gate) {
    gate.announced(40).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let ledger = gate.ledger.clone();
        tasks.spawn(async move { ledger.claim_deliveries(HOOK, 7, CLAIM).await.unwrap() });
    }
    let shares = tasks.join_all().await;
    assert!(shares.iter().all(|share| share.len() <= 7 && share.is_sorted_by_key(|d| d.created_at)));
    let mut all: Vec<_> = shares.into_iter().flatten().map(|d| d.event).collect();
    let claimed = all.len();
    all.sort();
    all.dedup();
    // Nobody's twice; and what was passed over because another was at it comes next.
    assert_eq!(all.len(), claimed);
    assert_eq!(claimed + gate.claim(100).await.len(), 40);
}

async fn a_claim_that_was_left_is_due_again(gate: Gate) {
    gate.announced(1).await;
    let left = gate.claim(1).await.remove(0);
    assert_eq!(gate.claim(1).await, []);
    gate.ledger.age_leases(CLAIM + Duration::from_secs(1));
    let again = gate.claim(1).await.remove(0);
    assert_eq!((&again.event, again.attempts), (&left.event, 0));
    assert!(!gate.ledger.delivered(&left, 200).await.unwrap(), "overtaken");
    assert!(gate.ledger.delivered(&again, 200).await.unwrap());
    // A claim does not outlive the process on SQLite.
    let upload = gate.upload("z", 1).await;
    gate.ledger.abort(upload.id, &[gate.event(&upload, EventKind::Aborted)]).await.unwrap();
    gate.claim(1).await;
    let gate = gate.restart().await;
    assert_eq!(gate.claim(1).await.len(), usize::from(gate.ledger.backend() == "sqlite"));
}

async fn a_failed_delivery_comes_back_later_and_dies_in_the_end(gate: Gate) {
    gate.announced(2).await;
    let now = gate.clock.now();
    let claimed = gate.claim(10).await;
    let later = now.plus(Duration::from_secs(10));
    assert!(gate.ledger.retry_delivery(&claimed[0], later, Some(500), "500 Internal Server Error").await.unwrap());
    assert!(gate.ledger.retry_delivery(&claimed[1], now, None, "connection refused").await.unwrap());
    let again = gate.claim(10).await;
    assert_eq!(again.iter().map(|d| (&d.event, d.attempts)).collect::<Vec<_>>(), [(&claimed[1].event, 1)]);
    gate.clock.advance(Duration::from_secs(10));
    let last = gate.claim(10).await.remove(0);
    assert_eq!(last.event, claimed[0].event);
    assert!(gate.ledger.bury_delivery(&last, Some(410), "410 Gone").await.unwrap());
    assert_eq!(gate.counts().await, (1, 1));
    gate.ledger.age_leases(CLAIM * 2);
    assert_eq!(gate.claim(10).await.len(), 1, "the dead stay dead");
}

/// A receiver that was taken out of the configuration.
async fn what_nobody_delivers_is_given_up(gate: Gate) {
    gate.announced(3).await;
    let began = gate.clock.now();
    gate.clock.advance(Duration::from_secs(3600));
    let claimed = gate.claim(1).await.remove(0);
    let ours = vec![HOOK.to_owned()];
    assert_eq!(gate.ledger.bury_forgotten(began, ours, 10).await.unwrap(), 0, "somebody will try them");
    assert_eq!(gate.ledger.bury_forgotten(began, Vec::new(), 10).await.unwrap(), 2, "one is being tried");
    assert_eq!(gate.counts().await, (1, 2));
    assert!(gate.ledger.retry_delivery(&claimed, gate.clock.now(), None, "away").await.unwrap());
    assert_eq!(gate.ledger.bury_forgotten(began, Vec::new(), 10).await.unwrap(), 0, "it was tried since");
}

async fn the_newest_attempts_are_kept_and_counted(gate: Gate) {
    gate.announced(1).await;
    let surplus = 7;
    gate.fail(1, ATTEMPTS_KEPT + surplus).await;
    let listed = |gate: &Gate| {
        let ledger = gate.ledger.clone();
        async move { ledger.list_deliveries(None, None, 10).await.unwrap().deliveries.remove(0) }
    };
    let told = |attempts: &[PastAttempt]| attempts.iter().filter_map(|a| a.error.clone()).collect::<Vec<_>>();
    let newest = |last: u32| (last - ATTEMPTS_KEPT + 1..=last).map(|n| n.to_string()).collect::<Vec<_>>();
    let delivery = listed(&gate).await;
    assert_eq!(delivery.attempts_ever, ATTEMPTS_KEPT + surplus);
    assert_eq!(told(&delivery.attempts), newest(ATTEMPTS_KEPT + surplus));
    // Sent again, it is tried as if for the first time, and what was before is still counted.
    gate.ledger.redeliver(delivery.event.as_str()).await.unwrap();
    let claimed = gate.claim(1).await.remove(0);
    assert_eq!((claimed.attempts, claimed.attempts_ever), (0, ATTEMPTS_KEPT + surplus));
    assert!(gate.ledger.delivered(&claimed, 204).await.unwrap());
    let delivery = listed(&gate).await;
    assert_eq!(delivery.attempts_ever, ATTEMPTS_KEPT + surplus + 1);
    assert_eq!(delivery.attempts.len(), ATTEMPTS_KEPT as usize);
    assert_eq!(delivery.attempts.last().map(|attempt| attempt.status), Some(Some(204)));
}

/// However many deliveries are asked for.
async fn a_page_has_no_more_attempts_than_it_may(gate: Gate) {
    const EVENTS: u32 = 17;
    gate.announced(EVENTS).await;
    gate.fail(EVENTS, ATTEMPTS_KEPT).await;
    let (mut seen, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        let page = gate.ledger.list_deliveries(None, after.as_ref(), 1000).await.unwrap();
        assert!(page.deliveries.iter().map(|delivery| delivery.attempts.len()).sum::<usize>() <= 2048);
        assert!(page.deliveries.iter().all(|delivery| delivery.attempts.len() == ATTEMPTS_KEPT as usize));
        seen.extend(page.deliveries.into_iter().map(|delivery| delivery.event));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((pages, seen.len()), (2, EVENTS as usize));
    assert!(seen.is_sorted_by(|a, b| a > b));
}
