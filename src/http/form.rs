//! A form with one file in it: the text fields first, then the file, as it
//! streams. A file that comes first is held in memory, within bounds.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::Refusal;
use crate::engine::intake::{Incoming, Interrupted};
use crate::http::body::{self, incoming};
use crate::http::multipart::{Form, boundary};

/// The longest text field; metadata may be one.
const FIELD_BYTES_MAX: usize = 64 << 10;
/// The most fields of a form.
const FIELDS_MAX: usize = 64;
/// What all forms together may hold in memory.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Memory for files that came before their fields.
#[derive(Clone, Debug)]
pub struct FormBuffers {
    bytes_each: u64,
    bytes_left: Arc<Semaphore>,
}

impl FormBuffers {
    /// Each form may hold this much; all together 64 MiB.
    pub fn new(bytes_each: u64) -> Self {
        Self { bytes_each, bytes_left: Arc::new(Semaphore::new(HELD_BYTES_MAX)) }
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

/// What must have come before the file so that the file can stream.
pub type Enough = fn(&BTreeMap<String, String>) -> bool;

/// Reads a form up to its file, or wholly when the file comes first.
pub async fn read(
    headers: &HeaderMap,
    body: Body,
    idle: std::time::Duration,
    buffers: &FormBuffers,
    enough: Enough,
) -> Result<FileForm, Refusal> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let boundary = boundary(content_type)?;
    let form = Form::new(incoming(body, idle), &boundary, body::content_length(headers));
    read_parts(form, buffers, enough).await.map_err(body::interrupted)
}

async fn read_parts(mut form: Form, buffers: &FormBuffers, enough: Enough) -> Result<FileForm, Interrupted> {
    let mut fields = BTreeMap::new();
    let mut held: Option<Held> = None;
    while let Some(part) = form.next_part().await? {
        let is_file = part.name == "file" || part.file_name.is_some();
        if !is_file {
            let text = form.text(&part.name, FIELD_BYTES_MAX).await?;
            fields.insert(part.name, text);
            if fields.len() > FIELDS_MAX {
                return Err(Interrupted::Malformed(Refusal::invalid(format!(
                    "a form has at most {FIELDS_MAX} fields"
                ))));
            }
        } else if held.is_some() {
            return Err(Interrupted::Malformed(Refusal::invalid(
                "a form has one file: send each chunk in a form of its own",
            )));
        } else if enough(&fields) {
            let bytes = form.bytes_if_last();
            return Ok(FileForm {
                fields,
                file_name: part.file_name,
                content_type: part.content_type,
                bytes,
                is_bound: true,
                file: form.into_part(),
            });
        } else {
            let (frames, _permit) = hold(&mut form, buffers).await?;
            held = Some(Held { frames, _permit, file_name: part.file_name, content_type: part.content_type });
        }
    }
    let held = held.ok_or_else(|| Interrupted::Malformed(Refusal::invalid("the form has no part named file")))?;
    let bytes = held.frames.iter().map(|frame| frame.len() as u64).sum();
    let (file_name, content_type) = (held.file_name.clone(), held.content_type.clone());
    let file = futures_util::stream::unfold((held, 0), |(held, at)| async move {
        // The permit lives as long as the frames.
        let frame = held.frames.get(at)?.clone();
        Some((Ok(frame), (held, at + 1)))
    });
    Ok(FileForm { fields, file_name, content_type, bytes: Some(bytes), is_bound: false, file: Box::pin(file) })
}

struct Held {
    frames: Vec<Bytes>,
    _permit: Vec<OwnedSemaphorePermit>,
    file_name: Option<String>,
    content_type: Option<String>,
}

async fn hold(form: &mut Form, buffers: &FormBuffers) -> Result<(Vec<Bytes>, Vec<OwnedSemaphorePermit>), Interrupted> {
    let too_large = || Interrupted::Malformed(Refusal::FieldsAfterFile { bytes_max: buffers.bytes_each });
    let (mut frames, mut permits, mut bytes) = (Vec::new(), Vec::new(), 0u64);
    while let Some(frame) = form.piece().await? {
        bytes += frame.len() as u64;
        if bytes > buffers.bytes_each {
            return Err(too_large());
        }
        let weight = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        // Waiting for memory while holding some could wait for ever.
        let permit = buffers.bytes_left.clone().try_acquire_many_owned(weight);
        permits.push(permit.map_err(|_| Interrupted::Malformed(Refusal::Overloaded))?);
        // A copy: the frame may be a small slice of a large read that it would keep alive.
        frames.push(Bytes::copy_from_slice(&frame));
    }
    Ok((frames, permits))
}
