//! multipart/form-data (RFC 7578), streamed. Our own because a part must be
//! put into the store with its exact length: every byte before the file is
//! accounted for, so that the length of a last part follows from
//! Content-Length before its first byte has come.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use memchr::memmem;

use crate::domain::{Refusal, rules};
use crate::engine::intake::{Incoming, Interrupted};

/// The longest head of one part.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// The most headers of one part.
const HEADERS_MAX: usize = 16;
/// The longest boundary (RFC 2046 §5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;

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
    /// Bytes received, and the whole body's length where it is announced.
    received: u64,
    announced: Option<u64>,
    /// Nothing was read yet: the first boundary has no line break before it.
    fresh: bool,
    ended: bool,
}

impl Form {
    /// A form with this boundary whose whole body is announced to have this length.
    pub fn new(incoming: Incoming, boundary: &str, announced: Option<u64>) -> Self {
        let delimiter = memmem::Finder::new(format!("\r\n--{boundary}").as_bytes()).into_owned();
        Self { incoming, delimiter, buffer: Bytes::new(), received: 0, announced, fresh: true, ended: false }
    }

    /// The next part's head; none after the last part. The part before must
    /// have been read to its end.
    pub async fn next_part(&mut self) -> Result<Option<PartHead>, Interrupted> {
        if self.ended {
            return Ok(None);
        }
        let line_break = if std::mem::take(&mut self.fresh) { 2 } else { 0 };
        let bytes = self.delimiter.needle().len() - line_break;
        self.fill(bytes + 2).await?;
        if !self.buffer.starts_with(&self.delimiter.needle()[line_break..]) {
            return Err(malformed("the form does not begin with its boundary"));
        }
        self.buffer.advance(bytes);
        if self.buffer.starts_with(b"--") {
            self.ended = true;
            return Ok(None);
        }
        // RFC 2046 §5.1.1 allows blanks between a boundary and its line break.
        while self.buffer.starts_with(b" ") || self.buffer.starts_with(b"\t") {
            self.buffer.advance(1);
            self.fill(2).await?;
        }
        if !self.buffer.starts_with(b"\r\n") {
            return Err(malformed("a boundary of the form is not on a line of its own"));
        }
        self.buffer.advance(2);
        let head = loop {
            if self.buffer.starts_with(b"\r\n") {
                return Err(malformed("a part of the form has no name"));
            }
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break self.buffer.split_to(end + 4);
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(malformed("the head of a part of the form is too long"));
            }
            self.receive().await?;
        };
        part_head(&head).map(Some).map_err(Interrupted::Malformed)
    }

    /// A text field's value, up to `bytes_max` long.
    pub async fn text(&mut self, name: &str, bytes_max: usize) -> Result<String, Interrupted> {
        let mut text = Vec::new();
        while let Some(frame) = self.piece().await? {
            text.extend_from_slice(&frame);
            if text.len() > bytes_max {
                return Err(Interrupted::Malformed(match name {
                    "metadata" => rules::metadata_too_large(),
                    _ => Refusal::invalid(format!(
                        "the form's text fields are too long: {name} goes beyond what they may take together"
                    )),
                }));
            }
        }
        String::from_utf8(text).map_err(|_| malformed(format!("the field {name} is not UTF-8")))
    }

    /// The length of the part that begins here, if it is the last one and its
    /// sender ends the form with a line break, as browsers do.
    pub fn bytes_if_last(&self) -> Option<u64> {
        let position = self.received.checked_sub(self.buffer.len() as u64)?;
        let closing = self.delimiter.needle().len() as u64 + b"--\r\n".len() as u64;
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
            match self.incoming.poll_next_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => self.take_in(frame),
                Poll::Ready(Some(Err(why))) => return Poll::Ready(Err(why)),
                Poll::Ready(None) => return Poll::Ready(Err(Interrupted::Gone)),
            }
        }
    }

    fn take_in(&mut self, frame: Bytes) {
        self.received += frame.len() as u64;
        if self.buffer.is_empty() {
            self.buffer = frame;
        } else {
            let mut joined = BytesMut::with_capacity(self.buffer.len() + frame.len());
            joined.extend_from_slice(&self.buffer);
            joined.extend_from_slice(&frame);
            self.buffer = joined.freeze();
        }
    }

    async fn receive(&mut self) -> Result<(), Interrupted> {
        match self.incoming.next().await {
            Some(frame) => self.take_in(frame?),
            None => return Err(malformed("the form ends in the middle")),
        }
        Ok(())
    }

    async fn fill(&mut self, bytes: usize) -> Result<(), Interrupted> {
        while self.buffer.len() < bytes {
            self.receive().await?;
        }
        Ok(())
    }

    /// The rest of this part, which must be the last that matters, as a body.
    /// It ends once the whole form was read to its end.
    pub fn into_part(self) -> Incoming {
        Box::pin(LastPart { form: self, state: LastPartState::Content })
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

enum LastPartState {
    Content,
    Rest,
    Over,
}

struct LastPart {
    form: Form,
    state: LastPartState,
}

impl Stream for LastPart {
    type Item = Result<Bytes, Interrupted>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match this.state {
                LastPartState::Over => return Poll::Ready(None),
                LastPartState::Content => match this.form.poll_piece(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(Some(piece))) => return Poll::Ready(Some(Ok(piece))),
                    Poll::Ready(Ok(None)) => this.state = LastPartState::Rest,
                    Poll::Ready(Err(why)) => {
                        this.state = LastPartState::Over;
                        return Poll::Ready(Some(Err(why)));
                    }
                },
                // The closing boundary, or fields that came too late to matter.
                LastPartState::Rest => match this.form.incoming.poll_next_unpin(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(None) => this.state = LastPartState::Over,
                    Poll::Ready(Some(Err(why))) => {
                        this.state = LastPartState::Over;
                        return Poll::Ready(Some(Err(why)));
                    }
                },
            }
        }
    }
}

