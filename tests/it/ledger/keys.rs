//! Keys that the application chose: each is one upload's.

use std::time::Duration;

use chunkgate::clock::Clock as _;
use chunkgate::domain::{KeyHolder, ObjectKey, SessionId, Upload};
use chunkgate::ledger::{Allowance, Claim, Creation, FileCreation, KeyOrigin, NewUpload};

use super::{Gate, LEASE, on_both, plan, take_lease};

on_both!(
    a_claim_lasts_as_long_as_it_is_renewed,
    whoever_lost_a_claim_takes_nothing_of_the_next,
    the_same_upload_is_found_though_its_key_is_taken,
    a_key_goes_over_to_who_begins_anew,
    a_key_is_kept_while_something_may_lie_there,
    an_object_of_somebody_else_is_not_replaced,
    beginning_and_beginning_anew_at_once_wait_for_each_other_in_one_order,
);

const MANY: Allowance = Allowance::of_uploads(1000);
const FREE: Claim = Claim::Made { has_remains: false };

impl Gate {
    fn chosen(&self, file_id: &str, key: &str) -> NewUpload {
        NewUpload {
            key: ObjectKey::parse(key).unwrap(),
            key_origin: KeyOrigin::Chosen { is_occupied: false },
            ..self.wish(file_id, plan(2))
        }
    }

    async fn claim_key(&self, file_id: &str, key: &str) -> Claim {
        self.ledger.claim_object(&self.chosen(file_id, key)).await.unwrap()
    }

    async fn try_create(&self, file_id: &str, key: &str) -> Creation {
        self.ledger.create_upload(&self.chosen(file_id, key), MANY).await.unwrap()
    }

    async fn create(&self, file_id: &str, key: &str) -> Upload {
        let created = self.try_create(file_id, key).await;
        let Creation::Created(upload) = created else { panic!("{created:?}") };
        upload
    }
}

async fn a_claim_lasts_as_long_as_it_is_renewed(gate: Gate) {
    let first = gate.chosen("a", "one");
    assert_eq!(gate.ledger.claim_object(&first).await.unwrap(), FREE);
    assert_eq!(gate.claim_key("a", "one").await, Claim::BeingPut);
    assert_eq!(gate.claim_key("b", "one").await, Claim::Taken(KeyHolder::Upload));
    assert_eq!(gate.try_create("a", "one").await, Creation::BeingPut);
    gate.ledger.age_leases(LEASE / 2);
    assert!(gate.ledger.renew_claim(first.id, &first.key).await.unwrap());
    gate.ledger.age_leases(LEASE / 2);
    assert_eq!(gate.claim_key("a", "one").await, Claim::BeingPut);
    // Silent for too long; but only who wants to put the same file takes it over.
    gate.ledger.age_leases(LEASE);
    assert_eq!(gate.claim_key("b", "one").await, Claim::Taken(KeyHolder::Upload));
    let second = gate.chosen("a", "one");
    assert_eq!(gate.ledger.claim_object(&second).await.unwrap(), Claim::Made { has_remains: true });
    assert!(!gate.ledger.renew_claim(first.id, &first.key).await.unwrap());
    // Nor need anybody wait for one that has come to its end. What it may have left goes with the upload.
    gate.ledger.leave_object(second.id, &second.key).await.unwrap();
    let upload = gate.create("a", "one").await;
    assert_eq!(gate.ledger.objects_underway(gate.clock.now(), 10).await.unwrap(), []);
    gate.ledger.abort(upload.id, &[]).await.unwrap();
    assert!(gate.ledger.remains(gate.clock.now(), 10).await.unwrap()[0].by_key);
}

