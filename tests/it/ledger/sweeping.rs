//! What time makes due.

use std::time::Duration;

use chunkgate::clock::Clock as _;
use chunkgate::domain::SessionId;
use chunkgate::domain::event::EventKind;
use chunkgate::ledger::{Allowance, Creation, FileCreation, Orphan};

use super::{DAY, Gate, HOOK, LEASE, chunk, on_both, plan, take_lease};

on_both!(
    what_expires_is_due_and_expires_once,
    all_chunks_and_no_merge_is_found,
    remains_are_listed_until_they_are_cleared,
    remains_that_stay_hold_up_no_others,
    chunk_rows_are_pruned_in_bites,
    what_is_over_is_forgotten_some_day,
    an_object_that_is_condemned_becomes_no_file,
    a_job_is_done_by_one,
);

async fn what_expires_is_due_and_expires_once(gate: Gate) {
    let upload = gate.upload("a", 2).await;
    let late = gate.upload("b", 2).await;
    let now = upload.expires_at;
    let moved = chunkgate::ledger::RecordChunk { expires_at: Some(now.plus(DAY)), ..gate.chunk_of(&late, 0) };
    gate.ledger.record_chunk(moved).await.unwrap();
    let due = gate.ledger.due_expired(now, 10).await.unwrap();
    assert_eq!(due.iter().map(|u| u.id).collect::<Vec<_>>(), [upload.id]);
    assert!(!gate.ledger.expire(late.id, now, &[]).await.unwrap(), "a chunk moved it");
    assert!(gate.ledger.expire(upload.id, now, &[]).await.unwrap());
    assert!(!gate.ledger.expire(upload.id, now, &[]).await.unwrap());
    assert_eq!(gate.ledger.due_expired(now, 10).await.unwrap(), []);
    // Nothing was ever asked of the store.
    assert_eq!(gate.ledger.remains(gate.clock.now(), 10).await.unwrap(), []);
}

async fn all_chunks_and_no_merge_is_found(gate: Gate) {
    let mut ready = Vec::new();
    for n in 0..5u32 {
        let upload = gate.upload(&format!("full{n}"), 2).await;
        gate.record(&upload, 0).await;
        gate.record(&upload, 1).await;
        ready.push(upload.id);
    }
    let part = gate.upload("part", 2).await;
    gate.record(&part, 1).await;
    let mut by_hand = gate.wish("by-hand", plan(1));
    by_hand.auto_complete = false;
    let Creation::Created(by_hand) = gate.ledger.create_upload(&by_hand, Allowance::of_uploads(100)).await.unwrap()
    else {
        panic!()
    };
    gate.record(&by_hand, 0).await;
    take_lease(&gate.ledger, ready.remove(2)).await.unwrap();
    ready.sort_unstable();

    let first: Vec<_> = gate.ledger.ready_to_merge(None, 3).await.unwrap().iter().map(|u| u.id).collect();
    assert_eq!(first, ready[..3]);
    let rest: Vec<_> = gate.ledger.ready_to_merge(Some(first[2]), 3).await.unwrap().iter().map(|u| u.id).collect();
    assert_eq!(rest, ready[3..]);
}

async fn remains_are_listed_until_they_are_cleared(gate: Gate) {
    let upload = gate.upload("a", 2).await;
    gate.ledger.intend_session(upload.id).await.unwrap();
    gate.ledger.intend_session(upload.id).await.unwrap();
    gate.ledger.set_session(upload.id, &SessionId::new("s-1")).await.unwrap();
    assert_eq!(gate.ledger.remains(gate.clock.now(), 10).await.unwrap(), []);
    gate.ledger.abort(upload.id, &[]).await.unwrap();
    let remains = gate.ledger.remains(gate.clock.now(), 10).await.unwrap().remove(0);
    assert_eq!((remains.id, &remains.key, remains.begins), (upload.id, &upload.key, 2));
    assert_eq!(remains.session, Some(SessionId::new("s-1")));
    // Of two with the same page one has it, until it falls silent.
    let now = gate.clock.now();
    let silent = gate.ledger.claim_remains(&remains).await.unwrap().unwrap();
    assert_eq!(gate.ledger.claim_remains(&remains).await.unwrap(), None);
    assert!(gate.ledger.renew_remains(silent).await.unwrap());
    gate.ledger.age_leases(LEASE + Duration::from_secs(1));
    let claim = gate.ledger.claim_remains(&remains).await.unwrap().unwrap();
    assert!(!gate.ledger.renew_remains(silent).await.unwrap());
    assert!(!gate.ledger.clear_remains(silent).await.unwrap());
    // More has come meanwhile: that is looked at, too.
    gate.ledger.look_again(upload.id, now).await.unwrap();
    assert!(!gate.ledger.clear_remains(claim).await.unwrap());
    gate.clear(upload.id).await;
    assert_eq!(gate.ledger.remains(gate.clock.now(), 10).await.unwrap(), []);

    // Two were asked for, and one of them became the object.
    let (merged, lease) = gate.full("b", 1).await;
    let lease = {
        assert!(gate.ledger.reopen(merged.id, lease, &[]).await.unwrap());
        assert!(gate.ledger.intend_session(merged.id).await.unwrap());
        take_lease(&gate.ledger, merged.id).await.unwrap()
    };
    assert!(gate.ledger.complete(merged.id, lease, &gate.file(&merged), &[]).await.unwrap());
    assert_eq!(gate.ledger.remains(gate.clock.now(), 10).await.unwrap()[0].id, merged.id);
}

