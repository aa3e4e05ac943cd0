//! Uploads begin, are found, are listed and begin anew.

use chunkgate::clock::Clock as _;
use chunkgate::domain::event::EventKind;
use chunkgate::domain::{Checksum, FileId, ObjectKey, Owner, Progress, SessionId, State, Status};
use chunkgate::ledger::{Allowance, Creation, Failing, FileCreation, SessionSet};

use super::{Gate, MIB, chunk, on_both, plan, progress, take_lease, unknown};

on_both!(
    what_was_created_is_found_as_it_was,
    many_at_once_create_one,
    an_ended_upload_gives_its_file_id_back,
    restarting_gives_up_what_was_there,
    restarting_many_times_at_once_leaves_one,
    an_owner_has_so_many_open_and_no_more,
    many_at_once_stay_within_the_limit,
    uploads_at_once_are_each_their_own,
    a_list_goes_from_page_to_page,
    one_session_is_named_once,
    a_small_file_is_there_at_once,
    small_files_at_once_under_one_id_make_one,
);

async fn what_was_created_is_found_as_it_was(gate: Gate) {
    let mut wish = gate.wish("a", plan(3));
    wish.checksum = Some(
        Checksum::parse_tagged("sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad").unwrap(),
    );
    let Creation::Created(created) = gate.ledger.create_upload(&wish, Allowance::of_uploads(10)).await.unwrap() else {
        panic!()
    };
    let found = gate.ledger.find_upload(&wish.owner, &wish.file_id).await.unwrap();
    assert_eq!(found.as_ref(), Some(&created));
    assert_eq!(gate.ledger.upload(created.id).await.unwrap(), Some(created.clone()));
    assert_eq!(created.state, State::Open { session: None });
    let other = Owner::parse("somebody else").unwrap();
    assert_eq!(gate.ledger.find_upload(&other, &wish.file_id).await.unwrap(), None);

    gate.record(&created, 1).await;
    let for_chunk = async |index| gate.ledger.find_for_chunk(&wish.owner, &wish.file_id, index).await.unwrap();
    assert_eq!(for_chunk(1).await, Some((created.clone(), Some(chunk(1)))));
    assert_eq!(for_chunk(2).await, Some((created.clone(), None)));
    assert_eq!(gate.ledger.find_for_chunk(&other, &wish.file_id, 1).await.unwrap(), None);
    let counted = gate.ledger.find_with_progress(&wish.owner, &wish.file_id).await.unwrap();
    assert_eq!(counted, Some((created.clone(), progress(1))));

    let Creation::Created(learning) =
        gate.ledger.create_upload(&gate.wish("b", unknown(4)), Allowance::of_uploads(10)).await.unwrap()
    else {
        panic!()
    };
    assert_eq!(gate.ledger.upload(learning.id).await.unwrap().unwrap().geometry, unknown(4));
}

async fn many_at_once_create_one(gate: Gate) {
    let wishes = (0..64).map(|_| gate.wish("a", plan(3))).collect();
    let all = gate.create_all(wishes, 10).await;
    let created: Vec<_> = all.iter().filter(|c| matches!(c, Creation::Created(_))).collect();
    assert_eq!(created.len(), 1);
    let id = gate.ledger.find_upload(&Owner::local(), &FileId::parse("a").unwrap()).await.unwrap().unwrap().id;
    for creation in all {
        let (Creation::Created(upload) | Creation::Known(upload)) = creation else { panic!("{creation:?}") };
        assert_eq!(upload.id, id);
    }
}

async fn an_ended_upload_gives_its_file_id_back(gate: Gate) {
    let first = gate.upload("a", 3).await;
    assert!(matches!(
        gate.ledger.create_upload(&gate.wish("a", plan(3)), Allowance::of_uploads(10)).await.unwrap(),
        Creation::Known(_)
    ));
    assert!(gate.ledger.abort(first.id, &[]).await.unwrap());
    assert_eq!(gate.ledger.upload(first.id).await.unwrap().unwrap().state, State::Aborted);
    let all = gate.create_all((0..16).map(|_| gate.wish("a", plan(3))).collect(), 10).await;
    assert_eq!(all.iter().filter(|c| matches!(c, Creation::Created(_))).count(), 1);
    let now = gate.ledger.find_upload(&first.owner, &first.file_id).await.unwrap().unwrap();
    assert_ne!(now.id, first.id);
    assert_eq!(gate.ledger.upload(first.id).await.unwrap().unwrap().state, State::Aborted);

    let (full, lease) = gate.full("b", 1).await;
    assert!(gate.ledger.complete(full.id, lease, &gate.file(&full), &[]).await.unwrap());
    let again = gate.ledger.create_upload(&gate.wish("b", plan(1)), Allowance::of_uploads(10)).await.unwrap();
    assert!(matches!(again, Creation::Known(upload) if upload.id == full.id));
}

