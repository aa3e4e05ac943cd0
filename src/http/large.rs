//! Answers that are large, and may be read slowly by many at once: what they
//! take together is bounded.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::Refusal;

/// What all large answers together may take that have not been read yet.
const BYTES_MAX: usize = 128 << 20;
/// An answer of up to this many bytes is none of them.
const SMALL_BYTES_MAX: usize = 64 << 10;

/// The room for large answers.
#[derive(Clone, Debug)]
pub(super) struct LargeAnswers {
    free: Arc<Semaphore>,
}

impl Default for LargeAnswers {
    fn default() -> Self {
        Self { free: Arc::new(Semaphore::new(BYTES_MAX)) }
    }
}

/// An answer's bytes, which take their room with them through all buffers.
struct Held {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl LargeAnswers {
    /// The value as JSON; refused for now when those who read slowly have all the room.
    pub(super) fn json<T: Serialize>(&self, value: &T) -> Result<Response, Refusal> {
        let bytes = serde_json::to_vec(value).map_err(|_| Refusal::Internal)?;
        let body = self.hold(bytes).ok_or(Refusal::Overloaded)?;
        Ok(([(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response())
    }

    fn hold(&self, bytes: Vec<u8>) -> Option<Bytes> {
        if bytes.len() <= SMALL_BYTES_MAX {
            return Some(bytes.into());
        }
        let count = u32::try_from(bytes.len()).ok()?;
        let room = self.free.clone().try_acquire_many_owned(count).ok()?;
        Some(Bytes::from_owner(Held { bytes, _room: room }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_held_until_the_last_byte_is_gone() {
        let answers = LargeAnswers::default();
        let mut unread = Vec::new();
        while let Some(body) = answers.hold(vec![b' '; 32 << 20]) {
            unread.push(body);
        }
        assert_eq!(unread.len(), 4);
        assert_eq!(answers.json(&"x".repeat(SMALL_BYTES_MAX)).err(), Some(Refusal::Overloaded));
        // Small ones are answered all the same.
        assert!(answers.json(&"x".repeat(1000)).is_ok());
        // A slice in a connection's buffer keeps all of it.
        let slice = unread.pop().map(|body| body.slice(1..2));
        assert!(answers.hold(vec![b' '; 1 << 20]).is_none());
        drop(slice);
        assert!(answers.hold(vec![b' '; 1 << 20]).is_some());
    }
}
