//! Request bodies: with a bound on silence while they are read, and read on
//! for a while when they are not wanted. A refusal that is sent while the
//! client still sends must reach it: a browser that finds the connection
//! closed under its upload reports a network error without a status.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use serde_json::error::Category;
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};

use crate::domain::{Refusal, rules};
use crate::engine::intake::{Incoming, Interrupted};

/// How much of an unwanted body is read.
const LINGER_BYTES: u64 = 64 << 20;
/// For how long an unwanted body is read.
const LINGER: Duration = Duration::from_secs(10);
/// Unwanted bodies read at once; beyond that connections are closed.
const LINGERING_MAX: usize = 256;
/// The largest JSON body: metadata that is too large gets an answer of its own.
const JSON_BYTES_MAX: usize = 64 << 10;

/// Reads on what nobody wants, within bounds.
#[derive(Clone, Debug)]
pub struct Lingering {
    places: Arc<Semaphore>,
}

impl Default for Lingering {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(LINGERING_MAX)) }
    }
}

impl Lingering {
    /// A body that, dropped before its end, is read on in the background.
    pub fn wrap(&self, headers: &HeaderMap, body: Body) -> Body {
        if body.is_end_stream() {
            return body;
        }
        // Who waits for 100 Continue sends nothing after a refusal.
        let waits = headers.contains_key(header::EXPECT);
        Body::new(LingeringBody { inner: Some(body), lingering: self.clone(), begun: !waits })
    }

    fn read_on(&self, body: Body) {
        let (Ok(place), Ok(runtime)) = (self.places.clone().try_acquire_owned(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        runtime.spawn(async move {
            let _place = place;
            let mut read = 0u64;
            let mut stream = body.into_data_stream();
            let drain = async {
                while let Some(Ok(frame)) = stream.next().await {
                    read += frame.len() as u64;
                    if read > LINGER_BYTES {
                        break;
                    }
                }
            };
            // Whatever the outcome, the body is dropped now and with it the connection, unless it was all.
            let _ = tokio::time::timeout(LINGER, drain).await;
        });
    }
}

struct LingeringBody {
    inner: Option<Body>,
    lingering: Lingering,
    begun: bool,
}

impl HttpBody for LingeringBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.begun = true;
        let Some(inner) = self.inner.as_mut() else { return Poll::Ready(None) };
        let polled = Pin::new(inner).poll_frame(cx);
        if let Poll::Ready(None | Some(Err(_))) = &polled {
            self.inner = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for LingeringBody {
    fn drop(&mut self) {
        if let Some(body) = self.inner.take().filter(|body| self.begun && !body.is_end_stream()) {
            self.lingering.read_on(body);
        }
    }
}

/// A body as the engine reads it, with a bound on the client's silence.
pub fn incoming(body: Body, idle: Duration) -> Incoming {
    Box::pin(IdleBound {
        stream: body.into_data_stream(),
        idle,
        silence: Box::pin(tokio::time::sleep(idle)),
        timed: false,
    })
}

struct IdleBound {
    stream: BodyDataStream,
    idle: Duration,
    silence: Pin<Box<Sleep>>,
    /// Whether the silence is being timed. Only while we wait for the client:
    /// a timer that is set for every frame costs more than the frame.
    timed: bool,
}

impl Stream for IdleBound {
    type Item = Result<Bytes, Interrupted>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        match this.stream.poll_next_unpin(cx) {
            Poll::Ready(frame) => {
                this.timed = false;
                Poll::Ready(frame.map(|frame| frame.map_err(|_| Interrupted::Gone)))
            }
            Poll::Pending => {
                if !this.timed {
                    this.timed = true;
                    let until = Instant::now() + this.idle;
                    this.silence.as_mut().reset(until);
                }
                match this.silence.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Some(Err(Interrupted::Idle(this.idle)))),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }
}

/// Why a body stopped, as its sender is told when it was small and needed whole.
pub fn interrupted(why: Interrupted) -> Refusal {
    match why {
        Interrupted::Gone => Refusal::invalid("the body broke off"),
        Interrupted::Idle(idle) => Refusal::BodyTimeout { idle },
        Interrupted::Malformed(refusal) => refusal,
    }
}

/// A small JSON body, whole.
pub async fn json<T: serde::de::DeserializeOwned>(body: Body, idle: Duration) -> Result<T, Refusal> {
    // One that is announced to be too large is not waited for.
    if body.size_hint().lower() > JSON_BYTES_MAX as u64 {
        return Err(rules::metadata_too_large());
    }
    let mut stream = incoming(body, idle);
    let mut bytes = Vec::new();
    while let Some(frame) = stream.next().await {
        bytes.extend_from_slice(&frame.map_err(interrupted)?);
        if bytes.len() > JSON_BYTES_MAX {
            return Err(rules::metadata_too_large());
        }
    }
    // serde would take a list for a struct, its values in the order of the fields.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Refusal::invalid("the body is a JSON list: send a JSON object"));
    }
    serde_json::from_slice(&bytes).map_err(|error| Refusal::invalid(unexpected(&error, bytes.is_empty())))
}

/// What is wrong with a JSON body, in the words of people who write JSON:
/// serde's are those of Rust.
fn unexpected(error: &serde_json::Error, is_empty: bool) -> String {
    if is_empty {
        return "the body is empty: send a JSON object".to_owned();
    }
    let place = format!("line {}, column {}", error.line(), error.column());
    match error.classify() {
        Category::Syntax | Category::Io => format!("the body is not JSON, see {place}"),
        Category::Eof => "the body is not JSON: it ends in the middle".to_owned(),
        Category::Data => {
            let said = error.to_string();
            let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said);
            match said.rsplit_once(", expected ") {
                Some((found, wanted)) => format!("{found}, expected {}, at {place} of the body", in_json(wanted)),
                None => format!("{said}, at {place} of the body"),
            }
        }
    }
}

/// What serde calls a type, as JSON knows it.
fn in_json(wanted: &str) -> &str {
    match wanted {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        wanted if wanted.starts_with("struct ") => "an object",
        wanted => wanted,
    }
}

/// The announced length of a body; none with chunked transfer coding. A request
/// that says neither has no body (RFC 9112 §6.3).
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    match headers.get(header::CONTENT_LENGTH) {
        Some(length) => length.to_str().ok()?.parse().ok(),
        None => (!headers.contains_key(header::TRANSFER_ENCODING)).then_some(0),
    }
}

