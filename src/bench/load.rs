//! The load: so many files at once, so many chunks of each, until all are there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::bench::content::Content;
use crate::bench::protocol::{Failed, Pace, Protocol};
use crate::bench::report::Report;
use crate::bench::tally::Tally;
use crate::clock::Clock;

/// A request that is refused for now is sent again so often.
const ATTEMPTS_MAX: u32 = 100;
/// What slow clients send.
const TRICKLE: Pace = Pace { bytes: 1 << 10, every: Duration::from_secs(1) };
/// Between two lines of progress.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);

/// How much of what.
#[derive(Clone, Debug)]
pub struct Load {
    /// Files at once.
    pub uploads: u32,
    /// Chunks of each file at once.
    pub chunks: u32,
    /// Files in all.
    pub files: u32,
    /// Size of each, in bytes.
    pub file_bytes: u64,
    /// Size of every chunk but the last, in bytes.
    pub chunk_bytes: u64,
    /// The pause before each chunk.
    pub think_time: Duration,
    /// Clients beside them that send 1 KiB a second.
    pub slow: u32,
    /// Files that are compared afterwards.
    pub verify: u32,
}

impl Load {
    fn file(&self, run: u64, number: u32) -> Content {
        Content {
            id: format!("bench-{run:016x}-{number}"),
            bytes: self.file_bytes,
            chunk_bytes: self.chunk_bytes,
            seed: run ^ u64::from(number).rotate_left(40),
        }
    }
}

/// Loads the server and says how it went. `progress` hears once a second how
/// many bytes were acknowledged, and after how long.
pub async fn run(
    load: &Load,
    protocol: Arc<dyn Protocol>,
    clock: Arc<dyn Clock>,
    progress: impl Fn(u64, Duration),
) -> Report {
    #[expect(clippy::cast_possible_truncation, reason = "64 of its 128 random bits")]
    let run = clock.random() as u64;
    let shared = Arc::new(Shared {
        protocol,
        clock,
        tally: Tally::default(),
        next: AtomicU32::new(0),
        sessions: Mutex::default(),
    });
    let slow_end = CancellationToken::new();
    let slow = trickle(load, run, &shared, &slow_end).await;
    let began = shared.clock.monotonic();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..load.uploads.min(load.files) {
        clients.spawn(shared.clone().upload_all(load.clone(), run));
    }
    let mut tick = tokio::time::interval(PROGRESS_PAUSE);
    tick.tick().await;
    loop {
        tokio::select! {
            ended = clients.join_next() => if ended.is_none() { break },
            _ = tick.tick() => progress(shared.tally.bytes(), shared.clock.monotonic() - began),
        }
    }
    let took = shared.clock.monotonic() - began;
    slow_end.cancel();
    drop(slow.join_all().await);
    let (verified, wrong) = shared.verify(load, run).await;
    let taken = shared.tally.taken().clone();
    Report::new(took, shared.tally.bytes(), taken, verified, wrong)
}

#[derive(Debug)]
struct Shared {
    protocol: Arc<dyn Protocol>,
    clock: Arc<dyn Clock>,
    tally: Tally,
    /// The next file's number.
    next: AtomicU32,
    /// Of the files that are there, by number.
    sessions: Mutex<HashMap<u32, String>>,
}

impl Shared {
    /// One client: file after file.
    async fn upload_all(self: Arc<Self>, load: Load, run: u64) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= load.files {
                return;
            }
            let (file, began) = (load.file(run, number), self.clock.monotonic());
            match self.upload(&load, &file).await {
                Ok(session) => {
                    self.tally.file(self.clock.monotonic() - began);
                    self.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(number, session);
                }
                Err(failed) => self.tally.error(&failed.code),
            }
        }
    }

    async fn upload(&self, load: &Load, file: &Content) -> Result<String, Failed> {
        let session = self.again(|| self.protocol.begin(file)).await?;
        let mut sending = futures_util::stream::iter(0..file.chunks().max(1))
            .map(|index| self.chunk(load, &session, file, index))
            .buffer_unordered(load.chunks as usize);
        while let Some(sent) = sending.next().await {
            sent?;
        }
        drop(sending);
        self.again(|| self.protocol.end(&session, file)).await?;
        Ok(session)
    }

    async fn chunk(&self, load: &Load, session: &str, file: &Content, index: u64) -> Result<(), Failed> {
        if !load.think_time.is_zero() {
            tokio::time::sleep(load.think_time).await;
        }
        let began = self.clock.monotonic();
        self.again(|| self.protocol.send(session, file, index, None)).await?;
        self.tally.chunk(file.chunk_len(index), self.clock.monotonic() - began);
        Ok(())
    }

    /// As an uploader does: again, when it is told to come back.
    async fn again<T, A>(&self, attempt: impl Fn() -> A) -> Result<T, Failed>
    where
        A: Future<Output = Result<T, Failed>>,
    {
        let mut attempts = 1;
        loop {
            let failed = match attempt().await {
                Ok(done) => return Ok(done),
                Err(failed) => failed,
            };
            let Some(after) = failed.retry_after.filter(|_| attempts < ATTEMPTS_MAX) else { return Err(failed) };
            attempts += 1;
            self.tally.refusal(&failed.code);
            tokio::time::sleep(after).await;
        }
    }

    /// How many of the files were compared, and which of them are wrong.
    async fn verify(&self, load: &Load, run: u64) -> (u32, Vec<String>) {
        let mut wrong = Vec::new();
        let count = load.verify.min(load.files);
        for nth in 0..count {
            // Spread over all of them, the first and the last among them.
            let number = if count > 1 { nth * (load.files - 1) / (count - 1) } else { 0 };
            let file = load.file(run, number);
            let session = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
            // What failed is among the errors already.
            let Some(session) = session else { continue };
            match self.protocol.is_whole(&session, &file).await {
                Ok(true) => {}
                Ok(false) => wrong.push(format!("{}: other bytes", file.id)),
                Err(failed) => wrong.push(format!("{}: {}", file.id, failed.code)),
            }
        }
        (count, wrong)
    }
}

/// Clients that send so slowly that they never come to an end.
async fn trickle(load: &Load, run: u64, shared: &Arc<Shared>, end: &CancellationToken) -> tokio::task::JoinSet<()> {
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..load.slow {
        let file = Content {
            id: format!("bench-{run:016x}-slow-{number}"),
            bytes: load.chunk_bytes,
            chunk_bytes: load.chunk_bytes,
            seed: u64::from(number),
        };
        let (shared, end) = (shared.clone(), end.clone());
        clients.spawn(async move {
            let trickling = async {
                let session = shared.protocol.begin(&file).await?;
                shared.protocol.send(&session, &file, 0, Some(TRICKLE)).await
            };
            if let Some(Err(failed)) = end.run_until_cancelled(trickling).await {
                shared.tally.refusal(&format!("slow client: {}", failed.code));
            }
        });
    }
    if load.slow > 0 {
        // They are to be there before the others come.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    clients
}