async fn whoever_lost_a_claim_takes_nothing_of_the_next(gate: Gate) {
    let (first, model) = (gate.chosen("a", "one"), gate.upload("model", 1).await);
    assert_eq!(gate.ledger.claim_object(&first).await.unwrap(), FREE);
    let orphan = gate.ledger.condemn_objects(gate.clock.now(), 10).await.unwrap().remove(0);
    assert!(!gate.ledger.claim_orphan(&orphan).await.unwrap(), "it is still being put");
    assert_eq!(gate.claim_key("a", "one").await, Claim::Taken(KeyHolder::Remains));
    gate.ledger.age_leases(LEASE);
    assert!(gate.ledger.claim_orphan(&orphan).await.unwrap());
    gate.ledger.forget_object(orphan.id, &orphan.key).await.unwrap();
    let next = gate.chosen("b", "one");
    assert_eq!(gate.ledger.claim_object(&next).await.unwrap(), FREE);
    // All that the first may still do, and a sweeper with a page of that time.
    let mut file = gate.file(&model);
    (file.id, file.file_id, file.key) = (first.id, first.file_id.clone(), first.key.clone());
    assert_eq!(gate.ledger.create_file(&first, &file, MANY, &[]).await.unwrap(), FileCreation::Condemned);
    assert!(!gate.ledger.condemn_object(first.id, &first.key).await.unwrap());
    gate.ledger.leave_object(first.id, &first.key).await.unwrap();
    gate.ledger.forget_object(first.id, &first.key).await.unwrap();
    assert!(!gate.ledger.claim_orphan(&orphan).await.unwrap());
    assert!(gate.ledger.renew_claim(next.id, &next.key).await.unwrap());
    (file.id, file.file_id) = (next.id, next.file_id.clone());
    assert_eq!(gate.ledger.create_file(&next, &file, MANY, &[]).await.unwrap(), FileCreation::Created);
    assert_eq!(gate.claim_key("c", "one").await, Claim::Taken(KeyHolder::Upload));
}

async fn the_same_upload_is_found_though_its_key_is_taken(gate: Gate) {
    let upload = gate.create("a", "one").await;
    assert_eq!(gate.try_create("a", "one").await, Creation::Known(upload));
    assert_eq!(gate.try_create("b", "one").await, Creation::KeyTaken(KeyHolder::Upload));
    // Sixteen at once, as gateways that have all asked the application.
    let all = gate.create_all((0..16).map(|_| gate.chosen("c", "two")).collect(), 1000).await;
    assert_eq!(all.iter().filter(|creation| matches!(creation, Creation::Created(_))).count(), 1);
    assert_eq!(all.iter().filter(|creation| matches!(creation, Creation::Known(_))).count(), 15, "{all:?}");
}

async fn a_key_goes_over_to_who_begins_anew(gate: Gate) {
    // While it is open, though the store may have more of it than is recorded.
    let old = gate.create("a", "one").await;
    gate.ledger.intend_session(old.id).await.unwrap();
    gate.ledger.intend_session(old.id).await.unwrap();
    gate.ledger.set_session(old.id, &SessionId::new("s-1")).await.unwrap();
    let new = gate.chosen("a", "one");
    let restarted = gate.ledger.restart_upload(old.id, &new, MANY, &[]).await.unwrap();
    assert!(matches!(restarted, Creation::Created(_)), "{restarted:?}");
    // Its parts go by their own name; what has none goes with the new one.
    let remains = gate.ledger.remains(gate.clock.now(), 10).await.unwrap();
    assert_eq!(remains.iter().map(|one| (one.id, one.by_key)).collect::<Vec<_>>(), [(old.id, false)]);
    gate.ledger.abort(new.id, &[]).await.unwrap();
    let remains = gate.ledger.remains(gate.clock.now(), 10).await.unwrap();
    assert!(remains.iter().any(|one| one.id == new.id && one.by_key), "{remains:?}");

    // One that is over, if the store has only its parts.
    let old = gate.create("b", "two").await;
    gate.ledger.intend_session(old.id).await.unwrap();
    gate.ledger.set_session(old.id, &SessionId::new("s-2")).await.unwrap();
    gate.ledger.abort(old.id, &[]).await.unwrap();
    assert_eq!(gate.try_create("other", "two").await, Creation::KeyTaken(KeyHolder::Remains));
    gate.create("b", "two").await;
    // Who looks for a late part of it leaves the key alone.
    gate.ledger.look_again(old.id, gate.clock.now()).await.unwrap();
    let remains = gate.ledger.remains(gate.clock.now(), 10).await.unwrap();
    assert!(remains.iter().all(|one| one.id != old.id || !one.by_key), "{remains:?}");
}

