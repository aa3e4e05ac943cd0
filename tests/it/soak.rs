//! The kill loop: clients that upload, repeat and give up while their gateways
//! are killed at random, for as many kills as `SOAK_KILLS` says. What comes
//! out is counted: acknowledged, lost, wrong, doubled, missing, left behind.
//!
//! `SOAK_KILLS=1000 SOAK_SEED=7 tests/run soak` for a long one. The seed gives
//! the files, the clients' choices and the killer's; the kills' exact moments
//! are the machine's.

mod client;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use chunkgate::clock::{Clock as _, SystemClock};

use crate::chaos::{Cable, End, Weather};
use crate::harness::{Emulator, Gateway, On};
use crate::machine::peak_bytes;
use client::{Client, Lots, Seen};

/// Clients at once.
const CLIENTS: u64 = 6;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Clients that upload file after file until there are enough.
fn spawn_clients(gateways: &[&Gateway], seen: &Arc<Seen>, enough: &CancellationToken, seed: u64) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let addresses = gateways.iter().map(|gateway| gateway.address).collect();
        let mut client = Client::new(addresses, Lots::new(seed, number), seen.clone());
        let enough = enough.clone();
        clients.spawn(async move {
            let mut files = 0;
            while !enough.is_cancelled() {
                client.upload(format!("soak-{number}-{files}")).await;
                files += 1;
            }
        });
    }
    clients
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
    let mut clients = spawn_clients(&gateways.iter().collect::<Vec<_>>(), &seen, &enough, seed);
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

/// Everything through a cable between the gateway and its store.
async fn behind_a_cable() -> (Gateway, Emulator, Cable, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let emulator = Emulator::start(folder.path()).await;
    let cable = Cable::to(emulator.address).await;
    let mut settings = emulator.environment();
    settings.push(("STORE__OSS__ENDPOINT".to_owned(), format!("http://{}", cable.address)));
    settings.push(("DATABASE__URL".to_owned(), crate::postgres::new_database().await));
    for (key, value) in [
        ("UPLOAD__LEASE", "3s"),
        ("STORE__CONNECT_TIMEOUT", "1s"),
        ("STORE__FIRST_BYTE_TIMEOUT", "2s"),
        ("STORE__IDLE_TIMEOUT", "2s"),
        ("LIMITS__QUEUE_WAIT", "2s"),
    ] {
        settings.push((key.to_owned(), value.to_owned()));
    }
    let settings: Vec<_> = settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let gateway = Gateway::start_with(On::FileAndSqlite, &settings).await;
    (gateway, emulator, cable, folder)
}

/// Ten seconds each in which the store says nothing, breaks every connection,
/// and takes none. Clients do what uploaders do: they try again.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_under_load_costs_nothing_but_time() {
    const PHASE: Duration = Duration::from_secs(10);
    let (gateway, mut emulator, cable, _folder) = behind_a_cable().await;
    let seen = Arc::new(Seen::default());
    let enough = CancellationToken::new();
    let clients = spawn_clients(&[&gateway], &seen, &enough, setting("SOAK_SEED", 20_261_121));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = peak_bytes(gateway.pid());
    for weather in [Weather::after(0, End::Stall), Weather::after(0, End::Reset)] {
        cable.up(weather);
        cable.down(weather);
        tokio::time::sleep(PHASE).await;
        cable.calm();
        cable.reset_all();
    }
    emulator.stop();
    cable.reset_all();
    tokio::time::sleep(PHASE).await;
    let acknowledged = seen.acknowledged.load(Ordering::Relaxed);
    emulator.boot().await;
    let healed = SystemClock::new();
    while seen.acknowledged.load(Ordering::Relaxed) < acknowledged + CLIENTS {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let flows_after = healed.monotonic();
    tokio::time::sleep(Duration::from_secs(2)).await;
    enough.cancel();
    clients.join_all().await;
    let grown = peak_bytes(gateway.pid()).saturating_sub(before);
    println!(
        "the store was away for 30 s: {} chunks acknowledged, {} lost, {} files, wrong {:?}; uploads flowed {flows_after:?} \
         after it healed; peak memory {} MiB, {} KiB more than before; refused meanwhile: {:?}",
        seen.acknowledged.load(Ordering::Relaxed),
        seen.lost.load(Ordering::Relaxed),
        seen.ended.lock().expect("a lock").len(),
        seen.wrong.lock().expect("a lock"),
        peak_bytes(gateway.pid()) >> 20,
        grown >> 10,
        seen.refused.lock().expect("a lock"),
    );
    assert_eq!((seen.lost.load(Ordering::Relaxed), seen.resent.load(Ordering::Relaxed)), (0, 0));
    assert!(seen.wrong.lock().expect("a lock").is_empty());
    assert!(grown < 16 << 20, "{} MiB", grown >> 20);
}
