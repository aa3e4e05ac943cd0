//! What no well-behaved server does: stalls, resets, answers that come too
//! early or never, and errors in the clothes of success.

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::clock::SystemClock;
use crate::domain::{Crc64, PartNumber};
use crate::store::oss::{Acl, Encryption, ObjectConfig, OssConfig, SignatureVersion, StorageClass};
use crate::store::remote::script::{Act, Script};
use crate::store::{BodyBroken, StoreKind, body_of};
use crate::units::Secret;

const SHORT: Duration = Duration::from_millis(250);
const LONG: Duration = Duration::from_secs(20);

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn error(status: &str, code: &str) -> Act {
    Act::Answer(answer(status, "", &format!("<Error><Code>{code}</Code></Error>")))
}

fn stored() -> String {
    answer("200 OK", "ETag: \"AB\"\r\nx-oss-hash-crc64ecma: 42\r\n", "")
}

fn begun() -> Act {
    let xml = "<InitiateMultipartUploadResult><UploadId>U</UploadId></InitiateMultipartUploadResult>";
    Act::Answer(answer("200 OK", "", xml))
}

fn config(endpoint: &str) -> StoreConfig {
    StoreConfig {
        kind: StoreKind::Oss,
        oss: OssConfig {
            endpoint: Some(endpoint.to_owned()),
            bucket: Some("bkt".to_owned()),
            region: Some("cn-hangzhou".to_owned()),
            access_key_id: Some("ak".to_owned()),
            access_key_secret: Some(Secret::new("hush")),
            ..OssConfig::default()
        },
        connect_timeout: SHORT * 4,
        first_byte_timeout: SHORT,
        idle_timeout: SHORT,
        retries: 2,
        ..StoreConfig::default()
    }
}

fn store_at(endpoint: &str) -> OssStore {
    OssStore::new(&config(endpoint), Arc::new(SystemClock::new()), &|_| None).expect("a store")
}

async fn start(acts: impl IntoIterator<Item = Act>) -> (Arc<Script>, OssStore) {
    let (script, endpoint) = Script::start(acts).await;
    (script, store_at(&endpoint))
}

fn key() -> ObjectKey {
    ObjectKey::parse("dir/a.bin").expect("a key")
}

async fn begin(store: &OssStore) -> Result<SessionId, StoreError> {
    store.begin(Begin { key: &key(), content_type: Some("text/plain"), plan: None, direct: false }).await
}

async fn put(store: &OssStore, bytes: u64, body: Body) -> Result<StoredPart, StoreError> {
    let (key, session) = (key(), SessionId::new("U"));
    let number = PartNumber::new(7).expect("a number");
    store.put_part(Target { key: &key, session: &session }, NewPart { number, bytes, body }).await
}

async fn complete(store: &OssStore) -> Result<Joined, StoreError> {
    let (key, session) = (key(), SessionId::new("U"));
    let number = PartNumber::new(1).expect("a number");
    let part = Part { number, bytes: 3, etag: "AB".to_owned(), crc64: None };
    store.complete(Target { key: &key, session: &session }, &[part]).await
}

/// A client that sends what it is told to; it learns when nobody listens.
fn client() -> (mpsc::Sender<Result<Bytes, BodyBroken>>, Body) {
    let (send, receive) = mpsc::channel(1);
    let body = stream::unfold(receive, |mut from| async move { from.recv().await.map(|frame| (frame, from)) });
    (send, body.boxed())
}

/// So much that no socket's buffer holds it.
fn endless() -> (u64, Body) {
    let frame = Bytes::from(vec![7; 256 << 10]);
    (256 << 20, stream::iter((0..1024).map(move |_| Ok(frame.clone()))).boxed())
}