async fn restarting_gives_up_what_was_there(gate: Gate) {
    let old = gate.upload("a", 3).await;
    gate.record(&old, 0).await;
    gate.ledger.intend_session(old.id).await.unwrap();
    let wish = gate.wish("a", plan(5));
    let events = [gate.event(&old, EventKind::Aborted)];
    let restarted = gate.ledger.restart_upload(old.id, &wish, Allowance::of_uploads(1), &events).await.unwrap();
    assert!(matches!(restarted, Creation::Created(new) if new.id == wish.id));
    assert_eq!(gate.ledger.upload(old.id).await.unwrap().unwrap().state, State::Aborted);
    assert_eq!(gate.ledger.outbox_counts().await.unwrap().pending, 1);
    assert_eq!(gate.ledger.remains(gate.clock.now(), 10).await.unwrap()[0].id, old.id);
    let (now, counted) = gate.ledger.find_with_progress(&old.owner, &old.file_id).await.unwrap().unwrap();
    assert_eq!((now.geometry, counted), (plan(5), Progress::default()));

    // Of what it does not mean any more, nothing is restarted.
    let again =
        gate.ledger.restart_upload(old.id, &gate.wish("a", plan(1)), Allowance::of_uploads(10), &events).await.unwrap();
    assert!(matches!(again, Creation::Known(known) if known.id == wish.id));
    // Nor of a merge under way.
    take_lease(&gate.ledger, wish.id).await.unwrap();
    let again =
        gate.ledger.restart_upload(wish.id, &gate.wish("a", plan(1)), Allowance::of_uploads(10), &[]).await.unwrap();
    assert!(matches!(again, Creation::Known(known) if known.id == wish.id));
    // The counter is at one: the old one was released with its end.
    assert_eq!(
        gate.ledger.create_upload(&gate.wish("b", plan(1)), Allowance::of_uploads(1)).await.unwrap(),
        Creation::TooManyOpen
    );
    assert!(matches!(
        gate.ledger.create_upload(&gate.wish("b", plan(1)), Allowance::of_uploads(2)).await.unwrap(),
        Creation::Created(_)
    ));
}

async fn restarting_many_times_at_once_leaves_one(gate: Gate) {
    let old = gate.upload("a", 3).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (ledger, wish) = (gate.ledger.clone(), gate.wish("a", plan(2)));
        let event = gate.event(&old, EventKind::Aborted);
        tasks.spawn(
            async move { ledger.restart_upload(old.id, &wish, Allowance::of_uploads(1), &[event]).await.unwrap() },
        );
    }
    let all = tasks.join_all().await;
    assert_eq!(all.iter().filter(|c| matches!(c, Creation::Created(_))).count(), 1, "{all:?}");
    assert_eq!(gate.ledger.outbox_counts().await.unwrap().pending, 1);
}

