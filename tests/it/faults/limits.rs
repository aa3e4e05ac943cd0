//! As much as there can be: clients, descriptors, chunks; and as little as
//! there can be: bytes. And what must not happen at all: a panic.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chunkgate::clock::{Clock as _, SystemClock};
use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::stand::{Database, RawPut, Stand, announced, eventually, has_received, is_whole};
use crate::forms;
use crate::harness::{Answer, Gateway, KIB, MIB, On, content};
use crate::machine::{self, Failing};
use crate::oss_proxy::{Fault, Gate, Operation};
use crate::postgres::new_database;

const UPLOADS: usize = 100;
const SMALL: usize = KIB;

/// A request on a connection of its own: the status, the code of a refusal, and
/// the seconds of Retry-After; or how the connection broke.
async fn ask(to: SocketAddr, head: &str, body: &[u8]) -> std::io::Result<(u16, String, Option<u64>)> {
    let mut socket = TcpStream::connect(to).await?;
    let head = format!("{head} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(body).await?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let after = answer.lines().find_map(|line| line.strip_prefix("retry-after: ")?.trim().parse().ok());
    let code = answer.split("\"code\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
    Ok((status, code.to_owned(), after))
}

/// No refusal of the gateway's: the connection was reset.
const RESET: &str = "reset";

/// What one of them lived through.
#[derive(Default)]
struct Life {
    waits: Vec<Duration>,
    refusals: Vec<String>,
}

/// Asks what is there, sends its chunk, and comes back when it is told to.
async fn resume(to: SocketAddr, n: usize, piece: &[u8], clock: &SystemClock) -> Life {
    let (file_id, index) = (format!("u{}", n % UPLOADS), n / UPLOADS);
    let mut life = Life::default();
    let steps = [
        (format!("GET /chunks?fileId={file_id}&view=ranges"), &[][..]),
        (format!("PUT /chunks/{file_id}/{index}"), piece),
    ];
    for (head, body) in &steps {
        loop {
            let began = clock.monotonic();
            let asked = ask(to, head, body).await;
            life.waits.push(clock.monotonic() - began);
            // The kernel's own queues are bounded, too.
            let (status, code, after) = asked.unwrap_or_else(|_| (503, RESET.to_owned(), Some(1)));
            if status == 200 {
                break;
            }
            let known = ["overloaded", "database_unavailable", RESET];
            assert!(status == 503 && known.contains(&code.as_str()), "{head}: {status} {code}");
            life.refusals.push(code);
            let after = Duration::from_secs(after.expect("it says when to come back"));
            // As clients do: not all at the same instant.
            tokio::time::sleep(after + Duration::from_millis(n as u64 % 3000)).await;
        }
    }
    life
}

/// After so long without an answer, uploaders break off.
const PATIENCE: Duration = Duration::from_secs(60);

async fn all_at_once(database: Database, clients: usize) {
    machine::need_descriptors(clients as u64 + 2000);
    let url = new_database().await;
    let mut settings = vec![("LIMITS__MAX_CONCURRENT_CHUNKS", "32"), ("LIMITS__QUEUE_WAIT", "2s")];
    if database == Database::Postgres {
        settings.push(("DATABASE__URL", &url));
    }
    let gateway = Gateway::start_with(On::FileAndSqlite, &settings).await;
    let chunks = clients / UPLOADS;
    let bytes = Arc::new(content(chunks * SMALL, 30));
    for n in 0..UPLOADS {
        gateway.create(&format!("u{n}"), bytes.len(), SMALL).await;
    }
    // Every turn is taken when they come: whoever waits is told so in time.
    gateway.create("slow", 32 * MIB, MIB).await;
    let mut slow = Vec::new();
    for index in 0..32 {
        let mut put = RawPut::begin(gateway.address, "slow", index, MIB).await;
        put.send(&vec![7; MIB / 2]).await;
        slow.push(put);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let told = ask(gateway.address, "PUT /chunks/u0/0", &bytes[..SMALL]).await.expect("an answer");
    assert_eq!(told, (503, "overloaded".to_owned(), Some(2)));
    let clock = Arc::new(SystemClock::new());
    let (to, began) = (gateway.address, clock.monotonic());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..clients {
        let (bytes, clock) = (bytes.clone(), clock.clone());
        tasks.spawn(async move {
            // Within two seconds: on a loopback there is nothing else to tell them apart.
            tokio::time::sleep(Duration::from_micros(200) * u32::try_from(n).expect("small")).await;
            let index = n / UPLOADS;
            resume(to, n, &bytes[index * SMALL..][..SMALL], &clock).await
        });
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    for mut put in slow {
        put.send(&vec![7; MIB / 2]).await;
        drop(put.answer().await);
    }
    let lives = tasks.join_all().await;
    let took = clock.monotonic() - began;
    let mut waits: Vec<Duration> = lives.iter().flat_map(|life| life.waits.iter().copied()).collect();
    waits.sort();
    let p99 = waits[waits.len() * 99 / 100];
    let mut refused = BTreeMap::<&str, usize>::new();
    for code in lives.iter().flat_map(|life| &life.refusals) {
        *refused.entry(code).or_default() += 1;
    }
    let peak = machine::peak_bytes(gateway.pid()) / MIB;
    println!(
        "{database:?}: {clients} clients resumed in {took:?}: {} requests, told to come back: {refused:?}; \
         median {:?}, p99 {p99:?}, longest {:?}; peak {peak} MiB",
        waits.len(),
        waits[waits.len() / 2],
        waits[waits.len() - 1],
    );
    let reset = refused.get(RESET).copied().unwrap_or(0);
    assert!(reset * 100 < clients, "{reset} connections were reset");
    // Nobody is left waiting until an uploader gives up by itself.
    assert!(p99 < PATIENCE, "{p99:?}");
    assert!(peak < 1024, "{peak} MiB");
    for n in 0..UPLOADS {
        gateway.until(&format!("u{n}"), "completed").await;
    }
    for n in [0, UPLOADS / 2, UPLOADS - 1] {
        is_whole(&gateway, &format!("u{n}"), &bytes).await;
    }
}

/// One after the other: each takes what there is.
static TURN: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn fault_30_ten_thousand_clients_resume_at_once() {
    let _turn = TURN.lock().await;
    all_at_once(Database::Sqlite, 10_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_30_ten_thousand_clients_resume_at_once_on_postgres() {
    let _turn = TURN.lock().await;
    all_at_once(Database::Postgres, 10_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_45_out_of_file_descriptors() {
    for on in On::BOTH {
        let gateway = Gateway::start_with(on, &[("LIMITS__HEADER_TIMEOUT", "1s")]).await;
        let pid = gateway.pid();
        let bytes = content(3 * MIB, 45);
        gateway.create("a", bytes.len(), MIB).await;
        assert_eq!(gateway.put("a", 0, &bytes[..MIB]).await.status, 200);
        // A chunk is on its way when the last descriptor goes.
        let mut flying = RawPut::begin(gateway.address, "a", 1, MIB).await;
        flying.send(&bytes[MIB..][..MIB / 2]).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        machine::limit_descriptors(pid, machine::descriptors(pid) + 4);
        let mut idle = Vec::new();
        for _ in 0..40 {
            idle.push(TcpStream::connect(gateway.address).await.expect("the kernel takes it"));
        }
        eventually("accepting pauses", async || gateway.log().contains("cannot accept connections for now")).await;
        flying.send(&bytes[MIB + MIB / 2..2 * MIB]).await;
        let answer = flying.answer().await;
        assert!(answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.1 503"), "{answer}");
        // Who sends nothing is cut after a second, though it holds on: the others get their turn.
        let began = tokio::time::Instant::now();
        assert_eq!(gateway.get("/livez").await.status, 200);
        assert!(began.elapsed() < Duration::from_secs(30));
        drop(idle);
        // With the few that it has it goes on.
        for index in [1, 2] {
            eventually("the chunk is taken", async || {
                let piece = bytes[index * MIB..][..MIB].to_vec();
                let answer = gateway.try_put("a", index, piece).await;
                let status = answer.as_ref().map(|answer| answer.status.as_u16());
                assert!(matches!(status, None | Some(200 | 503)), "{answer:?}");
                status == Some(200)
            })
            .await;
        }
        machine::limit_descriptors(pid, 1024);
        is_whole(&gateway, "a", &bytes).await;
        assert_eq!(gateway.pid(), pid);
        assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
    }
}

/// A file of 10 000 chunks; its bytes differ by chunk.
async fn ten_thousand_chunks(gateway: &Gateway, chunk: usize) {
    let bytes = content(chunk, 47);
    let piece = |index: usize| {
        let mut piece = bytes.clone();
        piece[..4].copy_from_slice(&u32::try_from(index).expect("small").to_le_bytes());
        piece
    };
    gateway.create("many", 10_000 * chunk, chunk).await;
    let puts = (0..10_000).map(async |index| {
        let answer = gateway.put("many", index, &piece(index)).await;
        assert_eq!(answer.status, 200, "{index}: {answer:?}");
    });
    futures_util::stream::iter(puts).buffer_unordered(16).collect::<Vec<()>>().await;
    gateway.until("many", "completed").await;
    let mut expected = Sha256::new();
    (0..10_000).for_each(|index| expected.update(piece(index)));
    let mut got = Sha256::new();
    let answer = gateway.request(Method::GET, "/files/many/content").send().await.expect("an answer");
    let mut stream = answer.bytes_stream();
    while let Some(frame) = stream.next().await {
        got.update(frame.expect("a frame"));
    }
    assert_eq!(got.finalize(), expected.finalize());
    announced(gateway, "many", "upload.completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_47_files_of_no_bytes_and_of_too_many_chunks() {
    for (on, chunk) in [(On::FileAndSqlite, 16), (On::OssAndPostgres, 100 * KIB)] {
        let gateway = Gateway::start(on).await;
        let empty = gateway.create("empty", 0, chunk).await;
        assert_eq!((&empty["status"], &empty["totalChunks"]), (&json!("completed"), &json!(0)));
        is_whole(&gateway, "empty", b"").await;
        for _ in 0..2 {
            assert_eq!(gateway.put("empty", 0, b"").await.json["complete"], true);
        }
        gateway.create("one", 7, chunk).await;
        assert_eq!(gateway.put("one", 0, b"1234567").await.json["complete"], true);
        is_whole(&gateway, "one", b"1234567").await;
        let too_many = json!({"fileId": "x", "fileName": "a", "fileSize": 10_000 * chunk + 1, "chunkSize": chunk});
        gateway.post("/uploads", too_many).await.is_refused(400, "chunk_size_out_of_range");
        let form = forms::post(&gateway, &forms::fields("x", "0", "10001"), &vec![1; chunk], 9).await;
        form.is_refused(400, "total_chunks_out_of_range");
        assert_eq!(gateway.get("/chunks?fileId=x").await.json["status"], "none", "nothing was made");
        ten_thousand_chunks(&gateway, chunk).await;
    }
}

/// Whoever draws a lot panics meanwhile: without randomness nothing may go on.
fn without_randomness(gateway: &Gateway) -> Failing {
    Failing::calls(gateway.pid(), "getrandom", "EIO", None)
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_48_a_handler_panics() {
    for on in On::BOTH {
        let gateway = Gateway::start(on).await;
        let pid = gateway.pid();
        let bytes = content(2 * MIB, 48);
        gateway.create("a", bytes.len(), MIB).await;
        gateway.put("a", 0, &bytes[..MIB]).await;
        let wanted = json!({"fileName": "b", "fileSize": 7});
        let failing = without_randomness(&gateway);
        let named = gateway.request(Method::POST, "/uploads").header("x-request-id", "mine").json(&wanted).send().await;
        Answer::of(named).await.is_refused(500, "internal");
        // A request without an id of its own needs one: that is outside of its handler.
        let nameless = Answer::of(gateway.request(Method::POST, "/uploads").json(&wanted).send().await).await;
        assert_eq!((nameless.status.as_u16(), nameless.code()), (500, "internal"), "{nameless:?}");
        // The loops in the background panic, too.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!failing.struck().is_empty());
        drop(failing);
        assert!(gateway.log().contains("a background loop panicked; it begins again"), "{}", gateway.log());
        assert_eq!((gateway.pid(), gateway.get("/livez").await.status.as_u16()), (pid, 200));
        has_received(&gateway, "a", &[0], &[[1, 1]]).await;
        assert_eq!(gateway.put("a", 1, &bytes[MIB..]).await.json["complete"], true);
        is_whole(&gateway, "a", &bytes).await;
        assert_eq!(gateway.post("/uploads", wanted).await.status, 201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_48_a_merge_panics() {
    for database in Database::BOTH {
        let stand = Stand::start(database).await;
        let bytes = content(MIB, 481);
        stand.gateway.create("a", bytes.len(), MIB).await;
        let gate = Gate::new();
        stand.proxy.next(Operation::ListParts, Fault::HeldBefore(gate.clone()));
        stand.proxy.next(Operation::Complete, Fault::Refused(503, "ServiceUnavailable"));
        let put = tokio::spawn(stand.gateway.request(Method::PUT, "/chunks/a/0").body(bytes.clone()).send());
        gate.reached().await;
        // It has its lease, and will want a lot for the pause before it asks the store again.
        let failing = without_randomness(&stand.gateway);
        gate.open();
        let answer = Answer::of(put.await.expect("a task")).await;
        assert_eq!((answer.status.as_u16(), &answer.json["complete"]), (200, &json!(false)), "{answer:?}");
        assert!(stand.gateway.log().contains("gives no randomness"), "{}", stand.gateway.log());
        drop(failing);
        // Nobody renews its lease: it is over in seconds, and the merge begins again.
        is_whole(&stand.gateway, "a", &bytes).await;
        assert_eq!(stand.proxy.calls(Operation::Complete), 2);
    }
}
