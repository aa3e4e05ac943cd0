//! The promise, attacked: what was acknowledged is in the object, whatever
//! dies and whoever leaves.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use chunkgate::clock::{Clock as _, SystemClock};

use crate::harness::{Answer, Gateway, KIB, MIB, On, content, sha256};

/// kill -9 at random moments, again and again: what was acknowledged is still
/// there each time, and only what is missing is sent.
async fn kills(on: On, times: usize) {
    const CHUNK: usize = 128 * KIB;
    const CHUNKS: usize = 24;
    let (mut killed, mut round, mut acknowledged_all, mut resent, mut objects) = (0, 0, 0, 0, 0);
    let mut gateway = Gateway::start(on).await;
    let mut lots = 0x2545_F491_4F6C_DD1Du64;
    while killed < times {
        round += 1;
        let file_id = format!("kill-{round}");
        let bytes = content(CHUNKS * CHUNK - 7, round as u64);
        gateway.create(&file_id, bytes.len(), CHUNK).await;
        let mut acknowledged = BTreeSet::new();
        loop {
            let received: BTreeSet<usize> = gateway.received(&file_id).await.into_iter().collect();
            assert!(acknowledged.is_subset(&received), "lost: {:?}", acknowledged.difference(&received));
            let missing: Vec<usize> = (0..CHUNKS).filter(|index| !received.contains(index)).collect();
            if missing.is_empty() {
                break;
            }
            // What is there is not sent again, so nothing can make up for a loss.
            resent += missing.iter().filter(|index| acknowledged.contains(*index)).count();
            lots ^= lots << 13;
            lots ^= lots >> 7;
            lots ^= lots << 17;
            let fuse = Duration::from_micros(5_000 + lots % 120_000);
            let sending = send(&gateway, &file_id, &bytes, &missing, CHUNK);
            let burning = async {
                tokio::time::sleep(fuse).await;
                kill(&gateway);
            };
            if killed < times {
                acknowledged.extend(tokio::join!(sending, burning).0);
                killed += 1;
                gateway.crash_and_restart().await;
            } else {
                acknowledged.extend(sending.await);
            }
        }
        gateway.until(&file_id, "completed").await;
        assert_eq!(sha256(&gateway.download(&file_id).await), sha256(&bytes));
        gateway.hooks.wait_for(&file_id).await;
        acknowledged_all += acknowledged.len();
        objects += 1;
    }
    let mut ids = BTreeSet::new();
    for n in 1..=round {
        let file_id = format!("kill-{n}");
        let of_file: BTreeSet<String> = gateway.hooks.of(&file_id).into_iter().map(|hook| hook.id).collect();
        assert_eq!(of_file.len(), 1, "{file_id} has one webhook id, however often it was sent");
        ids.extend(of_file);
    }
    assert_eq!(ids.len(), round);
    println!(
        "{on:?}: {killed} kills, {acknowledged_all} chunks acknowledged, 0 lost, {resent} sent again though acknowledged, {objects} objects, 0 wrong, {} webhook ids",
        ids.len()
    );
    assert_eq!(resent, 0);
}

fn kill(gateway: &Gateway) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(gateway.pid()).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
}

