//! What stores show, and what they fail to: proofs that are missing or wrong,
//! refusals that get lost, errors in the clothes of success.

use bytes::Bytes;
use futures_util::stream;

use super::*;
use crate::clock::SystemClock;
use crate::domain::Crc64;
use crate::store::StoreKind;
use crate::store::remote::script::{Act, Script};
use crate::store::s3::{ProofConfig, S3Config};
use crate::units::Secret;

fn answer(status: &str, headers: &str, body: &str) -> Act {
    Act::Answer(format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()))
}

fn error(status: &str, code: &str) -> Act {
    answer(status, "", &format!("<Error><Code>{code}</Code></Error>"))
}

fn begun() -> Act {
    let xml = "<InitiateMultipartUploadResult><UploadId>U</UploadId></InitiateMultipartUploadResult>";
    answer("200 OK", "", xml)
}

fn stored(headers: &str) -> Act {
    answer("200 OK", &format!("ETag: \"AB\"\r\n{headers}"), "")
}

fn aborted() -> Act {
    answer("204 No Content", "", "")
}

/// Of "abc".
const NVME: &str = "x-amz-checksum-crc64nvme: BeXKuz/B+us=\r\n";

async fn start(proof: ProofConfig, acts: impl IntoIterator<Item = Act>) -> (Arc<Script>, S3Store) {
    let (script, endpoint) = Script::start(acts).await;
    let s3 = S3Config {
        endpoint: Some(endpoint),
        bucket: Some("bkt".to_owned()),
        access_key_id: Some("ak".to_owned()),
        access_key_secret: Some(Secret::new("hush")),
        proof,
        ..S3Config::default()
    };
    let config = StoreConfig { kind: StoreKind::S3, s3, retries: 0, ..StoreConfig::default() };
    (script, S3Store::new(&config, Arc::new(SystemClock::new()), &|_| None).expect("a store"))
}

fn key() -> ObjectKey {
    ObjectKey::parse("dir/a.bin").expect("a key")
}

async fn begin(store: &S3Store) -> Result<SessionId, StoreError> {
    store.begin(Begin { key: &key(), content_type: Some("text/plain"), plan: None, direct: false }).await
}

async fn put(store: &S3Store, bytes: u64, body: Body) -> Result<StoredPart, StoreError> {
    let (key, session) = (key(), SessionId::new("U"));
    store.put_part(Target { key: &key, session: &session }, NewPart { number: PartNumber::FIRST, bytes, body }).await
}

fn code<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result.expect_err("an error") {
        StoreError::Unavailable(fault) => format!("unavailable: {}", fault.code),
        StoreError::Refused(fault) => format!("refused: {}", fault.code),
        error @ (StoreError::Body
        | StoreError::NoSuchUpload
        | StoreError::NoSuchObject
        | StoreError::PartsDiffer(_)
        | StoreError::Full) => error.to_string(),
    }
}

#[tokio::test]
async fn a_part_goes_out_with_its_checksum_behind_it_and_comes_back_with_it() {
    let wrong = "x-amz-checksum-crc64nvme: AAAAAAAAAAA=\r\n";
    let (script, store) = start(ProofConfig::Crc64nvme, [begun(), stored(NVME), stored(wrong), stored("")]).await;
    assert_eq!(begin(&store).await.ok(), Some(SessionId::new("U")));
    let part = put(&store, 3, body_of("abc")).await.expect("a part");
    assert_eq!(part, StoredPart { etag: "AB".to_owned(), crc64: None });
    assert_eq!(code(put(&store, 3, body_of("abc")).await), "unavailable: NoProof");
    assert_eq!(code(put(&store, 3, body_of("abc")).await), "unavailable: NoProof", "no proof is no pass");
    let heads = script.heads();
    assert!(heads[0].starts_with("POST /bkt/dir/a.bin?uploads HTTP/1.1\r\n"), "{}", heads[0]);
    for header in [
        "x-amz-checksum-algorithm: CRC64NVME\r\n",
        "x-amz-checksum-type: FULL_OBJECT\r\n",
        "content-type: text/plain\r\n",
    ] {
        assert!(heads[0].contains(header), "{}", heads[0]);
    }
    assert!(heads[1].starts_with("PUT /bkt/dir/a.bin?partNumber=1&uploadId=U HTTP/1.1\r\n"), "{}", heads[1]);
    for header in [
        "x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\n",
        "content-encoding: aws-chunked\r\n",
        "x-amz-decoded-content-length: 3\r\n",
        "x-amz-trailer: x-amz-checksum-crc64nvme\r\n",
        "content-length: 52\r\n",
        "authorization: AWS4-HMAC-SHA256 Credential=ak/",
    ] {
        assert!(heads[1].contains(header), "{header}: {}", heads[1]);
    }
    assert!(!heads[1].contains("transfer-encoding"));
}

