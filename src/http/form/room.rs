//! Memory for what has to be held of forms: 64 MiB in all, in shares, and no
//! longer than it is being filled.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::domain::Refusal;
use crate::engine::intake::Interrupted;
use crate::http::form::TEXT_BYTES_MAX;

/// What the files of all forms together may hold in memory.
pub(super) const FILES_BYTES_MAX: usize = 48 << 20;
/// A share of their own for forms of up to so many bytes, which need not wait
/// behind large ones.
const SMALL_FORM_BYTES: u64 = 256 << 10;
const SMALL_FILES_BYTES_MAX: usize = 8 << 20;
/// What the text fields of all forms together may hold beyond what is free. A
/// share of its own: who has read text waits for room for a file, never the
/// other way round, so that no two forms wait for each other.
pub(super) const TEXTS_BYTES_MAX: usize = 8 << 20;

/// Who has sent less than this per second …
const BYTES_PER_SECOND_MIN: u64 = 4 << 10;
/// … for so long gives its room back, if somebody waits for some.
const WINDOW: Duration = Duration::from_secs(5);

/// The memory.
#[derive(Clone, Debug)]
pub struct FormBuffers {
    bytes_each: usize,
    wait: Duration,
    files: Share,
    small_files: Share,
    texts: Share,
}

#[derive(Clone, Debug)]
struct Share {
    free: Arc<Semaphore>,
    /// Those who wait for some of it.
    waiting: Arc<AtomicUsize>,
}

impl Share {
    fn of(bytes: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(bytes)), waiting: Arc::default() }
    }
}

/// Some of it, for one form; given back when dropped.
#[derive(Debug)]
pub(super) struct Room {
    _permit: OwnedSemaphorePermit,
    waiting: Arc<AtomicUsize>,
    since: Instant,
    /// So many bytes have come since then.
    bytes: u64,
}

impl FormBuffers {
    /// Each form may hold a file of this many bytes, and waits so long for room.
    pub fn new(bytes_each: u64, wait: Duration) -> Self {
        Self {
            bytes_each: usize::try_from(bytes_each).unwrap_or(usize::MAX).min(FILES_BYTES_MAX),
            wait,
            files: Share::of(FILES_BYTES_MAX),
            small_files: Share::of(SMALL_FILES_BYTES_MAX),
            texts: Share::of(TEXTS_BYTES_MAX),
        }
    }

    /// The largest file that one form may hold.
    pub(super) const fn bytes_each(&self) -> u64 {
        self.bytes_each as u64
    }

    /// Room for a file of up to this many bytes. All of it at once: forms that
    /// each hold some and wait for more could wait for each other for ever.
    pub(super) async fn room(&self, bytes: u64) -> Result<Room, Interrupted> {
        let share = if bytes <= SMALL_FORM_BYTES { &self.small_files } else { &self.files };
        self.wait_for(share, usize::try_from(bytes).unwrap_or(usize::MAX).min(self.bytes_each)).await
    }

    /// Room for all the text that one form may have.
    pub(super) async fn text_room(&self) -> Result<Room, Interrupted> {
        self.wait_for(&self.texts, TEXT_BYTES_MAX).await
    }

    /// Room for a file that could also stream: only while more than half is
    /// free for those that cannot.
    pub(super) fn spare(&self, bytes: u64) -> Option<Room> {
        let bytes = usize::try_from(bytes).ok().filter(|&bytes| bytes <= self.bytes_each)?;
        let left = self.files.free.available_permits().checked_sub(bytes)?;
        let bytes = u32::try_from(bytes).ok().filter(|_| left > FILES_BYTES_MAX / 2)?;
        let permit = self.files.free.clone().try_acquire_many_owned(bytes).ok()?;
        Some(Room::new(permit, &self.files))
    }

    async fn wait_for(&self, share: &Share, bytes: usize) -> Result<Room, Interrupted> {
        let _waiting = Waiting::in_line(&share.waiting);
        let permit = share.free.clone().acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX));
        let permit = tokio::time::timeout(self.wait, permit).await.ok().and_then(Result::ok);
        let permit = permit.ok_or(Interrupted::Malformed(Refusal::Overloaded))?;
        Ok(Room::new(permit, share))
    }
}

impl Room {
    fn new(permit: OwnedSemaphorePermit, of: &Share) -> Self {
        Self { _permit: permit, waiting: of.waiting.clone(), since: Instant::now(), bytes: 0 }
    }

    /// So many bytes more have come.
    pub(super) fn moved(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Waits for the next of what fills it. Broken off when somebody waits for
    /// room and hardly anything has come for a while.
    pub(super) async fn steady<T>(&mut self, next: impl Future<Output = T>) -> Result<T, Interrupted> {
        let mut next = std::pin::pin!(next);
        loop {
            let over = self.since + WINDOW;
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(over) => {
                    if self.bytes < BYTES_PER_SECOND_MIN * WINDOW.as_secs() && self.waiting.load(Ordering::Relaxed) > 0 {
                        return Err(Interrupted::Malformed(Refusal::Overloaded));
                    }
                    (self.since, self.bytes) = (Instant::now(), 0);
                }
                next = &mut next => return Ok(next),
            }
        }
    }
}

/// As `Room::steady`, for what may take none.
pub(super) async fn steady<T>(room: &mut Option<Room>, next: impl Future<Output = T>) -> Result<T, Interrupted> {
    match room {
        Some(room) => room.steady(next).await,
        None => Ok(next.await),
    }
}

/// As `Room::moved`, for what may take none.
pub(super) fn moved(room: &mut Option<Room>, bytes: usize) {
    if let Some(room) = room {
        room.moved(bytes);
    }
}

/// Somebody in line, for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn in_line(line: &'a AtomicUsize) -> Self {
        line.fetch_add(1, Ordering::Relaxed);
        Self(line)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(20);

    /// Sends so many bytes a second for good; how it ended.
    async fn fill(mut room: Room, bytes: usize) -> Interrupted {
        loop {
            if let Err(why) = room.steady(tokio::time::sleep(Duration::from_secs(1))).await {
                return why;
            }
            room.moved(bytes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_hardly_sends_gives_its_room_to_who_waits() {
        let buffers = FormBuffers::new(8 << 20, WAIT);
        let mut filling = tokio::task::JoinSet::new();
        for n in 0..6 {
            let room = buffers.room(8 << 20).await.expect("room");
            filling.spawn(fill(room, if n == 0 { 100 } else { 10_000 }));
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(filling.try_join_next().is_none(), "nobody waits");
        let (began, room) = (Instant::now(), buffers.room(8 << 20).await);
        assert!(room.is_ok() && began.elapsed() <= WINDOW);
        let overloaded = Interrupted::Malformed(Refusal::Overloaded);
        assert_eq!(filling.join_next().await.expect("one").expect("no panic"), overloaded);
        // Who sends steadily keeps it, however long it takes.
        assert!(buffers.room(8 << 20).await.is_err());
        assert_eq!(filling.len(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn small_forms_do_not_wait_behind_large_ones() {
        let buffers = FormBuffers::new(8 << 20, WAIT);
        let mut large = Vec::new();
        for _ in 0..6 {
            large.push(buffers.room(8 << 20).await.expect("room"));
        }
        let another = tokio::spawn({
            let buffers = buffers.clone();
            async move { buffers.room(8 << 20).await.is_ok() }
        });
        tokio::task::yield_now().await;
        assert!(buffers.room(100 << 10).await.is_ok());
        drop(large);
        assert!(another.await.expect("no panic"));
    }
}
