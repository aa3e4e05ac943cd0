//! Where time and randomness come from. Nothing else in the program may ask
//! the operating system for either (`clippy.toml` bans it), so a test that
//! holds the clock holds the program.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use uuid::Uuid;

use crate::domain::Timestamp;

/// Time and randomness, as arguments.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The wall clock: for what people and other machines read.
    fn now(&self) -> Timestamp;
    /// Time since this process began: for what must not jump. Never goes back.
    fn monotonic(&self) -> Duration;
    /// 128 random bits, unguessable.
    fn random(&self) -> u128;

    /// A version 4 UUID: nothing but randomness.
    fn uuid_v4(&self) -> Uuid {
        uuid::Builder::from_u128(self.random()).with_version(uuid::Version::Random).into_uuid()
    }

    /// A version 7 UUID: ordered by time, so that rows made together lie together.
    fn uuid_v7(&self) -> Uuid {
        let millis = u64::try_from(self.now().millis()).unwrap_or(0);
        let random = self.random().to_be_bytes();
        let mut tail = [0u8; 10];
        tail.copy_from_slice(&random[..10]);
        uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
    }
}

/// The machine's own clock and entropy.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Starts counting monotonic time now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    fn random(&self) -> u128 {
        let mut bytes = [0u8; 16];
        // Without entropy no id is unguessable and nothing may go on.
        getrandom::fill(&mut bytes).expect("the operating system gives no randomness");
        u128::from_be_bytes(bytes)
    }
}

/// A clock that stands still until it is told to move, and counts instead of
/// drawing lots.
#[derive(Debug)]
pub struct TestClock {
    millis: AtomicI64,
    elapsed: AtomicU64,
    drawn: AtomicU64,
}

impl TestClock {
    /// A clock that stands at `now`.
    pub fn at(now: Timestamp) -> Self {
        Self { millis: AtomicI64::new(now.millis()), elapsed: AtomicU64::new(0), drawn: AtomicU64::new(0) }
    }

    /// Moves both the wall clock and the monotonic one.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.elapsed.fetch_add(millis, Ordering::SeqCst);
        self.millis.fetch_add(i64::try_from(millis).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.millis.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.elapsed.load(Ordering::SeqCst))
    }

    fn random(&self) -> u128 {
        let n = u128::from(self.drawn.fetch_add(1, Ordering::SeqCst)) + 1;
        // Spread over all bits, so that ids made one after the other differ visibly.
        n.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
    }
}
