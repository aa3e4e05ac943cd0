//! What holds between the emulator and the client, who must understand each
//! other, and of whatever anybody else sends.

use std::collections::BTreeSet;
use std::time::Duration;

use http::{HeaderName, Method};

use super::access::{AccessKey, verify, verify_policy};
use super::address::{Address, copy_source, locate, query_pairs};
use super::error::OssError;
use super::operation::{ListParts, ListUploads, Operation, continuation_token};
use super::policy::Policy;
use super::range::{Asked, asked, slices};
use super::storage::{BlobId, Chosen, PartRecord, Properties, Segment, UploadRecord};
use super::{cors, documents, xml};
use crate::domain::{Crc64, Part, PartNumber, Timestamp};
use crate::fuzzing::Input;
use crate::store::oss::SignatureVersion;
use crate::store::oss::sign::{self, Request, Signable, Signer, encode_path, encode_query, form};
use crate::store::remote::policy::FormLimits;
use crate::store::remote::xml as client;

const NOW: Timestamp = Timestamp::from_millis(1_795_255_740_000);
const KEY: AccessKey<'static> = AccessKey { id: "ak", secret: "sk", region: "cn-hangzhou", token: None, expires: None };
const SIGNER: Signer<'static> =
    Signer { access_key_id: "ak", access_key_secret: "sk", security_token: None, region: "cn-hangzhou" };
const METHODS: [&Method; 5] = [&Method::GET, &Method::PUT, &Method::POST, &Method::HEAD, &Method::DELETE];

pub(crate) fn requests(data: &[u8]) {
    let mut input = Input::new(data);
    let method = input.pick(&METHODS);
    let (bytes, standard) = (input.number(), input.byte() & 1 != 0);
    let (host, path, query) = (input.text(), input.text(), input.text());
    let headers = input.headers();
    let query = query_pairs(query);
    let located = locate("bkt", host, path);
    let operation = match &located {
        Ok(Address::Service) => Operation::on_service(method),
        Ok(Address::Stats | Address::CallbackKey) => return,
        Ok(Address::Bucket(_)) => Operation::on_bucket(method, &query),
        Ok(Address::Object { key, .. }) => {
            assert!(!key.is_empty() && key.len() <= 1023 && !key.starts_with('/'));
            Operation::on_object(method, &query, &headers)
        }
        Err(error) => Err(error.clone()),
    };
    if let Ok(Operation::ListObjects(list)) = &operation {
        assert!((1..=1000).contains(&list.keys_max));
        let token = vec![
            ("list-type".to_owned(), "2".to_owned()),
            ("continuation-token".to_owned(), continuation_token(&list.prefix)),
        ];
        let next = Operation::on_bucket(&Method::GET, &token).expect("a token of ours");
        assert!(matches!(next, Operation::ListObjects(next) if next.after == list.prefix));
    }
    if let Err(error) = operation {
        is_told(&error);
    }
    let range = headers.get("range").and_then(|value| value.to_str().ok());
    within(&asked(range, bytes, standard), bytes);
    // Nobody who has no secret is let in.
    let (bucket, key) = match &located {
        Ok(Address::Object { bucket, key }) => (Some(bucket.as_str()), Some(key.as_str())),
        Ok(Address::Bucket(bucket)) => (Some(bucket.as_str()), None),
        _ => (None, None),
    };
    let request = Signable { method: method.as_str(), bucket, key, query: &query, headers: &headers };
    is_told(&verify(&[KEY], NOW, &request).expect_err("it is not signed"));
}

/// A refusal is one to the client, in a body and in a header.
fn is_told(error: &OssError) {
    let (_, body) = error.answer(true, "R", "h");
    let read = client::error(&body).unwrap_or_else(|| panic!("{body}"));
    assert_eq!((read.code.as_str(), read.ec.as_deref()), (error.code, Some(error.ec)));
    let (headers, body) = error.answer(false, "R", "h");
    assert!(body.is_empty() && headers.contains_key("x-oss-err"));
}

fn within(asked: &Asked, bytes: u64) {
    let Asked::Part(range) = asked else { return };
    assert!(range.start < range.end && range.end <= bytes);
    let (third, rest) = (bytes / 3, bytes - 2 * (bytes / 3));
    let segments = [(1, third), (2, 0), (3, third), (4, rest)].map(|(id, bytes)| Segment { blob: BlobId(id), bytes });
    let cut = slices(&segments, range);
    assert_eq!(cut.iter().map(|slice| slice.bytes).sum::<u64>(), range.end - range.start);
    assert!(cut.iter().all(|slice| slice.bytes > 0 && slice.offset + slice.bytes <= slice.segment.bytes));
}

