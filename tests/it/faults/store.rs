//! The store is wrong, busy, silent, gone, or of another time.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::stand::{Database, Stand, has_received, is_retryable, is_whole};
use crate::chaos::{BlackHole, Cable, End, Weather};
use crate::harness::{Answer, Emulator, Gateway, MIB, On, content};
use crate::oss_proxy::{Fault, Operation};

#[tokio::test(flavor = "multi_thread")]
async fn fault_16_the_stores_proof_of_a_part_is_wrong() {
    for database in Database::BOTH {
        let stand = Stand::start(database).await;
        let bytes = content(2 * MIB, 1);
        stand.gateway.create("a", bytes.len(), MIB).await;
        let lies = [Fault::crc(Some("1")), Fault::crc(None), Fault::crc(Some("x")), Fault::FlippedBit];
        for (n, lie) in lies.into_iter().enumerate() {
            stand.proxy.next(Operation::UploadPart, lie);
            is_retryable(&stand.gateway.put("a", 0, &bytes[..MIB]).await);
            has_received(&stand.gateway, "a", &[], &[[0, 1]]).await;
            assert_eq!(stand.gateway.metric("chunkgate_store_proof_failures_total").await, n as f64 + 1.0);
        }
        stand.proxy.next(Operation::UploadPart, Fault::etag(None));
        is_retryable(&stand.gateway.put("a", 0, &bytes[..MIB]).await);
        assert_eq!(stand.proxy.calls(Operation::UploadPart), 5, "a body is sent once");
        // The checksum proves the bytes. An ETag that is not the store's own
        // shows when the parts are listed, before they are joined: the last
        // chunk is not acknowledged, and another one is asked for again.
        let other = || Fault::etag(Some("\"0123456789ABCDEF0123456789ABCDEF\""));
        stand.proxy.next(Operation::UploadPart, other());
        assert_eq!(stand.gateway.put("a", 0, &bytes[..MIB]).await.status, 200);
        stand.proxy.next(Operation::UploadPart, other());
        is_retryable(&stand.gateway.put("a", 1, &bytes[MIB..]).await);
        has_received(&stand.gateway, "a", &[], &[[0, 1]]).await;
        stand.gateway.put_all("a", &bytes, MIB).await;
        is_whole(&stand.gateway, "a", &bytes).await;
        // The same of a small file, which is an object at once.
        let post = async || {
            let request =
                stand.gateway.request(Method::POST, "/files?fileId=s&fileName=s").body(bytes[..1000].to_vec());
            Answer::of(request.send().await).await
        };
        for lie in [Fault::crc(Some("1")), Fault::crc(None), Fault::crc(Some("x")), Fault::FlippedBit] {
            stand.proxy.next(Operation::PutObject, lie);
            is_retryable(&post().await);
            assert_eq!(stand.gateway.get("/files/s").await.status, 404);
        }
        assert_eq!(post().await.status, 201);
        assert_eq!(stand.gateway.download("s").await, &bytes[..1000]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_18_the_store_is_busy_before_the_body() {
    for database in Database::BOTH {
        let stand = Stand::start_with(database, &[("STORE__RETRIES", "2")]).await;
        let bytes = content(2 * MIB, 2);
        stand.gateway.create("a", bytes.len(), MIB).await;
        // Nothing was begun, so it is asked again; once more than that, and the client is told.
        for (busy, is_told) in [(3, true), (2, false)] {
            let before = (stand.proxy.calls(Operation::Initiate), stand.proxy.calls(Operation::UploadPart));
            for _ in 0..busy {
                stand.proxy.next(Operation::Initiate, Fault::Refused(503, "SlowDown"));
            }
            if !is_told {
                stand.proxy.next(Operation::UploadPart, Fault::Refused(503, "SlowDown"));
            }
            is_retryable(&stand.gateway.put("a", 0, &bytes[..MIB]).await);
            let asked = (stand.proxy.calls(Operation::Initiate), stand.proxy.calls(Operation::UploadPart));
            assert_eq!(asked, (before.0 + 3, before.1 + u64::from(!is_told)));
        }
        assert_eq!(stand.emulator.calls("openParts").await, 0);
        // A body that is on its way cannot be called back.
        for (status, code) in [(503, "SlowDown"), (429, "TooManyRequests")] {
            stand.proxy.next(Operation::UploadPart, Fault::Refused(status, code));
            is_retryable(&stand.gateway.put("a", 0, &bytes[..MIB]).await);
            has_received(&stand.gateway, "a", &[], &[[0, 1]]).await;
        }
        assert_eq!((stand.proxy.calls(Operation::Initiate), stand.proxy.calls(Operation::UploadPart)), (6, 3));
        assert_eq!(stand.gateway.put("a", 0, &bytes[..MIB]).await.status, 200);
        // Calls without a body are repeated.
        for (operation, status) in
            [(Operation::ListParts, 503), (Operation::ListParts, 429), (Operation::Complete, 503)]
        {
            stand.proxy.next(operation, Fault::Refused(status, "SlowDown"));
        }
        let last = stand.gateway.put("a", 1, &bytes[MIB..]).await;
        assert_eq!((last.status.as_u16(), &last.json["complete"]), (200, &json!(true)), "{last:?}");
        assert_eq!((stand.proxy.calls(Operation::ListParts), stand.proxy.calls(Operation::Complete)), (3, 2));
        is_whole(&stand.gateway, "a", &bytes).await;
    }
}

/// More often than it is asked again: then the client is told, once.
#[tokio::test(flavor = "multi_thread")]
async fn fault_18_the_store_stays_busy() {
    let stand = Stand::start_with(Database::Sqlite, &[("STORE__RETRIES", "2")]).await;
    let bytes = content(MIB, 3);
    stand.gateway.create("a", bytes.len(), MIB).await;
    stand.gateway.put_all("a", &bytes, MIB).await;
    let asked = stand.proxy.calls(Operation::Other);
    for _ in 0..3 {
        stand.proxy.next(Operation::Other, Fault::Refused(503, "SlowDown"));
    }
    let read = stand.gateway.get("/files/a/content").await;
    is_retryable(&read);
    assert_eq!(stand.proxy.calls(Operation::Other), asked + 3);
    is_whole(&stand.gateway, "a", &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_19_the_store_says_no_in_mid_body() {
    for database in Database::BOTH {
        let stand = Stand::start(database).await;
        let bytes = content(8 * MIB, 4);
        stand.gateway.create("a", bytes.len(), 8 * MIB).await;
        stand.proxy.next(Operation::UploadPart, Fault::RefusedInMidBody(503, "SlowDown"));
        is_retryable(&stand.gateway.put("a", 0, &bytes).await);
        has_received(&stand.gateway, "a", &[], &[[0, 0]]).await;
        assert_eq!((stand.proxy.calls(Operation::UploadPart), stand.emulator.calls("partsStored").await), (1, 0));
        assert_eq!(stand.gateway.put("a", 0, &bytes).await.json["complete"], true);
        is_whole(&stand.gateway, "a", &bytes).await;
    }
}

/// A gateway and its store with a cable in between.
struct Wired {
    gateway: Gateway,
    cable: Cable,
    emulator: Emulator,
    _folder: tempfile::TempDir,
}

impl Wired {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let emulator = Emulator::start(folder.path()).await;
        let cable = Cable::to(emulator.address).await;
        let endpoint = format!("http://{}", cable.address);
        let environment = emulator.environment();
        let mut all: Vec<_> = environment.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        all.push(("STORE__OSS__ENDPOINT", &endpoint));
        all.extend(settings);
        let gateway = Gateway::start_with(On::FileAndSqlite, &all).await;
        Self { gateway, cable, emulator, _folder: folder }
    }
}

/// One chunk at a time, so that a place that is not given back shows at once.
const IMPATIENT: [(&str, &str); 6] = [
    ("STORE__CONNECT_TIMEOUT", "1s"),
    ("STORE__FIRST_BYTE_TIMEOUT", "1s"),
    ("STORE__IDLE_TIMEOUT", "1s"),
    ("STORE__RETRIES", "0"),
    ("LIMITS__MAX_CONCURRENT_CHUNKS", "1"),
    ("LIMITS__QUEUE_WAIT", "5s"),
];

#[tokio::test(flavor = "multi_thread")]
async fn fault_20_the_store_hangs_at_connect() {
    let hole = BlackHole::open();
    let endpoint = format!("http://{}", hole.address);
    let (_folder, mut settings) = (tempfile::tempdir().expect("a folder"), IMPATIENT.to_vec());
    let oss = [
        ("STORE__KIND", "oss"),
        ("STORE__OSS__ENDPOINT", &endpoint),
        ("STORE__OSS__BUCKET", "bkt"),
        ("STORE__OSS__REGION", "cn-hangzhou"),
        ("STORE__OSS__ACCESS_KEY_ID", "ak"),
        ("STORE__OSS__ACCESS_KEY_SECRET", "sk"),
    ];
    settings.extend(oss);
    let gateway = Gateway::start_with(On::FileAndSqlite, &settings).await;
    gateway.create("a", MIB, MIB).await;
    for _ in 0..2 {
        let refused = tokio::time::timeout(Duration::from_secs(4), gateway.put("a", 0, &content(MIB, 5))).await;
        is_retryable(&refused.expect("within its deadline, and not for want of a place"));
    }
    assert!(gateway.log().contains("ConnectTimeout"), "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_20_the_store_hangs_in_the_body_and_in_the_answer() {
    let wired = Wired::start(&IMPATIENT).await;
    let bytes = content(64 * MIB, 6);
    let gateway = &wired.gateway;
    gateway.create("a", bytes.len(), 32 * MIB).await;
    gateway.create("warm", 1, MIB).await;
    let phases = [
        // Beyond what the kernel holds for the two of them.
        ("IdleTimeout", Weather::after(MIB as u64, End::Stall), Weather::CALM),
        ("FirstByteTimeout", Weather::CALM, Weather::after(0, End::Stall)),
        // A few bytes of the answer, and no more.
        ("IdleTimeout", Weather::CALM, Weather::after(20, End::Stall)),
    ];
    assert_eq!(gateway.put("a", 0, &bytes[..32 * MIB]).await.status, 200);
    for (n, (deadline, up, down)) in phases.into_iter().enumerate() {
        let before = gateway.log().len();
        wired.cable.up(up);
        wired.cable.down(down);
        let refused = tokio::time::timeout(Duration::from_secs(10), gateway.put("a", 1, &bytes[32 * MIB..])).await;
        is_retryable(&refused.unwrap_or_else(|_| panic!("phase {n}: no deadline")));
        let said = gateway.log()[before..].to_owned();
        // A head that is not whole is no answer yet.
        assert!(said.contains(deadline) || (n == 2 && said.contains("FirstByteTimeout")), "phase {n}: {said}");
        has_received(gateway, "a", &[0], &[[1, 1]]).await;
        wired.cable.calm();
        wired.cable.reset_all();
    }
    let last = tokio::time::timeout(Duration::from_secs(10), gateway.put("a", 1, &bytes[32 * MIB..])).await;
    assert_eq!(last.expect("its place is free").json["complete"], true);
    is_whole(gateway, "a", &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_21_the_store_resets_in_mid_part() {
    let wired = Wired::start(&[]).await;
    let bytes = content(8 * MIB, 7);
    wired.gateway.create("a", bytes.len(), 4 * MIB).await;
    wired.gateway.put("a", 0, &bytes[..4 * MIB]).await;
    for end in [End::Reset, End::Truncate] {
        wired.cable.up(Weather::after(MIB as u64, end));
        is_retryable(&wired.gateway.put("a", 1, &bytes[4 * MIB..]).await);
        has_received(&wired.gateway, "a", &[0], &[[1, 1]]).await;
        wired.cable.calm();
    }
    assert_eq!(wired.emulator.calls("partsStored").await, 1);
    assert_eq!(wired.gateway.put("a", 1, &bytes[4 * MIB..]).await.json["complete"], true);
    is_whole(&wired.gateway, "a", &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_22_a_pooled_connection_is_dead() {
    // It died while nobody used it, and that was noticed.
    let wired = Wired::start(&[]).await;
    let bytes = content(12 * MIB, 8);
    wired.gateway.create("a", bytes.len(), MIB).await;
    for index in 0..6 {
        wired.cable.reset_all();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let put = wired.gateway.put("a", index, &bytes[index * MIB..][..MIB]).await;
        assert_eq!(put.status, 200, "{put:?}");
    }
    assert!(wired.cable.accepted() >= 6, "each on a connection of its own");
    // It dies at the very moment: taken, or given back to the client.
    for index in 6..12 {
        wired.cable.reset_all();
        let piece = &bytes[index * MIB..][..MIB];
        let mut put = wired.gateway.put("a", index, piece).await;
        if put.status != 200 {
            is_retryable(&put);
            put = wired.gateway.put("a", index, piece).await;
        }
        assert_eq!(put.status, 200, "{put:?}");
    }
    is_whole(&wired.gateway, "a", &bytes).await;
    // It dies with a request on it: sent again only if there is no body.
    let stand = Stand::start(Database::Sqlite).await;
    stand.gateway.create("b", 2 * MIB, MIB).await;
    stand.gateway.put("b", 0, &bytes[..MIB]).await;
    stand.proxy.next(Operation::UploadPart, Fault::RequestLost);
    is_retryable(&stand.gateway.put("b", 1, &bytes[MIB..2 * MIB]).await);
    assert_eq!(stand.proxy.calls(Operation::UploadPart), 2, "one for each chunk");
    has_received(&stand.gateway, "b", &[0], &[[1, 1]]).await;
    stand.proxy.next(Operation::ListParts, Fault::RequestLost);
    assert_eq!(stand.gateway.put("b", 1, &bytes[MIB..2 * MIB]).await.json["complete"], true);
    assert_eq!(stand.proxy.calls(Operation::ListParts), 2);
    is_whole(&stand.gateway, "b", &bytes[..2 * MIB]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_23_the_stores_clock_is_another() {
    for database in Database::BOTH {
        let stand = Stand::start(database).await;
        let bytes = content(3 * MIB, 9);
        // Before anything else was asked: nobody notices.
        stand.proxy.set_clock_ahead(3600);
        stand.gateway.create("first", MIB, MIB).await;
        assert_eq!(stand.gateway.put("first", 0, &bytes[..MIB]).await.json["complete"], true);
        assert_eq!(stand.proxy.skewed(), 1);
        stand.proxy.set_clock_ahead(1);
        is_whole(&stand.gateway, "first", &bytes[..MIB]).await;
        let skewed = stand.proxy.skewed();
        stand.gateway.create("a", bytes.len(), MIB).await;
        // Near enough to be served: learnt from the Date of an answer without a body.
        stand.proxy.set_clock_ahead(600);
        assert_eq!(stand.gateway.put("a", 0, &bytes[..MIB]).await.status, 200);
        stand.proxy.set_clock_ahead(1200);
        assert_eq!(stand.gateway.put("a", 1, &bytes[MIB..2 * MIB]).await.status, 200, "ten minutes off");
        assert_eq!(stand.proxy.skewed(), skewed);
        // Too far off, with a body on its way: that one is lost, the next is right.
        stand.proxy.set_clock_ahead(-3600);
        is_retryable(&stand.gateway.put("a", 2, &bytes[2 * MIB..]).await);
        has_received(&stand.gateway, "a", &[0, 1], &[[2, 2]]).await;
        let last = stand.gateway.put("a", 2, &bytes[2 * MIB..]).await;
        assert_eq!((last.status.as_u16(), &last.json["complete"]), (200, &json!(true)), "{last:?}");
        assert_eq!(stand.proxy.skewed(), skewed + 1);
        is_whole(&stand.gateway, "a", &bytes).await;
        // Too far off, without a body: nobody notices.
        stand.proxy.set_clock_ahead(86_400);
        is_whole(&stand.gateway, "a", &bytes).await;
        assert_eq!(stand.proxy.skewed(), skewed + 2);
    }
}
