//! The domain against reference models that are too slow and too simple to be
//! wrong: all plans there are, tried one by one.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::rules::{Admission, Declared, admit_chunk, agrees, differing_parts, whole_of};
use super::*;

const BOUNDS: PartBounds = PartBounds { part_bytes_min: 3, part_bytes_max: 20, parts_max: 12 };

fn upload(geometry: Geometry, state: State) -> Upload {
    Upload {
        id: UploadId(uuid::Uuid::nil()),
        owner: Owner::local(),
        file_id: FileId::parse("f").expect("an id"),
        file_name: "f".to_owned(),
        content_type: None,
        metadata: BTreeMap::new(),
        geometry,
        checksum: None,
        auto_complete: true,
        key: ObjectKey::parse("k").expect("a key"),
        state,
        created_at: Timestamp::from_millis(0),
        updated_at: Timestamp::from_millis(0),
        expires_at: Timestamp::from_millis(0),
        reserved_bytes: 0,
        is_direct: false,
    }
}

fn chunk(index: u32, bytes: u64) -> Chunk {
    Chunk { index, bytes, crc64: Some(Crc64(7)), etag: "e".to_owned() }
}

/// Every way to cut a file of these sizes: (chunk size, last size).
fn plans(count: u32, total: Option<u64>) -> impl Iterator<Item = (u64, u64)> {
    let others = u64::from(count) - 1;
    let chunks = BOUNDS.part_bytes_min..=BOUNDS.part_bytes_max;
    chunks
        .flat_map(|chunk| (1..(2 * chunk).min(BOUNDS.part_bytes_max + 1)).map(move |last| (chunk, last)))
        .filter(move |(chunk, last)| total.is_none_or(|total| chunk * others + last == total))
}

proptest! {
    /// A declared plan is accepted exactly when the file can be cut so.
    #[test]
    fn declared_plans_are_those_there_are(total in 1u64..260, chunk in 0u64..25, count in prop::option::of(0u64..16)) {
        let declared = Plan::declare(total, Some(chunk), count, &BOUNDS);
        let too_large = total > BOUNDS.object_bytes_max();
        let fits = |count: u64| {
            let last = total.checked_sub(chunk * (count.saturating_sub(1)));
            chunk > 0
                && chunk <= BOUNDS.part_bytes_max
                && (1..=u64::from(BOUNDS.parts_max)).contains(&count)
                && (count == 1 || chunk >= BOUNDS.part_bytes_min)
                && last.is_some_and(|last| last > 0 && last < 2 * chunk && last <= BOUNDS.part_bytes_max)
        };
        // Left open, the count is rounded up.
        let expected = count.or((chunk > 0).then(|| total.div_ceil(chunk))).filter(|&count| !too_large && fits(count));
        // A single chunk may be smaller than declared, but `last < 2 × chunk` also lets two be one.
        prop_assert_eq!(declared.as_ref().ok().map(|plan| u64::from(plan.count())), expected, "{:?}", declared);
        if let Ok(plan) = declared {
            let sizes: Vec<u64> = (0..plan.count()).filter_map(|index| plan.bytes_of(index)).collect();
            prop_assert_eq!(sizes.iter().sum::<u64>(), total);
            let mut offset = 0;
            for (index, bytes) in (0..).zip(&sizes) {
                prop_assert_eq!(plan.offset_of(index), Some(offset));
                offset += bytes;
            }
            prop_assert_eq!((plan.bytes_of(plan.count()), plan.offset_of(plan.count())), (None, None));
            prop_assert_eq!(Plan::restore(plan.chunk_bytes(), plan.count(), total), Some(plan));
        }
    }

    /// What the server picks always makes a plan, whatever the size.
    #[test]
    fn a_chunk_size_left_open_fits(total in 1u64..(48_800u64 << 30)) {
        let oss = PartBounds { part_bytes_min: 100 << 10, part_bytes_max: 5 << 30, parts_max: 10_000 };
        let plan = Plan::declare(total, None, None, &oss).expect("a plan");
        prop_assert!(plan.count() <= 10_000 && plan.chunk_bytes() >= 8 << 20);
    }

    /// Chunks in any order and of any size: each is admitted exactly when some
    /// plan has it and all that was recorded before, and once everything is
    /// there the plan is known.
    #[test]
    fn a_plan_is_learnt_from_what_fits(
        count in 1u32..5,
        total in prop::option::of(1u64..90),
        tries in prop::collection::vec((0u32..6, 0u64..24), 1..24),
    ) {
        let mut recorded: BTreeMap<u32, u64> = BTreeMap::new();
        let mut learning = Learning { count, chunk_bytes: None, last_bytes: None, total_bytes: total };
        let possible = |recorded: &BTreeMap<u32, u64>| {
            if count == 1 {
                let single = recorded.get(&0).is_none_or(|&bytes| (1..=BOUNDS.part_bytes_max).contains(&bytes));
                return single && total.is_none_or(|total| recorded.get(&0).is_none_or(|&bytes| bytes == total));
            }
            plans(count, total).any(|(chunk, last)| {
                recorded.iter().all(|(&index, &bytes)| bytes == if index + 1 == count { last } else { chunk })
            })
        };
        for (index, bytes) in tries {
            if recorded.contains_key(&index) {
                continue;
            }
            let mut with = recorded.clone();
            with.insert(index, bytes);
            // Nothing fits a total that no plan makes; the first chunk finds it out.
            let fits = index < count && possible(&with);
            match learning.admit(index, bytes, &BOUNDS) {
                Ok(lesson) => {
                    prop_assert!(fits, "admitted {index}:{bytes} after {recorded:?} of {count}, total {total:?}");
                    match lesson {
                        plan::Lesson::ChunkBytes(bytes) => learning.chunk_bytes = Some(bytes),
                        plan::Lesson::LastBytes(bytes) => learning.last_bytes = Some(bytes),
                    }
                    recorded = with;
                }
                Err(refusal) => prop_assert!(!fits, "refused {index}:{bytes} after {recorded:?} of {count}, total {total:?}: {refusal}"),
            }
        }
        if recorded.len() == count as usize {
            let plan = learning.settled().expect("all chunks make a plan");
            prop_assert_eq!(plan.total_bytes(), recorded.values().sum::<u64>());
            for (&index, &bytes) in &recorded {
                prop_assert_eq!(plan.bytes_of(index), Some(bytes));
            }
        }
    }

    /// What completion finds is exactly what is not there as it was acknowledged.
    #[test]
    fn differing_parts_are_found(damage in prop::collection::btree_map(1u32..20, 0u8..4, 0..6)) {
        let recorded: Vec<Part> = (1..20)
            .filter_map(|n| Some(Part { number: PartNumber::new(n)?, bytes: 5, etag: format!("E{n}"), crc64: Some(Crc64(9)) }))
            .collect();
        let mut listed = recorded.clone();
        // Stores write their ETags in either case; parts beyond ours are nobody's matter.
        listed.iter_mut().for_each(|part| part.etag = part.etag.to_lowercase());
        listed.extend(PartNumber::new(77).map(|number| Part { number, bytes: 1, etag: String::new(), crc64: None }));
        for (&n, &kind) in &damage {
            let at = listed.iter().position(|part| u32::from(part.number.get()) == n).expect("a part");
            match kind {
                0 => { listed.remove(at); }
                1 => listed[at].bytes += 1,
                2 => listed[at].etag.push('x'),
                _ => listed[at].crc64 = Some(Crc64(8)),
            }
        }
        let found: BTreeSet<u32> = differing_parts(&recorded, &listed).iter().map(|n| u32::from(n.get())).collect();
        prop_assert_eq!(found, damage.keys().copied().collect::<BTreeSet<_>>());
        prop_assert_eq!(whole_of(&recorded).map(|(bytes, _)| bytes), Some(5 * 19));
    }
}