async fn an_owner_has_so_many_open_and_no_more(gate: Gate) {
    let first = gate.upload("a", 1).await;
    let refused = gate.ledger.create_upload(&gate.wish("b", plan(1)), Allowance::of_uploads(1)).await.unwrap();
    assert_eq!(refused, Creation::TooManyOpen);
    // Nothing of it is there.
    assert_eq!(gate.ledger.find_upload(&first.owner, &FileId::parse("b").unwrap()).await.unwrap(), None);
    // Every way out makes room: completed, failed, aborted and expired.
    gate.record(&first, 0).await;
    let lease = take_lease(&gate.ledger, first.id).await.unwrap();
    assert_eq!(
        gate.ledger.create_upload(&gate.wish("b", plan(1)), Allowance::of_uploads(1)).await.unwrap(),
        Creation::TooManyOpen
    );
    assert!(gate.ledger.complete(first.id, lease, &gate.file(&first), &[]).await.unwrap());
    for name in ["b", "c", "d", "e"] {
        let wish = gate.wish(name, plan(1));
        assert!(
            matches!(gate.ledger.create_upload(&wish, Allowance::of_uploads(1)).await.unwrap(), Creation::Created(_)),
            "{name}"
        );
        assert_eq!(
            gate.ledger.create_upload(&gate.wish("z", plan(1)), Allowance::of_uploads(1)).await.unwrap(),
            Creation::TooManyOpen
        );
        let failure = chunkgate::domain::Failure::UploadLost;
        let out = match name {
            "b" => gate.ledger.abort(wish.id, &[]).await.unwrap(),
            "c" => gate.ledger.fail(wish.id, Failing::Open, failure, &[]).await.unwrap(),
            "d" => gate.ledger.expire(wish.id, wish.expires_at, &[]).await.unwrap(),
            _ => {
                let lease = take_lease(&gate.ledger, wish.id).await.unwrap();
                gate.ledger.fail(wish.id, Failing::Merging(lease), failure, &[]).await.unwrap()
            }
        };
        assert!(out, "{name}");
    }
    assert!(matches!(
        gate.ledger.create_upload(&gate.wish("z", plan(1)), Allowance::of_uploads(1)).await.unwrap(),
        Creation::Created(_)
    ));
    assert_eq!(
        gate.ledger.create_upload(&gate.wish("y", plan(1)), Allowance::of_uploads(0)).await.unwrap(),
        Creation::TooManyOpen
    );
}

async fn many_at_once_stay_within_the_limit(gate: Gate) {
    let wishes = (0..64).map(|n| gate.wish(&format!("f{n}"), plan(1))).collect();
    let all = gate.create_all(wishes, 10).await;
    assert_eq!(all.iter().filter(|c| matches!(c, Creation::Created(_))).count(), 10);
    assert_eq!(all.iter().filter(|c| **c == Creation::TooManyOpen).count(), 54);
}

/// What is written together with others that may not be is there all the same.
async fn uploads_at_once_are_each_their_own(gate: Gate) {
    let wishes = (0..60u32).map(|n| {
        // Each fileId comes twice, and each owner has room for two of its ten.
        let mut wish = gate.wish(&format!("f{}", n / 6), plan(1));
        wish.owner = Owner::parse(&format!("owner{}", n % 3)).unwrap();
        wish
    });
    let all = gate.create_all(wishes.collect(), 2).await;
    for owner in ["owner0", "owner1", "owner2"].map(|name| Owner::parse(name).unwrap()) {
        let found = gate.ledger.list_uploads(Some(&owner), None, None, 100).await.unwrap();
        let created = all.iter().filter(|c| matches!(c, Creation::Created(upload) if upload.owner == owner));
        assert_eq!((found.len(), created.count()), (2, 2), "{owner}");
    }
    let created = all.iter().filter(|c| matches!(c, Creation::Created(_))).count();
    let refused = all.iter().filter(|c| matches!(c, Creation::Known(_) | Creation::TooManyOpen)).count();
    assert_eq!((created, refused), (6, 54), "{all:?}");
}

async fn a_list_goes_from_page_to_page(gate: Gate) {
    for n in 0..7 {
        let upload = gate.upload(&format!("f{n}"), 2).await;
        gate.record(&upload, 0).await;
        if n % 2 == 0 {
            // Two of one moment: the id decides.
            gate.clock.advance(std::time::Duration::from_millis(1));
        }
        if n == 3 {
            gate.ledger.abort(upload.id, &[]).await.unwrap();
        }
    }
    let mut other = gate.wish("other", plan(2));
    other.owner = Owner::parse("other").unwrap();
    gate.ledger.create_upload(&other, Allowance::of_uploads(10)).await.unwrap();

    let local = Owner::local();
    for (owner, status, count) in [
        (Some(&local), None, 7),
        (None, None, 8),
        (Some(&local), Some(Status::Uploading), 6),
        (None, Some(Status::Aborted), 1),
        (Some(&local), Some(Status::Completed), 0),
    ] {
        let all = gate.ledger.list_uploads(owner, status, None, 100).await.unwrap();
        assert_eq!(all.len(), count);
        assert!(all.is_sorted_by_key(|(u, _)| std::cmp::Reverse((u.created_at, u.id))));
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let page = gate.ledger.list_uploads(owner, status, after, 2).await.unwrap();
            let Some((last, _)) = page.last() else { break };
            after = Some((last.created_at, last.id));
            paged.extend(page);
        }
        assert_eq!(paged, all);
    }
    let all = gate.ledger.list_uploads(Some(&local), None, None, 100).await.unwrap();
    assert!(all.iter().all(|(_, counted)| *counted == progress(1)));
}

