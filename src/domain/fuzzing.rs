//! What holds of every plan, every kind and every name.

use std::collections::BTreeSet;

use crate::domain::grant::{KeyPrefix, Scopes};
use crate::domain::kind::Kinds;
use crate::domain::plan::{Geometry, Learning, Plan};
use crate::domain::{Checksum, FileId, ObjectKey, Owner, PartBounds, PartNumber, Refusal, ranges, rules};
use crate::fuzzing::Input;

/// Those of the file store, of OSS, and of a store that is small enough to be
/// reached from all sides.
const BOUNDS: [PartBounds; 3] = [
    PartBounds { part_bytes_min: 1, part_bytes_max: 5 << 30, parts_max: 10_000 },
    PartBounds { part_bytes_min: 100 << 10, part_bytes_max: 5 << 30, parts_max: 10_000 },
    PartBounds { part_bytes_min: 4, part_bytes_max: 100, parts_max: 20 },
];
/// So many chunks are looked at one by one.
const CHUNKS_MAX: u32 = 64;

pub(crate) fn plan(data: &[u8]) {
    let mut input = Input::new(data);
    let bounds = input.pick(&BOUNDS);
    match input.byte() % 4 {
        0 => declared(&mut input, &bounds),
        1 => restored(&mut input),
        2 => learnt(&mut input, &bounds),
        _ => missing(&mut input),
    }
}

fn declared(input: &mut Input<'_>, bounds: &PartBounds) {
    let (total, chunk, count) = (input.number(), input.maybe(), input.maybe());
    let plan = match Plan::declare(total, chunk, count, bounds) {
        Ok(plan) => plan,
        Err(Refusal::FileTooLarge { .. }) => return assert!(total > bounds.object_bytes_max()),
        Err(refusal) => return assert!(chunk.or(count).is_some(), "the size alone is enough: {refusal:?}"),
    };
    is_whole(&plan, total);
    assert!(plan.count() <= bounds.parts_max);
    assert!(chunk.is_none_or(|chunk| chunk == plan.chunk_bytes()));
    assert!(count.is_none_or(|count| count == u64::from(plan.count()) || total == 0));
    if plan.count() > 0 {
        assert!(plan.last_bytes() <= bounds.part_bytes_max && plan.chunk_bytes() <= bounds.part_bytes_max);
    }
    if plan.count() > 1 {
        assert!(plan.chunk_bytes() >= bounds.part_bytes_min);
    }
    assert_eq!(Plan::restore(plan.chunk_bytes(), plan.count(), total), Some(plan));
    if plan.count() > 0 {
        teach(input, &plan, bounds);
    }
}

/// The chunks lie one behind the other, and end where the file does.
fn is_whole(plan: &Plan, total: u64) {
    let count = plan.count();
    assert_eq!(plan.total_bytes(), total);
    assert_eq!((plan.bytes_of(count), plan.offset_of(count)), (None, None));
    let Some(last) = count.checked_sub(1) else { return assert_eq!(total, 0) };
    let end = |index| plan.offset_of(index).zip(plan.bytes_of(index)).map(|(at, bytes)| at + bytes);
    assert_eq!(plan.offset_of(0), Some(0));
    assert_eq!(end(last), Some(total));
    for index in (0..last.min(CHUNKS_MAX)).chain(last.saturating_sub(CHUNKS_MAX)..last) {
        assert_eq!(end(index), plan.offset_of(index + 1), "chunk {index}");
    }
    let (bytes, twice) = (u128::from(plan.last_bytes()), 2 * u128::from(plan.chunk_bytes()));
    assert!(bytes > 0 && bytes < twice);
}

/// Whatever of a plan is declared, and in whatever order its chunks come, what
/// is learnt of it is that plan.
fn teach(input: &mut Input<'_>, plan: &Plan, bounds: &PartBounds) {
    let says = input.byte();
    // Of one chunk, what the others would be is not asked for.
    let chunk = (says & 1 != 0 && plan.count() > 1).then_some(plan.chunk_bytes());
    let total = (says & 2 != 0).then_some(plan.total_bytes());
    let geometry = Geometry::from_form(plan.count().into(), chunk, total, bounds).expect("a plan is a geometry");
    let mut learning = match geometry {
        Geometry::Fixed(known) => return is_whole(&known, plan.total_bytes()),
        Geometry::Learning(learning) => learning,
    };
    let last = plan.count() - 1;
    let between = u32::try_from(input.number() % u64::from(plan.count())).expect("below a u32");
    let order = if says & 4 != 0 { [last, between, 0] } else { [between, 0, last] };
    for index in order {
        let bytes = plan.bytes_of(index).expect("within the plan");
        let lesson = learning.admit(index, bytes, bounds).expect("a chunk of the plan");
        learning = learning.with(lesson).expect("what was admitted can be learnt");
        assert!(learning.bytes_at_least() <= plan.total_bytes());
    }
    let settled = learning.settled().expect("first and last were seen");
    is_whole(&settled, plan.total_bytes());
    assert_eq!((settled.count(), settled.last_bytes()), (plan.count(), plan.last_bytes()));
    assert!(plan.count() == 1 || settled == *plan);
}