#[test]
fn clients_round_the_count_up_or_down() {
    let count = |count| Plan::declare(25, Some(10), Some(count), &BOUNDS).map(|plan| plan.last_bytes());
    assert_eq!(count(3), Ok(5));
    assert_eq!(count(2), Ok(15));
    assert!(count(4).is_err_and(|r| r.code() == "total_chunks_out_of_range"));
    let by_count = |total, count| Plan::declare(total, None, Some(count), &BOUNDS).map(|plan| plan.chunk_bytes());
    assert_eq!(by_count(30, 3), Ok(10));
    assert_eq!(by_count(25, 3), Ok(9));
    assert!(by_count(25, 0).is_err_and(|r| r.code() == "total_chunks_out_of_range"));
}

#[test]
fn a_form_may_leave_everything_but_the_count_open() {
    let form = |count, chunk, total| Geometry::from_form(count, chunk, total, &BOUNDS);
    assert!(matches!(form(3, None, None), Ok(Geometry::Learning(_))));
    assert!(matches!(form(3, Some(10), Some(25)), Ok(Geometry::Fixed(_))));
    assert!(matches!(form(1, None, Some(7)), Ok(Geometry::Fixed(_))));
    assert!(matches!(form(0, None, None), Ok(Geometry::Fixed(plan)) if plan.total_bytes() == 0));
    assert!(form(13, None, None).is_err_and(|r| r.code() == "total_chunks_out_of_range"));
    assert!(form(3, Some(1), None).is_err_and(|r| r.code() == "chunk_size_out_of_range"));
}