async fn one_session_is_named_once(gate: Gate) {
    let upload = gate.upload("a", 3).await;
    assert!(gate.ledger.intend_session(upload.id).await.unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let (ledger, session) = (gate.ledger.clone(), SessionId::new(format!("session-{n}")));
        tasks.spawn(async move { (session.clone(), ledger.set_session(upload.id, &session).await.unwrap()) });
    }
    let all = tasks.join_all().await;
    let named = gate.ledger.upload(upload.id).await.unwrap().unwrap().session().cloned().unwrap();
    assert_eq!(all.iter().filter(|(_, set)| *set == SessionSet::Won).count(), 1);
    for (mine, set) in all {
        assert_eq!(set, if mine == named { SessionSet::Won } else { SessionSet::Other(named.clone()) });
    }
    gate.ledger.abort(upload.id, &[]).await.unwrap();
    assert_eq!(gate.ledger.set_session(upload.id, &named).await.unwrap(), SessionSet::NotOpen);
    assert!(!gate.ledger.intend_session(upload.id).await.unwrap());
}

async fn a_small_file_is_there_at_once(gate: Gate) {
    let mut wish = gate.wish("a", plan(1));
    wish.checksum = Some(Checksum::parse_tagged("md5:900150983cd24fb0d6963f7d28e17f72").unwrap());
    let upload = gate.upload("model", 1).await;
    let mut file = gate.file(&upload);
    (file.id, file.file_id, file.key) = (wish.id, wish.file_id.clone(), wish.key.clone());
    file.declared = wish.checksum.map(|checksum| (checksum, true));
    let events = [gate.event(&upload, EventKind::Completed)];
    assert_eq!(
        gate.ledger.create_file(&wish, &file, Allowance::of_uploads(100), &events).await.unwrap(),
        FileCreation::Condemned,
        "not intended"
    );
    gate.ledger.intend_object(wish.id, &file.key, wish.at).await.unwrap();
    assert_eq!(
        gate.ledger.create_file(&wish, &file, Allowance::of_uploads(100), &events).await.unwrap(),
        FileCreation::Created
    );
    assert_eq!(gate.ledger.find_file(&file.owner, &file.file_id).await.unwrap(), Some(file.clone()));
    let (upload, counted) = gate.ledger.find_with_progress(&file.owner, &file.file_id).await.unwrap().unwrap();
    assert_eq!(upload.state, State::Completed { object: file.object.clone() });
    assert_eq!(counted, Progress { chunks: 1, bytes: MIB });
    assert_eq!(gate.ledger.outbox_counts().await.unwrap().pending, 1);
    // Taken; and free again only after an end without a file.
    let again = gate.wish("a", plan(1));
    file.id = again.id;
    assert!(
        matches!(gate.ledger.create_file(&again, &file, Allowance::of_uploads(100), &[]).await.unwrap(), FileCreation::Known(u) if u == upload)
    );
    let given_up = gate.upload("b", 1).await;
    gate.ledger.abort(given_up.id, &[]).await.unwrap();
    let again = gate.wish("b", plan(1));
    (file.id, file.file_id, file.key) = (again.id, again.file_id.clone(), again.key.clone());
    gate.ledger.intend_object(again.id, &file.key, again.at).await.unwrap();
    assert_eq!(
        gate.ledger.create_file(&again, &file, Allowance::of_uploads(100), &[]).await.unwrap(),
        FileCreation::Created
    );
}

async fn small_files_at_once_under_one_id_make_one(gate: Gate) {
    let template = gate.upload("template", 1).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (ledger, wish) = (gate.ledger.clone(), gate.wish("a", plan(1)));
        let mut file = gate.file(&template);
        (file.id, file.file_id) = (wish.id, wish.file_id.clone());
        file.key = ObjectKey::parse(&format!("uploads/{}", wish.id)).unwrap();
        tasks.spawn(async move {
            ledger.intend_object(wish.id, &file.key, wish.at).await.unwrap();
            ledger.create_file(&wish, &file, Allowance::of_uploads(100), &[]).await.unwrap()
        });
    }
    let all = tasks.join_all().await;
    assert_eq!(all.iter().filter(|c| **c == FileCreation::Created).count(), 1);
}