fn code<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result.expect_err("an error") {
        StoreError::Unavailable(fault) => format!("unavailable: {}", fault.code),
        StoreError::Refused(fault) => format!("refused: {}", fault.code),
        StoreError::PartsDiffer(text) => format!("parts differ: {text}"),
        error @ (StoreError::Body | StoreError::NoSuchUpload | StoreError::NoSuchObject | StoreError::Full) => {
            error.to_string()
        }
    }
}

#[tokio::test]
async fn a_part_goes_out_with_its_exact_length_and_comes_back_with_its_proof() {
    let (script, store) = start([begun(), Act::Answer(stored()), Act::Answer(stored())]).await;
    assert_eq!(begin(&store).await.ok(), Some(SessionId::new("U")));
    let part = put(&store, 3, body_of("abc")).await.expect("a part");
    assert_eq!(part, StoredPart { etag: "AB".to_owned(), crc64: Some(Crc64(42)) });
    put(&store, 0, body_of("")).await.expect("an empty part");
    let heads = script.heads();
    assert!(heads[0].starts_with("POST /bkt/dir/a.bin?uploads&encoding-type=url HTTP/1.1\r\n"), "{}", heads[0]);
    assert!(heads[0].contains("content-length: 0\r\n") && heads[0].contains("content-type: text/plain\r\n"));
    assert!(heads[1].starts_with("PUT /bkt/dir/a.bin?partNumber=7&uploadId=U HTTP/1.1\r\n"), "{}", heads[1]);
    assert!(heads[1].contains("content-length: 3\r\n") && !heads[1].contains("transfer-encoding"));
    assert!(heads[1].contains("authorization: OSS4-HMAC-SHA256 Credential=ak/"), "{}", heads[1]);
    assert!(heads[2].contains("content-length: 0\r\n"), "{}", heads[2]);
}

#[tokio::test]
async fn a_client_slower_than_the_timeouts_does_not_trip_them() {
    let (_script, store) = start([Act::Answer(stored())]).await;
    let (send, body) = client();
    let sending = tokio::spawn(async move {
        for _ in 0..3 {
            sleep(SHORT * 2).await;
            send.send(Ok(Bytes::from_static(b"a"))).await.expect("somebody listens");
        }
        sleep(SHORT * 2).await;
    });
    assert!(put(&store, 3, body).await.is_ok());
    assert!(sending.await.is_ok());
}

#[tokio::test]
async fn a_store_that_stops_reading_is_given_up() {
    let (_script, store) = start([Act::StopReading(1000)]).await;
    let (bytes, body) = endless();
    let began = Instant::now();
    assert_eq!(code(put(&store, bytes, body).await), "unavailable: IdleTimeout");
    assert!(began.elapsed() >= SHORT && began.elapsed() < LONG / 2);
}

#[tokio::test]
async fn a_store_that_never_answers_is_given_up() {
    let (script, store) = start((0..4).map(|_| Act::KeepSilent)).await;
    assert_eq!(code(put(&store, 3, body_of("abc")).await), "unavailable: FirstByteTimeout");
    assert_eq!(script.heads().len(), 1);
    // Calls without a streamed body are repeated, though.
    assert_eq!(code(store.delete(&key()).await), "unavailable: FirstByteTimeout");
    assert_eq!(script.heads().len(), 4);
}

#[tokio::test]
async fn a_call_that_is_dropped_drops_its_connection_and_its_client() {
    let (script, store) = start([Act::Answer(stored())]).await;
    let (send, body) = client();
    send.send(Ok(Bytes::from_static(b"abc"))).await.expect("somebody listens");
    let gone = timeout(SHORT, put(&store, 1000, body)).await;
    assert!(gone.is_err());
    assert!(send.is_closed());
    sleep(SHORT).await;
    assert_eq!(script.seen.lock().expect("unpoisoned").cut_short, [3]);
}

