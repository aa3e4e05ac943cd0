//! Objects, whole and in ranges.

use super::bench::{Bench, broken, in_frames, noise};
use crate::store::{StoreError, body_of};

pub(super) async fn a_small_object_is_put_and_read(bench: &Bench) {
    let (key, bytes) = (bench.key("deep/object.bin"), noise(bench.case, 100_001));
    let put = bench.store.put(&key, Some("text/plain"), bytes.len() as u64, in_frames(&bytes)).await;
    let put = bench.well("put", put);
    bench.same("the size", put.bytes, 100_001);
    bench.proven("the CRC-64", put.crc64, &bytes);
    bench.read_back(&key, &bytes).await;
    let head = bench.head(&key).await;
    bench.same("the ETag", &head.etag, &put.etag);
    let kept = head.content_type.is_none_or(|content_type| content_type == "text/plain");
    bench.holds("a content type that is kept is the one given", kept);
    for _ in 0..2 {
        bench.well("delete", bench.store.delete(&key).await);
    }
    bench.same("it is gone", bench.well("head", bench.store.head(&key).await), None);
}

pub(super) async fn an_empty_object_is_put_and_read(bench: &Bench) {
    let key = bench.key("object.bin");
    let put = bench.well("put", bench.store.put(&key, None, 0, body_of("")).await);
    bench.same("the size", put.bytes, 0);
    bench.proven("the CRC-64", put.crc64, b"");
    bench.read_back(&key, b"").await;
}

pub(super) async fn a_put_replaces_and_a_broken_one_does_not(bench: &Bench) {
    let key = bench.key("object.bin");
    let (first, second) = (noise("first", 30_000), noise("second", 20_000));
    for bytes in [&first, &second] {
        bench.well("put", bench.store.put(&key, None, bytes.len() as u64, in_frames(bytes)).await);
        bench.read_back(&key, bytes).await;
    }
    let broke = bench.store.put(&key, None, first.len() as u64, broken(&first)).await;
    bench.refused("a broken body", broke, |error| matches!(error, StoreError::Body));
    bench.read_back(&key, &second).await;
    let other = bench.key("other.bin");
    let broke = bench.store.put(&other, None, first.len() as u64, broken(&first)).await;
    bench.refused("a broken body", broke, |error| matches!(error, StoreError::Body));
    bench.same("no object", bench.well("head", bench.store.head(&other).await), None);
}

pub(super) async fn ranges_are_read_exactly(bench: &Bench) {
    let (key, bytes) = (bench.key("object.bin"), noise(bench.case, 600_011));
    bench.well("put", bench.store.put(&key, None, bytes.len() as u64, in_frames(&bytes)).await);
    for range in [0..1, 600_010..600_011, 0..600_011, 262_143..262_145, 1..524_289, 300_000..600_011] {
        let read = bench.read(&key, Some(range.clone())).await;
        let wanted = &bytes[range.start as usize..range.end as usize];
        bench.holds(&format!("the bytes of {range:?}"), read == wanted);
        let reading = bench.well("get", bench.store.get(&key, Some(range)).await);
        bench.same("the whole object's size", reading.object.bytes, 600_011);
    }
}

pub(super) async fn an_absent_object_is_absent(bench: &Bench) {
    let key = bench.key("object.bin");
    bench.same("head", bench.well("head", bench.store.head(&key).await), None);
    let absent: fn(&StoreError) -> bool = |error| matches!(error, StoreError::NoSuchObject);
    bench.refused("get", bench.store.get(&key, None).await, absent);
    bench.refused("get of a range", bench.store.get(&key, Some(0..1)).await, absent);
    bench.well("delete", bench.store.delete(&key).await);
}

pub(super) async fn the_store_is_well(bench: &Bench) {
    bench.well("check", bench.store.check().await);
}