async fn remains_that_stay_hold_up_no_others(gate: Gate) {
    let mut ended = Vec::new();
    for name in ["a", "b", "c"] {
        let upload = gate.upload(name, 1).await;
        gate.ledger.intend_session(upload.id).await.unwrap();
        gate.ledger.abort(upload.id, &[]).await.unwrap();
        gate.clock.advance(Duration::from_secs(1));
        ended.push(upload.id);
    }
    for turn in 0..6 {
        let first = gate.ledger.remains(gate.clock.now(), 1).await.unwrap().remove(0);
        assert_eq!(first.id, ended[turn % 3]);
        let claim = gate.ledger.claim_remains(&first).await.unwrap().unwrap();
        gate.ledger.defer_remains(claim, gate.clock.now()).await.unwrap();
        gate.clock.advance(Duration::from_secs(1));
    }
}

async fn chunk_rows_are_pruned_in_bites(gate: Gate) {
    let (upload, lease) = gate.full("a", 7).await;
    let (early, other) = gate.full("b", 2).await;
    let open = gate.upload("c", 2).await;
    gate.record(&open, 0).await;
    assert!(gate.ledger.complete(early.id, other, &gate.file(&early), &[]).await.unwrap());
    gate.clock.advance(Duration::from_secs(1));
    assert!(gate.ledger.complete(upload.id, lease, &gate.file(&upload), &[]).await.unwrap());
    let ended = gate.file(&upload).object.completed_at;
    assert_eq!(gate.ledger.prune_chunks(ended.minus(Duration::from_secs(2)), 100).await.unwrap(), 0);
    assert_eq!(gate.ledger.prune_chunks(ended, 5).await.unwrap(), 5);
    assert!(gate.ledger.chunk_indexes(early.id).await.unwrap().is_empty());
    assert_eq!(gate.ledger.chunk_indexes(upload.id).await.unwrap(), [3, 4, 5, 6]);
    assert_eq!(gate.ledger.prune_chunks(ended, 4).await.unwrap(), 4);
    assert_eq!(gate.ledger.prune_chunks(ended, 4).await.unwrap(), 1, "it has none any more");
    assert_eq!(gate.ledger.prune_chunks(ended, 4).await.unwrap(), 0);
    // What is completed stays whole to those who ask.
    let (_, counted) = gate.ledger.find_with_progress(&upload.owner, &upload.file_id).await.unwrap().unwrap();
    assert_eq!(counted, super::progress(7));
    assert_eq!(gate.ledger.progress(upload.id).await.unwrap(), super::progress(7));
    assert_eq!(gate.ledger.chunks(open.id).await.unwrap(), [chunk(0)]);
}

