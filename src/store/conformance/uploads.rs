//! Multipart uploads.

use bytes::Bytes;

use super::bench::{Bench, broken, in_frames, noise, number_of, piece};
use crate::domain::{Crc64, Part, Plan, SessionId};
use crate::store::{StoreError, Target};

fn unknown(error: &StoreError) -> bool {
    matches!(error, StoreError::NoSuchUpload)
}

fn differ(error: &StoreError) -> bool {
    matches!(error, StoreError::PartsDiffer(_))
}

pub(super) async fn parts_in_order_make_the_object(bench: &Bench) {
    bench.upload(&bench.plan(3), true, &[1, 2, 3]).await;
}

pub(super) async fn parts_out_of_order_make_the_object(bench: &Bench) {
    bench.upload(&bench.plan(4), true, &[4, 2, 1, 3]).await;
}

pub(super) async fn parts_at_once_make_the_object(bench: &Bench) {
    let (key, plan) = (bench.key("object.bin"), bench.plan(6));
    let whole = noise(bench.case, plan.total_bytes());
    let session = bench.begin(&key, Some(&plan)).await;
    let at = Target { key: &key, session: &session };
    let parts = futures_util::future::join_all((1..=6).map(|number| {
        let bytes = piece(&whole, &plan, number);
        async move { bench.put(at, number, &bytes).await }
    }));
    let parts = parts.await;
    bench.complete(at, &parts, &whole).await;
}

pub(super) async fn a_learnt_plan_makes_the_object(bench: &Bench) {
    bench.upload(&bench.plan(4), false, &[3, 4, 1, 2]).await;
}

pub(super) async fn a_larger_last_chunk_makes_the_object(bench: &Bench) {
    let chunk = bench.part_bytes();
    // Two chunks and two thirds, cut into two: the client rounded down.
    let total = chunk * 2 + chunk * 2 / 3;
    let plan = bench.well("plan", Plan::declare(total, Some(chunk), Some(2), &bench.store.limits().parts));
    bench.holds("the last chunk is the larger one", plan.last_bytes() > plan.chunk_bytes());
    bench.upload(&plan, true, &[2, 1]).await;
    bench.upload(&plan, false, &[2, 1]).await;
}

pub(super) async fn a_single_part_makes_the_object(bench: &Bench) {
    // The only part is the last one, which may be as small as it likes.
    let plan = bench.well("plan", Plan::declare(11, Some(11), Some(1), &bench.store.limits().parts));
    bench.upload(&plan, true, &[1]).await;
    bench.upload(&plan, false, &[1]).await;
}

pub(super) async fn parts_are_listed_as_they_were_answered(bench: &Bench) {
    for declared in [true, false] {
        let (key, plan) = (bench.key("object.bin"), bench.plan(3));
        let whole = noise(bench.case, plan.total_bytes());
        let session = bench.begin(&key, declared.then_some(&plan)).await;
        let at = Target { key: &key, session: &session };
        bench.same("nothing yet", bench.well("list_parts", bench.store.list_parts(at).await), Vec::new());
        let third = bench.put(at, 3, &piece(&whole, &plan, 3)).await;
        let first = bench.put(at, 1, &piece(&whole, &plan, 1)).await;
        let listed = bench.well("list_parts", bench.store.list_parts(at).await);
        for part in &listed {
            bench.holds(
                "a listed CRC-64 is some or none",
                part.crc64.is_none_or(|crc| Some(crc) == crc_of(part, &whole, &plan)),
            );
        }
        let bare = |part: &Part| (part.number, part.bytes, part.etag.clone());
        bench.same("the parts", listed.iter().map(bare).collect::<Vec<_>>(), vec![bare(&first), bare(&third)]);
        bench.well("abort", bench.store.abort(at).await);
    }
}

fn crc_of(part: &Part, whole: &Bytes, plan: &Plan) -> Option<Crc64> {
    Some(Crc64::of(&piece(whole, plan, u32::from(part.number.get()))))
}

pub(super) async fn a_part_put_again_replaces_the_first(bench: &Bench) {
    for declared in [true, false] {
        let (key, plan) = (bench.key("object.bin"), bench.plan(2));
        let whole = noise(bench.case, plan.total_bytes());
        let session = bench.begin(&key, declared.then_some(&plan)).await;
        let at = Target { key: &key, session: &session };
        let other = noise("other bytes of the same length", plan.chunk_bytes());
        let stale = bench.put(at, 1, &other).await;
        let second = bench.put(at, 2, &piece(&whole, &plan, 2)).await;
        let first = bench.put(at, 1, &piece(&whole, &plan, 1)).await;
        bench.holds("other bytes have another ETag", first.etag != stale.etag);
        bench.same("still two", bench.well("list_parts", bench.store.list_parts(at).await).len(), 2);
        bench.refused("the replaced part", bench.store.complete(at, &[stale, second.clone()]).await, differ);
        bench.complete(at, &[first, second], &whole).await;
    }
}

