//! What is pure and on the way of every chunk, or of every part at the merge.
//!
//! ```text
//! cargo bench --bench pure             all
//! cargo bench --bench pure -- sign     those whose names contain it
//! ```

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use chunkgate::domain::checksum::Crc64Stream;
use chunkgate::domain::join::joined;
use chunkgate::domain::{
    Crc64, FileId, Geometry, ObjectKey, Owner, PartBounds, Plan, Progress, Received, State, Timestamp, Upload,
    UploadId, ranges,
};
use chunkgate::engine::inspect::{ChunksView, UploadView};
use chunkgate::http::encode::{self, Shown};
use chunkgate::http::multipart::Form;
use chunkgate::store::oss::SignatureVersion;
use chunkgate::store::oss::sign::{Request, Signer, sign};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};
use uuid::Uuid;

const CHUNKS: u32 = 10_000;
const CHUNK_BYTES: u64 = 8 << 20;
const BOUNDS: PartBounds = PartBounds { part_bytes_min: 100 << 10, part_bytes_max: 5 << 30, parts_max: CHUNKS };
const NOW: Timestamp = Timestamp::from_millis(1_795_255_740_000);

fn signatures(c: &mut Criterion) {
    let query =
        [("partNumber".to_owned(), "17".to_owned()), ("uploadId".to_owned(), "0004B9895DBBB6EC98E3".to_owned())];
    let signer = Signer {
        access_key_id: "LTAI5tExampleExampleExam",
        access_key_secret: "an example of thirty characters",
        security_token: None,
        region: "cn-hangzhou",
    };
    let request = Request {
        method: "PUT",
        bucket: Some("examplebucket"),
        key: Some("uploads/local/20261121/0123456789abcdef0123456789abcdef.mp4"),
        query: &query,
    };
    for (name, version) in [("sign V1", SignatureVersion::V1), ("sign V4", SignatureVersion::V4)] {
        c.bench_function(name, |b| {
            b.iter(|| {
                let mut headers = HeaderMap::new();
                headers.insert(CONTENT_LENGTH, HeaderValue::from(CHUNK_BYTES));
                sign(version, &signer, NOW, black_box(&request), &mut headers).map(|()| headers)
            });
        });
    }
}

fn plans(c: &mut Criterion) {
    let total = u64::from(CHUNKS) * CHUNK_BYTES - 1;
    c.bench_function("declare a plan", |b| {
        b.iter(|| Plan::declare(black_box(total), Some(CHUNK_BYTES), None, &BOUNDS));
    });
    c.bench_function("missing ranges, every second of 10 000 chunks", |b| {
        b.iter(|| ranges::missing((0..CHUNKS).step_by(2), black_box(CHUNKS)));
    });
}

fn checksums(c: &mut Criterion) {
    let frame = vec![7; 256 << 10];
    let mut group = c.benchmark_group("CRC-64");
    group.throughput(Throughput::Bytes(frame.len() as u64));
    group.bench_function("of a frame of 256 KiB", |b| {
        b.iter(|| {
            let mut crc64 = Crc64Stream::new();
            crc64.update(black_box(&frame));
            crc64.value()
        });
    });
    group.finish();
    let parts: Vec<_> =
        (0..u64::from(CHUNKS)).map(|n| (Crc64(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)), CHUNK_BYTES)).collect();
    c.bench_function("CRC-64 of 10 000 parts joined", |b| b.iter(|| joined(black_box(&parts).iter().copied())));
}

fn forms(c: &mut Criterion) {
    let head = "--B\r\nContent-Disposition: form-data; name=\"fileId\"\r\n\r\nabc\r\n\
                --B\r\nContent-Disposition: form-data; name=\"chunkIndex\"\r\n\r\n7\r\n\
                --B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"blob\"\r\n\r\n";
    // As video is: any byte, carriage returns among them.
    let content: Vec<u8> = (0..CHUNK_BYTES as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let whole = [head.as_bytes(), &content, b"\r\n--B--\r\n"].concat();
    let frames: Vec<Bytes> = whole.chunks(256 << 10).map(Bytes::copy_from_slice).collect();
    let read = || {
        let incoming = stream::iter(frames.clone().into_iter().map(Ok));
        let mut form = Form::new(Box::pin(incoming), "B", Some(whole.len() as u64));
        let all = async move {
            let mut bytes = 0;
            while let Ok(Some(_)) = form.next_part().await {
                while let Ok(Some(piece)) = form.piece().await {
                    bytes += piece.len();
                }
            }
            bytes
        };
        all.now_or_never()
    };
    assert_eq!(read(), Some(content.len() + 4));
    let mut group = c.benchmark_group("form");
    group.throughput(Throughput::Bytes(whole.len() as u64));
    group.bench_function("of one chunk of 8 MiB", |b| b.iter(read));
    group.finish();
}

fn resumed() -> Option<ChunksView> {
    let plan = Plan::declare(u64::from(CHUNKS) * CHUNK_BYTES, Some(CHUNK_BYTES), None, &BOUNDS).ok()?;
    let upload = Upload {
        id: UploadId(Uuid::nil()),
        owner: Owner::local(),
        file_id: FileId::parse("0123456789abcdef").ok()?,
        file_name: "a.mp4".to_owned(),
        content_type: None,
        metadata: BTreeMap::new(),
        geometry: Geometry::Fixed(plan),
        checksum: None,
        auto_complete: true,
        key: ObjectKey::parse("uploads/a")?,
        state: State::Open { session: None },
        created_at: NOW,
        updated_at: NOW,
        expires_at: NOW,
        reserved_bytes: 0,
        is_direct: false,
    };
    let chunk = |index| Received { index, bytes: CHUNK_BYTES };
    let view = UploadView { upload, progress: Progress { chunks: CHUNKS, bytes: 0 }, file: None };
    Some(ChunksView { view, chunks: (0..CHUNKS).map(chunk).collect(), missing: Vec::new() })
}

fn answers(c: &mut Criterion) {
    let view = resumed().expect("a view");
    for (name, shown) in [("answer with 10 000 chunks", Shown::Received), ("answer with ranges", Shown::Ranges)] {
        c.bench_function(name, |b| b.iter(|| serde_json::to_vec(&encode::chunks(black_box(&view), shown))));
    }
}

criterion_group! {
    name = pure;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = signatures, plans, checksums, forms, answers
}
criterion_main!(pure);
