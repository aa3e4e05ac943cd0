//! Receivers of webhooks: away for hours, forgotten after they said yes, slow,
//! endless, and pointing elsewhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::stand::{announced, eventually, is_whole};
use crate::harness::{Gateway, KIB, MIB, On, content, free_address};
use crate::machine::{self, WallClock};
use crate::postgres::new_database;

/// How a receiver answers.
#[derive(Clone)]
enum Manner {
    Accepts,
    /// Never.
    Silent,
    /// A byte of its head now and then.
    Trickles,
    /// 200, and a body without end.
    Endless,
    /// 307 to another place.
    PointsTo(SocketAddr),
    /// 200, to a process that it has just stopped.
    ToTheDead(Arc<AtomicU32>),
}

/// A receiver that can be made to behave badly.
struct Receiver {
    address: SocketAddr,
    /// Event ids, in the order in which they came.
    seen: Arc<Mutex<Vec<String>>>,
    sent_bytes: Arc<AtomicU64>,
    _end: DropGuard,
}

impl Receiver {
    async fn at(address: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (seen, sent_bytes, end) = (Arc::default(), Arc::default(), CancellationToken::new());
        let (log, sent) = (Arc::clone(&seen), Arc::clone(&sent_bytes));
        tokio::spawn(end.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(receive(stream, manner.clone(), Arc::clone(&log), Arc::clone(&sent)));
            }
        }));
        Self { address, seen, sent_bytes, _end: end.drop_guard() }
    }

    async fn start(manner: Manner) -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), manner).await
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// How often each event came.
    fn seen(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for id in self.seen.lock().expect("a lock").iter() {
            *counts.entry(id.clone()).or_default() += 1;
        }
        counts
    }
}