/// What browsers send has no checksum: there are servers that ask for one then.
#[tokio::test]
async fn an_upload_that_browsers_put_parts_into_is_begun_without_a_checksum() {
    let (script, store) = start(ProofConfig::Crc64nvme, [begun(), stored(NVME)]).await;
    let begin = Begin { key: &key(), content_type: None, plan: None, direct: true };
    store.begin(begin).await.expect("begun");
    assert!(!script.heads()[0].contains("checksum"), "{}", script.heads()[0]);
    // What passes us has it all the same.
    put(&store, 3, body_of("abc")).await.expect("a part");
    assert!(script.heads()[1].contains("x-amz-trailer: x-amz-checksum-crc64nvme\r\n"), "{}", script.heads()[1]);
}

#[tokio::test]
async fn forms_are_signed_for_those_who_take_them() {
    let form = async |endpoint: &str| {
        let s3 = S3Config {
            endpoint: Some(endpoint.to_owned()),
            bucket: Some("bkt".to_owned()),
            access_key_id: Some("ak".to_owned()),
            access_key_secret: Some(Secret::new("hush")),
            ..S3Config::default()
        };
        let config = StoreConfig { s3, ..StoreConfig::default() };
        let store = S3Store::new(&config, Arc::new(SystemClock::new()), &|_| None).expect("a store");
        let (key, expires_in) = (key(), Duration::from_secs(60));
        let ask = FormAsk { key: &key, content_type: Some("text/plain"), bytes_max: 9, expires_in };
        store.sign_form(&ask).await.expect("an answer")
    };
    let form_of_aws = form("eu-west-1").await.expect("a form");
    assert_eq!(form_of_aws.url, "https://bkt.s3.eu-west-1.amazonaws.com/");
    assert_eq!(form_of_aws.fields[0], ("key".to_owned(), "dir/a.bin".to_owned()));
    assert_eq!(form("abc.r2.cloudflarestorage.com").await, None);
}

#[tokio::test]
async fn the_best_proof_is_found_once() {
    let other = "ETag: \"4dcb4fd6b9dee89c7a3a9df3bc0ae8b1\"\r\n";
    let of_probe = format!("ETag: \"{}\"\r\n", hex::encode(<md5::Md5 as md5::Digest>::digest(PROBE)));
    let (script, store) = start(
        ProofConfig::Auto,
        [
            // CRC-64/NVME is refused, CRC-32C is taken and not given back, CRC-32 is unheard of.
            error("400 Bad Request", "InvalidRequest"),
            begun(),
            stored(""),
            aborted(),
            error("501 Not Implemented", "NotImplemented"),
            begun(),
            answer("200 OK", &of_probe, ""),
            aborted(),
            begun(),
            answer("200 OK", other, ""),
            begun(),
        ],
    )
    .await;
    begin(&store).await.expect("begun");
    assert_eq!(store.limits().proof, Proof::Md5Etag);
    assert_eq!(code(put(&store, 3, body_of("abc")).await), "unavailable: NoProof", "the MD5 of something else");
    begin(&store).await.expect("begun");
    assert_eq!(script.heads().len(), 11);
    let heads = script.heads();
    assert!(heads[3].starts_with("DELETE /bkt/dir/a.bin?uploadId=U ") && heads[7].starts_with("DELETE "));
    assert!(!heads[9].contains("x-amz-trailer"));
}

