//! multipart/form-data (RFC 7578), streamed. Our own because a part must be
//! put into the store with its exact length: every byte before the file is
//! accounted for, so that the length of a last part follows from
//! Content-Length before its first byte has come.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use memchr::memmem;

use crate::domain::Refusal;
use crate::engine::intake::{Incoming, Interrupted};

/// The longest head of one part.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// The most headers of one part.
const HEADERS_MAX: usize = 16;
/// The longest boundary (RFC 2046 §5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;
/// The most that may stand before the first boundary, after the closing one,
/// or between one and its line break: RFC 2046 allows all three, nobody needs them.
const PADDING_BYTES_MAX: usize = 1 << 10;

/// How much of a frame is copied to where the one before ended in a boundary or a field.
const JOINED_BYTES: usize = 4 << 10;

const LINE_BREAK: &[u8] = b"\r\n";

/// The boundary of a multipart/form-data Content-Type.
pub fn boundary(content_type: &str) -> Result<String, Refusal> {
    let wrong =
        || Refusal::invalid("send the form as multipart/form-data with a boundary: let FormData set Content-Type");
    let (mime, parameters) = content_type.split_once(';').ok_or_else(wrong)?;
    if !mime.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Err(wrong());
    }
    let boundary = parameter(parameters, "boundary").ok_or_else(wrong)?;
    if boundary.is_empty() || boundary.len() > BOUNDARY_BYTES_MAX || boundary.contains(['\r', '\n']) {
        return Err(wrong());
    }
    Ok(boundary)
}

/// One parameter of a header such as `form-data; name="file"; filename="a;b"`.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after;
    }
}

/// Reads up to the closing quote. Browsers write `"` in a name as `%22`;
/// others escape it with a backslash.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value.replace("%22", "\""), &quoted[at + 1..])),
            '\\' => match chars.next()? {
                (_, escaped @ ('"' | '\\')) => value.push(escaped),
                (_, plain) => value.extend(['\\', plain]),
            },
            c => value.push(c),
        }
    }
    None
}

/// The head of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartHead {
    /// The field's name.
    pub name: String,
    /// The file's name, if the part is a file.
    pub file_name: Option<String>,
    /// The file's MIME type.
    pub content_type: Option<String>,
}

/// A form being read, part by part.
pub struct Form {
    incoming: Incoming,
    /// `\r\n--boundary`
    delimiter: memmem::Finder<'static>,
    /// Received and not yet passed on.
    buffer: Bytes,
    /// Received after that.
    ahead: Bytes,
    /// Bytes received, and the whole body's length where it is announced. Both
    /// count the line break that stands before the first byte.
    received: u64,
    announced: Option<u64>,
    /// Nothing was read yet: a preamble may come.
    fresh: bool,
    ended: bool,
}

impl Form {
    /// A form with this boundary whose whole body is announced to have this length.
    pub fn new(incoming: Incoming, boundary: &str, announced: Option<u64>) -> Self {
        let delimiter = memmem::Finder::new(format!("\r\n--{boundary}").as_bytes()).into_owned();
        // With a line break of ours before it, the first boundary is like all others.
        let buffer = Bytes::from_static(LINE_BREAK);
        let added = LINE_BREAK.len() as u64;
        let announced = announced.and_then(|bytes| bytes.checked_add(added));
        Self { incoming, delimiter, buffer, ahead: Bytes::new(), received: added, announced, fresh: true, ended: false }
    }

    /// The next part's head; none after the last part. The part before must
    /// have been read to its end.
    pub async fn next_part(&mut self) -> Result<Option<PartHead>, Interrupted> {
        if self.ended {
            return Ok(None);
        }
        if std::mem::take(&mut self.fresh) {
            self.skip_preamble().await?;
        }
        if std::future::poll_fn(|cx| self.poll_delimiter(cx)).await? == Delimiter::Closing {
            self.ended = true;
            return Ok(None);
        }
        let head = self.head().await?;
        part_head(&head).map(Some).map_err(Interrupted::Malformed)
    }

    /// What stands before the first boundary means nothing.
    async fn skip_preamble(&mut self) -> Result<(), Interrupted> {
        const NO_BOUNDARY: &str = "the form does not begin with the boundary that its Content-Type names";
        let mut bytes = 0;
        loop {
            match self.piece().await {
                Ok(None) => return Ok(()),
                Ok(Some(piece)) => bytes += piece.len(),
                Err(Interrupted::Gone) => return Err(malformed(NO_BOUNDARY)),
                Err(why) => return Err(why),
            }
            if bytes > PADDING_BYTES_MAX {
                return Err(malformed(NO_BOUNDARY));
            }
        }
    }