#[tokio::test]
async fn a_broken_body_drops_the_connection_and_is_nobody_elses_fault() {
    let (script, store) = start([Act::Answer(stored()), Act::Answer(stored())]).await;
    let (send, body) = client();
    let sending = tokio::spawn(async move {
        send.send(Ok(Bytes::from_static(b"abc"))).await.expect("somebody listens");
        sleep(SHORT / 4).await;
        send.send(Err(BodyBroken)).await.expect("somebody listens");
    });
    assert_eq!(code(put(&store, 10, body).await), "the body broke off");
    assert!(sending.await.is_ok());
    // All announced bytes came, and were then found wrong: the last frame
    // never left.
    let wrong = stream::iter([Ok(Bytes::from_static(b"abc")), Err(BodyBroken)]).boxed();
    assert_eq!(code(put(&store, 3, wrong).await), "the body broke off");
    let broken_at_once = stream::iter([Err(BodyBroken)]).boxed();
    assert_eq!(code(put(&store, 0, broken_at_once).await), "the body broke off");
    sleep(SHORT).await;
    let seen = script.seen.lock().expect("unpoisoned");
    assert!(seen.cut_short.iter().all(|bytes| *bytes <= 3), "{:?}", seen.cut_short);
    assert_eq!(seen.cut_short.len(), seen.heads.len());
}

#[tokio::test]
async fn a_connection_that_breaks_is_worth_another_try_by_the_client() {
    let (_script, store) = start([Act::Drop(100_000), Act::Drop(0)]).await;
    let (bytes, body) = endless();
    assert_eq!(code(put(&store, bytes, body).await), "unavailable: ConnectionReset");
    assert_eq!(code(put(&store, 3, body_of("abc")).await), "unavailable: ConnectionReset");
    let nobody = store_at("127.0.0.1:1");
    assert_eq!(code(put(&nobody, 3, body_of("abc")).await), "unavailable: ConnectFailed");
}

#[tokio::test]
async fn an_early_refusal_lets_go_of_the_client() {
    let refusal = answer("403 Forbidden", "", "<Error><Code>AccessDenied</Code></Error>");
    let (_script, store) = start([Act::AnswerEarly(refusal)]).await;
    let (send, body) = client();
    send.send(Ok(Bytes::from_static(b"abc"))).await.expect("somebody listens");
    assert_eq!(code(put(&store, 1000, body).await), "refused: AccessDenied");
    assert!(send.is_closed());

    // Success, with half of the body still to come, is none.
    let (_script, store) = start([Act::AnswerEarly(stored())]).await;
    let (send, body) = client();
    send.send(Ok(Bytes::from_static(b"abc"))).await.expect("somebody listens");
    assert_eq!(code(put(&store, 1000, body).await), "unavailable: EarlyAnswer");
    assert!(send.is_closed());
}

#[tokio::test]
async fn a_call_is_repeated_and_a_streamed_body_is_not() {
    let busy = || error("503 Service Unavailable", "ServiceUnavailable");
    let (script, store) = start([busy(), Act::Drop(0), begun(), busy(), Act::Drop(0), busy(), begun()]).await;
    assert!(store.delete(&key()).await.is_ok());
    assert_eq!(script.heads().len(), 3);
    assert_eq!(code(put(&store, 3, body_of("abc")).await), "unavailable: ServiceUnavailable");
    assert_eq!(script.heads().len(), 4);
    // Nor is what may have begun something that its caller must count.
    assert_eq!(code(begin(&store).await), "unavailable: ConnectionReset");
    assert_eq!(script.heads().len(), 5);
    // What the store was too busy to begin is asked for again.
    assert!(begin(&store).await.is_ok());
    assert_eq!(script.heads().len(), 7);

    let (script, store) = start([error("403 Forbidden", "AccessDenied")]).await;
    assert_eq!(code(begin(&store).await), "refused: AccessDenied");
    assert_eq!(script.heads().len(), 1);
}

