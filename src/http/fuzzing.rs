//! What holds of every request's head and of every form.

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Request, header};
use percent_encoding::percent_decode_str;

use crate::domain::{Checksum, Refusal, Timestamp, UploadId};
use crate::engine::intake::{Incoming, Interrupted};
use crate::fuzzing::Input;
use crate::http::address::ClientAddress;
use crate::http::chunks::declared::{declared_checksums, parse_index, whole_number};
use crate::http::content::{none_match, wanted_range};
use crate::http::disposition::Disposition;
use crate::http::multipart::{Form, PartHead, boundary};
use crate::http::{body, pages};

const PARTS_FOLLOW: Refusal = Refusal::FieldsAfterFile { bytes_max: 1 };

pub(crate) fn form(data: &[u8]) {
    let mut input = Input::new(data);
    let (mode, last, sizes) = (input.byte(), input.byte(), input.number());
    let is_announced = mode & 1 == 0;
    if mode & 2 == 0 {
        // `last`: from this part on the rest is read as one body, as a file is.
        let form = repeated(input.rest());
        let whole = read(&form, form.len(), 0, is_announced, last);
        // Byte by byte, where that does not take long.
        let bytes = if form.len() < 2 << 10 { 1 } else { 16 };
        assert_eq!(read(&form, bytes, sizes, is_announced, last), whole, "in crumbs");
        assert_eq!(read(&form, 64, sizes, is_announced, last), whole, "in small pieces");
        assert_eq!(read(&form, 8 << 10, sizes, is_announced, last), whole, "in large pieces");
    } else {
        written(&mut input, sizes);
    }
}

/// `0xFE n` stands for the byte before it 32 × n times more: what is long is
/// no harder to come by than what is short.
fn repeated(data: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    let mut bytes = data.iter();
    while let Some(&byte) = bytes.next() {
        match (byte, out.last().copied()) {
            (0xFE, Some(before)) if out.len() < 24 << 10 => {
                let more = 32 * usize::from(bytes.next().copied().unwrap_or(0));
                out.resize(out.len() + more, before);
            }
            (byte, _) => out.push(byte),
        }
    }
    out
}

/// All that can be seen of a form.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    parts: Vec<(PartHead, Option<u64>, Vec<u8>)>,
    end: Result<(), Interrupted>,
}

/// Reads a form that comes in pieces of up to so many bytes.
fn read(form: &[u8], bytes_max: usize, mut lot: u64, is_announced: bool, last: u8) -> Seen {
    let mut rest = form;
    let mut frames = Vec::new();
    while !rest.is_empty() {
        // Knuth's MMIX: any numbers that do not repeat soon.
        lot = lot.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = usize::try_from(lot >> 33).unwrap_or(0) % bytes_max.max(1) + 1;
        let bytes = if bytes_max == form.len() { bytes_max } else { random.min(rest.len()) };
        let (frame, after) = rest.split_at(bytes);
        frames.push(Ok(Bytes::copy_from_slice(frame)));
        rest = after;
    }
    let incoming: Incoming = Box::pin(futures_util::stream::iter(frames));
    let announced = is_announced.then_some(form.len() as u64);
    let mut seen = Seen { parts: Vec::new(), end: Ok(()) };
    seen.end =
        parts(Form::new(incoming, "B", announced), last, &mut seen).now_or_never().expect("all is there already");
    for (_, at_most, content) in &seen.parts {
        assert!(at_most.is_none_or(|most| content.len() as u64 <= most) || seen.end.is_err());
        assert!(memchr::memmem::find(content, b"\r\n--B").is_none());
    }
    seen
}

async fn parts(mut form: Form, last: u8, seen: &mut Seen) -> Result<(), Interrupted> {
    while let Some(head) = form.next_part().await? {
        let at_most = form.bytes_at_most();
        seen.parts.push((head, at_most, Vec::new()));
        let is_last = seen.parts.len() == usize::from(last);
        let content = &mut seen.parts.last_mut().expect("it was just put there").2;
        if is_last {
            let mut part = form.into_last_part(PARTS_FOLLOW);
            while let Some(piece) = part.next().await {
                content.extend_from_slice(&piece?);
            }
            return Ok(());
        }
        while let Some(piece) = form.piece().await? {
            assert!(!piece.is_empty());
            content.extend_from_slice(&piece);
        }
    }
    Ok(())
}

