//! Which kinds of files are taken: by their names when an upload begins, by
//! their first bytes when those come.

use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::domain::kind::{HEAD_BYTES, Kinds};
use crate::domain::{Refusal, Terms};
use crate::engine::Engine;
use crate::engine::intake::Incoming;

impl Engine {
    /// Every list that a file must be on.
    pub(super) fn kinds<'a>(&'a self, terms: &'a Terms) -> impl Iterator<Item = &'a Kinds> {
        self.shared.settings.kinds.iter().chain(&terms.kinds)
    }

    /// The body of a file, or of its first chunk, if it begins as one of the
    /// kinds that are taken.
    pub(super) async fn judged(
        &self,
        body: Incoming,
        terms: &Terms,
        file_name: &str,
        content_type: Option<&str>,
    ) -> Result<Incoming, Refusal> {
        if self.kinds(terms).next().is_none() {
            return Ok(body);
        }
        let (head, body) = head(body).await;
        self.kinds(terms).try_for_each(|kinds| kinds.allow_head(&head, file_name, content_type))?;
        Ok(body)
    }
}

/// The first bytes of a body, and the body with them.
async fn head(mut body: Incoming) -> (Vec<u8>, Incoming) {
    let (mut head, mut frames) = (Vec::new(), Vec::new());
    while head.len() < HEAD_BYTES {
        let Some(frame) = body.next().await else { break };
        let ended = frame.is_err();
        if let Ok(bytes) = &frame {
            let bytes: &Bytes = bytes;
            head.extend_from_slice(&bytes[..bytes.len().min(HEAD_BYTES - head.len())]);
        }
        frames.push(frame);
        if ended {
            break;
        }
    }
    (head, Box::pin(futures_util::stream::iter(frames).chain(body)))
}
