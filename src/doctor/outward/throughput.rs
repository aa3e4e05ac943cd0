//! A timed upload, and what chunks and how many at a time it suggests.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use futures_util::stream;

use super::scratch::Scratch;
use crate::clock::Clock;
use crate::doctor::report::Verdict;
use crate::domain::{ObjectKey, Part, PartNumber, Plan, SessionId};
use crate::store::{Body, NewPart, StoreError, Target};
use crate::units::format_bytes;

const BYTES: u64 = 16 << 20;
const PART_BYTES_MIN: u64 = 4 << 20;
const BLOCK_BYTES: u64 = 64 << 10;
/// What is slower than this is found to be too slow, not waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// At a slower rate chunks of the usual size run into time-outs.
const SLOW: u64 = 256 << 10;
const SMALL_CHUNK_BYTES: u64 = 4 << 20;
const SMALL_CHUNK_SECONDS: u64 = 4;
const CHUNK_BYTES: std::ops::RangeInclusive<u64> = (1 << 20)..=(64 << 20);

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Measured {
    /// A call that carries nothing.
    call: Duration,
    /// Bytes in a second, one part at a time.
    alone: u64,
    /// Bytes in a second, several at once.
    together: u64,
}

/// Puts one part, then the others at once.
pub(super) async fn check(scratch: &Scratch, clock: &Arc<dyn Clock>) -> Verdict {
    match tokio::time::timeout(PATIENCE, Box::pin(measure(scratch, &**clock))).await {
        Ok(Ok(measured)) => judge(measured, scratch.store.limits().parts.part_bytes_min),
        Ok(Err(StoreError::Full)) => Verdict::failed(
            format!("no space is left for {}", format_bytes(BYTES)),
            "uploads get 507",
            "make space, or take a larger disk",
        ),
        Ok(Err(error)) => Verdict::failed(
            format!("the test upload of {} broke off: {error}", format_bytes(BYTES)),
            "small requests pass and large ones do not: a link that loses packets, a proxy with a limit, an MTU that does \
             not fit",
            "see what the store says; try from another machine",
        ),
        Err(_) => Verdict::failed(
            format!("{} took more than {} s", format_bytes(BYTES), PATIENCE.as_secs()),
            "chunks time out before they are stored",
            "run the gateway nearer to the bucket, or use an acceleration endpoint",
        ),
    }
}

async fn measure(scratch: &Scratch, clock: &dyn Clock) -> Result<Measured, StoreError> {
    let store = &scratch.store;
    let limits = store.limits().parts;
    let count = BYTES / limits.part_bytes_min.max(PART_BYTES_MIN);
    let part_bytes = BYTES / count.max(1);
    // Impossible for a store that can hold anything; then one part of it is asked for.
    let plan = Plan::declare(BYTES, Some(part_bytes), Some(count), &limits).ok();
    let key = scratch.key("measured");
    let session = scratch.begin(&key, plan.as_ref()).await?;
    let target = Target { key: &key, session: &session };
    let began = clock.monotonic();
    store.list_parts(target).await?;
    let call = clock.monotonic().saturating_sub(began);
    let bytes_of = |index: u64| {
        let planned = u32::try_from(index).ok().and_then(|index| plan.as_ref()?.bytes_of(index));
        planned.unwrap_or(part_bytes)
    };
    let put = |index: u64| put(scratch, &key, &session, index, bytes_of(index));
    let began = clock.monotonic();
    let mut parts = vec![put(0).await?];
    let alone = rate(bytes_of(0), clock.monotonic().saturating_sub(began));
    let began = clock.monotonic();
    parts.extend(try_join_all((1..count).map(put)).await?);
    let together = rate((1..count).map(bytes_of).sum(), clock.monotonic().saturating_sub(began));
    store.complete(target, &parts).await?;
    Ok(Measured { call, alone, together })
}

