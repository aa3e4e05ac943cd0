//! What the soak's clients do, and what they see.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::harness::{Answer, KIB, client, content, sha256};

/// At the most, in each file.
const CHUNKS_MAX: u64 = 12;

/// Random numbers that a seed repeats.
pub(super) struct Lots(u64);

impl Lots {
    pub(super) fn new(seed: u64, of: u64) -> Self {
        Self((seed ^ of.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

/// What the clients saw.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) acknowledged: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) resent: AtomicU64,
    pub(super) refused: Mutex<BTreeMap<String, u64>>,
    /// fileIds and how their uploads were to end.
    pub(super) ended: Mutex<BTreeMap<String, &'static str>>,
    pub(super) wrong: Mutex<Vec<String>>,
}

/// One client, on any of the gateways.
pub(super) struct Client {
    http: reqwest::Client,
    gateways: Vec<SocketAddr>,
    lots: Lots,
    seen: Arc<Seen>,
}

impl Client {
    pub(super) fn new(gateways: Vec<SocketAddr>, lots: Lots, seen: Arc<Seen>) -> Self {
        Self { http: client(), gateways, lots, seen }
    }

    fn request(&mut self, method: Method, path: &str) -> RequestBuilder {
        let gateway = self.gateways[self.lots.below(self.gateways.len() as u64) as usize];
        self.http.request(method, format!("http://{gateway}{path}"))
    }

    /// As an uploader does: again, until there is an answer that is final.
    async fn insist(&mut self, make: impl Fn(&mut Self) -> RequestBuilder) -> Answer {
        loop {
            let sent = make(self).send().await;
            if let Ok(response) = sent
                && let Some(answer) = Answer::read(response).await
            {
                if answer.status.as_u16() < 500 && answer.status.as_u16() != 429 {
                    return answer;
                }
                *self.seen.refused.lock().expect("a lock").entry(answer.code().to_owned()).or_default() += 1;
            }
            tokio::time::sleep(Duration::from_millis(20 + self.lots.below(100))).await;
        }
    }

    /// One file from beginning to end.
    pub(super) async fn upload(&mut self, file_id: String) {
        let ending = match self.lots.below(10) {
            0 => return self.small_file(file_id).await,
            1 => "aborted",
            _ => "completed",
        };
        let chunk = (100 + self.lots.below(60)) as usize * KIB;
        let count = 1 + self.lots.below(CHUNKS_MAX) as usize;
        let last = 1 + self.lots.below(chunk as u64) as usize;
        let bytes = content((count - 1) * chunk + last, self.lots.0);
        let learnt = count > 1 && self.lots.below(4) == 0;
        if !learnt {
            let wanted = json!({"fileId": file_id, "fileName": "a.bin", "fileSize": bytes.len(), "chunkSize": chunk});
            let created = self.insist(|client| client.request(Method::POST, "/uploads").json(&wanted)).await;
            assert!(created.status.is_success(), "{created:?}");
        }
        let pieces: Vec<&[u8]> = bytes.chunks(chunk).collect();
        let mut acknowledged = BTreeSet::new();
        loop {
            let asked = self.insist(|client| client.request(Method::GET, &format!("/chunks?fileId={file_id}"))).await;
            let received: BTreeSet<usize> = indexes(&asked.json);
            if asked.json["status"] == "completed" {
                break;
            }
            let lost = acknowledged.difference(&received).count() as u64;
            self.seen.lost.fetch_add(lost, Ordering::Relaxed);
            assert_eq!(lost, 0, "{file_id}: {acknowledged:?} were acknowledged, {asked:?}");
            let mut missing: Vec<usize> = (0..count).filter(|index| !received.contains(index)).collect();
            if ending == "aborted" && missing.len() <= count / 2 {
                return self.give_up(file_id).await;
            }
            if missing.is_empty() {
                // It is being merged, or a sweeper has yet to notice.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            self.seen
                .resent
                .fetch_add(missing.iter().filter(|i| acknowledged.contains(*i)).count() as u64, Ordering::Relaxed);
            while !missing.is_empty() {
                let index = missing.swap_remove(self.lots.below(missing.len() as u64) as usize);
                match self.chunk(&file_id, index, count, pieces[index], learnt).await {
                    Some(200) => {
                        acknowledged.insert(index);
                        self.seen.acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    Some(_) => {}
                    // Its gateway may be gone: what is there by now, the next question tells.
                    None => break,
                }
            }
        }
        let file = self.insist(|client| client.request(Method::GET, &format!("/files/{file_id}"))).await;
        let ours = sha256(&bytes);
        let theirs = sha256(&self.download(&file_id).await);
        if theirs != ours || file.json["fileSize"] != bytes.len() {
            self.seen.wrong.lock().expect("a lock").push(file_id.clone());
        }
        self.seen.ended.lock().expect("a lock").insert(file_id, "upload.completed");
    }

    async fn chunk(&mut self, file_id: &str, index: usize, count: usize, piece: &[u8], learnt: bool) -> Option<u16> {
        let request = if learnt {
            let form = chunk_form(file_id, index, count, piece);
            self.request(Method::POST, "/chunks").header("content-type", "multipart/form-data; boundary=X").body(form)
        } else {
            self.request(Method::PUT, &format!("/chunks/{file_id}/{index}")).body(piece.to_vec())
        };
        let answer = Answer::read(request.send().await.ok()?).await?;
        if answer.status != 200 {
            *self.seen.refused.lock().expect("a lock").entry(answer.code().to_owned()).or_default() += 1;
            let retryable = answer.status.is_server_error() || answer.code() == "chunk_superseded";
            assert!(retryable, "{file_id} {index}: {answer:?}");
        }
        Some(answer.status.as_u16())
    }

    async fn give_up(&mut self, file_id: String) {
        let gone = self.insist(|client| client.request(Method::DELETE, &format!("/uploads/{file_id}"))).await;
        let ending = match gone.status.as_u16() {
            204 => "upload.aborted",
            // The last chunk had come after all.
            409 => "upload.completed",
            _ => panic!("{gone:?}"),
        };
        self.seen.ended.lock().expect("a lock").insert(file_id, ending);
    }

    async fn small_file(&mut self, file_id: String) {
        let bytes = content(self.lots.below(50_000) as usize, self.lots.0);
        let path = format!("/files?fileId={file_id}&fileName=a.bin");
        let stored = self.insist(|client| client.request(Method::POST, &path).body(bytes.clone())).await;
        assert!(stored.status.is_success(), "{stored:?}");
        if sha256(&self.download(&file_id).await) != sha256(&bytes) {
            self.seen.wrong.lock().expect("a lock").push(file_id.clone());
        }
        self.seen.ended.lock().expect("a lock").insert(file_id, "upload.completed");
    }

    async fn download(&mut self, file_id: &str) -> Vec<u8> {
        loop {
            let path = format!("/files/{file_id}/content");
            if let Ok(response) = self.request(Method::GET, &path).send().await
                && response.status() == 200
                && let Ok(bytes) = response.bytes().await
            {
                return bytes.to_vec();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A page's form that declares no sizes.
fn chunk_form(file_id: &str, index: usize, count: usize, piece: &[u8]) -> Vec<u8> {
    let fields = [
        ("fileId", file_id.to_owned()),
        ("chunkIndex", index.to_string()),
        ("totalChunks", count.to_string()),
        ("fileName", "a.bin".to_owned()),
    ];
    let head = |name: &str| format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"");
    let mut form: String = fields.iter().map(|(name, value)| format!("{}\r\n\r\n{value}\r\n", head(name))).collect();
    form.push_str(&format!("{}; filename=\"b\"\r\n\r\n", head("file")));
    [form.as_bytes(), piece, b"\r\n--X--\r\n"].concat()
}

fn indexes(asked: &Value) -> BTreeSet<usize> {
    let chunks = asked["chunks"].as_array().cloned().unwrap_or_default();
    chunks.iter().filter_map(|chunk| chunk["chunkIndex"].as_u64()).map(|index| index as usize).collect()
}