async fn what_is_over_is_forgotten_some_day(gate: Gate) {
    let (upload, open) = (gate.upload("a", 2).await, gate.upload("b", 2).await);
    gate.record(&upload, 0).await;
    gate.ledger.intend_session(upload.id).await.unwrap();
    let event = gate.event(&upload, EventKind::Aborted);
    assert!(gate.ledger.abort(upload.id, &[event]).await.unwrap());
    let ended = gate.clock.now();
    assert_eq!(gate.ledger.prune_events(ended, 10).await.unwrap(), 0, "it is still to be delivered");
    let delivery = gate.ledger.claim_deliveries(HOOK, 1, LEASE).await.unwrap().remove(0);
    assert!(gate.ledger.delivered(&delivery, 200).await.unwrap());
    assert_eq!(gate.ledger.prune_events(ended.minus(DAY), 10).await.unwrap(), 0);
    assert_eq!(gate.ledger.prune_events(ended, 10).await.unwrap(), 1);
    // First what it left: parts in the store, then its chunks' rows.
    assert_eq!(gate.ledger.prune_uploads(ended, 10).await.unwrap(), 0);
    gate.clear(upload.id).await;
    assert_eq!(gate.ledger.prune_uploads(ended, 10).await.unwrap(), 0);
    assert_eq!(gate.ledger.prune_chunks(ended, 10).await.unwrap(), 1);
    assert_eq!(gate.ledger.prune_uploads(ended.minus(DAY), 10).await.unwrap(), 0);
    assert_eq!(gate.ledger.prune_uploads(ended, 10).await.unwrap(), 1);
    assert!(gate.ledger.find_upload(&upload.owner, &upload.file_id).await.unwrap().is_none());
    assert!(gate.ledger.find_upload(&open.owner, &open.file_id).await.unwrap().is_some());
    // Which keys are in use, those who look for strangers ask.
    let keys = vec![upload.key.to_string(), open.key.to_string()];
    assert_eq!(gate.ledger.keys_in_use(keys).await.unwrap(), [open.key.to_string()].into());
}

async fn an_object_that_is_condemned_becomes_no_file(gate: Gate) {
    let wish = gate.wish("a", plan(1));
    let upload = gate.upload("model", 1).await;
    let mut file = gate.file(&upload);
    (file.id, file.file_id) = (wish.id, wish.file_id.clone());
    gate.ledger.intend_object(wish.id, &file.key, wish.at).await.unwrap();
    assert_eq!(gate.ledger.condemn_objects(wish.at.minus(DAY), 10).await.unwrap(), []);
    let orphan = Orphan { id: wish.id, key: file.key.clone() };
    assert_eq!(gate.ledger.condemn_objects(wish.at, 10).await.unwrap(), std::slice::from_ref(&orphan));
    assert_eq!(
        gate.ledger.create_file(&wish, &file, Allowance::of_uploads(100), &[]).await.unwrap(),
        FileCreation::Condemned
    );
    assert!(gate.ledger.find_upload(&file.owner, &file.file_id).await.unwrap().is_none());
    // Until it is gone from the store, it comes again.
    assert_eq!(gate.ledger.condemn_objects(wish.at, 10).await.unwrap(), std::slice::from_ref(&orphan));
    // By one at a time.
    assert!(gate.ledger.claim_orphan(&orphan).await.unwrap());
    assert!(!gate.ledger.claim_orphan(&orphan).await.unwrap());
    gate.ledger.age_leases(DAY);
    assert!(gate.ledger.claim_orphan(&orphan).await.unwrap());
    gate.ledger.forget_object(wish.id, &file.key).await.unwrap();
    assert!(!gate.ledger.claim_orphan(&orphan).await.unwrap());
    assert_eq!(gate.ledger.objects_underway(wish.at, 10).await.unwrap(), []);
}

async fn a_job_is_done_by_one(gate: Gate) {
    let claim = gate.ledger.claim_job("sweep").await.unwrap().unwrap();
    assert_eq!(gate.ledger.claim_job("sweep").await.unwrap(), None);
    assert!(gate.ledger.claim_job("other").await.unwrap().is_some());
    assert!(gate.ledger.renew_job(claim).await.unwrap());
    // Who falls silent loses it.
    gate.ledger.age_leases(LEASE + Duration::from_secs(1));
    let next = gate.ledger.claim_job("sweep").await.unwrap().unwrap();
    assert!(!gate.ledger.renew_job(claim).await.unwrap());
    assert!(!gate.ledger.end_job(claim, DAY).await.unwrap());
    // Once it is done it is due after a while.
    assert!(gate.ledger.end_job(next, DAY).await.unwrap());
    gate.ledger.age_leases(DAY / 2);
    assert_eq!(gate.ledger.claim_job("sweep").await.unwrap(), None);
    gate.ledger.age_leases(DAY);
    assert!(gate.ledger.claim_job("sweep").await.unwrap().is_some());
}
