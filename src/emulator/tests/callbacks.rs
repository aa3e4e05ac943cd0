//! Upload callbacks, to a receiver that checks them as OSS's receivers do.

use std::sync::Mutex;

use rsa::RsaPublicKey;
use rsa::pkcs8::DecodePublicKey as _;
use tokio::net::TcpListener;

use super::*;
use crate::store::oss::sign::callback;

/// Whom a callback tells, and what it was told.
struct Receiver {
    url: String,
    told: Arc<Mutex<Vec<(http::request::Parts, Bytes)>>>,
}

impl Receiver {
    /// Answers `/good?…` well, `/text` with no JSON, and all else with a 500.
    async fn start() -> Self {
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let router = Router::new().fallback(move |request: Request| {
            let heard = Arc::clone(&heard);
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.expect("a body").to_bytes();
                let (status, said) = match head.uri.path() {
                    "/good%20path" => (200, "{\"stored\":true}"),
                    "/text" => (200, "thank you"),
                    _ => (500, "{}"),
                };
                heard.lock().expect("no panic").push((head, body));
                http::Response::builder().status(status).body(Body::from(said)).expect("an answer")
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(crate::serve::serve(listener, router, ServeLimits::default(), Default::default()));
        Self { url, told }
    }
}

fn parameter(url: &str) -> String {
    STANDARD.encode(format!("{{\"callbackUrl\":\"{url}\",\"callbackBody\":\"key=${{object}}&size=${{size}}\"}}"))
}

#[tokio::test]
async fn a_receiver_is_told_and_answers_the_uploader() {
    let (bucket, receiver) = (Bucket::new(), Receiver::start().await);
    let good = parameter(&format!("{}/bad;{}/good%20path?id=1", receiver.url, receiver.url));
    let answer = bucket.call_with("PUT", "a b", &[("x-oss-callback", &good)], "hello").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "{\"stored\":true}"));
    assert!(!answer.header("etag").is_empty());
    let told = std::mem::take(&mut *receiver.told.lock().expect("no panic"));
    assert_eq!(told.len(), 2, "the second after the first failed");
    let (head, body) = &told[1];
    assert_eq!(&body[..], b"key=a%20b&size=5");
    assert_eq!(head.headers["x-oss-bucket"], "bkt");

    // As a receiver checks it: the key from where it is said to be.
    let url = STANDARD.decode(&head.headers[callback::KEY_URL_HEADER]).expect("base64");
    assert_eq!(url, b"http://127.0.0.1:0/-/callback_pub_key_v1.pem");
    let request = http::Request::builder().uri("/-/callback_pub_key_v1.pem").header(HOST, "127.0.0.1:9000");
    let pem = bucket.send(request.body(Body::empty()).expect("a request")).await;
    let key = RsaPublicKey::from_public_key_pem(pem.text()).expect("a key");
    let signature = STANDARD.decode(&head.headers[callback::SIGNATURE_HEADER]).expect("base64");
    assert!(callback::verify(&key, &signature, "/good%20path?id=1", body));
    assert!(!callback::verify(&key, &signature, "/good%20path?id=2", body));
    let bucket = bucket.reopened();
    let request = http::Request::builder().uri("/-/callback_pub_key_v1.pem").header(HOST, "127.0.0.1:9000");
    let again = bucket.send(request.body(Body::empty()).expect("a request")).await;
    assert_eq!(again.text(), pem.text(), "the key is kept");
}

#[tokio::test]
async fn a_receiver_that_fails_leaves_the_object() {
    let (bucket, receiver) = (Bucket::new(), Receiver::start().await);
    for (path, key) in [("/bad", "bad"), ("/text", "text")] {
        let failing = parameter(&format!("{}{path}", receiver.url));
        let answer = bucket.call_with("PUT", key, &[("x-oss-callback", &failing)], "hello").await;
        assert_eq!((answer.status.as_u16(), answer.element("Code")), (203, "CallbackFailed"));
        assert_eq!(bucket.call("GET", key, "").await.text(), "hello");
    }
    let nobody = parameter("127.0.0.1:9");
    let id = bucket.initiate("m").await;
    let etag = bucket.part("m", &id, 1, vec![1; 9]).await.header("etag").to_owned();
    let (target, parts) = (format!("m?uploadId={id}"), listed(&[(1, &etag)]));
    let answer = bucket.call_with("POST", &target, &[("x-oss-callback", &nobody)], &parts).await;
    assert_eq!(answer.status.as_u16(), 203);
    assert_eq!(bucket.call("HEAD", "m", "").await.header("content-length"), "9");
}
