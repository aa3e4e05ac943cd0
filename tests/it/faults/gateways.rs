//! Gateways that are stopped, stand still, have wrong clocks, and are replaced
//! one after another.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Method;
use rustix::process::Signal;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

use super::stand::{Database, RawPut, Stand, announced, eventually, has_received, is_whole};
use crate::bad_config::Start;
use crate::harness::{Answer, Gateway, KIB, MIB, On, content};
use crate::machine::{self, Frozen, WallClock};
use crate::oss_proxy::{Fault, Gate, Operation};
use crate::postgres::new_database;

/// The connection is cut at the drain's deadline, while the store still has to
/// answer for a chunk that was read to its end: the chunk is recorded, though
/// its client cannot be told.
#[tokio::test(flavor = "multi_thread")]
async fn fault_37_what_was_read_is_recorded_though_its_connection_is_cut() {
    for database in Database::BOTH {
        let mut stand = Stand::start_with(database, &[("LIMITS__DRAIN_DEADLINE", "300ms")]).await;
        let bytes = content(2 * MIB, 38);
        stand.gateway.create("a", bytes.len(), MIB).await;
        let gate = Gate::new();
        stand.proxy.next(Operation::UploadPart, Fault::HeldAfter(gate.clone()));
        let put = tokio::spawn(stand.gateway.request(Method::PUT, "/chunks/a/0").body(bytes[..MIB].to_vec()).send());
        gate.reached().await;
        let (_, put) = tokio::join!(stand.gateway.stop(), async {
            let put = put.await.expect("a task");
            gate.open();
            put
        });
        assert!(put.is_err(), "its connection was cut: {put:?}");
        stand.gateway.boot().await;
        has_received(&stand.gateway, "a", &[0], &[[1, 1]]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_37_told_to_stop_with_chunks_in_flight() {
    for on in On::BOTH {
        let settings = [("LIMITS__DRAIN_DELAY", "1s"), ("LIMITS__DRAIN_DEADLINE", "2s")];
        let mut gateway = Gateway::start_with(on, &settings).await;
        let bytes = content(3 * MIB, 37);
        gateway.create("a", bytes.len(), MIB).await;
        assert_eq!(gateway.get("/readyz").await.status, 200);
        let mut puts = Vec::new();
        for index in 0..3 {
            let mut put = RawPut::begin(gateway.address, "a", index, MIB).await;
            put.send(&bytes[index * MIB..][..MIB / 2]).await;
            puts.push(put);
        }
        let stuck = puts.pop().expect("a third");
        machine::signal(gateway.pid(), Signal::TERM);
        // First it only says so, and still takes what comes.
        eventually("it is not ready", async || gateway.get("/readyz").await.status == 503).await;
        assert_eq!(gateway.get("/livez").await.status, 200);
        has_received(&gateway, "a", &[], &[[0, 2]]).await;
        let mut late = puts.pop().expect("a second");
        let mut early = puts.pop().expect("a first");
        early.send(&bytes[MIB / 2..MIB]).await;
        let early = early.answer().await;
        assert!(early.starts_with("HTTP/1.1 200"), "{early}");
        // Then it takes nobody new, and waits for those who are there.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(gateway.http.get(gateway.url("/livez")).send().await.is_err(), "nobody new is taken");
        late.send(&bytes[MIB + MIB / 2..2 * MIB]).await;
        let late = late.answer().await;
        assert!(late.starts_with("HTTP/1.1 200"), "{late}");
        let (status, stuck) = tokio::join!(gateway.stop(), stuck.answer());
        assert!(status.success(), "{status}");
        assert!(!stuck.starts_with("HTTP/1.1 200"), "{stuck}");
        gateway.boot().await;
        has_received(&gateway, "a", &[0, 1], &[[2, 2]]).await;
        assert_eq!(gateway.put("a", 2, &bytes[2 * MIB..]).await.json["complete"], true);
        is_whole(&gateway, "a", &bytes).await;
    }
}

/// Longer than the leases of these tests, as a minute is longer than those of
/// the default.
const LONGER_THAN_A_LEASE: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn fault_38_a_stopped_gateway_is_fenced() {
    let stand = Stand::start(Database::Postgres).await;
    let (stale, other) = (&stand.gateway, stand.gateway.neighbour().await);
    let bytes = content(2 * MIB, 38);
    // It stands still within its merge; another gateway takes it over and completes.
    stale.create("a", bytes.len(), MIB).await;
    stale.put("a", 0, &bytes[..MIB]).await;
    let gate = Gate::new();
    stand.proxy.next(Operation::Complete, Fault::HeldBefore(gate.clone()));
    let put = tokio::spawn(stale.request(Method::PUT, "/chunks/a/1").body(bytes[MIB..].to_vec()).send());
    gate.reached().await;
    let frozen = Frozen::freeze(stale.pid());
    is_whole(&other, "a", &bytes).await;
    // Its own call comes late, and it wakes up.
    gate.open();
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(frozen);
    let answer = Answer::of(put.await.expect("a task")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    is_whole(stale, "a", &bytes).await;
    let log = stale.log();
    assert!(!log.contains("upload failed"), "{log}");
    // It stands still with half a chunk; the client goes to another gateway.
    stale.create("b", bytes.len(), MIB).await;
    stale.put("b", 0, &bytes[..MIB]).await;
    let mut half = RawPut::begin(stale.address, "b", 1, MIB).await;
    half.send(&bytes[MIB..][..MIB / 2]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let frozen = Frozen::freeze(stale.pid());
    assert_eq!(other.put("b", 1, &bytes[MIB..]).await.json["complete"], true);
    half.send(&bytes[MIB + MIB / 2..]).await;
    tokio::time::sleep(LONGER_THAN_A_LEASE).await;
    drop(frozen);
    let answer = half.answer().await;
    assert!(answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert_eq!(stale.put("b", 1, &bytes[MIB..]).await.json["complete"], true);
    for gateway in [stale, &other] {
        is_whole(gateway, "b", &bytes).await;
    }
    assert_eq!((stand.emulator.calls("objects").await, stand.emulator.calls("openParts").await), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_38_a_stopped_gateway_goes_on_alone() {
    let stand = Stand::start(Database::Sqlite).await;
    let gateway = &stand.gateway;
    let bytes = content(2 * MIB, 381);
    gateway.create("a", bytes.len(), MIB).await;
    gateway.put("a", 0, &bytes[..MIB]).await;
    let gate = Gate::new();
    stand.proxy.next(Operation::Complete, Fault::HeldBefore(gate.clone()));
    let put = tokio::spawn(gateway.request(Method::PUT, "/chunks/a/1").body(bytes[MIB..].to_vec()).send());
    gate.reached().await;
    let frozen = Frozen::freeze(gateway.pid());
    gate.open();
    // The file stays its own, however long it stands still.
    let holder = format!("process {}", gateway.pid());
    Start::new(gateway.folder.path(), &["migrate"]).fails(1, &["data/chunkgate.db", &holder]);
    tokio::time::sleep(LONGER_THAN_A_LEASE).await;
    drop(frozen);
    assert_eq!(Answer::of(put.await.expect("a task")).await.status, 200);
    is_whole(gateway, "a", &bytes).await;
    assert_eq!(stand.emulator.calls("objects").await, 1);
}

const HOUR: i64 = 3600;

fn with(clock: &[(String, String)]) -> Vec<(&str, &str)> {
    clock.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_39_clocks_that_are_an_hour_off() {
    let (ahead, behind) = (WallClock::new(), WallClock::new());
    ahead.set(HOUR);
    behind.set(-HOUR);
    let (ahead_settings, behind_settings) = (ahead.settings(), behind.settings());
    let mut stand = Stand::start_with(Database::Postgres, &with(&behind_settings)).await;
    let other = stand.gateway.neighbour_with(&with(&ahead_settings)).await;
    let bytes = content(MIB, 39);
    // A lease that is renewed is nobody else's, whatever the time is there.
    let gate = Gate::new();
    stand.proxy.next(Operation::Complete, Fault::HeldBefore(gate.clone()));
    stand.gateway.create("a", bytes.len(), MIB).await;
    let put = tokio::spawn(stand.gateway.request(Method::PUT, "/chunks/a/0").body(bytes.clone()).send());
    gate.reached().await;
    tokio::time::sleep(LONGER_THAN_A_LEASE).await;
    behind.set(HOUR);
    tokio::time::sleep(Duration::from_secs(2)).await;
    behind.set(-HOUR);
    assert_eq!(stand.proxy.calls(Operation::Complete), 1, "nobody took it over: {}", other.log());
    gate.open();
    assert_eq!(Answer::of(put.await.expect("a task")).await.json["complete"], true);
    is_whole(&other, "a", &bytes).await;
    // One that is not renewed is over in seconds, not in an hour.
    for (file_id, offset) in [("b", -HOUR), ("c", HOUR)] {
        behind.set(offset);
        ahead.set(-offset);
        stand.gateway.crash_and_restart().await;
        let gate = Gate::new();
        stand.proxy.next(Operation::Complete, Fault::HeldBefore(gate.clone()));
        stand.gateway.create(file_id, bytes.len(), MIB).await;
        let put = tokio::spawn(
            stand.gateway.request(Method::PUT, &format!("/chunks/{file_id}/0")).body(bytes.clone()).send(),
        );
        gate.reached().await;
        stand.gateway.crash();
        put.abort();
        assert_eq!(other.get(&format!("/uploads/{file_id}")).await.json["status"], "completing");
        eventually("another gateway completes it", async || {
            other.get(&format!("/uploads/{file_id}")).await.json["status"] == "completed"
        })
        .await;
        gate.open();
        is_whole(&other, file_id, &bytes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_39_a_clock_that_jumps_by_an_hour() {
    let clock = WallClock::new();
    let settings = clock.settings();
    let mut stand = Stand::start_with(Database::Sqlite, &with(&settings)).await;
    let bytes = content(MIB, 391);
    for (file_id, offset) in [("a", HOUR), ("b", -HOUR)] {
        let gate = Gate::new();
        stand.proxy.next(Operation::Complete, Fault::HeldBefore(gate.clone()));
        let calls = stand.proxy.calls(Operation::Complete);
        stand.gateway.create(file_id, bytes.len(), MIB).await;
        let put = tokio::spawn(
            stand.gateway.request(Method::PUT, &format!("/chunks/{file_id}/0")).body(bytes.clone()).send(),
        );
        gate.reached().await;
        clock.set(offset);
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(stand.proxy.calls(Operation::Complete), calls + 1, "its own sweeper leaves it alone");
        if file_id == "b" {
            stand.gateway.crash_and_restart().await;
            put.abort();
            gate.open();
        } else {
            gate.open();
            assert_eq!(Answer::of(put.await.expect("a task")).await.json["complete"], true);
        }
        is_whole(&stand.gateway, file_id, &bytes).await;
    }
}

/// What a next version adds to the schema, and the one before knows nothing of.
const NEXT_SCHEMA: [&str; 5] = [
    "ALTER TABLE uploads ADD COLUMN next_note TEXT",
    "ALTER TABLE chunks ADD COLUMN next_flags INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE deliveries ADD COLUMN next_note TEXT",
    "CREATE TABLE next_things (id INTEGER NOT NULL PRIMARY KEY)",
    "CREATE INDEX next_uploads ON uploads (next_note, id)",
];
/// The mark that it was here.
const NEXT_MARK: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
    VALUES (9999, 'next', TRUE, '', 0)";

/// Four clients of a load balancer that forgets gateways when they go.
async fn persevere(gateways: &Mutex<Vec<SocketAddr>>, file_id: &str, bytes: &[u8], done: &AtomicU64) {
    use futures_util::StreamExt as _;
    const CHUNK: usize = 100 * KIB;
    let http = crate::harness::client();
    let puts = bytes.chunks(CHUNK).enumerate().map(|(index, piece)| {
        let http = http.clone();
        async move {
            for attempt in index.. {
                let to = {
                    let gateways = gateways.lock().expect("a lock");
                    gateways[attempt % gateways.len()]
                };
                let put = http.put(format!("http://{to}/chunks/{file_id}/{index}")).body(piece.to_vec());
                if let Ok(answer) = put.send().await
                    && let Some(answer) = Answer::read(answer).await
                {
                    if answer.status == 200 {
                        done.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                    assert_eq!(answer.status, 503, "{answer:?}");
                }
                assert!(attempt < index + 300, "chunk {index} is never taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
    futures_util::stream::iter(puts).buffer_unordered(4).collect::<Vec<()>>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_46_a_rolling_deploy_beside_a_newer_schema() {
    let database = new_database().await;
    let mut a = Gateway::start_with(On::OssAndPostgres, &[("DATABASE__URL", &database)]).await;
    let mut b = a.neighbour().await;
    let bytes = content(400 * 100 * KIB - 7, 46);
    a.create("a", bytes.len(), 100 * KIB).await;
    let (gateways, done) = (Mutex::new(vec![a.address, b.address]), AtomicU64::new(0));
    let reach = async |count: u64| {
        while done.load(Ordering::SeqCst) < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let mut sql = PgConnection::connect(&database).await.expect("the test server answers");
    let deploying = async {
        reach(50).await;
        for statement in NEXT_SCHEMA {
            sqlx::query(AssertSqlSafe(statement)).execute(&mut sql).await.expect(statement);
        }
        reach(120).await;
        for gateway in [&mut a, &mut b] {
            // Some clients find out by themselves that it is gone.
            assert!(gateway.stop().await.success());
            gateways.lock().expect("a lock").retain(|known| *known != gateway.address);
            gateway.boot().await;
            gateways.lock().expect("a lock").push(gateway.address);
            let now = done.load(Ordering::SeqCst);
            reach(now + 40).await;
        }
        sqlx::query(AssertSqlSafe(NEXT_MARK)).execute(&mut sql).await.expect("marked");
    };
    tokio::join!(persevere(&gateways, "a", &bytes, &done), deploying);
    is_whole(&a, "a", &bytes).await;
    announced(&b, "a", "upload.completed").await;
    // Those that run go on beside the next version; they would not start again.
    let more = content(MIB, 461);
    b.create("b", more.len(), 100 * KIB).await;
    b.put_all("b", &more, 100 * KIB).await;
    is_whole(&a, "b", &more).await;
    let folder = tempfile::tempdir().expect("a folder");
    let start = Start::new(folder.path(), &[]).with("DATABASE__URL", database.clone());
    start.fails(1, &["schema 9999", "run a newer program"]);
    let ids: BTreeSet<String> = a.hooks.of("a").into_iter().map(|hook| hook.id).collect();
    assert_eq!(ids.len(), 1);
    let emulator = a.emulator.as_ref().expect("an emulator");
    assert_eq!((emulator.calls("objects").await, emulator.calls("openParts").await), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_46_a_restart_upon_a_newer_schema() {
    let mut gateway = Gateway::start(On::FileAndSqlite).await;
    let bytes = content(3 * MIB, 462);
    gateway.create("a", bytes.len(), MIB).await;
    gateway.put("a", 0, &bytes[..MIB]).await;
    assert!(gateway.stop().await.success());
    let file = format!("sqlite://{}", gateway.folder.path().join("data/chunkgate.db").display());
    let mut sql = SqliteConnection::connect(&file).await.expect("the file opens");
    for statement in NEXT_SCHEMA {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut sql).await.expect(statement);
    }
    sql.close().await.expect("closed");
    gateway.boot().await;
    has_received(&gateway, "a", &[0], &[[1, 2]]).await;
    gateway.put_all("a", &bytes, MIB).await;
    is_whole(&gateway, "a", &bytes).await;
}