/// One connection: reads an event, notes its id, answers in its manner.
async fn receive(
    mut stream: TcpStream,
    manner: Manner,
    seen: Arc<Mutex<Vec<String>>>,
    sent: Arc<AtomicU64>,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = vec![0; 16 * KIB];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let header = |name: &str| {
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name));
            line.and_then(|line| line.split_once(": ")).map(|(_, value)| value.to_owned()).expect("a header")
        };
        if body.len() < header("content-length").parse().expect("a length") {
            continue;
        }
        seen.lock().expect("a lock").push(header("webhook-id"));
        break;
    }
    match manner {
        Manner::Accepts => stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await?,
        Manner::Silent => std::future::pending().await,
        Manner::Trickles => {
            for byte in b"HTTP/1.1 200 OK\r\n".iter().chain(std::iter::repeat(&b'X')) {
                stream.write_all(&[*byte]).await?;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        Manner::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            loop {
                stream.write_all(&buffer).await?;
                sent.fetch_add(buffer.len() as u64, Ordering::SeqCst);
            }
        }
        Manner::PointsTo(place) => {
            let answer = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{place}/hook\r\nContent-Length: 0\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await?;
        }
        Manner::ToTheDead(process) => {
            let process = process.swap(0, Ordering::SeqCst);
            if process > 0 {
                machine::stop(process).await;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await?;
        }
    }
    Ok(())
}

/// Gives the gateway these receivers beside its own, with its next start.
fn configure(gateway: &Gateway, urls: &[String]) {
    let endpoints: String = urls.iter().map(|url| format!("[[webhook.endpoints]]\nurl = \"{url}\"\n")).collect();
    std::fs::write(gateway.folder.path().join("chunkgate.toml"), endpoints).expect("written");
}

async fn upload(gateway: &Gateway, file_id: &str) {
    let bytes = content(300 * KIB, 40);
    gateway.create(file_id, bytes.len(), MIB).await;
    gateway.put_all(file_id, &bytes, MIB).await;
    is_whole(gateway, file_id, &bytes).await;
}

const HOUR: i64 = 3600;
/// What a minute would do to those whose holder is dead.
const CLAIMS_ARE_OVER: &str = "UPDATE deliveries SET lease_until = 0 WHERE state = 'pending'";

async fn a_receiver_is_down_for_six_hours(on: On) {
    let clock = WallClock::new();
    let (settings, database) = (clock.settings(), new_database().await);
    let mut settings: Vec<_> = settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    if on == On::OssAndPostgres {
        settings.push(("DATABASE__URL", &database));
    }
    let mut gateway = Gateway::start_with(on, &settings).await;
    let away = free_address();
    configure(&gateway, &[format!("http://{away}/hook")]);
    gateway.crash_and_restart().await;
    // Those that are there are told at once, whoever is not.
    for n in 0..5 {
        upload(&gateway, &format!("u{n}")).await;
    }
    for hour in [1, 3, 6] {
        clock.set(hour * HOUR);
        if hour == 3 {
            assert!(gateway.stop().await.success());
            gateway.boot().await;
        } else {
            gateway.crash_and_restart().await;
        }
        upload(&gateway, &format!("after-{hour}")).await;
    }
    if on == On::OssAndPostgres {
        // A claim of one that was killed lasts for a minute of the database's.
        let mut sql = PgConnection::connect(&database).await.expect("the test server answers");
        sqlx::query(CLAIMS_ARE_OVER).execute(&mut sql).await.expect("done");
    }
    // Asked every hour at the latest, it gets what it missed.
    let receiver = Receiver::at(away, Manner::Accepts).await;
    clock.set(8 * HOUR);
    eventually("all events come", async || receiver.seen().len() == 8).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let told = receiver.seen();
    assert!(told.values().all(|&times| times == 1), "{told:?}");
    let files = (0..5).map(|n| format!("u{n}")).chain([1, 3, 6].map(|hour| format!("after-{hour}")));
    for file_id in files {
        announced(&gateway, &file_id, "upload.completed").await;
        let other = gateway.hooks.wait_for(&file_id).await;
        assert!(told.contains_key(&other.id), "one event, one id, whoever is told");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_40_a_receiver_is_down_for_six_hours() {
    tokio::join!(
        a_receiver_is_down_for_six_hours(On::FileAndSqlite),
        a_receiver_is_down_for_six_hours(On::OssAndPostgres)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_41_killed_between_the_receivers_200_and_its_record() {
    for on in On::BOTH {
        let process = Arc::new(AtomicU32::new(0));
        let receiver = Receiver::start(Manner::ToTheDead(process.clone())).await;
        let (database, hook) = (new_database().await, receiver.url());
        let mut settings = vec![("WEBHOOK__URL", hook.as_str())];
        if on == On::OssAndPostgres {
            settings.push(("DATABASE__URL", database.as_str()));
        }
        let mut gateway = Gateway::start_with(on, &settings).await;
        process.store(gateway.pid(), Ordering::SeqCst);
        gateway.create("a", 10, MIB).await;
        // The gateway may be stopped before its client has the answer.
        let put = tokio::time::timeout(Duration::from_secs(2), gateway.try_put("a", 0, b"0123456789".to_vec())).await;
        assert!(put.ok().flatten().is_none_or(|answer| answer.status == 200));
        eventually("the event comes", async || receiver.seen().len() == 1).await;
        gateway.crash_and_restart().await;
        if on == On::OssAndPostgres {
            // The dead gateway's claim lasts for a minute: let it be over.
            let mut sql = PgConnection::connect(&database).await.expect("the test server answers");
            let aged = sqlx::query(CLAIMS_ARE_OVER).execute(&mut sql).await;
            assert_eq!(aged.expect("done").rows_affected(), 1);
        }
        eventually("it comes again", async || receiver.seen().values().sum::<usize>() == 2).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(receiver.seen().values().collect::<Vec<_>>(), [&2], "under the same id, and not a third time");
    }
}

async fn receivers_are_slow_huge_and_redirecting(on: On) {
    let elsewhere = Receiver::start(Manner::Accepts).await;
    let silent = Receiver::start(Manner::Silent).await;
    let trickling = Receiver::start(Manner::Trickles).await;
    let endless = Receiver::start(Manner::Endless).await;
    let pointing = Receiver::start(Manner::PointsTo(elsewhere.address)).await;
    let mut gateway = Gateway::start(on).await;
    configure(&gateway, &[silent.url(), trickling.url(), endless.url(), pointing.url()]);
    gateway.crash_and_restart().await;
    const UPLOADS: usize = 18;
    // More events than a receiver is sent at once: the others' get through at once all the same.
    let began = tokio::time::Instant::now();
    for n in 0..UPLOADS {
        upload(&gateway, &format!("u{n}")).await;
    }
    let told = began.elapsed();
    assert!(told < Duration::from_secs(14), "before anybody's time is up: {told:?}");
    eventually("the endless one is told", async || endless.seen().len() == UPLOADS).await;
    eventually("who points elsewhere is asked again", async || pointing.seen().values().any(|&times| times > 2)).await;
    let again = |receiver: &Receiver| receiver.seen().values().any(|&times| times > 1);
    for _ in 0..50 {
        if again(&silent) && again(&trickling) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(again(&silent) && again(&trickling), "their time was up, and they were asked again");
    assert!(endless.seen().values().all(|&times| times == 1), "a 200 is a 200: {:?}", endless.seen());
    let each = endless.sent_bytes.load(Ordering::SeqCst) / UPLOADS as u64;
    assert!(each < 8 * MIB as u64, "no more is read of it than buffers hold: {each} bytes");
    assert_eq!(elsewhere.seen().len(), 0, "redirects are not followed");
    assert!(gateway.log().contains("redirects are not followed"));
    assert!(gateway.log().contains("timed out"), "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_42_receivers_are_slow_huge_and_redirecting() {
    tokio::join!(
        receivers_are_slow_huge_and_redirecting(On::FileAndSqlite),
        receivers_are_slow_huge_and_redirecting(On::OssAndPostgres)
    );
}