fn malformed(reason: impl Into<String>) -> Interrupted {
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORM: &str = "--B\r\nContent-Disposition: form-data; name=\"fileId\"\r\n\r\nabc\r\n\
        --B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a;\\\"b%22.bin\"\r\nContent-Type: x/y\r\n\r\n";
    const CLOSING: &str = "\r\n--B--\r\n";

    fn cut(bytes: &[u8], every: usize) -> Incoming {
        let frames: Vec<_> = bytes.chunks(every.max(1)).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        Box::pin(futures_util::stream::iter(frames))
    }

    async fn read(content: &[u8], every: usize) -> (Option<u64>, Vec<u8>) {
        let whole = [FORM.as_bytes(), content, CLOSING.as_bytes()].concat();
        let mut form = Form::new(cut(&whole, every), "B", Some(whole.len() as u64));
        let head = form.next_part().await.expect("a part").expect("a head");
        assert_eq!(head.name, "fileId");
        assert_eq!(form.text("fileId", 10).await.expect("a text"), "abc");
        let head = form.next_part().await.expect("a part").expect("a head");
        assert_eq!(head.file_name.as_deref(), Some("a;\"b\".bin"));
        assert_eq!(head.content_type.as_deref(), Some("x/y"));
        let announced = form.bytes_if_last();
        let mut part = form.into_part();
        let mut bytes = Vec::new();
        while let Some(frame) = part.next().await {
            bytes.extend_from_slice(&frame.expect("a frame"));
        }
        (announced, bytes)
    }

    #[test]
    fn boundaries_are_found() {
        assert_eq!(boundary("multipart/form-data; boundary=----X").as_deref(), Ok("----X"));
        assert_eq!(boundary("Multipart/Form-Data; charset=utf-8; boundary=\"a b\"").as_deref(), Ok("a b"));
        for wrong in ["", "multipart/form-data", "multipart/form-data; boundary=", "text/plain; boundary=x"] {
            assert!(boundary(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_form_that_breaks_off_says_so() {
        for end in [10, FORM.len() - 3, FORM.len() + 3] {
            let whole = [FORM.as_bytes(), b"content"].concat();
            let mut form = Form::new(cut(&whole[..end], 7), "B", None);
            let mut broken = false;
            while let Ok(Some(_)) = form.next_part().await {
                while !broken {
                    match form.piece().await {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => broken = true,
                    }
                }
                if broken {
                    break;
                }
            }
            assert!(broken || form.next_part().await.is_err(), "{end}");
        }
    }

    proptest! {
        /// However the network cuts it and whatever the file looks like, the
        /// file comes out whole and its length is known beforehand.
        #[test]
        fn files_pass_whole(content in prop::collection::vec(prop::sample::select(b"\r\n-BX".to_vec()), 0..200), every in 1usize..40) {
            prop_assume!(memmem::find(&content, b"\r\n--B").is_none());
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let (announced, bytes) = runtime.block_on(read(&content, every));
            prop_assert_eq!(announced, Some(content.len() as u64));
            prop_assert_eq!(bytes, content);
        }
    }
}
