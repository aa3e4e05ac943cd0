//! Faults on purpose, as a client on the other end of a connection meets them.

use tokio::net::TcpListener;

use super::*;

struct Running {
    bucket: Bucket,
    url: String,
    client: reqwest::Client,
}

impl Running {
    async fn start(faults: &[&str]) -> Self {
        let fault = faults.iter().map(|text| text.parse().expect("a fault")).collect();
        let bucket = Bucket::with(EmulatorOptions { fault, fault_seed: Some(7), ..EmulatorOptions::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(crate::serve::serve(
            listener,
            bucket.emulator.router(),
            Emulator::serve_limits(),
            Default::default(),
        ));
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { bucket, url, client }
    }

    /// None where the connection ended without an answer.
    async fn send(&self, method: &str, key: &str, body: Vec<u8>) -> Option<(u16, HeaderMap, Bytes)> {
        let signed = self.bucket.signed(method, key, &[], Body::empty());
        let mut request = self.client.request(signed.method().clone(), format!("{}/bkt/{key}", self.url)).body(body);
        for (name, value) in signed.headers().iter().filter(|(name, _)| **name != HOST) {
            request = request.header(name, value);
        }
        let answer = request.send().await.ok()?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Some((status, headers, answer.bytes().await.ok()?))
    }
}

#[tokio::test]
async fn an_answer_is_lost_and_the_work_is_done() {
    let running = Running::start(&["lose-answer=PutObject"]).await;
    assert!(running.send("PUT", "k", b"hello".to_vec()).await.is_none());
    let (status, _, body) = running.send("GET", "k", vec![]).await.expect("only one operation is concerned");
    assert_eq!((status, &body[..]), (200, &b"hello"[..]));
    assert_eq!(running.bucket.emulator.faults().as_deref(), Some("1 with --fault-seed 7"));
}

#[tokio::test]
async fn a_connection_is_reset_and_nothing_is_done() {
    let running = Running::start(&["reset=PutObject"]).await;
    assert!(running.send("PUT", "k", vec![1; 8 << 20]).await.is_none());
    assert_eq!(running.send("GET", "k", vec![]).await.expect("an answer").0, 404);
}

#[tokio::test]
async fn a_byte_is_another_and_the_checksum_tells() {
    let running = Running::start(&["corrupt=PutObject"]).await;
    let (status, headers, _) = running.send("PUT", "k", b"hello".to_vec()).await.expect("an answer");
    assert_eq!(status, 200);
    assert_ne!(headers["x-oss-hash-crc64ecma"], Crc64::of(b"hello").to_string());
    let running = Running::start(&["corrupt=GetObject"]).await;
    running.send("PUT", "k", b"hello".to_vec()).await.expect("an answer");
    let (_, headers, body) = running.send("GET", "k", vec![]).await.expect("an answer");
    assert_eq!(
        (&body[..], headers["x-oss-hash-crc64ecma"].to_str().ok()),
        (&b"iello"[..], Some(&*Crc64::of(b"hello").to_string()))
    );
}

#[tokio::test]
async fn requests_are_slow_denied_and_refused() {
    let running = Running::start(&["slow=50ms:GetObject", "deny=DeleteObject", "error=503:PutObject"]).await;
    let code = |body: &Bytes| {
        String::from_utf8_lossy(body)
            .split_once("<Code>")
            .map(|(_, rest)| rest.split('<').next().unwrap_or_default().to_owned())
    };
    let (status, _, body) = running.send("PUT", "k", vec![1]).await.expect("an answer");
    assert_eq!((status, code(&body).as_deref()), (503, Some("ServiceUnavailable")));
    let (status, _, body) = running.send("DELETE", "k", vec![]).await.expect("an answer");
    assert_eq!((status, code(&body).as_deref()), (403, Some("AccessDenied")));
    let slow = tokio::time::timeout(Duration::from_millis(49), running.send("GET", "k", vec![]));
    assert!(slow.await.is_err(), "it was looked at in time");
}