pub(super) async fn a_missing_part_is_refused(bench: &Bench) {
    for declared in [true, false] {
        let (key, plan) = (bench.key("object.bin"), bench.plan(3));
        let whole = noise(bench.case, plan.total_bytes());
        let session = bench.begin(&key, declared.then_some(&plan)).await;
        let at = Target { key: &key, session: &session };
        let first = bench.put(at, 1, &piece(&whole, &plan, 1)).await;
        let third = bench.put(at, 3, &piece(&whole, &plan, 3)).await;
        let never_put = Part { number: number_of(2), ..first.clone() };
        let parts = [first.clone(), never_put, third.clone()];
        bench.refused("a part that was never put", bench.store.complete(at, &parts).await, differ);
        bench.same("no object", bench.well("head", bench.store.head(&key).await), None);
        let second = bench.put(at, 2, &piece(&whole, &plan, 2)).await;
        bench.complete(at, &[first, second, third], &whole).await;
        bench.well("delete", bench.store.delete(&key).await);
    }
}

pub(super) async fn a_gap_is_refused(bench: &Bench) {
    for declared in [true, false] {
        let (key, plan) = (bench.key("object.bin"), bench.plan(3));
        let whole = noise(bench.case, plan.total_bytes());
        let session = bench.begin(&key, declared.then_some(&plan)).await;
        let at = Target { key: &key, session: &session };
        let first = bench.put(at, 1, &piece(&whole, &plan, 1)).await;
        let third = bench.put(at, 3, &piece(&whole, &plan, 3)).await;
        bench.refused("no parts", bench.store.complete(at, &[]).await, differ);
        bench.refused("parts 1 and 3", bench.store.complete(at, &[first, third.clone()]).await, differ);
        bench.refused("part 3 alone", bench.store.complete(at, &[third]).await, differ);
        bench.same("no object", bench.well("head", bench.store.head(&key).await), None);
        bench.same("both parts are still there", bench.well("list_parts", bench.store.list_parts(at).await).len(), 2);
    }
}

pub(super) async fn another_etag_is_refused(bench: &Bench) {
    let (key, plan) = (bench.key("object.bin"), bench.plan(2));
    let whole = noise(bench.case, plan.total_bytes());
    let session = bench.begin(&key, Some(&plan)).await;
    let at = Target { key: &key, session: &session };
    let first = bench.put(at, 1, &piece(&whole, &plan, 1)).await;
    let second = bench.put(at, 2, &piece(&whole, &plan, 2)).await;
    let wrong = Part { etag: first.etag.clone(), crc64: first.crc64, ..second.clone() };
    bench.refused("another part's ETag", bench.store.complete(at, &[first.clone(), wrong]).await, differ);
    bench.same("no object", bench.well("head", bench.store.head(&key).await), None);
    bench.complete(at, &[first, second], &whole).await;
}

pub(super) async fn a_broken_body_leaves_no_part(bench: &Bench) {
    for declared in [true, false] {
        let (key, plan) = (bench.key("object.bin"), bench.plan(2));
        let whole = noise(bench.case, plan.total_bytes());
        let session = bench.begin(&key, declared.then_some(&plan)).await;
        let at = Target { key: &key, session: &session };
        let bytes = piece(&whole, &plan, 1);
        let broke = bench.put_body(at, 1, bytes.len() as u64, broken(&bytes)).await;
        bench.refused("a broken body", broke, |error| matches!(error, StoreError::Body));
        bench.same("no part", bench.well("list_parts", bench.store.list_parts(at).await), Vec::new());
        let first = bench.put(at, 1, &bytes).await;
        let second = bench.put(at, 2, &piece(&whole, &plan, 2)).await;
        bench.complete(at, &[first, second], &whole).await;
    }
}

/// A store may keep the old part or lose it, but what it lists must be true.
pub(super) async fn a_broken_overwrite_is_never_the_old_part_with_new_bytes(bench: &Bench) {
    for declared in [true, false] {
        let (key, plan) = (bench.key("object.bin"), bench.plan(1));
        let whole = noise(bench.case, plan.total_bytes());
        let session = bench.begin(&key, declared.then_some(&plan)).await;
        let at = Target { key: &key, session: &session };
        let old = bench.put(at, 1, &whole).await;
        let other = noise("other bytes of the same length", plan.total_bytes());
        let broke = bench.put_body(at, 1, plan.total_bytes(), broken(&other)).await;
        bench.refused("a broken body", broke, |error| matches!(error, StoreError::Body));
        let kept = !bench.well("list_parts", bench.store.list_parts(at).await).is_empty();
        let now = if kept { old } else { bench.put(at, 1, &whole).await };
        bench.complete(at, &[now], &whole).await;
    }
}

