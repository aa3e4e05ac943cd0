//! A store behind TLS: with a chain of certificates that a private authority
//! vouches for, read through connections that break, by readers that stop.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, Response};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::chaos::{Cable, End, Weather};
use crate::doctor::nginx::{Certificate, Nginx};
use crate::faults::stand::eventually;
use crate::handles::{open, sockets};
use crate::harness::{Emulator, Gateway, MIB, On, content, sha256};
use crate::machine::resident_bytes;

const FILE_BYTES: usize = 24 * MIB;
const CHUNK: usize = 4 * MIB;

/// A gateway, and between it and its bucket a cable and a server that speaks TLS.
struct Stand {
    gateway: Gateway,
    cable: Cable,
    bytes: Vec<u8>,
    _nginx: Nginx,
    _emulator: Emulator,
    _folder: TempDir,
}

impl Stand {
    /// With a file that has been uploaded through it all.
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let emulator = Emulator::start(&folder.path().join("emulator")).await;
        let certificate = Certificate::of("localhost", folder.path());
        let nginx = Nginx::with_certificate(emulator.address, &certificate).await;
        let cable = Cable::to(nginx.address).await;
        let gateway = gateway(&emulator, &cable, Some(&certificate)).await;
        let bytes = content(FILE_BYTES, 9);
        gateway.create("a", bytes.len(), CHUNK).await;
        let last = gateway.put_all("a", &bytes, CHUNK).await;
        assert_eq!(last.json["complete"], true, "{last:?}\n{}", gateway.log());
        Self { gateway, cable, bytes, _nginx: nginx, _emulator: emulator, _folder: folder }
    }

    /// Asks for the file, or what is left of it from here on.
    async fn ask(&self, from: usize, tag: Option<&str>) -> Response {
        let mut request = self.gateway.request(Method::GET, "/files/a/content");
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        if let Some(tag) = tag {
            request = request.header("if-range", tag);
        }
        request.send().await.expect("an answer")
    }
}

async fn gateway(emulator: &Emulator, cable: &Cable, trusted: Option<&Certificate>) -> Gateway {
    let mut settings = emulator.environment();
    settings.push(("STORE__OSS__ENDPOINT".to_owned(), format!("https://localhost:{}", cable.address.port())));
    settings.push(("STORE__POOL__IDLE_TIMEOUT".to_owned(), "1s".to_owned()));
    settings.extend(trusted.map(|of| ("SSL_CERT_FILE".to_owned(), of.authority.display().to_string())));
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Gateway::start_with(On::FileAndSqlite, &settings).await
}