/// What a browser writes is what is read.
fn written(input: &mut Input<'_>, sizes: u64) {
    let (header, names) = (input.text(), input.texts());
    let content = input.rest();
    let plain = |name: &&str| !name.contains('\\') && !name.contains(char::is_control);
    let boundary = boundary(header).ok().filter(|b| b.bytes().all(|b| b.is_ascii_graphic())).unwrap_or("B".to_owned());
    let delimiter = format!("\r\n--{boundary}");
    let is_content = memchr::memmem::find(content, delimiter.as_bytes()).is_none();
    let mut form = Vec::new();
    let mut expected = Vec::new();
    for name in names.into_iter().filter(plain).take(8).filter(|_| is_content) {
        let escaped = name.replace('"', "%22");
        let head =
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{escaped}\"; filename=\"{escaped}\"");
        form.extend_from_slice(head.as_bytes());
        form.extend_from_slice(b"\r\nContent-Type: x/y\r\n\r\n");
        form.extend_from_slice(content);
        form.extend_from_slice(b"\r\n");
        let name = name.replace("%22", "\"");
        let head = PartHead { name: name.clone(), file_name: Some(name), content_type: Some("x/y".to_owned()) };
        expected.push((head, content.to_vec()));
    }
    form.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let bytes = usize::try_from(sizes % 100).unwrap_or(0) + 1;
    let frames: Vec<_> = form.chunks(bytes).map(|frame| Ok(Bytes::copy_from_slice(frame))).collect();
    let incoming: Incoming = Box::pin(futures_util::stream::iter(frames));
    let mut seen = Seen { parts: Vec::new(), end: Ok(()) };
    seen.end = parts(Form::new(incoming, &boundary, None), 0, &mut seen).now_or_never().expect("all is there already");
    assert_eq!(seen.end, Ok(()));
    let seen: Vec<_> = seen.parts.into_iter().map(|(head, _, content)| (head, content)).collect();
    assert_eq!(seen, expected);
}

pub(crate) fn heads(data: &[u8]) {
    let mut input = Input::new(data);
    let (total, text) = (input.number(), input.text());
    let headers = input.headers();
    checksums(&headers);
    range(&headers, total);
    pages_and_numbers(text);
    disposition(text);
    let _ = (none_match(&headers, "\"e\""), body::content_length(&headers), body::refuse_encoding(&headers));
    let mut request = Request::new(());
    *request.headers_mut() = headers;
    let (parts, ()) = request.into_parts();
    for proxies in 0..3 {
        let address = ClientAddress::of(&parts, proxies);
        assert_eq!(address.0, address.0.to_canonical());
        assert_eq!(address.network(), ClientAddress(address.0).network());
    }
}

/// What is declared can be declared again, in our own words.
fn checksums(headers: &HeaderMap) {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    let Ok(declared) = declared_checksums(headers) else { return };
    let mut again = HeaderMap::new();
    let value = |text: String| HeaderValue::from_str(&text).expect("text");
    for checksum in &declared {
        match checksum {
            Checksum::Sha256(digest) => {
                let digest = format!("sha-256=:{}:", STANDARD.encode(digest));
                again.insert("content-digest", value(format!("md5=:AA==:, {digest}")));
            }
            Checksum::Md5(digest) => drop(again.insert("content-md5", value(STANDARD.encode(digest)))),
            Checksum::Crc64(crc64) => drop(again.insert("x-checksum-crc64", value(crc64.to_string()))),
        }
    }
    assert_eq!(declared_checksums(&again), Ok(declared));
}

/// A range lies within the file, and is one by the letter of RFC 9110 §14.1.2.
fn range(headers: &HeaderMap, total: u64) {
    let text = headers.get(header::RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let written = text.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-'));
    let written = written.filter(|(first, last)| digits(first) && digits(last) && first.len() + last.len() > 0);
    match wanted_range(headers, "\"e\"", total) {
        Ok(None) => {}
        Ok(Some(range)) => {
            assert!(range.start < range.end && range.end <= total);
            let (first, last) = written.expect("a range");
            match (first.parse::<u64>(), last.parse::<u64>()) {
                (Ok(first), Ok(last)) => assert!(range.start == first && (range.end - 1 == last || range.end == total)),
                (Ok(first), Err(_)) => assert_eq!(range, first..total),
                (Err(_), last) => assert_eq!(range, total.saturating_sub(last.expect("a suffix"))..total),
            }
        }
        Err(refusal) => {
            assert_eq!(refusal, Refusal::RangeNotSatisfiable { bytes: total });
            assert!(written.is_some(), "{text:?} is no range");
        }
    }
}

fn pages_and_numbers(text: &str) {
    if let Ok((at, id)) = pages::after(text) {
        assert_eq!(pages::after(&pages::cursor(at, id)), Ok((at, id)));
    }
    let id = UploadId(uuid::Uuid::from_u128(u128::from(crate::domain::Crc64::of(text.as_bytes()).0)));
    let at = Timestamp::from_millis(text.len() as i64 - 100);
    assert_eq!(pages::after(&pages::cursor(at, id)), Ok((at, id)));
    assert!(
        pages::limit(Some(text)).is_ok_and(|limit| (1..=1000).contains(&limit)) || pages::limit(Some(text)).is_err()
    );
    let _ = pages::number(text);
    if let Ok(at) = pages::time("since", text) {
        assert_eq!(pages::time("since", &at.rfc3339()), Ok(at));
    }
    if let Some(number) = whole_number(text) {
        assert_eq!(number.to_string(), text);
        assert_eq!(parse_index(text), Ok(number));
    }
}

/// A name is data in a header: it neither ends it nor is lost in it.
fn disposition(name: &str) {
    for inline in [false, true] {
        let header = Disposition { inline, name: None }.of(name);
        assert!(HeaderValue::from_str(&header).is_ok() && header.matches('"').count() == 2, "{header:?}");
        let (_, encoded) = header.rsplit_once("UTF-8''").expect("the true name");
        assert_eq!(percent_decode_str(encoded).decode_utf8().as_deref(), Ok(name));
    }
}
