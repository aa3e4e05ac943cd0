//! Descriptors and sockets of the process, before and after many uploads of
//! which a third are broken off. `HANDLES_UPLOADS=10000` does more of them.

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use serde_json::json;

use crate::faults::stand::RawPut;
use crate::harness::{Gateway, KIB, On, client, content};

const BYTES: usize = 16 * KIB;
const AT_ONCE: usize = 32;

/// What a process holds open.
pub(crate) fn open(pid: u32) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a process");
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let mut targets: Vec<_> = targets.map(|target| target.display().to_string()).collect();
    targets.sort();
    targets
}

pub(crate) fn sockets(open: &[String]) -> usize {
    open.iter().filter(|target| target.starts_with("socket:")).count()
}

/// One upload; every third is broken off, in one of three ways.
async fn upload(gateway: &Gateway, bytes: &[u8], name: String, nth: usize) {
    gateway.create(&name, BYTES, BYTES).await;
    match nth % 9 {
        // In the middle of its body.
        2 => {
            let mut put = RawPut::begin(gateway.address, &name, 0, BYTES).await;
            put.send(&bytes[..BYTES / 2]).await;
        }
        // Before it.
        5 => drop(RawPut::begin(gateway.address, &name, 0, BYTES).await),
        // Given up in the middle.
        8 => {
            let mut put = RawPut::begin(gateway.address, &name, 0, BYTES).await;
            put.send(&bytes[..BYTES / 2]).await;
            assert_eq!(gateway.delete(&format!("/uploads/{name}")).await.status, 204);
        }
        _ => {
            let answer = gateway.put(&name, 0, bytes).await;
            assert_eq!((answer.status.as_u16(), &answer.json["complete"]), (200, &json!(true)), "{answer:?}");
        }
    }
}

async fn all(gateway: &mut Gateway, round: &str, uploads: usize) {
    let bytes = content(BYTES, 7);
    let here = &*gateway;
    let each = stream::iter(0..uploads).map(|nth| upload(here, &bytes, format!("{round}-{nth}"), nth));
    each.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    // The connections that our client keeps are not the gateway's to close.
    gateway.http = client();
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_and_sockets_are_what_they_were() {
    let uploads = std::env::var("HANDLES_UPLOADS").ok().and_then(|number| number.parse().ok()).unwrap_or(900);
    join_all(On::BOTH.map(|on| on_a_gateway(on, uploads))).await;
}

async fn on_a_gateway(on: On, uploads: usize) {
    let settings = [
        ("STORE__POOL__IDLE_TIMEOUT", "1s"),
        ("DATABASE__IDLE_TIMEOUT", "1s"),
        // Those to SQLite are kept: so few that all are there before it begins.
        ("DATABASE__MAX_CONNECTIONS", "4"),
        // Who asks now and then keeps as many connections alive as there were.
        ("DATABASE__MIN_CONNECTIONS", "0"),
        ("SWEEP__INTERVAL", "1m"),
        ("LIMITS__HEADER_TIMEOUT", "2s"),
        ("LIMITS__MAX_OPEN_UPLOADS", "100000"),
    ];
    let mut gateway = Gateway::start_with(on, &settings).await;
    all(&mut gateway, "warm", 180).await;
    let before = settled(gateway.pid()).await;
    all(&mut gateway, "many", uploads).await;
    let most = open(gateway.pid()).len();
    let after = settled(gateway.pid()).await;
    println!(
        "{on:?}, {uploads} uploads: {} handles and {} sockets before, {most} handles at their end, {} and {} afterwards",
        before.len(),
        sockets(&before),
        after.len(),
        sockets(&after)
    );
    assert_eq!((after.len(), sockets(&after)), (before.len(), sockets(&before)), "{before:#?} became {after:#?}");
}

/// What is still open once what is idle has been closed, and nobody asks the
/// database just then.
async fn settled(pid: u32) -> Vec<String> {
    let mut fewest = open(pid);
    for _ in 0..500 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = open(pid);
        if now.len() <= fewest.len() {
            fewest = now;
        }
    }
    fewest
}