/// Refuses a body that is not the file's own bytes.
pub fn refuse_encoding(headers: &HeaderMap) -> Result<(), Refusal> {
    // hyper undoes the last coding, `chunked`, and leaves those before it (`gzip, chunked`).
    let transfer: Vec<&[u8]> = headers.get_all(header::TRANSFER_ENCODING).iter().map(HeaderValue::as_bytes).collect();
    if !transfer.iter().all(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked")) {
        let encoding = String::from_utf8_lossy(&transfer.join(&b", "[..])).into_owned();
        return Err(Refusal::UnsupportedEncoding { encoding });
    }
    for line in headers.get_all(header::CONTENT_ENCODING) {
        let text = String::from_utf8_lossy(line.as_bytes());
        if !text.split(',').all(|coding| coding.trim().eq_ignore_ascii_case("identity")) {
            return Err(Refusal::UnsupportedEncoding { encoding: text.into_owned() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[expect(dead_code, reason = "only its shape is of interest")]
    struct Wanted {
        file_size: u64,
        restart: bool,
    }

    #[test]
    fn what_is_wrong_with_a_body_is_said_without_rusts_words() {
        for (body, said) in [
            ("", "the body is empty: send a JSON object"),
            ("fileName=a", "the body is not JSON, see line 1, column 2"),
            ("{\"fileSize\": 1", "the body is not JSON: it ends in the middle"),
            (
                "{\"fileSize\": \"1\"}",
                "invalid type: string \"1\", expected a whole number from 0, at line 1, column 16 of the body",
            ),
            (
                "{\"fileSize\": -1}",
                "invalid value: integer `-1`, expected a whole number from 0, at line 1, column 15 of the body",
            ),
            (
                "{\"fileSize\": 1, \"restart\": 1}",
                "invalid type: integer `1`, expected true or false, at line 1, column 28 of the body",
            ),
            ("7", "invalid type: integer `7`, expected an object, at line 1, column 1 of the body"),
            ("{}", "missing field `fileSize`, at line 1, column 2 of the body"),
        ] {
            let error = serde_json::from_str::<Wanted>(body).expect_err(body);
            assert_eq!(unexpected(&error, body.is_empty()), said);
        }
    }
}