async fn put(
    scratch: &Scratch,
    key: &ObjectKey,
    session: &SessionId,
    index: u64,
    bytes: u64,
) -> Result<Part, StoreError> {
    let number = u32::try_from(index).ok().and_then(PartNumber::of_chunk).unwrap_or(PartNumber::FIRST);
    let part = NewPart { number, bytes, body: content(bytes) };
    let stored = scratch.store.put_part(Target { key, session }, part).await?;
    Ok(Part { number, bytes, etag: stored.etag, crc64: stored.crc64 })
}

/// One block again and again: it is larger than what compression looks back to.
fn content(bytes: u64) -> Body {
    let byte = |at: u64| at.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[0];
    let block = Bytes::from_iter((0..BLOCK_BYTES).map(byte));
    let blocks = (0..bytes.div_ceil(BLOCK_BYTES)).map(move |nth| {
        let left = (bytes - nth * BLOCK_BYTES).min(BLOCK_BYTES);
        Ok(block.slice(..usize::try_from(left).unwrap_or_default()))
    });
    Box::pin(stream::iter(blocks))
}

fn rate(bytes: u64, took: Duration) -> u64 {
    let micros = took.as_micros().max(1);
    u64::try_from(u128::from(bytes) * 1_000_000 / micros).unwrap_or(u64::MAX)
}

fn judge(measured: Measured, part_bytes_min: u64) -> Verdict {
    let (chunk_bytes, parallel) = suggest(measured, part_bytes_min);
    let megabytes = |rate: u64| format!("{}.{} MB/s", rate / 1_000_000, rate / 100_000 % 10);
    let what = format!(
        "{}: {} with one part at a time, {} with several; a call takes {} ms. Suggested: chunkSize {}, {parallel} at a time",
        format_bytes(BYTES),
        megabytes(measured.alone),
        megabytes(measured.together),
        measured.call.as_millis(),
        format_bytes(chunk_bytes),
    );
    if measured.alone.max(measured.together) >= SLOW {
        return Verdict::ok(what);
    }
    Verdict::warning(
        what,
        "the way to the store is slower than most browsers' way to the gateway",
        "run the gateway nearer to the bucket, or use an acceleration endpoint",
    )
}

/// A chunk is to take twenty times as long as what it costs to ask for it, and
/// as many go at once as still add something.
fn suggest(measured: Measured, part_bytes_min: u64) -> (u64, u64) {
    let overhead = u64::try_from(measured.call.as_micros()).unwrap_or(u64::MAX);
    let wanted = measured.alone.saturating_mul(overhead.saturating_mul(20)) / 1_000_000;
    // Small ones are many rows and requests, and on a slow line all the same the better ones.
    let least = measured.alone.saturating_mul(SMALL_CHUNK_SECONDS).clamp(*CHUNK_BYTES.start(), SMALL_CHUNK_BYTES);
    let wanted = wanted.clamp(least, *CHUNK_BYTES.end()).next_power_of_two();
    let smallest = part_bytes_min.next_power_of_two();
    let gain = measured.together.saturating_mul(10) / measured.alone.max(1);
    let parallel = match gain {
        0..=12 => 2,
        13..=20 => 4,
        _ => 6,
    };
    (wanted.max(smallest), parallel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_large_where_asking_is_dear_and_many_where_that_helps() {
        let of = |millis, alone, together| {
            suggest(Measured { call: Duration::from_millis(millis), alone, together }, 100 << 10)
        };
        assert_eq!(of(1, 500_000_000, 500_000_000), (16 << 20, 2));
        assert_eq!(of(30, 10_000_000, 30_000_000), (8 << 20, 6));
        assert_eq!(of(200, 100_000_000, 150_000_000), (64 << 20, 4));
        assert_eq!(of(5, 100_000, 100_000), (1 << 20, 2));
        assert_eq!(of(0, 160_000_000, 280_000_000).0, 4 << 20);
        let smallest = Measured { call: Duration::ZERO, alone: 1, together: 1 };
        assert_eq!(suggest(smallest, 5 << 20).0, 8 << 20);
        assert_eq!(rate(16 << 20, Duration::from_secs(2)), 8 << 20);
    }
}