#[test]
fn each_state_has_its_answer() {
    let plan = Plan::declare(25, Some(10), None, &BOUNDS).expect("a plan");
    let object =
        Object { etag: "o".to_owned(), bytes: 25, crc64: Some(Crc64(1)), completed_at: Timestamp::from_millis(1) };
    let lease = Lease { token: LeaseToken(uuid::Uuid::nil()) };
    let open = State::Open { session: None };
    let completing = State::Completing { session: None, lease };
    let completed = State::Completed { object };
    let ask = |state: &State, recorded: Option<&Chunk>, index: i128, bytes: Option<u64>| {
        let upload = upload(Geometry::Fixed(plan), state.clone());
        admit_chunk(&upload, recorded, index, bytes, &BOUNDS).map_err(|refusal| refusal.code())
    };
    let known = chunk(1, 10);
    let store = |bytes| Ok(Admission::Store { bytes, lesson: None });
    assert_eq!(ask(&open, None, 1, Some(10)), store(10));
    assert_eq!(ask(&open, None, 2, None), store(5), "the plan knows the length");
    assert_eq!(ask(&open, None, 2, Some(10)), Err("chunk_size_mismatch"));
    assert_eq!(ask(&open, None, 3, Some(1)), Err("chunk_index_out_of_range"));
    assert_eq!(ask(&open, None, -1, Some(1)), Err("chunk_index_out_of_range"));
    assert_eq!(ask(&open, None, i128::MAX, Some(1)), Err("chunk_index_out_of_range"));
    for state in [&open, &completing, &completed] {
        assert_eq!(ask(state, Some(&known), 1, Some(10)), Ok(Admission::Compare(known.clone())));
        assert_eq!(ask(state, Some(&known), 1, Some(9)), Err("chunk_size_mismatch"));
    }
    assert_eq!(ask(&completing, None, 1, Some(10)), Err("store_unavailable"));
    assert_eq!(ask(&completed, None, 1, Some(10)), Ok(Admission::CompareLength { bytes: 10 }));
    for (state, code) in [
        (State::Aborted, "upload_aborted"),
        (State::Expired, "upload_expired"),
        (State::Failed { failure: Failure::UploadLost }, "upload_lost"),
        (State::Failed { failure: Failure::IntegrityFailed }, "upload_failed"),
    ] {
        assert_eq!(ask(&state, Some(&known), 1, Some(10)), Err(code));
    }
    let empty = upload(Geometry::Fixed(Plan::declare(0, None, None, &BOUNDS).expect("a plan")), completed);
    assert_eq!(admit_chunk(&empty, None, 0, Some(0), &BOUNDS), Ok(Admission::Empty));
    assert!(admit_chunk(&empty, None, 0, Some(1), &BOUNDS).is_err());
    assert!(admit_chunk(&empty, None, 1, Some(0), &BOUNDS).is_err());
    let learning = Geometry::Learning(Learning { count: 2, chunk_bytes: None, last_bytes: None, total_bytes: None });
    let learning = upload(learning, open);
    assert!(admit_chunk(&learning, None, 0, None, &BOUNDS).is_err_and(|r| r.code() == "length_required"));
}

#[test]
fn only_what_both_sides_say_can_disagree() {
    let upload = upload(Geometry::Fixed(Plan::declare(25, Some(10), None, &BOUNDS).expect("a plan")), State::Aborted);
    let said = |total_bytes, chunk_bytes, count| Declared { total_bytes, chunk_bytes, count, checksum: None };
    assert_eq!(agrees(&upload, &said(None, None, None)), Ok(()));
    assert_eq!(agrees(&upload, &said(Some(25), Some(10), Some(3))), Ok(()));
    for other in [said(Some(26), None, None), said(None, Some(9), None), said(None, None, Some(2))] {
        assert!(agrees(&upload, &other).is_err_and(|r| r.code() == "upload_conflict"));
    }
}

#[test]
fn two_lessons_that_contradict_each_other_are_not_both_learnt() {
    let known = |chunk_bytes, last_bytes, total_bytes| Learning { count: 3, chunk_bytes, last_bytes, total_bytes };
    let (chunk, last) = (plan::Lesson::ChunkBytes, plan::Lesson::LastBytes);
    assert_eq!(known(None, None, None).with(chunk(5)), Some(known(Some(5), None, None)));
    assert_eq!(known(Some(5), None, None).with(chunk(5)), Some(known(Some(5), None, None)));
    assert_eq!(known(Some(5), None, None).with(chunk(6)), None);
    // The last chunk stays under twice the others, whichever came first.
    assert_eq!(known(Some(5), None, None).with(last(10)), None);
    assert_eq!(known(None, Some(10), None).with(chunk(5)), None);
    assert!(known(Some(5), None, None).with(last(9)).is_some());
    // A declared file size binds both, also where each fits alone.
    assert_eq!(known(None, None, Some(10)).with(chunk(5)), None);
    assert_eq!(known(Some(5), None, Some(12)).with(last(3)), None);
    assert!(known(Some(5), None, Some(12)).with(last(2)).is_some());
    assert_eq!(known(None, Some(2), Some(12)).with(chunk(4)), None);
}
