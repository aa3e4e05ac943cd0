//! The `s3` store against two servers that nobody here wrote, versitygw and
//! moto: with the suite that every store passes, and beneath a gateway.

mod gateway;
mod rotation;
pub(crate) mod servers;
mod starting;
mod straight;

use std::sync::Arc;
use std::time::Duration;

use chunkgate::clock::SystemClock;
use chunkgate::domain::{ObjectKey, PartNumber};
use chunkgate::store::s3::{ProofConfig, S3Config, S3Store};
use chunkgate::store::{
    Begin, NewPart, Proof, Store as _, StoreConfig, StoreError, StoreKind, Target, body_of, conformance,
};
use chunkgate::units::Secret;
use http::Method;

use servers::{KEY_ID, SECRET, Server};

fn store(server: &Server, proof: ProofConfig, secret: &str) -> Arc<S3Store> {
    let s3 = S3Config {
        endpoint: Some(server.endpoint.clone()),
        bucket: Some("bkt".to_owned()),
        access_key_id: Some(KEY_ID.to_owned()),
        access_key_secret: Some(Secret::new(secret)),
        proof,
        ..S3Config::default()
    };
    let config = StoreConfig { kind: StoreKind::S3, s3, ..StoreConfig::default() };
    Arc::new(S3Store::new(&config, Arc::new(SystemClock::new()), &|_| None).expect("the store opens"))
}

/// How many multipart uploads there are.
async fn uploads(store: &S3Store) -> usize {
    store.list_uploads("").await.expect("a list").len()
}

/// The suite, and by what the parts were proven in it.
async fn suite(server: &Server, proof: ProofConfig, expected: Proof) {
    let store = store(server, proof, SECRET);
    conformance::run(store.clone(), "suite").await;
    assert_eq!(store.limits().proof, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_passes_the_suite_on_versitygw() {
    let server = Server::versitygw().await;
    suite(&server, ProofConfig::Auto, Proof::Checksum("CRC64NVME")).await;
}

/// Without a checksum behind it, versitygw 1.8 keeps a body that broke off as a
/// part of the full size, so MD5 and size are not tried on it.
#[tokio::test(flavor = "multi_thread")]
async fn the_store_passes_the_suite_on_versitygw_with_other_checksums() {
    let server = Server::versitygw().await;
    suite(&server, ProofConfig::Crc32c, Proof::Checksum("CRC32C")).await;
    suite(&server, ProofConfig::Crc32, Proof::Checksum("CRC32")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_passes_the_suite_on_moto() {
    let server = Server::moto().await;
    suite(&server, ProofConfig::Auto, Proof::Md5Etag).await;
    suite(&server, ProofConfig::Size, Proof::SizeOnly).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_refused_and_said_so() {
    let server = Server::versitygw().await;
    let stranger = store(&server, ProofConfig::Auto, "wrong");
    let refused = stranger.check().await;
    let is_told = |refused: &StoreError| matches!(refused, StoreError::Refused(fault) if fault.code == "SignatureDoesNotMatch" && fault.request_id.is_some());
    assert!(refused.as_ref().is_err_and(is_told), "{refused:?}");
    // Whoever is not let in is not taken for one that proves nothing.
    let key = ObjectKey::parse("a").expect("a key");
    let refused = stranger.begin(Begin { key: &key, content_type: None, plan: None, direct: false }).await;
    assert!(refused.as_ref().is_err_and(is_told), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_may_be_as_strange_as_a_template_makes_them() {
    for server in [Server::versitygw().await, Server::moto().await] {
        let store = store(&server, ProofConfig::Auto, SECRET);
        for name in ["dir/a+b c~é.bin", "报告/%2F#&=.txt", "a b/*'()!;:@$,[]\"<>"] {
            let key = ObjectKey::parse(name).expect(name);
            store.put(&key, Some("text/plain; charset=utf-8"), 3, body_of("abc")).await.expect(name);
            let head = store.head(&key).await.expect(name).expect(name);
            assert_eq!(head.bytes, 3, "{name}");
            assert_eq!(head.content_type.as_deref(), Some("text/plain; charset=utf-8"));
            let session =
                store.begin(Begin { key: &key, content_type: None, plan: None, direct: false }).await.expect(name);
            let prefix: String = name.chars().take(4).collect();
            let listed = store.list_uploads(&prefix).await.expect(name);
            assert_eq!(listed.iter().map(|upload| upload.key.as_str()).collect::<Vec<_>>(), [name], "{}", server.name);
            assert!(listed[0].begun_at.is_some());
            store.abort(Target { key: &key, session: &session }).await.expect(name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_presigned_url_works_for_whoever_has_it() {
    let server = Server::versitygw().await;
    let store = store(&server, ProofConfig::Auto, SECRET);
    let key = ObjectKey::parse("dir/a+b c~é.bin").expect("a key");
    let http = crate::harness::client();
    let presign = async |method, query: &[(String, String)]| {
        store.presign(&method, &key, query, Duration::from_secs(60)).await.expect("a URL")
    };
    assert_eq!(http.put(presign(Method::PUT, &[]).await).body("abc").send().await.expect("an answer").status(), 200);
    let name = [("response-content-disposition".to_owned(), "attachment; filename=\"a b.bin\"".to_owned())];
    let get = presign(Method::GET, &name).await;
    let answer = http.get(&get).send().await.expect("an answer");
    assert_eq!(answer.headers()["content-disposition"], "attachment; filename=\"a b.bin\"");
    assert_eq!(answer.text().await.expect("a text"), "abc");
    assert_eq!(http.delete(&get).send().await.expect("an answer").status(), 403);
    // A part of an upload.
    let session = store.begin(Begin { key: &key, content_type: None, plan: None, direct: false }).await.expect("begun");
    let target = Target { key: &key, session: &session };
    let signed =
        store.sign_part(target, PartNumber::FIRST, Duration::from_secs(60)).await.expect("signed").expect("a URL");
    assert_eq!(http.put(&signed.url).body("a part").send().await.expect("an answer").status(), 200);
    assert_eq!(
        http.put(signed.url.replace("partNumber=1", "partNumber=2")).send().await.expect("an answer").status(),
        403
    );
    let parts = store.list_parts(target).await.expect("parts");
    assert_eq!(parts.iter().map(|part| part.bytes).collect::<Vec<_>>(), [6]);
    store.complete(target, &parts).await.expect("joined");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_parts_than_one_page_holds_are_all_listed_and_small_ones_not_joined() {
    let server = Server::versitygw().await;
    let store = store(&server, ProofConfig::Auto, SECRET);
    let key = ObjectKey::parse("many").expect("a key");
    let session = store.begin(Begin { key: &key, content_type: None, plan: None, direct: false }).await.expect("begun");
    let target = Target { key: &key, session: &session };
    for number in (1..=1005).rev() {
        let number = PartNumber::new(number).expect("a number");
        store.put_part(target, NewPart { number, bytes: 3, body: body_of("abc") }).await.expect("a part");
    }
    let parts = store.list_parts(target).await.expect("parts");
    assert_eq!(parts.len(), 1005);
    assert!(parts.iter().zip(1..).all(|(part, number)| u32::from(part.number.get()) == number && part.bytes == 3));
    let refused = store.complete(target, &parts).await;
    assert!(matches!(refused, Err(StoreError::PartsDiffer(_))), "{refused:?}");
    store.abort(target).await.expect("given up");
}