#[tokio::test]
async fn a_store_that_shows_nothing_is_refused_unless_it_is_allowed() {
    let nothing = || [begun(), stored(""), aborted()];
    let acts = (0..4).flat_map(|_| nothing()).chain([error("503 Slow Down", "SlowDown")]);
    let (_script, store) = start(ProofConfig::Auto, acts).await;
    assert_eq!(code(begin(&store).await), "refused: NoProof");
    // Nothing is learnt of a store that is away, or that lets nobody in.
    assert_eq!(code(begin(&store).await), "unavailable: SlowDown");
    let (script, store) = start(ProofConfig::Auto, [error("403 Forbidden", "AccessDenied")]).await;
    assert_eq!(code(begin(&store).await), "refused: AccessDenied");
    assert_eq!(script.heads().len(), 1);
    let (_script, store) = start(ProofConfig::Size, [begun(), stored("")]).await;
    begin(&store).await.expect("begun");
    put(&store, 3, body_of("abc")).await.expect("a part");
    assert_eq!(store.limits().proof, Proof::SizeOnly);
}

#[tokio::test]
async fn many_who_wait_for_the_proof_let_one_find_it() {
    let value = Algorithm::Crc64Nvme.text(crc_fast::checksum(Algorithm::Crc64Nvme.crc(), PROBE));
    let found = stored(&format!("x-amz-checksum-crc64nvme: {value}\r\n"));
    let acts = [begun(), found, aborted()].into_iter().chain((0..8).map(|_| begun()));
    let (script, store) = start(ProofConfig::Auto, acts).await;
    let all = futures_util::future::join_all((0..8).map(|_| begin(&store))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(script.heads().len(), 11);
    assert_eq!(store.limits().proof, Proof::Checksum("CRC64NVME"));
}

/// "abc", then "d".
fn parts() -> Vec<Part> {
    let part = |number, bytes: &'static [u8]| Part {
        number: PartNumber::new(number).expect("a number"),
        bytes: bytes.len() as u64,
        etag: format!("E{number}"),
        crc64: Some(Crc64::of(bytes)),
    };
    vec![part(1, b"abc"), part(2, b"d")]
}

fn listed() -> Act {
    let part = |number: u32, bytes: &[u8]| {
        let sum = Algorithm::Crc64Nvme.text(crc_fast::checksum(Algorithm::Crc64Nvme.crc(), bytes));
        format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>\"E{number}\"</ETag><Size>{}</Size>\
             <ChecksumCRC64NVME>{sum}</ChecksumCRC64NVME></Part>",
            bytes.len()
        )
    };
    // One too many: it is left out.
    let parts = [part(1, b"abc"), part(2, b"d"), part(3, b"e")].concat();
    answer("200 OK", "", &format!("<ListPartsResult>{parts}<IsTruncated>false</IsTruncated></ListPartsResult>"))
}

fn joined(sum: &str) -> Act {
    let xml = format!(
        "<CompleteMultipartUploadResult><ETag>\"W-2\"</ETag>{sum}<ChecksumType>FULL_OBJECT</ChecksumType>\
         </CompleteMultipartUploadResult>"
    );
    answer("200 OK", "", &xml)
}

fn head(bytes: u32, etag: &str) -> Act {
    Act::Answer(format!("HTTP/1.1 200 OK\r\nETag: \"{etag}\"\r\nContent-Length: {bytes}\r\n\r\n"))
}

async fn complete(store: &S3Store) -> Result<Joined, StoreError> {
    let (key, session) = (key(), SessionId::new("U"));
    store.complete(Target { key: &key, session: &session }, &parts()).await
}