fn restored(input: &mut Input<'_>) {
    let (chunk, count, total) = (input.number(), input.number(), input.number());
    let Ok(count) = u32::try_from(count) else { return };
    if let Some(plan) = Plan::restore(chunk, count, total) {
        is_whole(&plan, total);
    }
    let (chunk, last, total) = (input.maybe(), input.maybe(), input.maybe());
    let Some(geometry) = Geometry::restore(count, chunk, last, total) else { return };
    assert_eq!(geometry.count(), count);
    if let Some(plan) = geometry.plan() {
        is_whole(plan, plan.total_bytes());
    }
    let _ = (geometry.bytes_to_reserve(), geometry.offset_of(count.saturating_sub(1)));
}

/// Chunks that are nobody's plan: each is admitted or refused, and what was
/// admitted stays possible.
fn learnt(input: &mut Input<'_>, bounds: &PartBounds) {
    let (count, chunk, total) = (input.number(), input.maybe(), input.maybe());
    let Ok(Geometry::Learning(mut learning)) = Geometry::from_form(count, chunk, total, bounds) else { return };
    let mut largest = 0;
    for _ in 0..8 {
        let index = u32::try_from(input.number()).unwrap_or(u32::MAX);
        let bytes = input.number();
        let Ok(lesson) = learning.admit(index, bytes, bounds) else { continue };
        let Learning { chunk_bytes, last_bytes, .. } = learning;
        learning = learning.with(lesson).expect("what was admitted can be learnt");
        assert!(chunk_bytes.is_none_or(|known| learning.chunk_bytes == Some(known)), "nothing is unlearnt");
        assert!(last_bytes.is_none_or(|known| learning.last_bytes == Some(known)), "nothing is unlearnt");
        assert!(learning.admit(index, bytes, bounds).is_ok(), "what was taken once is taken again");
        largest = largest.max(bytes);
    }
    assert!(learning.bytes_at_least() >= largest || largest == 0);
    if let Some(plan) = learning.settled() {
        is_whole(&plan, plan.total_bytes());
        assert!(plan.total_bytes() >= learning.bytes_at_least() || learning.count == 1);
        assert!(plan.count() == 1 || plan.last_bytes().max(plan.chunk_bytes()) <= bounds.part_bytes_max);
    }
}

fn missing(input: &mut Input<'_>) {
    let count = u32::from(input.byte()) * 2;
    let present: BTreeSet<u32> =
        input.rest().chunks(2).map(|b| b.iter().fold(0, |n, &b| n << 8 | u32::from(b))).collect();
    let gaps = ranges::missing(present.iter().copied(), count);
    assert!(gaps.iter().all(|[first, last]| first <= last && *last < count));
    assert!(gaps.windows(2).all(|pair| pair[0][1] + 1 < pair[1][0]), "no two touch");
    let absent: BTreeSet<u32> = gaps.iter().flat_map(|&[first, last]| first..=last).collect();
    assert!((0..count).all(|index| absent.contains(&index) != present.contains(&index)));
}

pub(crate) fn kinds(data: &[u8]) {
    let mut input = Input::new(data);
    let (given, more) = (input.texts(), input.text());
    let (file_name, content_type) = (input.text(), Some(input.text()).filter(|text| !text.is_empty()));
    let head = input.rest();
    for text in given.iter().chain([&more, &file_name]) {
        names(text);
    }
    let Ok(few) = Kinds::parse(&given) else { return };
    let again = Kinds::parse(few.as_slice()).expect("a kind is written as one");
    assert_eq!(again, few);
    let allows = |kinds: &Kinds| {
        let name = kinds.allow_name(file_name, content_type).is_ok();
        (
            name,
            name && kinds.allow_head(&head[..head.len().min(super::kind::HEAD_BYTES)], file_name, content_type).is_ok(),
        )
    };
    let shouted: Vec<String> = given.iter().map(|kind| kind.to_ascii_uppercase()).collect();
    assert_eq!(Kinds::parse(&shouted).map(|kinds| allows(&kinds)), Ok(allows(&few)));
    // Who allows more kinds refuses no file that fewer would let in.
    let wider: Vec<&str> = given.iter().copied().chain([more]).collect();
    if let Ok(wider) = Kinds::parse(&wider) {
        let (before, after) = (allows(&few), allows(&wider));
        assert!(before.0 <= after.0 && before.1 <= after.1, "{few} and {more}");
    }
}

/// What is valid by construction is read as it is written.
fn names(text: &str) {
    if let Ok(id) = FileId::parse(text) {
        assert!(id.as_str() == text && !text.contains(['/', '\\', '%']) && text != "..");
    }
    if let Some(key) = ObjectKey::parse(text) {
        assert!(key.as_str() == text && !text.split('/').any(|part| matches!(part, "" | "." | "..")));
    }
    if let Ok(prefix) = KeyPrefix::parse(text) {
        assert_eq!(KeyPrefix::parse(prefix.as_str()), Ok(prefix.clone()));
        assert!(ObjectKey::parse(&format!("{}x", prefix.as_str())).is_some());
    }
    if let Ok(owner) = Owner::parse(text) {
        assert!(!owner.as_str().chars().any(char::is_control));
    }
    if let Some(scopes) = Scopes::parse(text) {
        assert_eq!(Scopes::parse(&scopes.to_string()), Some(scopes));
    }
    if let Ok(checksum) = Checksum::parse_tagged(text) {
        assert_eq!(Checksum::parse_tagged(&checksum.tagged()), Ok(checksum));
    }
    if let Some(number) = text.parse().ok().and_then(PartNumber::new) {
        assert_eq!(PartNumber::of_chunk(number.chunk_index()), Some(number));
    }
    let _ = (rules::check_file_name(text), rules::check_content_type(text));
}