pub(crate) fn signatures(data: &[u8]) {
    let mut input = Input::new(data);
    let (method, flags) = (input.pick(&METHODS).as_str(), input.byte());
    let version = if flags & 1 == 0 { SignatureVersion::V4 } else { SignatureVersion::V1 };
    let key = input.text();
    let pairs: Vec<(String, String)> = input.texts().chunks(2).filter_map(pair).collect();
    let mut headers = input.headers();
    let carries =
        |name: &HeaderName| ["authorization", "date", "x-oss-date", "x-oss-content-sha256"].contains(&name.as_str());
    let carried: Vec<HeaderName> = headers.keys().filter(|name| carries(name)).cloned().collect();
    carried.iter().for_each(|name| drop(headers.remove(name)));
    let Ok(Address::Object { bucket, key }) = locate("bkt", "localhost", &format!("/bkt/{}", encode_path(key))) else {
        return;
    };
    let request = Request { method, bucket: Some(&bucket), key: Some(&key), query: &pairs };
    let code = |request: &Signable<'_>, at: Timestamp| verify(&[KEY], at, request).map_err(|error| error.code);

    // In the query, as it comes out of a URL again.
    let life = Duration::from_secs(input.number() % (8 * 86_400) + 1);
    let presigned = sign::presign(version, &SIGNER, NOW, life, &request, &headers);
    let received = query_pairs(&encode_query(&presigned));
    assert_eq!(received, presigned);
    let signed = request.with(&received, &headers);
    assert_eq!(code(&signed, NOW), Ok(()));
    let late = NOW.plus(life + Duration::from_secs(1));
    assert_eq!(code(&signed, late), Err("AccessDenied"), "nothing lasts longer than was said");

    // In the headers.
    let mut sent = headers.clone();
    sign::sign(version, &SIGNER, NOW, &request, &mut sent).expect("it can be signed");
    let signed = request.with(&pairs, &sent);
    assert_eq!(code(&signed, NOW), Ok(()));
    assert_eq!(code(&Signable { method: "PATCH", ..signed }, NOW), Err("SignatureDoesNotMatch"));
    assert_eq!(code(&Signable { bucket: Some("other"), ..signed }, NOW), Err("SignatureDoesNotMatch"));
    if version == SignatureVersion::V4 {
        tampered(&mut input, &signed, code);
    }
}

