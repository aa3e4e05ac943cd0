//! Leases, and every arrow between states.

use std::time::Duration;

use chunkgate::clock::Clock as _;
use chunkgate::domain::event::EventKind;
use chunkgate::domain::{Failure, Owner, SessionId, State};
use chunkgate::ledger::{Failing, Ledger, LedgerError, Recorded};

use super::{Gate, LEASE, config, on_both, progress, take_lease, take_over};

on_both!(
    of_many_who_merge_one_does,
    a_lease_that_is_renewed_is_not_taken_over,
    a_lease_that_ran_out_is_taken_over_once,
    an_overtaken_holder_moves_nothing,
    a_lease_that_was_granted_unheard_is_ours,
    a_merge_ends_in_a_file,
    merges_at_once_are_each_their_own,
    a_merge_goes_back_for_what_is_missing,
    a_merge_fails,
    of_abort_expire_and_merge_one_wins,
    a_new_process_takes_over,
    a_state_and_its_event_are_one,
);

async fn of_many_who_merge_one_does(gate: Gate) {
    let upload = gate.upload("a", 1).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let ledger = gate.ledger.clone();
        tasks.spawn(async move { take_lease(&ledger, upload.id).await });
    }
    let leases: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(leases.len(), 1);
    let state = gate.ledger.upload(upload.id).await.unwrap().unwrap().state;
    assert_eq!(state, State::Completing { session: None, lease: leases[0] });
}

async fn a_lease_that_is_renewed_is_not_taken_over(gate: Gate) {
    let (upload, lease) = gate.full("a", 1).await;
    for _ in 0..5 {
        gate.ledger.age_leases(LEASE * 2 / 3);
        assert_eq!(take_over(&gate.ledger, upload.id).await, None);
        assert_eq!(gate.ledger.stale_completing(10).await.unwrap(), []);
        assert!(gate.ledger.renew_lease(upload.id, lease).await.unwrap());
    }
    // The wall clock has no say.
    if gate.ledger.backend() == "postgres" {
        gate.clock.advance(Duration::from_secs(3600));
        assert_eq!(take_over(&gate.ledger, upload.id).await, None);
    }
}

async fn a_lease_that_ran_out_is_taken_over_once(gate: Gate) {
    let (upload, _) = gate.full("a", 1).await;
    gate.ledger.age_leases(LEASE + Duration::from_secs(1));
    assert_eq!(gate.ledger.stale_completing(10).await.unwrap()[0].id, upload.id);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let ledger = gate.ledger.clone();
        tasks.spawn(async move { take_over(&ledger, upload.id).await });
    }
    assert_eq!(tasks.join_all().await.into_iter().flatten().count(), 1);
    assert_eq!(gate.ledger.stale_completing(10).await.unwrap(), []);
}

async fn an_overtaken_holder_moves_nothing(gate: Gate) {
    let (upload, old) = gate.full("a", 1).await;
    gate.ledger.age_leases(LEASE * 2);
    let new = take_over(&gate.ledger, upload.id).await.unwrap();
    let (ledger, file) = (&gate.ledger, gate.file(&upload));
    let events = [gate.event(&upload, EventKind::Completed)];
    assert!(!ledger.renew_lease(upload.id, old).await.unwrap());
    assert!(!ledger.complete(upload.id, old, &file, &events).await.unwrap());
    assert!(!ledger.reopen(upload.id, old, &[0]).await.unwrap());
    assert!(!ledger.fail(upload.id, Failing::Merging(old), Failure::UploadLost, &events).await.unwrap());
    assert_eq!(ledger.outbox_counts().await.unwrap().pending, 0);
    assert_eq!(ledger.chunk_indexes(upload.id).await.unwrap(), [0]);
    assert!(ledger.complete(upload.id, new, &file, &events).await.unwrap());
    assert!(!ledger.complete(upload.id, new, &file, &events).await.unwrap());
}