#[tokio::test]
async fn an_error_in_the_clothes_of_success_is_an_error() {
    let internal = || error("200 OK", "InternalError");
    let (script, store) = start([internal(), internal(), internal()]).await;
    assert_eq!(code(complete(&store).await), "unavailable: InternalError");
    assert_eq!(script.heads().len(), 3);
    let (script, store) = start([error("203 Callback Failed", "CallbackFailed")]).await;
    assert_eq!(code(complete(&store).await), "unavailable: CallbackFailed");
    assert_eq!(script.heads().len(), 1);
    let (_, store) = start([error("400 Bad Request", "InvalidPart")]).await;
    assert_eq!(code(complete(&store).await), "parts differ: CompleteMultipartUpload: InvalidPart (status 400)");
    let (_, store) = start([Act::Answer(answer("200 OK", "", "<html/>"))]).await;
    assert_eq!(code(complete(&store).await), "unavailable: UnreadableAnswer");
}

#[tokio::test]
async fn the_stores_clock_is_learnt() {
    let dated = |status, body: &str| Act::Answer(answer(status, "Date: Sat, 20 Nov 2027 09:11:08 GMT\r\n", body));
    let skewed = "<Error><Code>RequestTimeTooSkewed</Code></Error>";
    let head = || dated("200 OK", "");
    // By a refusal of a call without a streamed body, which is then repeated …
    let (script, store) = start([dated("403 Forbidden", skewed), head()]).await;
    assert!(store.delete(&key()).await.is_ok());
    assert!(!script.heads()[0].contains("x-oss-date: 20271120T0911"));
    assert!(script.heads()[1].contains("x-oss-date: 20271120T0911"), "{}", script.heads()[1]);
    // … or of one with such a body, which is not …
    let (script, store) = start([dated("403 Forbidden", skewed), Act::Answer(stored())]).await;
    assert_eq!(code(put(&store, 3, body_of("abc")).await), "unavailable: RequestTimeTooSkewed");
    assert!(put(&store, 3, body_of("abc")).await.is_ok());
    assert!(script.heads()[1].contains("x-oss-date: 20271120T0911"), "{}", script.heads()[1]);
    // … or by any answer that came at once.
    let (script, store) = start([head(), Act::Answer(stored())]).await;
    assert!(store.delete(&key()).await.is_ok());
    assert!(put(&store, 3, body_of("abc")).await.is_ok());
    assert!(script.heads()[1].contains("x-oss-date: 20271120T0911"), "{}", script.heads()[1]);
}

