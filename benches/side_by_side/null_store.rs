//! A store that keeps nothing: multipart uploads as OSS and S3 have them, with
//! a real CRC-64 over every byte, and small objects in memory for those that
//! read back what they wrote. What it does cost is what a store's front end
//! would: the bytes are read, and summed. Its buckets differ in their manners.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chunkgate::domain::Crc64;
use chunkgate::domain::checksum::Crc64Stream;
use chunkgate::domain::join::joined;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::aws_chunked::Decoder;

/// Objects of up to this size are kept, for they may be somebody's notes.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// How a bucket behaves.
#[derive(Clone, Copy, Debug, Default)]
struct Manners {
    /// Before each answer.
    delay: Duration,
    /// One answer in so many is an error, before the body is read or after it;
    /// 0 for none.
    errors_every: u64,
    /// So many bytes a second of each body are read; 0 for all that come.
    bytes_per_second: u64,
}

impl Manners {
    fn of(key: &str) -> Self {
        const DELAY: Duration = Duration::from_millis(50);
        match key.split_once('/').map_or(key, |(bucket, _)| bucket) {
            LATE => Self { delay: DELAY, ..Self::default() },
            FAULTY => Self { delay: DELAY, errors_every: 100, ..Self::default() },
            SLOW => Self { bytes_per_second: 8 << 20, ..Self::default() },
            _ => Self::default(),
        }
    }
}

/// The bucket that is as quick as can be.
pub(crate) const QUICK: &str = "bkt";
/// Answers after 50 ms.
pub(crate) const LATE: &str = "late";
/// The same, and one answer in 100 is an error.
pub(crate) const FAULTY: &str = "faulty";
/// Reads 8 MiB of a body in a second.
pub(crate) const SLOW: &str = "slow";

#[derive(Default)]
struct Store {
    state: Mutex<State>,
    numbered: AtomicU64,
    asked: AtomicU64,
}

#[derive(Default)]
struct State {
    uploads: HashMap<String, BTreeMap<u32, Stored>>,
    objects: HashMap<String, Stored>,
}

/// What is known of bytes that are gone.
#[derive(Clone, Debug, Default)]
struct Stored {
    bytes: u64,
    crc64: u64,
    kept: Option<Bytes>,
}

impl Stored {
    fn etag(&self) -> String {
        format!("\"{:016X}{:016X}\"", self.crc64, self.bytes)
    }
}

