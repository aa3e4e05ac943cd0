//! A gateway as users run it: the real binary, in a folder of its own, spoken
//! to over real sockets, killed and started again. With it an emulator as its
//! store, a Postgres database, and a receiver of its webhooks.

mod emulator;
mod running;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use http::HeaderMap;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::hooks::Hooks;
use crate::postgres;
pub(crate) use emulator::Emulator;
pub(crate) use running::Running;

pub(crate) const KIB: usize = 1 << 10;
pub(crate) const MIB: usize = 1 << 20;
pub(crate) const WEBHOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What a gateway stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// The embedded default.
    FileAndSqlite,
    /// What several gateways share.
    OssAndPostgres,
}

impl On {
    pub(crate) const BOTH: [Self; 2] = [Self::FileAndSqlite, Self::OssAndPostgres];
}

/// A gateway under test.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) folder: TempDir,
    pub(crate) hooks: Hooks,
    pub(crate) emulator: Option<Emulator>,
    pub(crate) http: reqwest::Client,
    environment: Vec<(String, String)>,
    flags: &'static [&'static str],
    process: Option<Running>,
}

impl Gateway {
    pub(crate) async fn start(on: On) -> Self {
        Self::start_with(on, &[]).await
    }

    /// With configuration as the environment has it: `("LIMITS__QUEUE_WAIT", "1s")`.
    /// In a value, `{address}` is the gateway's own, `{emulator}` its store's.
    pub(crate) async fn start_with(on: On, settings: &[(&str, &str)]) -> Self {
        Self::start_flagged(on, settings, &[]).await
    }

    /// With flags on its command line, too.
    pub(crate) async fn start_flagged(on: On, settings: &[(&str, &str)], flags: &'static [&'static str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let hooks = Hooks::start().await;
        let (address, admin) = (free_address(), free_address());
        let mut environment = vec![
            ("LISTEN".to_owned(), address.to_string()),
            ("ADMIN_LISTEN".to_owned(), admin.to_string()),
            ("DATA_DIR".to_owned(), folder.path().join("data").display().to_string()),
            ("WEBHOOK__URL".to_owned(), hooks.url()),
            ("WEBHOOK__SECRET".to_owned(), WEBHOOK_SECRET.to_owned()),
            ("WEBHOOK__RETRY_INITIAL".to_owned(), "200ms".to_owned()),
            ("SWEEP__INTERVAL".to_owned(), "500ms".to_owned()),
            ("LOG__FORMAT".to_owned(), "json".to_owned()),
        ];
        let mut emulator = None;
        if on == On::OssAndPostgres {
            let running = Emulator::start(&folder.path().join("emulator")).await;
            environment.extend(running.environment());
            environment.push(("DATABASE__URL".to_owned(), postgres::new_database().await));
            environment.push(("UPLOAD__LEASE".to_owned(), "3s".to_owned()));
            emulator = Some(running);
        }
        for (key, value) in settings {
            environment.retain(|(known, _)| known != key);
            let emulator = emulator.as_ref().map(|emulator| emulator.address.to_string()).unwrap_or_default();
            let value = value.replace("{address}", &address.to_string()).replace("{emulator}", &emulator);
            environment.push(((*key).to_owned(), value));
        }
        let http = client();
        let mut gateway = Self { address, admin, folder, hooks, emulator, http, environment, flags, process: None };
        gateway.boot().await;
        gateway
    }

    /// Another gateway on the same database and the same store.
    pub(crate) async fn neighbour(&self) -> Self {
        self.neighbour_with(&[]).await
    }

    pub(crate) async fn neighbour_with(&self, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (address, admin) = (free_address(), free_address());
        let mut environment = self.environment.clone();
        for (key, value) in &mut environment {
            match key.as_str() {
                "LISTEN" => *value = address.to_string(),
                "ADMIN_LISTEN" => *value = admin.to_string(),
                "DATA_DIR" => *value = folder.path().join("data").display().to_string(),
                _ => {}
            }
        }
        for (key, value) in settings {
            environment.retain(|(known, _)| known != key);
            environment.push(((*key).to_owned(), (*value).to_owned()));
        }
        let (hooks, http, flags) = (self.hooks.clone(), client(), self.flags);
        let mut gateway =
            Self { address, admin, folder, hooks, emulator: None, http, environment, flags, process: None };
        gateway.boot().await;
        gateway
    }