/// Four at once; the indexes that were acknowledged.
async fn send(gateway: &Gateway, file_id: &str, bytes: &[u8], missing: &[usize], chunk: usize) -> Vec<usize> {
    let puts = missing.iter().map(|&index| async move {
        let piece = &bytes[index * chunk..bytes.len().min((index + 1) * chunk)];
        let answer = gateway.try_put(file_id, index, piece.to_vec()).await;
        answer.is_some_and(|answer| answer.status == 200).then_some(index)
    });
    futures_util::stream::iter(puts).buffer_unordered(4).filter_map(std::future::ready).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_fifty_times_on_file_and_sqlite() {
    kills(On::FileAndSqlite, 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_fifty_times_on_oss_and_postgres() {
    kills(On::OssAndPostgres, 50).await;
}

/// Small files, sixteen at once, so that objects are intended before anybody
/// wants them: whatever a crash leaves of all that is gone after a while.
#[tokio::test(flavor = "multi_thread")]
async fn killed_among_small_files() {
    for postgres in [false, true] {
        let url = crate::postgres::new_database().await;
        let mut settings = vec![("SWEEP__ORPHAN_AFTER", "4s"), ("SWEEP__INTERVAL", "500ms")];
        if postgres {
            settings.push(("DATABASE__URL", &url));
        }
        let mut gateway = Gateway::start_with(On::FileAndSqlite, &settings).await;
        let bytes = content(16 * KIB, 77);
        let mut acknowledged = BTreeSet::new();
        for round in 0..8u64 {
            let names = (0..400).map(|n| format!("small-{round}-{n}"));
            let puts = names.map(|name| async {
                let sent = gateway.request(Method::POST, &format!("/files?fileId={name}&fileName=a.bin"));
                let answer = Answer::read(sent.body(bytes.clone()).send().await.ok()?).await?;
                (answer.status == 201).then_some(name)
            });
            let sending = futures_util::stream::iter(puts).buffer_unordered(16).filter_map(std::future::ready);
            let burning = async {
                tokio::time::sleep(Duration::from_millis(60 + 35 * round)).await;
                kill(&gateway);
            };
            acknowledged.extend(tokio::join!(sending.collect::<Vec<_>>(), burning).0);
            gateway.crash_and_restart().await;
        }
        assert!(acknowledged.len() > 100, "{}", acknowledged.len());
        for name in &acknowledged {
            assert!(gateway.download(name).await == bytes, "{name} was acknowledged");
        }
        let objects = gateway.folder.path().join("data/objects/uploads");
        let files = gateway.get("/files?page=1&limit=1").await.json["total"].as_u64();
        let (found, mut left) = (count(&objects), 0);
        for _ in 0..200 {
            left = count(&objects);
            if Some(left) == files {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(Some(left), files, "objects that are no files");
        println!("{} acknowledged, {found} objects after the last kill, {left} files", acknowledged.len());
        for name in &acknowledged {
            assert!(gateway.download(name).await == bytes, "{name} is still there");
        }
    }
}

/// Files in a folder and below it.
fn count(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
}

/// The last chunk's client is gone the moment its last byte is out.
/// The last chunk's client is gone the moment its last byte is out.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_after_its_last_byte_has_uploaded() {
    for on in On::BOTH {
        let gateway = Gateway::start(on).await;
        let bytes = content(2 * MIB, 11);
        gateway.create("v", bytes.len(), MIB).await;
        gateway.put("v", 0, &bytes[..MIB]).await;
        let mut socket = TcpStream::connect(gateway.address).await.expect("a connection");
        let head = format!("PUT /chunks/v/1 HTTP/1.1\r\nHost: {}\r\nContent-Length: {MIB}\r\n\r\n", gateway.address);
        socket.write_all(head.as_bytes()).await.expect("sent");
        socket.write_all(&bytes[MIB..]).await.expect("sent");
        socket.flush().await.expect("sent");
        drop(socket);
        let began = SystemClock::new();
        gateway.until("v", "completed").await;
        println!("{on:?}: completed {:?} after its client vanished", began.monotonic());
        assert_eq!(sha256(&gateway.download("v").await), sha256(&bytes));
    }
}

/// The last two chunks at the same instant: somebody always sees them all.
async fn last_two_at_once(on: On, times: usize) {
    let gateway = Arc::new(Gateway::start_with(on, &[("SWEEP__INTERVAL", "1h")]).await);
    const CHUNK: usize = 100 * KIB;
    let bytes = content(2 * CHUNK, 12);
    let mut tasks = tokio::task::JoinSet::new();
    let mut merged = 0;
    for n in 0..times {
        let (gateway, bytes) = (gateway.clone(), bytes.clone());
        tasks.spawn(async move {
            let file_id = format!("two-{n}");
            gateway.create(&file_id, bytes.len(), CHUNK).await;
            let (a, b) =
                tokio::join!(gateway.put(&file_id, 0, &bytes[..CHUNK]), gateway.put(&file_id, 1, &bytes[CHUNK..]));
            assert_eq!((a.status.as_u16(), b.status.as_u16()), (200, 200), "{a:?} {b:?}");
            // No sweeper runs: the merge was started by one of the two.
            gateway.until(&file_id, "completed").await;
        });
        if tasks.len() >= 16 {
            tasks.join_next().await.expect("a task").expect("merged");
            merged += 1;
        }
    }
    merged += tasks.join_all().await.len();
    println!("{on:?}: {merged} of {times} pairs merged");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_two_at_once_on_file_and_sqlite() {
    last_two_at_once(On::FileAndSqlite, 1000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_two_at_once_on_oss_and_postgres() {
    last_two_at_once(On::OssAndPostgres, 1000).await;
}

/// A connection that died without a word (a phone that changed its network)
/// holds a chunk's index, but not for long.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_connection_does_not_hold_its_chunk() {
    for on in On::BOTH {
        let gateway = Gateway::start(on).await;
        let bytes = content(MIB, 13);
        gateway.create("half", bytes.len(), MIB).await;
        let mut socket = TcpStream::connect(gateway.address).await.expect("a connection");
        let head = format!("PUT /chunks/half/0 HTTP/1.1\r\nHost: {}\r\nContent-Length: {MIB}\r\n\r\n", gateway.address);
        socket.write_all(head.as_bytes()).await.expect("sent");
        socket.write_all(&bytes[..MIB / 2]).await.expect("sent");
        tokio::time::sleep(Duration::from_millis(300)).await;
        let began = SystemClock::new();
        let answer = gateway.put("half", 0, &bytes).await;
        let took = began.monotonic();
        assert_eq!((answer.status.as_u16(), &answer.json["complete"]), (200, &json!(true)), "{answer:?}");
        // Patience is two seconds; the dead connection itself would be noticed after thirty.
        assert!(took < Duration::from_secs(15), "{took:?}");
        let mut refusal = vec![0; 4096];
        let read = socket.read(&mut refusal).await.expect("an answer");
        let refusal = String::from_utf8_lossy(&refusal[..read]).into_owned();
        assert!(refusal.starts_with("HTTP/1.1 409") && refusal.contains("chunk_superseded"), "{refusal}");
        println!("{on:?}: the retry was through after {took:?}");
        assert_eq!(sha256(&gateway.download("half").await), sha256(&bytes));
    }
}

/// A receiver that says no at first gets the same event again, under the same
/// id, also after a crash.
#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_delivered_in_the_end() {
    for on in On::BOTH {
        let mut gateway = Gateway::start(on).await;
        gateway.hooks.refuse_next(3);
        gateway.create("w", 10, MIB).await;
        gateway.put("w", 0, b"0123456789").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        gateway.crash_and_restart().await;
        let hook = gateway.hooks.wait_for("w").await;
        let all = gateway.hooks.all();
        assert!(all.len() >= 4, "{}", all.len());
        assert!(all.iter().all(|attempt| attempt.id == hook.id && attempt.text == hook.text));
        let header = |name: &str| hook.headers[name].to_str().expect("text").to_owned();
        let key =
            chunkgate::notify::sign::SigningKeys::parse(&chunkgate::units::Secret::new(crate::harness::WEBHOOK_SECRET));
        let timestamp = header("webhook-timestamp").parse().expect("seconds");
        assert_eq!(header("webhook-signature"), key.expect("a key").sign(&hook.id, timestamp, &hook.text));
    }
}

/// Every chunk is sent to both of two gateways at the same instant; one of
/// them dies in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_make_one_object() {
    const CHUNK: usize = 128 * KIB;
    let one = Gateway::start(On::OssAndPostgres).await;
    let mut other = one.neighbour().await;
    for round in 0..20 {
        let file_id = format!("both-{round}");
        let bytes = content(8 * CHUNK, 40 + round);
        one.create(&file_id, bytes.len(), CHUNK).await;
        for (index, piece) in bytes.chunks(CHUNK).enumerate() {
            let (mut a, b) =
                tokio::join!(one.put(&file_id, index, piece), other.try_put(&file_id, index, piece.to_vec()));
            if a.code() == "store_unavailable" {
                // The other one had it recorded and merged while this one still sent it to the store.
                a = one.put(&file_id, index, piece).await;
            }
            assert_eq!(a.status, 200, "{a:?}\n{}", one.log());
            assert!(b.is_none_or(|b| b.status == 200 || b.code() == "store_unavailable"));
            if round == 10 && index == 4 {
                other.crash_and_restart().await;
            }
        }
        one.until(&file_id, "completed").await;
        assert_eq!(sha256(&other.download(&file_id).await), sha256(&bytes));
        one.hooks.wait_for(&file_id).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    for round in 0..20 {
        let ids: BTreeSet<String> = one.hooks.of(&format!("both-{round}")).into_iter().map(|hook| hook.id).collect();
        assert_eq!(ids.len(), 1);
    }
    let emulator = one.emulator.as_ref().expect("an emulator");
    assert_eq!((emulator.calls("objects").await, emulator.calls("openParts").await), (20, 0), "no parts are left");
}