/// V4 covers the key and all of the query, and tells what is in one from what
/// is in the next.
fn tampered(
    input: &mut Input<'_>,
    signed: &Signable<'_>,
    code: impl Fn(&Signable<'_>, Timestamp) -> Result<(), &'static str>,
) {
    let other = input.text();
    if signed.key != Some(other) {
        assert_eq!(code(&Signable { key: Some(other), ..*signed }, NOW), Err("SignatureDoesNotMatch"));
    }
    let query: Vec<(String, String)> = input.texts().chunks(2).filter_map(pair).collect();
    let sorted = |query: &[(String, String)]| {
        let mut query = query.to_vec();
        query.sort();
        query
    };
    if sorted(&query) != sorted(signed.query) {
        assert_eq!(code(&Signable { query: &query, ..*signed }, NOW), Err("SignatureDoesNotMatch"));
    }
}

/// A name that no signature needs for itself.
fn pair(lines: &[&str]) -> Option<(String, String)> {
    let (name, value) = (*lines.first()?, lines.get(1).copied().unwrap_or_default());
    let carries =
        ["OSSAccessKeyId", "Expires", "Signature", "security-token"].contains(&name) || name.starts_with("x-oss-");
    (!name.is_empty() && !carries).then(|| (name.to_owned(), value.to_owned()))
}

pub(crate) fn documents(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 5 {
        0 => chosen(&mut input),
        1 => uploads(&mut input),
        2 => parts(&mut input),
        3 => forms(&mut input),
        _ => {
            // What anybody sends as a list of parts.
            let text = String::from_utf8_lossy(input.rest());
            if let Ok(Chosen::Listed(parts)) = xml::chosen(&text) {
                assert!(parts.len() <= text.len());
            }
        }
    }
}

/// What a form that we sign says, its policy lets through, and nothing else.
fn forms(input: &mut Input<'_>) {
    let bytes_max = input.number();
    let text = input.text();
    let texts = input.texts();
    let fields = texts.iter().enumerate().map(|(i, value)| (format!("x-oss-meta-{i}"), (*value).to_owned())).collect();
    let limits = FormLimits { bucket: "bkt", bytes_max, expires: NOW };
    let fields: Vec<(String, String)> = form::sign(SignatureVersion::V4, &SIGNER, NOW, limits, fields);
    let found = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let policy = found("policy").expect("a policy");
    assert_eq!(verify_policy(&[KEY], NOW, policy, found).map_err(|error| error.code), Ok(()));
    let read = Policy::parse(policy).expect("a policy of ours");
    assert_eq!(read.length, (0, bytes_max));
    let field = |name: &str| if name == "bucket" { Some("bkt") } else { found(name) };
    assert_eq!(read.check(NOW, field).map_err(|error| error.message), Ok(()));
    let edited = |name: &str| if name == "x-oss-meta-0" { Some(text) } else { field(name) };
    let is_same = texts.first().is_none_or(|first| *first == text);
    assert_eq!(read.check(NOW, edited).is_ok(), is_same);
    // What anybody sends as the documents of forms, deletions, tags and rules.
    for anything in [text, std::str::from_utf8(input.rest()).unwrap_or_default()] {
        drop((
            Policy::parse(anything),
            cors::rules(anything),
            documents::deletion(anything),
            documents::tags(anything),
        ));
        drop(copy_source(anything));
    }
}

/// The list of parts that the client sends is the one that is read.
fn chosen(input: &mut Input<'_>) {
    let texts = input.texts();
    // XML has no way to write other characters, and no ETag has them.
    let plain =
        texts.iter().filter(|text| !text.contains(|c: char| c.is_control() || c.is_whitespace() || !c.is_ascii()));
    let part = |(index, etag): (usize, &&str)| {
        let number = u32::try_from(index).ok().and_then(PartNumber::of_chunk)?;
        Some(Part { number, bytes: 1, etag: (*etag).to_owned(), crc64: None })
    };
    let parts: Vec<Part> = plain.enumerate().filter_map(part).collect();
    let expected = parts.iter().map(|part| (u32::from(part.number.get()), format!("\"{}\"", part.etag)));
    assert_eq!(xml::chosen(&client::complete(&parts, |_| None)), Ok(Chosen::Listed(expected.collect())));
}

/// Page by page, all uploads of a prefix are listed, each once, whatever their keys are.
fn uploads(input: &mut Input<'_>) {
    let (uploads_max, prefix) = (u32::from(input.byte() % 4) + 1, input.text());
    let keys: BTreeSet<&str> = input.texts().into_iter().collect();
    // Two uploads of each key, whose ids are in order.
    let record = |(id, key): (usize, &&str)| UploadRecord {
        upload_id: format!("{id:04X}"),
        key: (*key).to_owned(),
        initiated_millis: 7000,
        properties: Properties::default(),
        forbid_overwrite: false,
    };
    let all: Vec<UploadRecord> = keys.iter().flat_map(|key| [key; 2]).enumerate().map(record).collect();
    let (mut key_marker, mut upload_id_marker) = (String::new(), String::new());
    let mut listed = Vec::new();
    loop {
        let list =
            ListUploads { prefix: prefix.to_owned(), key_marker, upload_id_marker, uploads_max, url_encoded: true };
        let document = xml::uploads("bkt", &list, all.iter()).expect("XML");
        let page = client::uploads(&document).unwrap_or_else(|e| panic!("{e}: {document}"));
        listed.extend(page.uploads.into_iter().map(|upload| (upload.key, upload.session.as_str().to_owned())));
        assert!(listed.len() <= all.len());
        match page.next {
            Some(next) => (key_marker, upload_id_marker) = next,
            None => break,
        }
    }
    let expected = all.iter().filter(|upload| upload.key.starts_with(prefix));
    let expected: Vec<_> = expected.map(|upload| (upload.key.clone(), upload.upload_id.clone())).collect();
    assert_eq!(listed, expected);
}

/// The same of parts.
fn parts(input: &mut Input<'_>) {
    let (parts_max, key) = (u32::from(input.byte() % 4) + 1, input.text());
    let numbers: BTreeSet<u16> =
        input.rest().chunks(2).take(32).map(|b| b.iter().fold(0, |n, &b| n << 8 | u16::from(b)) % 10_000 + 1).collect();
    let record = |number: u16| PartRecord {
        number,
        bytes: u64::from(number) << 20,
        etag: format!("{number:032X}"),
        crc64: u64::MAX - u64::from(number),
        modified_millis: 7,
        blob: BlobId(0),
    };
    let all: Vec<PartRecord> = numbers.into_iter().map(record).collect();
    let (mut marker, mut listed) = (0, Vec::new());
    loop {
        let list = ListParts { upload_id: "U".to_owned(), marker, parts_max, url_encoded: true };
        let document = xml::parts("bkt", key, &list, &all).expect("XML");
        let page = client::parts(&document).unwrap_or_else(|e| panic!("{e}: {document}"));
        listed.extend(page.parts.into_iter().map(|listed| listed.part));
        assert!(listed.len() <= all.len());
        match page.next {
            Some(next) => marker = next.parse().expect("a number"),
            None => break,
        }
    }
    let expected = |record: &PartRecord| Part {
        number: PartNumber::new(record.number.into()).expect("a number"),
        bytes: record.bytes,
        etag: record.etag.clone(),
        crc64: Some(Crc64(record.crc64)),
    };
    assert_eq!(listed, all.iter().map(expected).collect::<Vec<_>>());
}
