//! A form with one file in it: the text fields first, then the file, as it
//! streams. A file that comes first is held in memory, within bounds.

mod room;

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::{HeaderMap, header};

use crate::domain::{Refusal, rules};
use crate::engine::intake::{Incoming, Interrupted};
use crate::http::body::{self, incoming};
use crate::http::multipart::{Form, boundary, malformed};
use room::{Room, moved, steady};

pub use room::FormBuffers;

/// All text fields together, names and values; metadata may be one.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// What text fields take without waiting for room: more than most forms have.
const TEXT_BYTES_FREE: usize = 4 << 10;
/// The most fields of a form.
const FIELDS_MAX: usize = 64;
/// What is held is held in pieces of this size.
const PIECE_BYTES: usize = 64 << 10;
/// A file of up to this many bytes is held without asking for room.
const SMALL_BYTES_MAX: u64 = 4 << 10;

/// The text fields and the file of a form.
pub struct FileForm {
    /// The text fields.
    pub texts: Texts,
    /// The file's own name, as the form has it.
    pub file_name: Option<String>,
    /// The file's MIME type, as the form has it.
    pub content_type: Option<String>,
    /// The file's length, as far as it is known.
    pub length: Length,
    /// The file.
    file: Incoming,
}

/// How long a form's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// So many bytes.
    Exact(u64),
    /// By Content-Length: exactly this if the closing boundary ends the body,
    /// two less if a line break follows it (RFC 2046 has it optional, most
    /// senders write it), and less if more follows.
    AtMost(u64),
    /// Anything.
    Unknown,
}

impl Length {
    /// What it is, if the form ends as those of browsers do.
    fn likely(self) -> Option<u64> {
        match self {
            Self::Exact(bytes) => Some(bytes),
            Self::AtMost(bytes) => Some(bytes.saturating_sub(2)),
            Self::Unknown => None,
        }
    }

    /// Whether a form of one of its two endings can have a file of this length.
    fn can_be(self, bytes: u64) -> bool {
        match self {
            Self::Exact(exact) => exact == bytes,
            // One byte is no ending.
            Self::AtMost(most) => bytes <= most && most - bytes != 1,
            Self::Unknown => true,
        }
    }
}

impl FileForm {
    /// The file and the length to put it into the store with. Where it cannot
    /// be known yet it is what the upload's plan says; without a plan a file is
    /// held, if there is room to spare, until it is known; otherwise the form
    /// is taken to end as browsers end theirs. A file of another length than
    /// was given out breaks off before its end.
    pub async fn into_body(
        self,
        planned: Option<u64>,
        buffers: &FormBuffers,
    ) -> Result<(Option<u64>, Incoming), Refusal> {
        match (self.length, planned) {
            (Length::Exact(bytes), _) => Ok((Some(bytes), self.file)),
            (length, Some(planned)) if length.can_be(planned) => {
                let differs = move |got| Refusal::ChunkSizeMismatch { expected: planned, got };
                Ok((Some(planned), exactly(self.file, planned, differs)))
            }
            // Refused by its length.
            (length, Some(_)) => Ok((length.likely(), self.file)),
            (Length::Unknown, None) => Ok((None, self.file)),
            (Length::AtMost(most), None) => match buffers.spare(most) {
                Some(room) => self.held(Some(room)).await.map(|form| (form.length.likely(), form.file)),
                None => {
                    let likely = self.length.likely();
                    Ok((likely, exactly(self.file, likely.unwrap_or(0), |_| length_unknown())))
                }
            },
        }
    }

    /// With its file in memory, and so with its length.
    async fn held(mut self, room: Option<Room>) -> Result<Self, Refusal> {
        let (mut pieces, mut room) = (Pieces::default(), room);
        while let Some(frame) = steady(&mut room, self.file.next()).await.map_err(body::interrupted)? {
            let frame = frame.map_err(body::interrupted)?;
            pieces.add(&frame);
            moved(&mut room, frame.len());
        }
        self.length = Length::Exact(pieces.bytes);
        self.file = pieces.into_body(room);
        Ok(self)
    }
}

fn length_unknown() -> Refusal {
    Refusal::invalid(
        "the length of a file this large follows from Content-Length only if the form ends with its closing boundary \
         and one line break (CRLF): end it so, or declare fileSize and chunkSize with POST /uploads",
    )
}

/// A file that breaks off if it has another length.
fn exactly(file: Incoming, bytes: u64, differs: impl Fn(Option<u64>) -> Refusal + Send + 'static) -> Incoming {
    let counted = futures_util::stream::unfold((Some(file), 0, differs), move |(file, seen, differs)| async move {
        let mut file = file?;
        match file.next().await {
            Some(Ok(frame)) if seen + frame.len() as u64 <= bytes => {
                let seen = seen + frame.len() as u64;
                Some((Ok(frame), (Some(file), seen, differs)))
            }
            Some(Ok(_)) => Some((Err(Interrupted::Malformed(differs(None))), (None, seen, differs))),
            Some(Err(why)) => Some((Err(why), (None, seen, differs))),
            None if seen < bytes => Some((Err(Interrupted::Malformed(differs(Some(seen)))), (None, seen, differs))),
            None => None,
        }
    });
    Box::pin(counted)
}