#[tokio::test]
async fn an_object_is_read_in_full_or_not_at_all() {
    let range = "Content-Range: bytes 2-4/10\r\nETag: \"AB\"\r\n";
    let (script, store) = start([
        Act::Answer(answer("206 Partial Content", range, "cde")),
        Act::Answer(answer("200 OK", "", "abcdefghij")),
        Act::AnswerPart("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_owned()),
        Act::AnswerEarly("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_owned()),
    ])
    .await;
    let mut reading = store.get(&key(), Some(2..5)).await.expect("a range");
    assert_eq!(reading.object.bytes, 10);
    sleep(SHORT * 2).await; // a slow reader is no fault of the store's
    assert_eq!(reading.stream.next().await.and_then(Result::ok), Some(Bytes::from_static(b"cde")));
    assert!(reading.stream.next().await.is_none());
    assert!(script.heads()[0].contains("range: bytes=2-4\r\n"), "{}", script.heads()[0]);

    // OSS ignores ranges that it does not like.
    assert_eq!(code(store.get(&key(), Some(2..5)).await), "unavailable: UnreadableAnswer");

    let mut reading = store.get(&key(), None).await.expect("an object");
    assert_eq!(reading.stream.next().await.and_then(Result::ok), Some(Bytes::from_static(b"abc")));
    let late = reading.stream.next().await.expect("an error");
    assert_eq!(code(late), "unavailable: IdleTimeout");
    assert!(reading.stream.next().await.is_none());
    let mut reading = store.get(&key(), None).await.expect("an object");
    assert_eq!(reading.stream.next().await.and_then(Result::ok), Some(Bytes::from_static(b"abc")));
    let cut = reading.stream.next().await.expect("an error");
    assert_eq!(code(cut), "unavailable: ConnectionReset");
}

#[tokio::test]
async fn lists_are_read_to_their_last_page_and_never_in_circles() {
    let page = |number: u32, truncated: bool| {
        Act::Answer(answer(
            "200 OK",
            "",
            &format!(
                "<ListPartsResult><NextPartNumberMarker>{number}</NextPartNumberMarker><IsTruncated>{truncated}</IsTruncated>\
                 <Part><PartNumber>{number}</PartNumber><ETag>\"E\"</ETag><Size>5</Size></Part></ListPartsResult>"
            ),
        ))
    };
    let (key, session) = (key(), SessionId::new("U"));
    let target = Target { key: &key, session: &session };
    let (script, store) = start([page(1, true), page(2, true), page(9, false)]).await;
    let parts = store.list_parts(target).await.expect("parts");
    assert_eq!(parts.iter().map(|part| part.number.get()).collect::<Vec<_>>(), [1, 2, 9]);
    assert!(script.heads()[2].contains("part-number-marker=2 "), "{}", script.heads()[2]);
    let (_script, store) = start([page(1, true), page(1, true)]).await;
    assert_eq!(code(store.list_parts(target).await), "unavailable: UnreadableAnswer");
    let (_script, store) = start([error("404 Not Found", "NoSuchUpload")]).await;
    assert!(matches!(store.list_parts(target).await, Err(StoreError::NoSuchUpload)));
}

#[tokio::test]
async fn an_answer_has_a_bound() {
    let huge = answer("200 OK", "", &"x".repeat((4 << 20) + 1));
    let (_script, store) = start([Act::Answer(huge)]).await;
    assert_eq!(code(begin(&store).await), "unavailable: AnswerTooLarge");
    let (_script, store) = start([Act::AnswerPart("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<".to_owned())]).await;
    let once = store.check().await;
    assert_eq!(code(once), "unavailable: IdleTimeout");
}

#[test]
fn what_is_missing_is_named() {
    let open = |change: &dyn Fn(&mut OssConfig), env: &dyn Fn(&str) -> Option<String>| {
        let mut config = config("oss-cn-beijing");
        config.oss.region = None;
        change(&mut config.oss);
        OssStore::new(&config, Arc::new(SystemClock::new()), env)
    };
    let none = |_: &str| None;
    assert!(open(&|_| {}, &none).is_ok());
    let missing = |change: &dyn Fn(&mut OssConfig)| open(change, &none).expect_err("an error");
    assert!(missing(&|oss| oss.endpoint = None).contains("store.oss.endpoint"));
    assert!(missing(&|oss| oss.bucket = None).contains("store.oss.bucket"));
    assert!(missing(&|oss| oss.endpoint = Some("oss-accelerate".to_owned())).contains("store.oss.region"));
    assert!(missing(&|oss| oss.access_key_id = None).contains("OSS_ACCESS_KEY_ID"));
    assert!(missing(&|oss| oss.access_key_secret = None).contains("store.oss.access_key_secret"));
    let accelerated = |oss: &mut OssConfig| {
        oss.endpoint = Some("oss-accelerate".to_owned());
        oss.signature = SignatureVersion::V1;
    };
    assert!(open(&accelerated, &none).is_ok());
    let env = |name: &str| Some(format!("env-{name}"));
    let from_env = |oss: &mut OssConfig| (oss.access_key_id, oss.access_key_secret) = (None, None);
    let store = open(&from_env, &env).expect("a store");
    assert!(!format!("{store:?}").contains("env-"));
}

#[tokio::test]
async fn urls_are_given_out_for_the_public_endpoint() {
    let mut config = config("oss-cn-beijing-internal");
    config.oss.public_endpoint = Some("oss-cn-beijing".to_owned());
    let store = OssStore::new(&config, Arc::new(SystemClock::new()), &|_| None).expect("a store");
    let url = store.presign(&Method::GET, &key(), &[], Duration::from_secs(60)).await.expect("signed");
    assert!(url.starts_with("https://bkt.oss-cn-beijing.aliyuncs.com/dir/a.bin?x-oss-signature-version="), "{url}");
    assert!(url.contains("&x-oss-expires=60&") && !url.contains("hush"), "{url}");
}

/// What an object is made with is said to the calls that take it, and to no part.
#[tokio::test]
async fn what_objects_are_made_with_is_said_once() {
    let done =
        answer("200 OK", "", "<CompleteMultipartUploadResult><ETag>\"E\"</ETag></CompleteMultipartUploadResult>");
    let acts = [begun(), Act::Answer(stored()), Act::Answer(done), Act::Answer(stored())];
    let (script, endpoint) = Script::start(acts).await;
    let mut config = config(&endpoint);
    config.oss.object = ObjectConfig {
        storage_class: Some(StorageClass::IA),
        encryption: Some(Encryption::Aes256),
        acl: Some(Acl::Private),
        metadata: vec!["team=video".to_owned()],
        forbid_overwrite: true,
        ..ObjectConfig::default()
    };
    let store = OssStore::new(&config, Arc::new(SystemClock::new()), &|_| None).expect("a store");
    begin(&store).await.expect("begun");
    put(&store, 3, body_of("abc")).await.expect("stored");
    complete(&store).await.expect("completed");
    store.put(&key(), Some("text/plain"), 3, body_of("abc")).await.expect("stored");
    let says = |nth: usize| {
        let head = script.heads()[nth].to_ascii_lowercase();
        let own = ["storage-class", "server-side-encryption", "meta-team", "forbid-overwrite", "object-acl"];
        own.map(|name| head.contains(&format!("\r\nx-oss-{name}: ")))
    };
    assert_eq!(says(0), [true, true, true, true, false], "InitiateMultipartUpload");
    assert_eq!(says(1), [false; 5], "UploadPart");
    assert_eq!(says(2), [false, false, false, true, true], "CompleteMultipartUpload");
    assert_eq!(says(3), [true; 5], "PutObject");
}

/// That there is an object may be the answer to a repetition: HEAD decides.
#[tokio::test]
async fn an_object_that_is_there_already_is_looked_at() {
    let (_, store) =
        start([error("409 Conflict", "FileAlreadyExists"), error("409 Conflict", "FileAlreadyExists")]).await;
    assert!(matches!(complete(&store).await, Err(StoreError::NoSuchUpload)));
    assert_eq!(code(put(&store, 3, body_of("abc")).await), "refused: FileAlreadyExists");
}

#[tokio::test]
async fn what_is_internal_is_told_from_a_wrong_name() {
    let told = async |endpoint: &str| {
        let store = OssStore::new(&config(endpoint), Arc::new(SystemClock::new()), &|_| None).expect("a store");
        store.check().await.expect_err("nobody is there").to_string()
    };
    let wrong = told("http://oss-cn-hangzhou-internal.oss.invalid").await;
    assert!(wrong.contains("NameNotResolved") && wrong.contains("typing error"), "{wrong}");
    // An address of ours that nobody listens at, called as an internal one is.
    let store =
        OssStore::new(&config("http://oss-cn-hangzhou-internal.aliyuncs.com"), Arc::new(SystemClock::new()), &|_| None)
            .expect("a store");
    for code in ["ConnectTimeout", "ConnectFailed"] {
        let call = Call::new("UploadPart", Method::PUT, None);
        let told = store.client.explained(call.unavailable(code, "")).to_string();
        assert!(told.contains("store.oss.endpoint = \"oss-cn-hangzhou.aliyuncs.com\""), "{told}");
    }
}