async fn a_key_is_kept_while_something_may_lie_there(gate: Gate) {
    let upload = gate.create("a", "one").await;
    gate.ledger.intend_session(upload.id).await.unwrap();
    gate.ledger.set_session(upload.id, &SessionId::new("s-1")).await.unwrap();
    // A call that joins its parts may be on its way.
    let lease = take_lease(&gate.ledger, upload.id).await.unwrap();
    assert!(gate.ledger.reopen(upload.id, lease, &[]).await.unwrap());
    let restarted = gate.ledger.restart_upload(upload.id, &gate.chosen("a", "one"), MANY, &[]).await.unwrap();
    assert_eq!(restarted, Creation::KeyTaken(KeyHolder::Upload));
    gate.ledger.abort(upload.id, &[]).await.unwrap();
    assert_eq!(gate.try_create("a", "one").await, Creation::KeyTaken(KeyHolder::Remains));
    gate.clear(upload.id).await;
    // From now on what comes late of it is not looked for under the key.
    gate.ledger.look_again(upload.id, gate.clock.now()).await.unwrap();
    assert!(!gate.ledger.remains(gate.clock.now(), 10).await.unwrap()[0].by_key);
    let next = gate.create("a", "one").await;
    // One that failed gives it back, too; a file keeps it until it is deleted and gone.
    gate.ledger.intend_session(next.id).await.unwrap();
    let lease = take_lease(&gate.ledger, next.id).await.unwrap();
    let failing = chunkgate::ledger::Failing::Merging(lease);
    let failure = chunkgate::domain::Failure::UploadLost;
    assert!(gate.ledger.fail(next.id, failing, failure, &[]).await.unwrap());
    assert_eq!(gate.try_create("a", "one").await, Creation::KeyTaken(KeyHolder::Remains));
    gate.clear(next.id).await;
    let file = gate.create("a", "one").await;
    gate.ledger.intend_session(file.id).await.unwrap();
    let lease = take_lease(&gate.ledger, file.id).await.unwrap();
    assert!(gate.ledger.complete(file.id, lease, &gate.file(&file), &[]).await.unwrap());
    assert_eq!(gate.try_create("b", "one").await, Creation::KeyTaken(KeyHolder::Upload));
    assert!(gate.ledger.delete_file(&gate.file(&file)).await.unwrap());
    assert_eq!(gate.try_create("a", "one").await, Creation::KeyTaken(KeyHolder::Remains));
    gate.clear(file.id).await;
    gate.create("b", "one").await;
}

async fn an_object_of_somebody_else_is_not_replaced(gate: Gate) {
    let occupied =
        |id: &str| NewUpload { key_origin: KeyOrigin::Chosen { is_occupied: true }, ..gate.chosen(id, "one") };
    let stranger = KeyHolder::Stranger;
    assert_eq!(gate.ledger.claim_object(&occupied("a")).await.unwrap(), Claim::Taken(stranger));
    let created = gate.ledger.create_upload(&occupied("a"), MANY).await.unwrap();
    assert_eq!(created, Creation::KeyTaken(stranger));
    assert_eq!(gate.ledger.objects_underway(gate.clock.now(), 10).await.unwrap(), []);
    // What an earlier try to put the same file has left there is ours.
    let first = gate.chosen("a", "one");
    assert_eq!(gate.ledger.claim_object(&first).await.unwrap(), FREE);
    gate.ledger.leave_object(first.id, &first.key).await.unwrap();
    assert_eq!(gate.ledger.claim_object(&occupied("a")).await.unwrap(), Claim::Made { has_remains: true });
}

/// One has the upload's row and wants the key, the other the key and the row: on
/// Postgres they would wait for each other for good, and one be killed.
async fn beginning_and_beginning_anew_at_once_wait_for_each_other_in_one_order(gate: Gate) {
    let mut old = gate.create("a", "one").await;
    for round in 0..30 {
        let key = format!("key-{round}");
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..8 {
            let (ledger, new, old) = (gate.ledger.clone(), gate.chosen("a", &key), old.id);
            tasks.spawn(async move {
                if n % 2 == 0 {
                    ledger.restart_upload(old, &new, MANY, &[]).await.map(drop)
                } else {
                    ledger.create_upload(&new, MANY).await.map(drop)
                }
            });
        }
        for done in tasks.join_all().await {
            done.unwrap();
        }
        gate.clock.advance(Duration::from_millis(1));
        old = gate.ledger.find_upload(&old.owner, &old.file_id).await.unwrap().unwrap();
    }
}