/// Text fields, and the room that they take.
#[derive(Default)]
pub struct Texts {
    /// By name; of several with one name the last.
    pub fields: BTreeMap<String, String>,
    count: usize,
    bytes: usize,
    room: Option<Room>,
}

impl Texts {
    /// Reads one. `buffers` has the room for it, unless that is taken already.
    async fn read(&mut self, form: &mut Form, name: String, buffers: Option<&FormBuffers>) -> Result<(), Interrupted> {
        self.count += 1;
        if self.count > FIELDS_MAX {
            return Err(malformed(format!("a form has at most {FIELDS_MAX} fields")));
        }
        let mut text = Vec::new();
        self.grow(name.len(), &name, buffers).await?;
        while let Some(frame) = steady(&mut self.room, form.piece()).await?? {
            self.grow(frame.len(), &name, buffers).await?;
            text.extend_from_slice(&frame);
        }
        let text = String::from_utf8(text).map_err(|_| malformed(format!("the field {name} is not UTF-8")))?;
        self.fields.insert(name, text);
        Ok(())
    }

    /// So much more of names and values, which `name` is one of.
    async fn grow(&mut self, bytes: usize, name: &str, buffers: Option<&FormBuffers>) -> Result<(), Interrupted> {
        self.bytes += bytes;
        if self.bytes > TEXT_BYTES_MAX {
            return Err(Interrupted::Malformed(too_long(name)));
        }
        if let Some(buffers) = buffers.filter(|_| self.bytes > TEXT_BYTES_FREE && self.room.is_none()) {
            self.room = Some(buffers.text_room().await?);
        }
        moved(&mut self.room, bytes);
        Ok(())
    }
}

fn too_long(name: &str) -> Refusal {
    match name {
        "metadata" => rules::metadata_too_large(),
        _ => Refusal::invalid(format!(
            "the form's text fields are too long: {name} goes beyond what they may take together"
        )),
    }
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
    let form = read_parts(form, buffers, judge).await.map_err(body::interrupted)?;
    // Of a small file the length is known at once, so that an empty one is known.
    match form.length {
        Length::AtMost(..=SMALL_BYTES_MAX) => form.held(None).await,
        Length::AtMost(_) | Length::Exact(_) | Length::Unknown => Ok(form),
    }
}

async fn read_parts(mut form: Form, buffers: &FormBuffers, judge: Judge) -> Result<FileForm, Interrupted> {
    let mut texts = Texts::default();
    let mut held: Option<FileForm> = None;
    let fields_after_file = Refusal::FieldsAfterFile { bytes_max: buffers.bytes_each() };
    while let Some(part) = form.next_part().await? {
        let is_file = part.name == "file" || part.file_name.is_some();
        if !is_file {
            // What follows a held file has its share of the file's room.
            texts.read(&mut form, part.name, held.is_none().then_some(buffers)).await?;
            continue;
        }
        if held.is_some() {
            return Err(malformed("a form has one file: send each chunk in a form of its own"));
        }
        let (file_name, content_type) = (part.file_name, part.content_type);
        let too_large = match judge(&texts.fields) {
            Way::Stream => {
                let length = form.bytes_at_most().map_or(Length::Unknown, Length::AtMost);
                let file = form.into_last_part(fields_after_file);
                return Ok(FileForm { texts, file_name, content_type, length, file });
            }
            Way::Hold => fields_after_file.clone(),
            Way::HoldOr(refusal) => refusal,
        };
        // Without an announced length it may be as long as a held file can be.
        let mut room = buffers.room(form.bytes_at_most().unwrap_or(u64::MAX)).await?;
        let mut pieces = Pieces::default();
        while let Some(frame) = room.steady(form.piece()).await?? {
            pieces.add(&frame);
            room.moved(frame.len());
            if pieces.bytes > buffers.bytes_each() {
                return Err(Interrupted::Malformed(too_large));
            }
        }
        let (length, file) = (Length::Exact(pieces.bytes), pieces.into_body(Some(room)));
        held = Some(FileForm { texts: Texts::default(), file_name, content_type, length, file });
    }
    let form = held.ok_or_else(|| malformed("the form has no part named file"))?;
    Ok(FileForm { texts, ..form })
}

/// A file in memory, in pieces of one size: what a client sends in slivers
/// takes no more room than what it sends at once.
#[derive(Default)]
struct Pieces {
    full: Vec<Bytes>,
    open: BytesMut,
    bytes: u64,
}

impl Pieces {
    fn add(&mut self, frame: &[u8]) {
        self.bytes += frame.len() as u64;
        // A copy: the frame may be a small slice of a large read that it would keep alive.
        self.open.extend_from_slice(frame);
        if self.open.len() >= PIECE_BYTES {
            self.full.push(self.open.split().freeze());
        }
    }

    /// The room is given back with the last of it.
    fn into_body(mut self, room: Option<Room>) -> Incoming {
        self.full.push(self.open.freeze());
        let pieces = futures_util::stream::iter(self.full.into_iter().map(Ok));
        let file = futures_util::stream::unfold((pieces, room), |(mut pieces, room)| async move {
            Some((pieces.next().await?, (pieces, room)))
        });
        Box::pin(file)
    }
}

#[cfg(test)]
mod tests;