pub(super) async fn abort_can_be_repeated(bench: &Bench) {
    for declared in [true, false] {
        let (key, plan) = (bench.key("object.bin"), bench.plan(2));
        let session = bench.begin(&key, declared.then_some(&plan)).await;
        let at = Target { key: &key, session: &session };
        bench.put(at, 1, &noise(bench.case, plan.chunk_bytes())).await;
        for _ in 0..2 {
            bench.well("abort", bench.store.abort(at).await);
        }
        bench.same("no object", bench.well("head", bench.store.head(&key).await), None);
    }
}

/// Every call of an upload that is gone says so.
async fn is_unknown(bench: &Bench, at: Target<'_>, part: &Part, bytes: &Bytes) {
    let put = bench.put_body(at, 1, bytes.len() as u64, in_frames(bytes)).await;
    bench.refused("put_part", put, unknown);
    bench.refused("list_parts", bench.store.list_parts(at).await, unknown);
    bench.refused("complete", bench.store.complete(at, std::slice::from_ref(part)).await, unknown);
    bench.well("abort", bench.store.abort(at).await);
}

pub(super) async fn an_aborted_upload_is_unknown(bench: &Bench) {
    for declared in [true, false] {
        let (key, plan) = (bench.key("object.bin"), bench.plan(1));
        let whole = noise(bench.case, plan.total_bytes());
        let session = bench.begin(&key, declared.then_some(&plan)).await;
        let at = Target { key: &key, session: &session };
        let part = bench.put(at, 1, &whole).await;
        bench.well("abort", bench.store.abort(at).await);
        is_unknown(bench, at, &part, &whole).await;
    }
}

pub(super) async fn a_completed_upload_is_unknown(bench: &Bench) {
    for declared in [true, false] {
        let (key, plan) = (bench.key("object.bin"), bench.plan(1));
        let whole = noise(bench.case, plan.total_bytes());
        let session = bench.begin(&key, declared.then_some(&plan)).await;
        let at = Target { key: &key, session: &session };
        let part = bench.put(at, 1, &whole).await;
        bench.complete(at, std::slice::from_ref(&part), &whole).await;
        is_unknown(bench, at, &part, &noise("late bytes", plan.total_bytes())).await;
        bench.read_back(&key, &whole).await;
    }
}

pub(super) async fn an_upload_that_never_was_is_unknown(bench: &Bench) {
    let (key, bytes) = (bench.key("object.bin"), noise(bench.case, bench.part_bytes()));
    let part = Part { number: number_of(1), bytes: bytes.len() as u64, etag: "none".to_owned(), crc64: None };
    for session in ["0004B9895DBBB6EC98E36FFFFFFFFFFF", "0123456789abcdef0123456789abcdef"] {
        let session = SessionId::new(session);
        is_unknown(bench, Target { key: &key, session: &session }, &part, &bytes).await;
    }
}

pub(super) async fn two_uploads_of_one_key_are_two(bench: &Bench) {
    let (key, plan) = (bench.key("object.bin"), bench.plan(1));
    let (one, two) = (noise("one", plan.total_bytes()), noise("two", plan.total_bytes()));
    let session_one = bench.begin(&key, Some(&plan)).await;
    let session_two = bench.begin(&key, Some(&plan)).await;
    bench.holds("each begin begins another", session_one != session_two);
    let (at_one, at_two) = (Target { key: &key, session: &session_one }, Target { key: &key, session: &session_two });
    let part_two = bench.put(at_two, 1, &two).await;
    let part_one = bench.put(at_one, 1, &one).await;
    bench.complete(at_one, &[part_one], &one).await;
    bench.complete(at_two, &[part_two], &two).await;
}

pub(super) async fn uploads_are_listed_by_prefix(bench: &Bench) {
    let (key, other) = (bench.key("object.bin"), bench.key("deep/object.bin"));
    let (session, deep) = (bench.begin(&key, Some(&bench.plan(2))).await, bench.begin(&other, None).await);
    let listed = |prefix: String| async move {
        let mut listed = bench.well("list_uploads", bench.store.list_uploads(&prefix).await);
        listed.sort_by(|a, b| a.key.cmp(&b.key));
        listed.into_iter().map(|upload| (upload.key, upload.session)).collect::<Vec<_>>()
    };
    let root = format!("{}/{}/", bench.prefix, bench.case);
    let both = vec![(other.to_string(), deep.clone()), (key.to_string(), session.clone())];
    bench.same("both", listed(root.clone()).await, both);
    bench.same("one", listed(format!("{root}deep/")).await, vec![(other.to_string(), deep.clone())]);
    bench.same("none", listed(format!("{root}nothing/")).await, Vec::new());
    bench.well("abort", bench.store.abort(Target { key: &other, session: &deep }).await);
    bench.same("the other is left", listed(root).await, vec![(key.to_string(), session)]);
}