#[tokio::test]
async fn a_whole_is_shown_by_its_checksum_or_by_its_etag() {
    let sum = Algorithm::Crc64Nvme.text(crc_fast::checksum(Algorithm::Crc64Nvme.crc(), b"abcd"));
    let sum = format!("<ChecksumCRC64NVME>{sum}</ChecksumCRC64NVME>");
    for (sum, etag, expected) in [
        (&*sum, "W-2", Shown::TheseParts),
        ("", "W-2", Shown::TheseParts),
        // Of the parts' checksums, not of the whole.
        ("<ChecksumCRC64NVME>AAAAAAAAAAA=-2</ChecksumCRC64NVME>", "W-2", Shown::TheseParts),
        ("<ChecksumCRC64NVME>AAAAAAAAAAA=</ChecksumCRC64NVME>", "W-2", Shown::Others),
        (&*sum, "other", Shown::Nothing),
    ] {
        let (script, store) = start(ProofConfig::Crc64nvme, [listed(), joined(sum), head(4, etag)]).await;
        let Joined { object, shown } = complete(&store).await.expect("joined");
        assert_eq!((object.bytes, object.crc64, shown), (4, None, expected), "{sum} {etag}");
        assert!(script.heads()[1].starts_with("POST /bkt/dir/a.bin?uploadId=U "), "{}", script.heads()[1]);
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_joined() {
    let gone = || error("404 Not Found", "NoSuchUpload");
    let (script, store) = start(ProofConfig::Crc64nvme, [gone()]).await;
    assert!(matches!(complete(&store).await, Err(StoreError::NoSuchUpload)));
    assert_eq!(script.heads().len(), 1, "a repeated Complete would be answered as the first one");
    let (_script, store) = start(ProofConfig::Crc64nvme, [listed(), error("200 OK", "InternalError")]).await;
    assert_eq!(code(complete(&store).await), "unavailable: InternalError");
    let none = answer("200 OK", "", "<ListPartsResult><IsTruncated>false</IsTruncated></ListPartsResult>");
    let (_script, store) = start(ProofConfig::Crc64nvme, [none]).await;
    assert!(matches!(complete(&store).await, Err(StoreError::PartsDiffer(_))));
    let (_script, store) =
        start(ProofConfig::Crc64nvme, [listed(), joined(""), error("404 Not Found", "NoSuchKey")]).await;
    assert!(complete(&store).await.is_err(), "the object is not there");
}

#[tokio::test]
async fn a_refusal_that_is_lost_is_asked_for_again() {
    let endless = || -> Body {
        let frame = Bytes::from(vec![7; 256 << 10]);
        Box::pin(stream::iter((0..1024).map(move |_| Ok(frame.clone()))))
    };
    let gone = error("404 Not Found", "NoSuchUpload");
    let acts = [Act::Drop(100_000), gone, Act::Drop(100_000), listed(), Act::Drop(100_000), Act::Drop(0)];
    let (script, store) = start(ProofConfig::Crc64nvme, acts).await;
    assert!(matches!(put(&store, 256 << 20, endless()).await, Err(StoreError::NoSuchUpload)));
    assert!(script.heads()[1].contains("max-parts=1 "), "{}", script.heads()[1]);
    for _ in 0..2 {
        assert_eq!(code(put(&store, 256 << 20, endless()).await), "unavailable: ConnectionReset");
    }
}

#[tokio::test]
async fn urls_are_given_out_for_the_public_endpoint() {
    let text = |text: &str| Some(text.to_owned());
    let s3 = S3Config {
        endpoint: text("http://10.0.0.7:9000"),
        public_endpoint: text("https://media.example.com"),
        bucket: text("bkt"),
        path_style: true,
        access_key_id: text("ak"),
        access_key_secret: Some(Secret::new("hush")),
        ..S3Config::default()
    };
    let config = StoreConfig { s3, ..StoreConfig::default() };
    let store = S3Store::new(&config, Arc::new(SystemClock::new()), &|_| None).expect("a store");
    let url = store.presign(&Method::GET, &key(), &[], Duration::from_secs(60)).await.expect("a URL");
    assert!(url.starts_with("https://media.example.com/bkt/dir/a.bin?X-Amz-Algorithm=AWS4-HMAC-SHA256&"), "{url}");
    assert!(url.contains("&X-Amz-Expires=60&") && !url.contains("hush"), "{url}");
    assert!(!format!("{store:?}").contains("hush"));
    let (key, session) = (key(), SessionId::new("U"));
    let part = store.sign_part(Target { key: &key, session: &session }, PartNumber::FIRST, Duration::from_secs(60));
    assert!(
        part.await
            .expect("signed")
            .is_some_and(|part| part.headers.is_empty() && part.url.contains("?partNumber=1&uploadId=U&X-Amz-"))
    );
}