/// faults.md 33: the answer to the grant was lost, and the holder asks again.
async fn a_lease_that_was_granted_unheard_is_ours(gate: Gate) {
    let upload = gate.upload("a", 1).await;
    let (ledger, mine, theirs) = (&gate.ledger, gate.ledger.new_lease(), gate.ledger.new_lease());
    for _ in 0..2 {
        assert!(ledger.take_lease(upload.id, mine).await.unwrap());
        assert!(!ledger.take_lease(upload.id, theirs).await.unwrap(), "it is nobody else's");
    }
    // Asking again is renewing.
    gate.ledger.age_leases(LEASE * 2 / 3);
    assert!(ledger.take_lease(upload.id, mine).await.unwrap());
    gate.ledger.age_leases(LEASE * 2 / 3);
    assert!(!ledger.take_over(upload.id, theirs).await.unwrap());
    gate.ledger.age_leases(LEASE);
    for _ in 0..2 {
        assert!(ledger.take_over(upload.id, theirs).await.unwrap());
        assert!(!ledger.take_lease(upload.id, mine).await.unwrap(), "who was overtaken has none");
    }
    assert!(ledger.renew_lease(upload.id, theirs).await.unwrap());
}

async fn a_merge_ends_in_a_file(gate: Gate) {
    let (upload, lease) = gate.full("a", 3).await;
    gate.clock.advance(Duration::from_secs(5));
    let file = gate.file(&upload);
    let events = [gate.event(&upload, EventKind::Completed)];
    assert!(gate.ledger.complete(upload.id, lease, &file, &events).await.unwrap());
    let (now, counted) = gate.ledger.find_with_progress(&upload.owner, &upload.file_id).await.unwrap().unwrap();
    assert_eq!(now.state, State::Completed { object: file.object.clone() });
    assert_eq!(counted, progress(3));
    assert_eq!(gate.ledger.find_file(&upload.owner, &upload.file_id).await.unwrap(), Some(file));
    // One multipart upload was asked for, and it became the object.
    assert_eq!(gate.ledger.remains(gate.clock.now(), 10).await.unwrap(), []);
    for gone in [
        take_lease(&gate.ledger, upload.id).await.is_some(),
        gate.ledger.abort(upload.id, &[]).await.unwrap(),
        gate.ledger.expire(upload.id, upload.expires_at, &[]).await.unwrap(),
        gate.ledger.fail(upload.id, Failing::Open, Failure::UploadLost, &[]).await.unwrap(),
    ] {
        assert!(!gone, "completed is for good");
    }
}