/// Serves until the process ends.
pub(crate) async fn serve(listen: SocketAddr) -> std::io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let store = Arc::new(Store::default());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let store = store.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let store = store.clone();
                async move { Ok::<_, Infallible>(store.answer(request).await) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            // A connection that breaks is its client's affair.
            drop(server.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

impl Store {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (method, key) = (request.method().clone(), request.uri().path().trim_start_matches('/').to_owned());
        let query = request.uri().query().unwrap_or_default().to_owned();
        let asked = |name: &str| {
            query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).find(|(key, _)| *key == name)
        };
        let upload = asked("uploadId").map(|(_, id)| id.to_owned());
        let number = asked("partNumber").and_then(|(_, number)| number.parse::<u32>().ok());
        let manners = Manners::of(&key);
        tokio::time::sleep(manners.delay).await;
        let nth = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let is_error = manners.errors_every > 0 && nth.is_multiple_of(manners.errors_every);
        if is_error && nth.is_multiple_of(2 * manners.errors_every) {
            return internal_error();
        }
        let Ok(body) = read(request, manners).await else { return status(StatusCode::BAD_REQUEST) };
        if is_error {
            return internal_error();
        }
        match (&method, upload, number) {
            (&Method::POST, None, _) if asked("uploads").is_some() => self.initiate(&key),
            (&Method::PUT, Some(id), Some(number)) => self.put_part(&id, number, body),
            (&Method::GET, None, _) if asked("uploads").is_some() => xml(format!(
                "<ListMultipartUploadsResult><Bucket>{}</Bucket><KeyMarker></KeyMarker>\
                 <UploadIdMarker></UploadIdMarker><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>",
                key.trim_end_matches('/')
            )),
            (&Method::GET, Some(id), _) => self.list(&key, &id),
            (&Method::POST, Some(id), _) => self.complete(&key, &id),
            (&Method::DELETE, Some(id), _) => {
                self.state().uploads.remove(&id);
                status(StatusCode::NO_CONTENT)
            }
            (&Method::PUT, None, None) => {
                let answer = described(&body, Bytes::new());
                self.state().objects.insert(key, body);
                answer
            }
            (&Method::HEAD | &Method::GET, None, None) => self.get(&key, &method),
            (&Method::DELETE, None, None) => {
                self.state().objects.remove(&key);
                status(StatusCode::NO_CONTENT)
            }
            _ => status(StatusCode::NOT_IMPLEMENTED),
        }
    }

    fn initiate(&self, key: &str) -> Response<Full<Bytes>> {
        let id = format!("{:032X}", self.numbered.fetch_add(1, Ordering::Relaxed));
        self.state().uploads.insert(id.clone(), BTreeMap::new());
        let (bucket, key) = key.split_once('/').unwrap_or(("", key));
        xml(format!(
            "<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId>\
             </InitiateMultipartUploadResult>"
        ))
    }

    fn put_part(&self, id: &str, number: u32, part: Stored) -> Response<Full<Bytes>> {
        let answer = described(&part, Bytes::new());
        match self.state().uploads.get_mut(id) {
            Some(parts) => {
                parts.insert(number, Stored { kept: None, ..part });
                answer
            }
            None => no_such_upload(),
        }
    }

    fn list(&self, key: &str, id: &str) -> Response<Full<Bytes>> {
        let state = self.state();
        let Some(parts) = state.uploads.get(id) else { return no_such_upload() };
        let parts: String = parts
            .iter()
            .map(|(number, part)| {
                format!(
                    "<Part><PartNumber>{number}</PartNumber><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                     <ETag>{}</ETag><Size>{}</Size><HashCrc64ecma>{}</HashCrc64ecma></Part>",
                    part.etag().replace('"', "&quot;"),
                    part.bytes,
                    part.crc64
                )
            })
            .collect();
        let (bucket, key) = key.split_once('/').unwrap_or(("", key));
        xml(format!(
            "<ListPartsResult><Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId>\
             <PartNumberMarker>0</PartNumberMarker><NextPartNumberMarker>0</NextPartNumberMarker>\
             <MaxParts>10000</MaxParts><IsTruncated>false</IsTruncated>{parts}</ListPartsResult>"
        ))
    }

    fn complete(&self, key: &str, id: &str) -> Response<Full<Bytes>> {
        let mut state = self.state();
        let Some(parts) = state.uploads.remove(id) else { return no_such_upload() };
        let crc64 = joined(parts.values().map(|part| (Crc64(part.crc64), part.bytes)));
        let bytes = parts.values().map(|part| part.bytes).sum();
        let object = Stored { bytes, crc64: crc64.0, kept: None };
        let (bucket, name) = key.split_once('/').unwrap_or(("", key));
        let text = format!(
            "<CompleteMultipartUploadResult><Location>l</Location><Bucket>{bucket}</Bucket><Key>{name}</Key>\
             <ETag>{}</ETag></CompleteMultipartUploadResult>",
            object.etag().replace('"', "&quot;")
        );
        let answer = described(&object, text.into());
        state.objects.insert(key.to_owned(), object);
        answer
    }

    fn get(&self, key: &str, method: &Method) -> Response<Full<Bytes>> {
        let state = self.state();
        if !key.contains('/') || key.ends_with('/') {
            // The bucket itself.
            return xml("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>".to_owned());
        }
        let Some(object) = state.objects.get(key) else {
            let text = "<Error><Code>NoSuchKey</Code><Message>there is none</Message></Error>";
            let mut answer = xml(text.to_owned());
            *answer.status_mut() = StatusCode::NOT_FOUND;
            return answer;
        };
        match &object.kept {
            Some(kept) => described(object, kept.clone()),
            None if method == Method::HEAD => {
                let mut answer = described(object, Bytes::new());
                answer.headers_mut().insert(http::header::CONTENT_LENGTH, object.bytes.into());
                answer
            }
            None => status(StatusCode::GONE),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a body to its end and keeps what is small of it.
async fn read(request: Request<Incoming>, manners: Manners) -> Result<Stored, hyper::Error> {
    let mut decoder = Decoder::of(request.headers());
    let mut body = request.into_body();
    let (mut crc64, mut bytes, mut kept) = (Crc64Stream::new(), 0, Some(Vec::new()));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if let Some(nanos) = (data.len() as u64 * 1_000_000_000).checked_div(manners.bytes_per_second) {
            tokio::time::sleep(Duration::from_nanos(nanos)).await;
        }
        decoder.decode(&data, |piece| {
            crc64.update(piece);
            bytes += piece.len() as u64;
            match &mut kept {
                Some(all) if all.len() + piece.len() <= KEPT_BYTES_MAX => all.extend_from_slice(piece),
                kept => *kept = None,
            }
        });
    }
    Ok(Stored { bytes, crc64: crc64.value().0, kept: kept.map(Bytes::from) })
}

fn described(stored: &Stored, body: Bytes) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body));
    let headers: &mut HeaderMap = answer.headers_mut();
    for (name, value) in [
        ("etag", stored.etag()),
        ("x-oss-hash-crc64ecma", stored.crc64.to_string()),
        ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT".to_owned()),
    ] {
        headers.insert(name, value.parse().expect("a header value"));
    }
    answer
}

fn xml(text: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(text.into()));
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static("application/xml"));
    answer
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

fn internal_error() -> Response<Full<Bytes>> {
    let mut answer = xml("<Error><Code>InternalError</Code><Message>as it was asked to</Message></Error>".to_owned());
    *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    answer
}

fn no_such_upload() -> Response<Full<Bytes>> {
    let mut answer = xml("<Error><Code>NoSuchUpload</Code><Message>there is none</Message></Error>".to_owned());
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer
}