/// Reads on until there is so much, or no more; whether it ended well.
async fn read(answer: &mut Response, into: &mut Vec<u8>, until: usize) -> bool {
    while into.len() < until {
        match answer.chunk().await {
            Ok(Some(piece)) => into.extend_from_slice(&piece),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_whole_and_in_ranges() {
    let stand = Stand::start().await;
    assert_eq!(sha256(&stand.gateway.download("a").await), sha256(&stand.bytes));
    let last = FILE_BYTES - 1;
    let ranges = [
        ("bytes=0-0".to_owned(), 0..1),
        (format!("bytes={}-{}", CHUNK - 1, CHUNK), CHUNK - 1..CHUNK + 1),
        (format!("bytes=1000-{}", 9 * MIB), 1000..9 * MIB + 1),
        (format!("bytes={last}-"), last..FILE_BYTES),
        ("bytes=-70000".to_owned(), FILE_BYTES - 70_000..FILE_BYTES),
        (format!("bytes={}-{}", 20 * MIB, 90 * MIB), 20 * MIB..FILE_BYTES),
    ];
    // At once, as players and download managers do.
    let asked = ranges.iter().map(|(range, _)| {
        let request = stand.gateway.request(Method::GET, "/files/a/content").header("range", range);
        async { request.send().await.expect("an answer").error_for_status().expect("a range").bytes().await }
    });
    for (got, (range, of)) in join_all(asked).await.into_iter().zip(&ranges) {
        assert!(got.expect("bytes") == stand.bytes[of.clone()], "{range}");
    }
    let beyond = stand.gateway.request(Method::GET, "/files/a/content").header("range", format!("bytes={FILE_BYTES}-"));
    assert_eq!(beyond.send().await.expect("an answer").status(), 416);
    // The chain is not only carried, it is looked at.
    let stranger = gateway(&stand._emulator, &stand.cable, None).await;
    stranger.create("b", 9, CHUNK).await;
    stranger.put("b", 0, b"unchained").await.is_refused(503, "store_unavailable");
    assert!(stranger.log().contains("certificate"), "{}", stranger.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_off_is_resumed_and_never_taken_for_the_whole() {
    let stand = Stand::start().await;
    for end in [End::Reset, End::Truncate] {
        // The store's connection breaks, in the middle of a record of TLS.
        stand.cable.down(Weather::after((9 * MIB + 12_345) as u64, end));
        let mut answer = stand.ask(0, None).await;
        assert_eq!(answer.headers()["content-length"], FILE_BYTES.to_string());
        let tag = answer.headers()["etag"].to_str().expect("text").to_owned();
        let mut got = Vec::new();
        assert!(!read(&mut answer, &mut got, FILE_BYTES).await, "{end:?}: {} bytes, and no error", got.len());
        assert!((MIB..FILE_BYTES).contains(&got.len()), "{end:?}: {}", got.len());
        stand.cable.calm();
        // The client goes away as well, and comes back for the rest.
        for until in [got.len() + 5 * MIB, FILE_BYTES] {
            let mut answer = stand.ask(got.len(), Some(&tag)).await;
            assert_eq!(answer.status(), 206, "{end:?}");
            assert!(read(&mut answer, &mut got, until).await, "{end:?}");
        }
        assert_eq!(sha256(&got), sha256(&stand.bytes), "{end:?}");
    }
    // A store that falls silent is given up in its time.
    stand.cable.down(Weather::after(MIB as u64, End::Stall));
    let (began, mut got) = (Instant::now(), Vec::new());
    let mut answer = stand.ask(0, None).await;
    assert!(!read(&mut answer, &mut got, FILE_BYTES).await);
    let took = began.elapsed();
    assert!((Duration::from_secs(25)..Duration::from_secs(90)).contains(&took), "{took:?}");
    stand.cable.reset_all();
    stand.cable.calm();
    assert_eq!(sha256(&stand.gateway.download("a").await), sha256(&stand.bytes));
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_stop_hold_little_and_keep_nobody() {
    const READERS: usize = 16;
    let stand = Stand::start().await;
    assert_eq!(sha256(&stand.gateway.download("a").await), sha256(&stand.bytes));
    let pid = stand.gateway.pid();
    let (before, idle) = (resident_bytes(pid), sockets(&open(pid)));
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let (mut answer, mut got) = (stand.ask(0, None).await, Vec::new());
        assert!(read(&mut answer, &mut got, 1).await);
        readers.push((answer, got));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let grown = resident_bytes(pid).saturating_sub(before);
    println!("{READERS} readers that stop: {} KiB each", grown / 1024 / READERS);
    assert!(grown < 2 * READERS * MIB, "{grown} bytes for {READERS} readers");
    // Others are served meanwhile.
    let (began, whole) = (Instant::now(), stand.gateway.download("a").await);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(sha256(&whole), sha256(&stand.bytes));
    // Half of them read on, to the end; the others go.
    for (mut answer, mut got) in readers.into_iter().step_by(2) {
        assert!(read(&mut answer, &mut got, FILE_BYTES).await);
        assert_eq!(sha256(&got), sha256(&stand.bytes));
    }
    // Their connections to the store are gone, too; one that idles may stay for a moment.
    eventually("the store is left", async || sockets(&open(pid)) <= idle + 1).await;
}