    /// Passes a boundary: its line with what it has of blanks (RFC 2046 §5.1.1),
    /// or the `--` of the closing one.
    fn poll_delimiter(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delimiter, Interrupted>> {
        const NOT_A_LINE: &str = "a boundary of the form is not on a line of its own";
        let bytes = self.delimiter.needle().len();
        loop {
            let after = self.buffer.get(bytes..).unwrap_or_default();
            let blanks = after.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
            // However it comes: of more blanks no frame of any size makes a boundary.
            if blanks > PADDING_BYTES_MAX {
                return Poll::Ready(Err(malformed(NOT_A_LINE)));
            }
            if after.starts_with(b"--") {
                self.buffer.advance(bytes + 2);
                return Poll::Ready(Ok(Delimiter::Closing));
            }
            if after[blanks..].starts_with(LINE_BREAK) {
                self.buffer.advance(bytes + blanks + LINE_BREAK.len());
                return Poll::Ready(Ok(Delimiter::Part));
            }
            let rest = &after[blanks..];
            let undecided = rest.is_empty() || rest == b"\r" || after == b"-";
            if !undecided {
                return Poll::Ready(Err(malformed(NOT_A_LINE)));
            }
            if !ready!(self.poll_more(cx))? {
                return Poll::Ready(Err(malformed("the form ends before its closing boundary")));
            }
        }
    }

    /// The head of a part, with the empty line that ends it.
    async fn head(&mut self) -> Result<Bytes, Interrupted> {
        const END: &[u8] = b"\r\n\r\n";
        let mut head = BytesMut::new();
        let (mut unread, mut searched) = (std::mem::take(&mut self.buffer), 0);
        // However small the pieces in which it comes, each byte is copied and
        // looked at once.
        loop {
            let looked_at = unread.len().min(HEAD_BYTES_MAX - head.len());
            head.extend_from_slice(&unread[..looked_at]);
            if head.starts_with(LINE_BREAK) {
                return Err(malformed("a part of the form has no name"));
            }
            if let Some(end) = memmem::find(&head[searched..], END) {
                let bytes = searched + end + END.len();
                // What was copied too many is still in the frame that it came in.
                unread.advance(looked_at - (head.len() - bytes));
                self.buffer = unread;
                head.truncate(bytes);
                return Ok(head.freeze());
            }
            if head.len() >= HEAD_BYTES_MAX {
                return Err(malformed("the head of a part of the form is too long"));
            }
            searched = head.len().saturating_sub(END.len() - 1);
            let frame = std::future::poll_fn(|cx| self.poll_frame(cx)).await;
            unread = frame.unwrap_or_else(|| Err(malformed("the form ends in the middle")))?;
        }
    }

    /// How long the part that begins here can be: as long as it is if it is
    /// the last one and nothing follows the closing boundary. Most senders end
    /// the form with a line break; then it is two bytes shorter.
    pub fn bytes_at_most(&self) -> Option<u64> {
        let position = self.received.checked_sub((self.buffer.len() + self.ahead.len()) as u64)?;
        let closing = self.delimiter.needle().len() as u64 + b"--".len() as u64;
        self.announced?.checked_sub(position)?.checked_sub(closing)
    }

    /// More of the part's content, or none at its end.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, Interrupted> {
        std::future::poll_fn(|cx| self.poll_piece(cx)).await
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Interrupted>> {
        loop {
            if let Some(at) = self.delimiter.find(&self.buffer) {
                let content = (at > 0).then(|| self.buffer.split_to(at));
                return Poll::Ready(Ok(content));
            }
            // All but what may be the beginning of a delimiter can go.
            let certain = certain_content(&self.buffer, self.delimiter.needle());
            if certain > 0 {
                return Poll::Ready(Ok(Some(self.buffer.split_to(certain))));
            }
            if !ready!(self.poll_more(cx))? {
                return Poll::Ready(Err(Interrupted::Gone));
            }
        }
    }

    /// Adds to the buffer what comes next; false at the end of the body.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Interrupted>> {
        let Some(mut frame) = ready!(self.poll_frame(cx)).transpose()? else { return Poll::Ready(Ok(false)) };
        if !self.buffer.is_empty() {
            // Only as much as may complete what is there: the rest is not copied.
            self.ahead = frame.split_off(frame.len().min(JOINED_BYTES));
            let mut joined = BytesMut::with_capacity(self.buffer.len() + frame.len());
            joined.extend_from_slice(&self.buffer);
            joined.extend_from_slice(&frame);
            frame = joined.freeze();
        }
        self.buffer = frame;
        Poll::Ready(Ok(true))
    }

