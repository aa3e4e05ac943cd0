//! From a body to a file: frames are gathered and written together, in as few
//! blocking calls as the body's speed allows, for each is a way to another
//! thread and back. A slow body is written frame by frame and holds no memory.
//! A fast one gathers more and more, also while a write is under way, as long
//! as there is something left of what all of them share.

use std::ops::RangeInclusive;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::share::Share;
use crate::store::file::fault;
use crate::store::{Body, BodyBroken, StoreError};

/// A batch takes no further frame once it holds this many bytes, or twice as
/// many and twice again …
pub(super) const BATCH_BYTES: RangeInclusive<usize> = 128 << 10..=512 << 10;
/// … or this many frames.
const BATCH_FRAMES: usize = 256;
/// What larger batches share: enough for four bodies. More of them are bound by
/// the disk, not by our threads. Of each there are two, one being written.
pub(super) const BATCHES_BYTES: usize = 4 * (*BATCH_BYTES.end() - *BATCH_BYTES.start());

/// Where a body goes. Both calls block.
pub(super) trait Sink: Send + 'static {
    /// What a body becomes.
    type Stored: Send + 'static;
    /// The store's call, for errors.
    const OPERATION: &'static str;

    /// Takes the next bytes in.
    fn write(&mut self, frames: &[Bytes]) -> Result<(), StoreError>;

    /// All bytes are in: makes them durable and known.
    fn finish(self) -> Result<Self::Stored, StoreError>;
}

/// Frames that are to be written together.
struct Batch {
    frames: Vec<Bytes>,
    bytes: usize,
    share: Share,
}

impl Batch {
    fn has_room(&self) -> bool {
        self.bytes < self.share.bytes() && self.frames.len() < BATCH_FRAMES
    }

    /// Whether its body has filled one, and there was something left to share.
    fn has_grown(&self) -> bool {
        self.share.bytes() > *BATCH_BYTES.start()
    }

    fn push(&mut self, frame: Bytes) {
        if !frame.is_empty() {
            self.bytes += frame.len();
            self.frames.push(frame);
        }
    }

    fn take(&mut self) -> Vec<Bytes> {
        if self.bytes >= self.share.bytes() {
            self.share.grow();
        }
        self.bytes = 0;
        std::mem::take(&mut self.frames)
    }
}

/// A body whose announced length is held to.
struct Incoming {
    body: Body,
    left: u64,
    batch: Batch,
    ended: bool,
    /// It was asked for more, and had none.
    waits: bool,
}

impl Incoming {
    fn take(&mut self, frame: Option<Result<Bytes, BodyBroken>>) -> Result<(), StoreError> {
        self.waits = false;
        match frame {
            Some(Ok(frame)) => {
                self.left = self.left.checked_sub(frame.len() as u64).ok_or(StoreError::Body)?;
                self.batch.push(frame);
                Ok(())
            }
            Some(Err(BodyBroken)) => Err(StoreError::Body),
            None if self.left > 0 => Err(StoreError::Body),
            None => {
                self.ended = true;
                Ok(())
            }
        }
    }

    /// Takes what is here already, without waiting.
    fn take_ready(&mut self) -> Result<(), StoreError> {
        while !self.ended && self.batch.has_room() {
            match self.body.next().now_or_never() {
                Some(frame) => self.take(frame)?,
                None => {
                    self.waits = true;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether more is taken in while a write is under way. From whoever was
    /// asked in any case: else it would seem to be the client that is slow.
    fn gathers(&self) -> bool {
        !self.ended && self.batch.has_room() && (self.waits || self.batch.has_grown())
    }
}

/// A write under way gives the sink back.
type Writing<S> = JoinHandle<Result<S, StoreError>>;

/// The sink is ours, or lent to a write.
enum Hand<S: Sink> {
    Idle(S),
    Lent(Writing<S>),
}

/// Writes a body of exactly this many bytes into the sink and finishes it. If
/// the body breaks, the sink is dropped unfinished, and no write of it is
/// under way any more when this returns.
pub(super) async fn pump<S: Sink>(body: Body, bytes: u64, sink: S, share: Share) -> Result<S::Stored, StoreError> {
    let batch = Batch { frames: Vec::new(), bytes: 0, share };
    let mut incoming = Incoming { body, left: bytes, batch, ended: false, waits: false };
    let mut hand = Hand::Idle(sink);
    loop {
        let is_idle = matches!(hand, Hand::Idle(_));
        if (is_idle || incoming.gathers())
            && let Err(broken) = incoming.take_ready()
        {
            settle(hand).await;
            return Err(broken);
        }
        hand = match hand {
            Hand::Idle(sink) if incoming.ended => return finish(sink, incoming.batch.take()).await,
            Hand::Idle(sink) if incoming.batch.bytes > 0 => Hand::Lent(lend(sink, incoming.batch.take())),
            Hand::Idle(sink) => {
                let frame = incoming.body.next().await;
                incoming.take(frame)?;
                Hand::Idle(sink)
            }
            Hand::Lent(mut writing) if incoming.gathers() => tokio::select! {
                sink = &mut writing => Hand::Idle(joined::<S>(sink)?),
                frame = incoming.body.next() => {
                    if let Err(broken) = incoming.take(frame) {
                        settle(Hand::Lent(writing)).await;
                        return Err(broken);
                    }
                    Hand::Lent(writing)
                }
            },
            Hand::Lent(writing) => Hand::Idle(joined::<S>(writing.await)?),
        };
    }
}

fn lend<S: Sink>(mut sink: S, frames: Vec<Bytes>) -> Writing<S> {
    spawn_blocking(move || sink.write(&frames).map(|()| sink))
}

fn joined<S: Sink>(sink: Result<Result<S, StoreError>, tokio::task::JoinError>) -> Result<S, StoreError> {
    sink.map_err(|error| fault::lost(S::OPERATION, &error))?
}

/// The last bytes and all that follows, in one blocking call: a small part
/// needs no other.
async fn finish<S: Sink>(mut sink: S, frames: Vec<Bytes>) -> Result<S::Stored, StoreError> {
    let last = spawn_blocking(move || {
        sink.write(&frames)?;
        sink.finish()
    });
    last.await.map_err(|error| fault::lost(S::OPERATION, &error))?
}

/// Waits until no write is under way.
async fn settle<S: Sink>(hand: Hand<S>) {
    match hand {
        Hand::Idle(_) => {}
        // Its result no longer matters: the body is broken.
        Hand::Lent(writing) => drop(writing.await),
    }
}
