//! The `oss` store against the emulator: two independent halves of one
//! protocol, with the suite that every store passes.

use std::sync::Arc;
use std::time::Duration;

use chunkgate::clock::SystemClock;
use chunkgate::domain::{Crc64, ObjectKey, PartNumber};
use chunkgate::emulator::{Emulator, EmulatorConfig, EmulatorOptions};
use chunkgate::serve::{ServeLimits, serve};
use chunkgate::store::oss::{OssConfig, OssStore, SignatureVersion};
use chunkgate::store::{Begin, NewPart, Store, StoreConfig, StoreError, StoreKind, Target, body_of, conformance};
use chunkgate::units::Secret;
use http::Method;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// An emulator that stops when it is dropped, and a store that speaks to it.
struct Bucket {
    store: Arc<OssStore>,
    endpoint: String,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Bucket {
    async fn start(signature: SignatureVersion) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let listen = listener.local_addr().expect("an address");
        let config = EmulatorConfig {
            listen,
            bucket: "bkt".to_owned(),
            access_key_id: "ak".to_owned(),
            access_key_secret: Secret::new("sk"),
            region: "cn-hangzhou".to_owned(),
            data_dir: folder.path().to_owned(),
            options: EmulatorOptions::default(),
        };
        let emulator = Emulator::open(config, Arc::new(SystemClock::new())).expect("the emulator opens");
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, emulator.router(), ServeLimits::default(), stop.clone()));
        let endpoint = listen.to_string();
        let store = Arc::new(open(&endpoint, signature, "sk").expect("the store opens"));
        Self { store, endpoint, stop, _folder: folder }
    }
}

fn open(endpoint: &str, signature: SignatureVersion, secret: &str) -> Result<OssStore, String> {
    let oss = OssConfig {
        endpoint: Some(endpoint.to_owned()),
        bucket: Some("bkt".to_owned()),
        region: Some("cn-hangzhou".to_owned()),
        access_key_id: Some("ak".to_owned()),
        access_key_secret: Some(Secret::new(secret)),
        signature,
        ..OssConfig::default()
    };
    let config = StoreConfig { kind: StoreKind::Oss, oss, ..StoreConfig::default() };
    OssStore::new(&config, Arc::new(SystemClock::new()), &|_| None)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_passes_the_suite_with_v4_signatures() {
    let bucket = Bucket::start(SignatureVersion::V4).await;
    conformance::run(bucket.store.clone(), "suite").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_passes_the_suite_with_v1_signatures() {
    let bucket = Bucket::start(SignatureVersion::V1).await;
    conformance::run(bucket.store.clone(), "suite").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_refused_and_said_so() {
    let bucket = Bucket::start(SignatureVersion::V4).await;
    for signature in [SignatureVersion::V4, SignatureVersion::V1] {
        let stranger = open(&bucket.endpoint, signature, "wrong").expect("the store opens");
        let refused = stranger.check().await;
        assert!(
            matches!(&refused, Err(StoreError::Refused(fault)) if fault.code == "SignatureDoesNotMatch"),
            "{refused:?}"
        );
        let key = ObjectKey::parse("a").expect("a key");
        let refused = stranger.head(&key).await;
        assert!(
            matches!(&refused, Err(StoreError::Refused(fault)) if fault.code == "SignatureDoesNotMatch"),
            "{refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_may_be_as_strange_as_a_template_makes_them() {
    for signature in [SignatureVersion::V4, SignatureVersion::V1] {
        let bucket = Bucket::start(signature).await;
        for name in ["dir/a+b c~é.bin", "报告/%2F?#&=.txt", "a b/*'()!;:@$,[]\"<>", ".../..a"] {
            let key = ObjectKey::parse(name).expect(name);
            bucket.store.put(&key, Some("text/plain; charset=utf-8"), 3, body_of("abc")).await.expect(name);
            let head = bucket.store.head(&key).await.expect(name).expect(name);
            assert_eq!((head.bytes, head.crc64), (3, Some(Crc64::of(b"abc"))), "{name}");
            assert_eq!(head.content_type.as_deref(), Some("text/plain; charset=utf-8"));
            bucket.store.begin(Begin { key: &key, content_type: None, plan: None, direct: false }).await.expect(name);
            let prefix: String = name.chars().take(4).collect();
            let listed = bucket.store.list_uploads(&prefix).await.expect(name);
            assert_eq!(listed.iter().map(|upload| upload.key.as_str()).collect::<Vec<_>>(), [name]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_presigned_url_works_for_whoever_has_it() {
    for signature in [SignatureVersion::V4, SignatureVersion::V1] {
        let bucket = Bucket::start(signature).await;
        let key = ObjectKey::parse("dir/a+b c~é.bin").expect("a key");
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let life = Duration::from_secs(60);
        let put = bucket.store.presign(&Method::PUT, &key, &[], life).await.expect("signed");
        assert_eq!(http.put(&put).body("abc").send().await.expect("an answer").status(), 200);
        let name = [("response-content-disposition".to_owned(), "attachment; filename=\"a b.bin\"".to_owned())];
        let get = bucket.store.presign(&Method::GET, &key, &name, life).await.expect("signed");
        let answer = http.get(&get).send().await.expect("an answer");
        assert_eq!(answer.headers()["content-disposition"], "attachment; filename=\"a b.bin\"");
        assert_eq!(answer.text().await.expect("a text"), "abc");
        assert_eq!(http.delete(&get).send().await.expect("an answer").status(), 403);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_parts_than_one_page_holds_are_all_listed() {
    let bucket = Bucket::start(SignatureVersion::V4).await;
    let key = ObjectKey::parse("many").expect("a key");
    let session =
        bucket.store.begin(Begin { key: &key, content_type: None, plan: None, direct: false }).await.expect("begun");
    let target = Target { key: &key, session: &session };
    for number in (1..=1005).rev() {
        let number = PartNumber::new(number).expect("a number");
        bucket.store.put_part(target, NewPart { number, bytes: 3, body: body_of("abc") }).await.expect("a part");
    }
    let parts = bucket.store.list_parts(target).await.expect("parts");
    assert_eq!(parts.len(), 1005);
    assert!(parts.iter().zip(1..).all(|(part, number)| u32::from(part.number.get()) == number && part.bytes == 3));
    // Too small to be joined: checked by OSS only now.
    let refused = bucket.store.complete(target, &parts).await;
    assert!(matches!(refused, Err(StoreError::PartsDiffer(_))), "{refused:?}");
}