/// What is written together with others whose lease is lost is there all the same.
async fn merges_at_once_are_each_their_own(gate: Gate) {
    let mut merges = Vec::new();
    for n in 0..32 {
        merges.push(gate.full(&format!("f{n}"), 1).await);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for (n, (upload, lease)) in merges.into_iter().enumerate() {
        let (ledger, file) = (gate.ledger.clone(), gate.file(&upload));
        let event = gate.event(&upload, EventKind::Completed);
        let lease = if n % 4 == 0 { ledger.new_lease() } else { lease };
        tasks.spawn(async move {
            let completed = ledger.complete(upload.id, lease, &file, &[event]).await.unwrap();
            (upload, completed, n % 4 != 0)
        });
    }
    for (upload, completed, expected) in tasks.join_all().await {
        assert_eq!(completed, expected);
        let state = gate.ledger.upload(upload.id).await.unwrap().unwrap().state;
        assert_eq!(matches!(state, State::Completed { .. }), expected, "{state:?}");
        let file = gate.ledger.find_file(&upload.owner, &upload.file_id).await.unwrap();
        assert_eq!(file.is_some(), expected);
    }
    assert_eq!(gate.ledger.outbox_counts().await.unwrap().pending, 24);
    assert_eq!(gate.ledger.used_bytes(&Owner::local()).await.unwrap(), 32 << 20);
}

async fn a_merge_goes_back_for_what_is_missing(gate: Gate) {
    let (upload, lease) = gate.full("a", 5).await;
    assert!(gate.ledger.set_session(upload.id, &SessionId::new("s")).await.is_ok());
    assert!(gate.ledger.reopen(upload.id, lease, &[1, 4]).await.unwrap());
    assert_eq!(gate.ledger.chunk_indexes(upload.id).await.unwrap(), [0, 2, 3]);
    assert_eq!(gate.record(&upload, 1).await, Recorded::New(progress(4)));
    assert_eq!(gate.record(&upload, 4).await, Recorded::New(progress(5)));
    assert!(take_lease(&gate.ledger, upload.id).await.is_some());
}

async fn a_merge_fails(gate: Gate) {
    let (upload, lease) = gate.full("a", 1).await;
    let events = [gate.event(&upload, EventKind::Failed)];
    assert!(
        !gate.ledger.fail(upload.id, Failing::Open, Failure::UploadLost, &events).await.unwrap(),
        "it is not uploading"
    );
    assert!(gate.ledger.fail(upload.id, Failing::Merging(lease), Failure::IntegrityFailed, &events).await.unwrap());
    // What was acknowledged is not undone by who sends something else.
    let (other, untouched) = (gate.upload("b", 1).await, gate.upload("c", 1).await);
    gate.record(&other, 0).await;
    assert!(!gate.ledger.fail(other.id, Failing::Untouched, Failure::IntegrityFailed, &[]).await.unwrap());
    assert!(gate.ledger.fail(untouched.id, Failing::Untouched, Failure::IntegrityFailed, &[]).await.unwrap());
    let state = gate.ledger.upload(upload.id).await.unwrap().unwrap().state;
    assert_eq!(state, State::Failed { failure: Failure::IntegrityFailed });
    assert_eq!(gate.ledger.remains(gate.clock.now(), 10).await.unwrap()[0].id, upload.id);
    assert_eq!(gate.ledger.outbox_counts().await.unwrap().pending, 1);
}

async fn of_abort_expire_and_merge_one_wins(gate: Gate) {
    for round in 0..50 {
        let upload = gate.upload(&format!("u{round}"), 1).await;
        let (id, at) = (upload.id, upload.expires_at);
        let (aborted, expired) = (gate.event(&upload, EventKind::Aborted), gate.event(&upload, EventKind::Expired));
        let [a, b, c] = [gate.ledger.clone(), gate.ledger.clone(), gate.ledger.clone()];
        let (a, b, c) = tokio::join!(
            tokio::spawn(async move { a.abort(id, &[aborted]).await.unwrap() }),
            tokio::spawn(async move { b.expire(id, at, &[expired]).await.unwrap() }),
            tokio::spawn(async move { take_lease(&c, id).await.is_some() }),
        );
        let won = [a.unwrap(), b.unwrap(), c.unwrap()];
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
    }
}

/// SQLite has one gateway: what an earlier start left is void. On Postgres
/// others may be alive, and their leases count until they run out.
async fn a_new_process_takes_over(gate: Gate) {
    let (upload, old) = gate.full("a", 1).await;
    let gate = gate.restart().await;
    if gate.ledger.backend() == "postgres" {
        assert_eq!(take_over(&gate.ledger, upload.id).await, None);
        gate.ledger.age_leases(LEASE + Duration::from_secs(1));
    }
    assert_eq!(gate.ledger.stale_completing(10).await.unwrap().len(), 1);
    let new = take_over(&gate.ledger, upload.id).await.unwrap();
    assert_ne!(new, old);
    assert!(gate.ledger.complete(upload.id, new, &gate.file(&upload), &[]).await.unwrap());
}

/// The file's row cannot be written, so nothing of the transaction is.
async fn a_state_and_its_event_are_one(gate: Gate) {
    let (first, lease) = gate.full("a", 1).await;
    assert!(gate.ledger.complete(first.id, lease, &gate.file(&first), &[]).await.unwrap());
    let (second, lease) = gate.full("b", 1).await;
    // Its fileId is the first one's, somehow.
    gate.run("UPDATE files SET file_id = 'b'".to_owned()).await;
    let events = [gate.event(&second, EventKind::Completed)];
    let refused = gate.ledger.complete(second.id, lease, &gate.file(&second), &events).await;
    assert!(matches!(refused, Err(LedgerError::Refused(_))), "{refused:?}");
    assert_eq!(gate.ledger.outbox_counts().await.unwrap().pending, 0);
    assert!(matches!(gate.ledger.upload(second.id).await.unwrap().unwrap().state, State::Completing { .. }));
    gate.run("UPDATE files SET file_id = 'a'".to_owned()).await;
    assert!(gate.ledger.complete(second.id, lease, &gate.file(&second), &events).await.unwrap());
    let reading = Ledger::open_read_only(&config(), &gate.url, gate.clock.clone()).await.unwrap();
    assert_eq!(reading.outbox_counts().await.unwrap().pending, 1);
}
