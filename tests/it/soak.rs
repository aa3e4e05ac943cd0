//! The kill loop: clients that upload, repeat and give up while their gateways
//! are killed at random, for as many kills as `SOAK_KILLS` says. What comes
//! out is counted: acknowledged, lost, wrong, doubled, missing, left behind.
//!
//! `SOAK_KILLS=1000 SOAK_SEED=7 tests/run soak` for a long one. The seed gives
//! the files, the clients' choices and the killer's; the kills' exact moments
//! are the machine's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::harness::{Answer, Gateway, KIB, On, client, content, sha256};

/// Clients at once.
const CLIENTS: u64 = 6;
/// At the most, in each file.
const CHUNKS_MAX: u64 = 12;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Random numbers that a seed repeats.
struct Lots(u64);

impl Lots {
    fn new(seed: u64, of: u64) -> Self {
        Self((seed ^ of.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

/// What the clients saw.
#[derive(Default)]
struct Seen {
    acknowledged: AtomicU64,
    lost: AtomicU64,
    resent: AtomicU64,
    refused: Mutex<BTreeMap<String, u64>>,
    /// fileIds and how their uploads were to end.
    ended: Mutex<BTreeMap<String, &'static str>>,
    wrong: Mutex<Vec<String>>,
}

/// One client, on any of the gateways.
struct Client {
    http: reqwest::Client,
    gateways: Vec<SocketAddr>,
    lots: Lots,
    seen: Arc<Seen>,
}

impl Client {
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
    async fn upload(&mut self, file_id: String) {
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

/// Kills until there were enough, then lets everybody finish.
async fn soak(on: On, neighbours: usize, kills: u64) {
    let seed = setting("SOAK_SEED", 20_261_121);
    let settings = [("SWEEP__ORPHAN_AFTER", "2s"), ("UPLOAD__LEASE", "3s"), ("WEBHOOK__RETRY_INITIAL", "100ms")];
    let mut gateways = vec![Gateway::start_with(on, &settings).await];
    for _ in 0..neighbours {
        let neighbour = gateways[0].neighbour().await;
        gateways.push(neighbour);
    }
    let seen = Arc::new(Seen::default());
    let enough = CancellationToken::new();
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let mut client = Client {
            http: client(),
            gateways: gateways.iter().map(|gateway| gateway.address).collect(),
            lots: Lots::new(seed, number),
            seen: seen.clone(),
        };
        let enough = enough.clone();
        clients.spawn(async move {
            let mut files = 0;
            while !enough.is_cancelled() {
                client.upload(format!("soak-{number}-{files}")).await;
                files += 1;
            }
        });
    }
    let mut lots = Lots::new(seed, 99);
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(10 + lots.below(200))).await;
        let victim = lots.below(gateways.len() as u64) as usize;
        gateways[victim].crash_and_restart().await;
        // A client that panicked has found something.
        while let Some(ended) = clients.try_join_next() {
            ended.expect("a client");
        }
    }
    enough.cancel();
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client");
    }
    report(on, &gateways, &seen, kills, seed).await;
}

async fn report(on: On, gateways: &[Gateway], seen: &Seen, kills: u64, seed: u64) {
    let ended = seen.ended.lock().expect("a lock").clone();
    // Every event arrives in the end, and what was left behind is swept.
    let (mut events, mut missing, mut second_ids, mut left) = (0, Vec::new(), 0, usize::MAX);
    for _ in 0..180 {
        (events, second_ids) = (0, 0);
        missing.clear();
        let mut ids: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
        for hook in gateways[0].hooks.all().into_iter().filter(|hook| hook.accepted) {
            let of = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            ids.entry((of(&hook.json["data"]["fileId"]), of(&hook.json["type"]))).or_default().insert(hook.id);
        }
        for (file_id, kind) in &ended {
            match ids.get(&(file_id.clone(), (*kind).to_owned())) {
                Some(of_file) => (events, second_ids) = (events + 1, second_ids + of_file.len() - 1),
                None => missing.push(file_id.clone()),
            }
        }
        left = left_behind(&gateways[0], &ended).await;
        if missing.is_empty() && left == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let completed = ended.values().filter(|kind| **kind == "upload.completed").count();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let wrong = seen.wrong.lock().expect("a lock").clone();
    println!(
        "{on:?}, {} gateways, seed {seed}: {kills} kills; {} chunks acknowledged, {} lost, {} of them sent again; \
         {completed} objects, {} wrong; {events} events, {} missing, {second_ids} second ids; {left} left behind; \
         refused meanwhile: {:?}",
        gateways.len(),
        count(&seen.acknowledged),
        count(&seen.lost),
        count(&seen.resent),
        wrong.len(),
        missing.len(),
        seen.refused.lock().expect("a lock"),
    );
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(missing.is_empty(), "no event about {missing:?}");
    assert_eq!((count(&seen.lost), count(&seen.resent), second_ids, left), (0, 0, 0, 0));
}

/// Parts, multipart uploads and objects in the store that belong to nothing.
async fn left_behind(gateway: &Gateway, ended: &BTreeMap<String, &'static str>) -> usize {
    let files = ended.values().filter(|kind| **kind == "upload.completed").count();
    let (uploads, objects) = match &gateway.emulator {
        Some(emulator) => {
            let uploads = emulator.calls("openUploads").await + emulator.calls("openParts").await;
            (uploads as usize, emulator.calls("objects").await as usize)
        }
        None => {
            let store = gateway.folder.path().join("data/objects");
            (files_in(&store.join(".chunkgate/uploads")), files_in(&store) - files_in(&store.join(".chunkgate")))
        }
    };
    uploads + objects.abs_diff(files)
}

/// All files below this folder.
fn files_in(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.filter_map(Result::ok).map(|entry| if entry.path().is_dir() { files_in(&entry.path()) } else { 1 }).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn soak_of_one_gateway() {
    soak(On::FileAndSqlite, 0, setting("SOAK_KILLS", 40)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn soak_of_two_gateways() {
    soak(On::OssAndPostgres, 1, setting("SOAK_KILLS", 40)).await;
}
