//! A form with one file in it: the text fields first, then the file, as it
//! streams. A file that comes first is held in memory, within bounds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::Refusal;
use crate::engine::intake::{Incoming, Interrupted};
use crate::http::body::{self, incoming};
use crate::http::multipart::{Form, boundary};

/// All text fields together; metadata may be one.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// The most fields of a form.
const FIELDS_MAX: usize = 64;
/// What all forms together may hold in memory.
const HELD_BYTES_MAX: usize = 64 << 20;
/// What is held is held in pieces of this size.
const PIECE_BYTES: usize = 64 << 10;

/// Memory for files that came before their fields.
#[derive(Clone, Debug)]
pub struct FormBuffers {
    bytes_each: usize,
    wait: Duration,
    bytes_left: Arc<Semaphore>,
}

impl FormBuffers {
    /// Each form may hold this much, and waits so long for it; all together 64 MiB.
    pub fn new(bytes_each: u64, wait: Duration) -> Self {
        let bytes_each = usize::try_from(bytes_each).unwrap_or(usize::MAX).min(HELD_BYTES_MAX);
        Self { bytes_each, wait, bytes_left: Arc::new(Semaphore::new(HELD_BYTES_MAX)) }
    }

    /// Room for a file of up to this many bytes. All of it at once: forms that
    /// each hold some and wait for more could wait for each other for ever.
    async fn room(&self, bytes: u64) -> Result<OwnedSemaphorePermit, Refusal> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(u32::try_from(self.bytes_each).unwrap_or(u32::MAX));
        let room = tokio::time::timeout(self.wait, self.bytes_left.clone().acquire_many_owned(bytes)).await;
        room.ok().and_then(Result::ok).ok_or(Refusal::Overloaded)
    }
}

/// The text fields and the file of a form.
pub struct FileForm {
    /// The text fields, by name; of several with one name the last.
    pub fields: BTreeMap<String, String>,
    /// The file's own name, as the form has it.
    pub file_name: Option<String>,
    /// The file's MIME type, as the form has it.
    pub content_type: Option<String>,
    /// The file's length, where it can be known.
    pub bytes: Option<u64>,
    /// Whether the length was worked out from Content-Length, as if nothing
    /// followed the file: then it may be less, but is never more.
    pub is_bound: bool,
    /// The file.
    pub file: Incoming,
}

/// What to do with a file before which these text fields came.
pub type Judge = fn(&BTreeMap<String, String>) -> Way;

/// What is done with a form's file when it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// It streams: all that must be known is known.
    Stream,
    /// It is held until its fields have come.
    Hold,
    /// It is held, and this is the refusal if it is too large for that.
    HoldOr(Refusal),
}

/// Reads a form up to its file, or wholly when the file comes first.
pub async fn read(
    headers: &HeaderMap,
    body: Body,
    idle: Duration,
    buffers: &FormBuffers,
    judge: Judge,
) -> Result<FileForm, Refusal> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let boundary = boundary(content_type)?;
    let form = Form::new(incoming(body, idle), &boundary, body::content_length(headers));
    read_parts(form, buffers, judge).await.map_err(body::interrupted)
}

async fn read_parts(mut form: Form, buffers: &FormBuffers, judge: Judge) -> Result<FileForm, Interrupted> {
    let (mut fields, mut count, mut text_left) = (BTreeMap::new(), 0, TEXT_BYTES_MAX);
    let mut held: Option<Held> = None;
    while let Some(part) = form.next_part().await? {
        let is_file = part.name == "file" || part.file_name.is_some();
        if !is_file {
            count += 1;
            if count > FIELDS_MAX {
                return Err(Interrupted::Malformed(Refusal::invalid(format!(
                    "a form has at most {FIELDS_MAX} fields"
                ))));
            }
            let text = form.text(&part.name, text_left).await?;
            text_left -= text.len();
            fields.insert(part.name, text);
        } else if held.is_some() {
            return Err(Interrupted::Malformed(Refusal::invalid(
                "a form has one file: send each chunk in a form of its own",
            )));
        } else {
            let too_large = match judge(&fields) {
                Way::Stream => {
                    let (bytes, file_name, content_type) = (form.bytes_if_last(), part.file_name, part.content_type);
                    let file = form.into_part();
                    return Ok(FileForm { fields, file_name, content_type, bytes, is_bound: true, file });
                }
                Way::Hold => Refusal::FieldsAfterFile { bytes_max: buffers.bytes_each as u64 },
                Way::HoldOr(refusal) => refusal,
            };
            // Without an announced length it may be as long as a held file can be.
            let room = buffers.room(form.bytes_if_last().unwrap_or(u64::MAX)).await;
            let _room = room.map_err(Interrupted::Malformed)?;
            let bytes = hold(&mut form, buffers.bytes_each, too_large).await?;
            held = Some(Held { bytes, _room, file_name: part.file_name, content_type: part.content_type });
        }
    }
    let held = held.ok_or_else(|| Interrupted::Malformed(Refusal::invalid("the form has no part named file")))?;
    let length = held.bytes.iter().map(|frame| frame.len() as u64).sum();
    let (file_name, content_type) = (held.file_name.clone(), held.content_type.clone());
    let file = futures_util::stream::unfold((held, 0), |(held, at)| async move {
        // The room is given back with the last of it.
        let frame = held.bytes.get(at)?.clone();
        Some((Ok(frame), (held, at + 1)))
    });
    Ok(FileForm { fields, file_name, content_type, bytes: Some(length), is_bound: false, file: Box::pin(file) })
}

/// A file that came before its fields.
struct Held {
    bytes: Vec<Bytes>,
    _room: OwnedSemaphorePermit,
    file_name: Option<String>,
    content_type: Option<String>,
}

/// The part that begins here, in pieces of one size: what a client sends in
/// slivers takes no more room than what it sends at once.
async fn hold(form: &mut Form, bytes_max: usize, too_large: Refusal) -> Result<Vec<Bytes>, Interrupted> {
    let (mut pieces, mut open, mut bytes) = (Vec::new(), BytesMut::new(), 0);
    while let Some(frame) = form.piece().await? {
        bytes += frame.len();
        if bytes > bytes_max {
            return Err(Interrupted::Malformed(too_large));
        }
        // A copy: the frame may be a small slice of a large read that it would keep alive.
        open.extend_from_slice(&frame);
        if open.len() >= PIECE_BYTES {
            pieces.push(open.split().freeze());
        }
    }
    pieces.push(open.freeze());
    Ok(pieces)
}
