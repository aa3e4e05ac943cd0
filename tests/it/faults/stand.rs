//! A gateway whose store can be made to misbehave.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chunkgate::clock::SystemClock;
use chunkgate::domain::{ObjectKey, PartNumber, SessionId};
use chunkgate::store::oss::{OssConfig, OssStore};
use chunkgate::store::{Begin, NewPart, Store as _, StoreConfig, StoreKind, Target, body_of};
use chunkgate::units::Secret;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Answer, Emulator, Gateway, On, sha256};
use crate::oss_proxy::OssProxy;
use crate::postgres;

/// Which database the gateway has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    Sqlite,
    Postgres,
}

impl Database {
    pub(crate) const BOTH: [Self; 2] = [Self::Sqlite, Self::Postgres];
}

/// A gateway, a proxy before its store, and the store itself.
pub(crate) struct Stand {
    pub(crate) gateway: Gateway,
    pub(crate) proxy: OssProxy,
    pub(crate) emulator: Emulator,
    /// Somebody else who may write to the bucket.
    pub(crate) bucket: Bucket,
    _folder: TempDir,
}

impl Stand {
    pub(crate) async fn start(database: Database) -> Self {
        Self::start_with(database, &[]).await
    }

    pub(crate) async fn start_with(database: Database, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let emulator = Emulator::start(folder.path()).await;
        let proxy = OssProxy::before(emulator.address).await;
        let mut environment = emulator.environment();
        environment.push(("STORE__OSS__ENDPOINT".to_owned(), format!("http://{}", proxy.address)));
        environment.push(("UPLOAD__LEASE".to_owned(), "3s".to_owned()));
        if database == Database::Postgres {
            environment.push(("DATABASE__URL".to_owned(), postgres::new_database().await));
        }
        environment.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let settings: Vec<_> = environment.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let gateway = Gateway::start_with(On::FileAndSqlite, &settings).await;
        let bucket = Bucket::of(&emulator);
        Self { gateway, proxy, emulator, bucket, _folder: folder }
    }
}

/// The bucket without a gateway and without the proxy.
pub(crate) struct Bucket(OssStore);

impl Bucket {
    fn of(emulator: &Emulator) -> Self {
        let oss = OssConfig {
            endpoint: Some(emulator.address.to_string()),
            bucket: Some("bkt".to_owned()),
            region: Some("cn-hangzhou".to_owned()),
            access_key_id: Some("ak".to_owned()),
            access_key_secret: Some(Secret::new("sk")),
            ..OssConfig::default()
        };
        let config = StoreConfig { kind: StoreKind::Oss, oss, ..StoreConfig::default() };
        Self(OssStore::new(&config, Arc::new(SystemClock::new()), &|_| None).expect("a store"))
    }

    /// The one multipart upload that is open.
    pub(crate) async fn session(&self) -> (ObjectKey, SessionId) {
        let mut open = self.0.list_uploads("").await.expect("a list");
        assert_eq!(open.len(), 1, "{open:?}");
        let open = open.remove(0);
        (ObjectKey::parse(&open.key).expect("a key"), open.session)
    }

    /// How many multipart uploads are open.
    pub(crate) async fn sessions(&self) -> usize {
        self.0.list_uploads("").await.expect("a list").len()
    }

    /// Begins one that no gateway knows of.
    pub(crate) async fn begin(&self, key: &str) {
        let key = ObjectKey::parse(key).expect("a key");
        self.0.begin(Begin { key: &key, content_type: None, plan: None, direct: false }).await.expect("begun");
    }

    /// Writes over a part of the one open multipart upload.
    pub(crate) async fn overwrite(&self, chunk: u32, bytes: &[u8]) {
        let (key, session) = self.session().await;
        let number = PartNumber::of_chunk(chunk).expect("a number");
        let part = NewPart { number, bytes: bytes.len() as u64, body: body_of(Bytes::copy_from_slice(bytes)) };
        self.0.put_part(Target { key: &key, session: &session }, part).await.expect("stored");
    }

    /// Does what a lifecycle rule does.
    pub(crate) async fn abort(&self) {
        let (key, session) = self.session().await;
        self.0.abort(Target { key: &key, session: &session }).await.expect("aborted");
    }

    pub(crate) async fn has(&self, key: &ObjectKey) -> bool {
        self.0.head(key).await.expect("an answer").is_some()
    }

    pub(crate) async fn delete(&self, key: &ObjectKey) {
        self.0.delete(key).await.expect("deleted");
    }
}

/// A 503 that says when to come back.
pub(crate) fn is_retryable(answer: &Answer) {
    answer.is_refused(503, "store_unavailable");
    let after = answer.headers["retry-after"].to_str().ok().and_then(|after| after.parse::<u32>().ok());
    assert!(after.is_some_and(|seconds| (1..=60).contains(&seconds)), "{answer:?}");
}

/// The upload is complete, is these bytes, and was announced under one id.
pub(crate) async fn is_whole(gateway: &Gateway, file_id: &str, bytes: &[u8]) {
    gateway.until(file_id, "completed").await;
    assert_eq!(sha256(&gateway.download(file_id).await), sha256(bytes), "{file_id}");
    announced(gateway, file_id, "upload.completed").await;
}

/// Waits for the event of this type, of which there is one, under one id. One
/// that a gateway took along when it died comes after its lease of a minute.
pub(crate) async fn announced(gateway: &Gateway, file_id: &str, kind: &str) {
    for _ in 0..1600 {
        let events = gateway.hooks.of(file_id).into_iter().filter(|hook| hook.json["type"] == kind);
        let ids: BTreeSet<String> = events.map(|hook| hook.id).collect();
        if !ids.is_empty() {
            assert_eq!(ids.len(), 1, "{file_id}: one {kind}, one id");
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no {kind} about {file_id}");
}

/// Asks until it is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within half a minute: {what}");
}

/// What was received and what is missing, exactly.
pub(crate) async fn has_received(gateway: &Gateway, file_id: &str, received: &[usize], missing: &[[usize; 2]]) {
    assert_eq!(gateway.received(file_id).await, received);
    assert_eq!(gateway.get(&format!("/chunks?fileId={file_id}")).await.json["missing"], json!(missing));
}

/// A chunk that is sent by hand, as far as it is sent.
pub(crate) struct RawPut {
    socket: TcpStream,
}

impl RawPut {
    /// Sends the head of a chunk of so many bytes.
    pub(crate) async fn begin(address: SocketAddr, file_id: &str, index: usize, bytes: usize) -> Self {
        let mut socket = TcpStream::connect(address).await.expect("a connection");
        let head = format!(
            "PUT /chunks/{file_id}/{index} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Length: {bytes}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.expect("sent");
        Self { socket }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.expect("sent");
    }

    /// Sends no more, but still listens.
    pub(crate) async fn close(&mut self) {
        self.socket.shutdown().await.expect("closed");
    }

    /// All that is answered, up to the end of the connection.
    pub(crate) async fn answer(mut self) -> String {
        let mut answer = Vec::new();
        let reading = self.socket.read_to_end(&mut answer);
        // A reset after the answer is an end, too.
        let _ = tokio::time::timeout(Duration::from_secs(30), reading).await.expect("an end");
        String::from_utf8_lossy(&answer).into_owned()
    }
}