    /// What it was configured with.
    pub(crate) fn setting(&self, key: &str) -> String {
        let found = self.environment.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.clone()).unwrap_or_else(|| panic!("{key} is not set"))
    }

    /// Starts the process and waits until it answers.
    pub(crate) async fn boot(&mut self) {
        let log = self.folder.path().join("gateway.log");
        let environment = self.environment.iter().map(|(key, value)| (variable(key), value.clone()));
        let mut running = Running::spawn(&[&["serve"], self.flags].concat(), environment, self.folder.path(), &log);
        running.wait_until_live(&format!("http://{}/livez", self.address), &log).await;
        self.process = Some(running);
    }

    /// kill -9.
    pub(crate) fn crash(&mut self) {
        drop(self.process.take());
    }

    /// kill -9, and another process on the same data.
    pub(crate) async fn crash_and_restart(&mut self) {
        self.crash();
        self.boot().await;
    }

    /// SIGTERM; how it ended.
    pub(crate) async fn stop(&mut self) -> std::process::ExitStatus {
        let mut running = self.process.take().expect("a process");
        running.signal(rustix::process::Signal::TERM);
        running.ended().await.unwrap_or_else(|| panic!("the gateway does not stop: {}", self.log()))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("a process").pid()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("gateway.log")).unwrap_or_default()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    /// On the admin listener.
    pub(crate) fn admin_request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.admin))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path).send().await).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.request(Method::POST, path).json(&body).send().await).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::DELETE, path).send().await).await
    }

    /// `POST /uploads`, which must succeed.
    pub(crate) async fn create(&self, file_id: &str, bytes: usize, chunk: usize) -> Value {
        let wanted = json!({"fileId": file_id, "fileName": "a.bin", "fileSize": bytes, "chunkSize": chunk});
        let answer = self.post("/uploads", wanted).await;
        assert!(answer.status.is_success(), "{answer:?}");
        answer.json
    }

    pub(crate) async fn put(&self, file_id: &str, index: usize, bytes: &[u8]) -> Answer {
        let path = format!("/chunks/{file_id}/{index}");
        Answer::of(self.request(Method::PUT, &path).body(bytes.to_vec()).send().await).await
    }

    /// The same, where the gateway may die meanwhile.
    pub(crate) async fn try_put(&self, file_id: &str, index: usize, bytes: Vec<u8>) -> Option<Answer> {
        let path = format!("/chunks/{file_id}/{index}");
        let sent = self.request(Method::PUT, &path).body(bytes).send().await.ok()?;
        Answer::read(sent).await
    }

    /// Sends all chunks in order and returns the last answer.
    pub(crate) async fn put_all(&self, file_id: &str, bytes: &[u8], chunk: usize) -> Answer {
        let mut last = None;
        for (index, piece) in bytes.chunks(chunk).enumerate() {
            let answer = self.put(file_id, index, piece).await;
            assert_eq!(answer.status, 200, "chunk {index}: {answer:?}\n{}", self.log());
            last = Some(answer);
        }
        last.expect("a chunk")
    }

    /// The indexes that were received, by the resume query.
    pub(crate) async fn received(&self, file_id: &str) -> Vec<usize> {
        let answer = self.get(&format!("/chunks?fileId={file_id}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let chunks = answer.json["chunks"].as_array().expect("chunks").clone();
        chunks.iter().map(|chunk| chunk["chunkIndex"].as_u64().expect("an index") as usize).collect()
    }

    pub(crate) async fn download(&self, file_id: &str) -> Vec<u8> {
        let answer = self.request(Method::GET, &format!("/files/{file_id}/content")).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        answer.bytes().await.expect("the content").to_vec()
    }

    /// Waits for the upload to reach this status.
    pub(crate) async fn until(&self, file_id: &str, status: &str) -> Value {
        let mut last = Value::Null;
        for _ in 0..300 {
            last = self.get(&format!("/uploads/{file_id}")).await.json;
            if last["status"] == status {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{file_id} is not {status}: {last}\n{}", self.log());
    }

    /// A metric's value on the admin listener, summed over its labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.http.get(format!("http://{}/metrics", self.admin)).send().await.expect("metrics");
        let text = text.text().await.expect("text");
        let of_name = |line: &&str| line.starts_with(name) && line[name.len()..].starts_with([' ', '{']);
        text.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

/// The variable of a setting. What is for the loader, for libfaketime or for TLS
/// is called as they call it.
fn variable(setting: &str) -> String {
    let others = ["LD_", "FAKETIME_", "NO_FAKE_", "SSL_"];
    if others.iter().any(|other| setting.starts_with(other)) {
        return setting.to_owned();
    }
    format!("CHUNKGATE_{setting}")
}

/// A status and the JSON that came with it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
}

impl Answer {
    pub(crate) async fn of(sent: Result<Response, reqwest::Error>) -> Self {
        Self::read(sent.expect("an answer")).await.expect("a whole answer")
    }

    pub(crate) async fn read(response: Response) -> Option<Self> {
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.ok()?;
        let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Some(Self { status, headers, json })
    }

    pub(crate) fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or("")
    }

    /// Asserts a refusal: its status, its code, and that it is a problem document.
    pub(crate) fn is_refused(&self, status: u16, code: &str) -> &Self {
        assert_eq!((self.status.as_u16(), self.code()), (status, code), "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.json["status"], status);
        assert_eq!(self.json["requestId"].as_str(), self.headers["x-request-id"].to_str().ok());
        for member in ["type", "title", "detail"] {
            assert!(self.json[member].as_str().is_some_and(|text| !text.is_empty()), "{self:?}");
        }
        self
    }
}

pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().expect("a client")
}

/// Bytes that look random and are the same each time.
pub(crate) fn content(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
    }
    content.truncate(bytes);
    content
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}

/// An address that stays free while a gateway is restarted on it: below the
/// ports that the kernel gives to outgoing connections.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = u16::try_from(std::process::id() % 10_000).expect("small");
    loop {
        let port = 20_000 + (base + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