    /// What was received and not looked at, or the body's next frame.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Interrupted>>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.ahead))));
        }
        let polled = ready!(self.incoming.poll_next_unpin(cx));
        if let Some(Ok(frame)) = &polled {
            self.received += frame.len() as u64;
        }
        Poll::Ready(polled)
    }

    /// The rest of this part, which must be the last, as a body. It ends once
    /// the whole form was read to its end: then nothing followed that its
    /// sender may believe to have been heeded. What does is refused as this.
    pub fn into_last_part(self, parts_follow: Refusal) -> Incoming {
        Box::pin(LastPart { form: self, state: LastPartState::Content, epilogue_bytes: 0, parts_follow })
    }
}

/// How many of the first bytes cannot belong to a delimiter that has only
/// partly come.
fn certain_content(buffer: &[u8], delimiter: &[u8]) -> usize {
    let tail = buffer.len().saturating_sub(delimiter.len() - 1);
    let doubtful = memchr::memchr_iter(b'\r', &buffer[tail..])
        .map(|at| tail + at)
        .find(|&at| delimiter.starts_with(&buffer[at..]));
    doubtful.unwrap_or(buffer.len())
}

/// What a boundary begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delimiter {
    Part,
    Closing,
}

enum LastPartState {
    Content,
    Delimiter,
    Epilogue,
    Over,
}

struct LastPart {
    form: Form,
    state: LastPartState,
    epilogue_bytes: usize,
    parts_follow: Refusal,
}

impl LastPart {
    /// Goes on until there is content, an error, or the end of the body.
    fn poll_on(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Interrupted>>> {
        loop {
            match self.state {
                LastPartState::Over => return Poll::Ready(None),
                LastPartState::Content => match ready!(self.form.poll_piece(cx))? {
                    Some(piece) => return Poll::Ready(Some(Ok(piece))),
                    None => self.state = LastPartState::Delimiter,
                },
                LastPartState::Delimiter => match ready!(self.form.poll_delimiter(cx))? {
                    Delimiter::Part => {
                        let refusal = self.parts_follow.clone();
                        return Poll::Ready(Some(Err(Interrupted::Malformed(refusal))));
                    }
                    Delimiter::Closing => {
                        self.epilogue_bytes = self.form.buffer.len() + self.form.ahead.len();
                        self.state = LastPartState::Epilogue;
                    }
                },
                LastPartState::Epilogue => {
                    if self.epilogue_bytes > PADDING_BYTES_MAX {
                        return Poll::Ready(Some(Err(malformed("the body goes on after the end of its form"))));
                    }
                    match ready!(self.form.incoming.poll_next_unpin(cx)).transpose()? {
                        Some(frame) => self.epilogue_bytes += frame.len(),
                        None => self.state = LastPartState::Over,
                    }
                }
            }
        }
    }
}

impl Stream for LastPart {
    type Item = Result<Bytes, Interrupted>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.poll_on(cx);
        if let Poll::Ready(Some(Err(_))) = &polled {
            self.state = LastPartState::Over;
        }
        polled
    }
}

pub(super) fn malformed(reason: impl Into<String>) -> Interrupted {
    Interrupted::Malformed(Refusal::invalid(reason))
}

fn part_head(head: &[u8]) -> Result<PartHead, Refusal> {
    let wrong = |reason: &str| Refusal::invalid(format!("a part of the form has {reason}"));
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let parsed = httparse::parse_headers(head, &mut headers).map_err(|_| wrong("a malformed head"))?;
    let httparse::Status::Complete((_, headers)) = parsed else { return Err(wrong("a malformed head")) };
    let value = |wanted: &str| {
        let header = headers.iter().find(|h| h.name.eq_ignore_ascii_case(wanted))?;
        Some(String::from_utf8_lossy(header.value).into_owned())
    };
    let disposition = value("content-disposition").ok_or_else(|| wrong("no Content-Disposition"))?;
    let (kind, parameters) = disposition.split_once(';').ok_or_else(|| wrong("no name"))?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return Err(wrong("a Content-Disposition that is not form-data"));
    }
    Ok(PartHead {
        name: parameter(parameters, "name").ok_or_else(|| wrong("no name"))?,
        file_name: parameter(parameters, "filename"),
        content_type: value("content-type"),
    })
}

#[cfg(test)]
mod tests;
