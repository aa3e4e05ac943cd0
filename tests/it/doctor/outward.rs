//! From a gateway to what it stands on.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use http::HeaderValue;
use rustix::process::Signal;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;

use super::front::{Front, asked_for, refused};
use super::nginx::{Certificate, Nginx};
use super::patient::Patient;
use crate::chaos::BlackHole;
use crate::harness::{Emulator, MIB, WEBHOOK_SECRET, client};
use crate::hooks::Hooks;
use crate::machine::{self, SmallDisk, WallClock};
use crate::oss_proxy::{Fault, Gate, Operation, OssProxy};
use crate::postgres;

/// A bucket, and a gateway's settings that fit it.
pub(super) struct Healthy {
    folder: TempDir,
    pub(super) emulator: Emulator,
}

impl Healthy {
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let emulator = Emulator::start(&folder.path().join("emulator")).await;
        Self { folder, emulator }
    }

    pub(super) fn patient(&self) -> Patient {
        Patient::new(self.emulator.environment())
    }

    /// With a proxy in between.
    fn behind(&self, front: SocketAddr) -> Patient {
        self.patient().with("STORE__OSS__ENDPOINT", format!("http://{front}"))
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Nothing of the doctor's is left in the bucket.
    pub(super) async fn is_clean(&self) {
        let url = format!("http://{}/-/stats", self.emulator.address);
        let stats: serde_json::Value = client().get(url).send().await.expect("stats").json().await.expect("json");
        assert_eq!((stats["objects"].as_u64(), stats["openUploads"].as_u64()), (Some(0), Some(0)), "{stats}");
    }
}

/// Settings of the embedded default.
fn embedded() -> Patient {
    Patient::new(Vec::new())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_set_up_is_well() {
    let (healthy, hooks) = (Healthy::start().await, Hooks::start().await);
    let patient = healthy.patient().with("WEBHOOK__URL", hooks.url()).with("WEBHOOK__SECRET", WEBHOOK_SECRET);
    let patient = patient.with("DATABASE__URL", postgres::new_database().await);
    let examined = patient.argue(&["--origin", "https://app.example.com"]).examine(healthy.path()).await;
    examined
        .is_well()
        .has("ok", "credentials")
        .has("ok", "permission to abort")
        .has("ok", "cors")
        .has("ok", "database");
    examined.has("ok", "throughput");
    assert!(examined.finding("ok", "throughput").contains("Suggested: chunkSize"), "{}", examined.said);
    // This receiver takes anything, which is told.
    examined.has("warning", "webhook");
    let sent = hooks.all();
    assert_eq!(sent.iter().map(|hook| hook.json["type"].as_str()).collect::<Vec<_>>(), [Some("doctor.ping"); 2]);
    healthy.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_default_is_well_also_while_it_is_in_use() {
    let folder = tempfile::tempdir().expect("a folder");
    embedded()
        .examine(folder.path())
        .await
        .is_well()
        .has("ok", "disk")
        .has("ok", "database")
        .has("skipped", "lifecycle");
    let objects = folder.path().join("data/objects");
    let names = walk(&objects);
    assert!(!names.iter().any(|name| name.contains("doctor") && objects.join(name).is_file()), "{names:?}");
    let json = embedded().argue(&["--json"]).examine(folder.path()).await;
    let report: serde_json::Value = serde_json::from_str(&json.said).expect("JSON");
    assert_eq!((report["status"].as_str(), report["firstCause"].is_null()), (Some("ok"), true), "{report}");
    assert!(report["findings"].as_array().is_some_and(|findings| findings.len() > 10), "{report}");
}

fn walk(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| {
            let name = entry.path().display().to_string();
            let below = if entry.path().is_dir() { walk(&entry.path()) } else { Vec::new() };
            below.into_iter().chain([name])
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_the_cause() {
    let folder = tempfile::tempdir().expect("a folder");
    let examined = embedded().with("STORE__KIND", "oss").examine(folder.path()).await;
    examined.first_fails_at("configuration", "A configuration that cannot work");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_and_a_wrong_secret() {
    let healthy = Healthy::start().await;
    let wrong = healthy.patient().with("STORE__OSS__ACCESS_KEY_ID", "LTAI5tWrongWrong").examine(healthy.path()).await;
    wrong.first_fails_at("credentials", "1. Wrong access key");
    let wrong = healthy.patient().with("STORE__OSS__ACCESS_KEY_SECRET", "hunter2").examine(healthy.path()).await;
    wrong.first_fails_at("credentials", "2. Wrong secret").has("skipped", "permission to put");
    assert!(!wrong.said.contains("hunter2"), "{}", wrong.said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_an_hour_off() {
    let (healthy, clock) = (Healthy::start().await, WallClock::new());
    clock.set(3600);
    let examined = healthy.patient().beside(clock.settings()).examine(healthy.path()).await;
    examined.first_fails_at("clock", "3. A clock an hour off");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_region_and_a_missing_bucket() {
    let healthy = Healthy::start().await;
    let examined = healthy.patient().with("STORE__OSS__REGION", "cn-beijing").examine(healthy.path()).await;
    examined.first_fails_at("bucket", "4. Wrong region").has("ok", "credentials");
    let examined = healthy.patient().with("STORE__OSS__BUCKET", "elsewhere").examine(healthy.path()).await;
    examined.first_fails_at("bucket", "9. Bucket missing").has("ok", "credentials");
}

/// A name server of our own, which knows no name.
pub(super) async fn no_such_name() -> Ipv4Addr {
    let address = Ipv4Addr::new(127, 0, 0, 77);
    let socket = tokio::net::UdpSocket::bind((address, 53)).await.expect("this test runs as root (sudo)");
    tokio::spawn(async move {
        let mut text = [0; 512];
        while let Ok((bytes, from)) = socket.recv_from(&mut text).await {
            (text[2], text[3]) = (0x81, 0x83);
            let _ = socket.send_to(&text[..bytes], from).await;
        }
    });
    address
}

/// Has this machine's names and name servers be these.
pub(super) fn with_names(patient: Patient, folder: &Path, hosts: &str, server: Ipv4Addr) -> Patient {
    std::fs::write(folder.join("hosts"), format!("127.0.0.1 localhost\n{hosts}")).expect("written");
    std::fs::write(folder.join("resolv.conf"), format!("nameserver {server}\n")).expect("written");
    patient.apart("mount --bind hosts /etc/hosts && mount --bind resolv.conf /etc/resolv.conf")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_internal_endpoint_from_outside_and_a_name_that_there_is_not() {
    let (healthy, server) = (Healthy::start().await, no_such_name().await);
    let of = |endpoint: &str| {
        healthy.patient().with("STORE__OSS__ENDPOINT", endpoint).with("STORE__OSS__PATH_STYLE", "false")
    };
    let hosts = "127.0.0.1 bkt.oss-cn-hangzhou-internal.aliyuncs.com\n";
    let internal = with_names(of("oss-cn-hangzhou-internal"), healthy.path(), hosts, server);
    internal.examine(healthy.path()).await.first_fails_at("tcp", "5. Internal endpoint from outside");
    let unknown = with_names(of("oss-cn-hangzou.aliyuncs.com"), healthy.path(), "", server);
    unknown.examine(healthy.path()).await.first_fails_at("dns", "6. A name that does not resolve");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_hangs() {
    let healthy = Healthy::start().await;
    let hole = BlackHole::open();
    let patient = healthy.behind(hole.address).with("STORE__CONNECT_TIMEOUT", "2s");
    patient.examine(healthy.path()).await.first_fails_at("tcp", "7. A port that hangs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_name_and_one_that_is_right() {
    let healthy = Healthy::start().await;
    for (name, is_right) in [("oss.example.com", false), ("localhost", true)] {
        let folder = tempfile::tempdir().expect("a folder");
        let certificate = Certificate::of(name, folder.path());
        let nginx = Nginx::with_certificate(healthy.emulator.address, &certificate).await;
        let patient =
            healthy.patient().with("STORE__OSS__ENDPOINT", format!("https://localhost:{}", nginx.address.port()));
        let roots = [("SSL_CERT_FILE".to_owned(), certificate.authority.display().to_string())];
        let examined = patient.beside(roots).examine(healthy.path()).await;
        if is_right {
            examined.is_well().has("ok", "tls");
        } else {
            examined.first_fails_at("tls", "8. TLS with a wrong name");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_permission_that_is_missing_is_named() {
    let healthy = Healthy::start().await;
    // The last two leave something behind, and nothing is clean after them.
    let rights = ["put", "begin", "put part", "list parts", "complete", "get", "list", "abort", "delete"];
    for right in rights {
        let denied = || refused(403, "AccessDenied", "You have no right to access this object.");
        let front = Front::saying(healthy.emulator.address, move |head| (asked_for(head) == right).then(denied)).await;
        let examined = healthy.behind(front.address).examine(healthy.path()).await;
        let check = format!("permission to {right}");
        examined.first_fails_at(&check, &format!("10. No permission to {right}")).has("ok", "credentials");
        let left = examined.said.contains("left in the store");
        assert_eq!(left, matches!(right, "abort" | "delete"), "{}", examined.said);
        if left {
            continue;
        }
        healthy.is_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn temporary_credentials_that_have_expired() {
    let healthy = Healthy::start().await;
    let expired = || refused(403, "SecurityTokenExpired", "The security token you provided has expired.");
    let rule = move |head: &http::request::Parts| head.headers.contains_key("x-oss-security-token").then(expired);
    let front = Front::saying(healthy.emulator.address, rule).await;
    let patient = healthy.behind(front.address).with("STORE__OSS__SECURITY_TOKEN", "CAISnothingOfAnybodys");
    let examined = patient.examine(healthy.path()).await;
    examined.first_fails_at("credentials", "11. Expired STS");
    assert!(!examined.said.contains("CAIS"), "{}", examined.said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cors_rule_that_does_not_expose_the_etag() {
    let healthy = Healthy::start().await;
    let front = Front::editing(healthy.emulator.address, |headers| {
        headers.insert("access-control-expose-headers", HeaderValue::from_static("x-oss-request-id"));
    })
    .await;
    let asked = healthy.behind(front.address).argue(&["--origin", "https://app.example.com"]);
    asked.examine(healthy.path()).await.first_fails_at("cors", "12. CORS without ETag exposed");
    // Pages that upload through the gateway never notice.
    let configured = healthy.behind(front.address).with("CORS__ALLOWED_ORIGINS", "https://app.example.com");
    configured.examine(healthy.path()).await.is_well().has("warning", "cors");
    healthy.is_clean().await;
}

/// Makes the database as `serve` would.
fn migrate(folder: &Path, url: &str) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_chunkgate"));
    command.args(["migrate", "--database-url", url]).current_dir(folder).env_clear();
    let migrated = command.output().expect("it runs");
    assert!(migrated.status.success(), "{migrated:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_can_only_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = SmallDisk::mount(16 * MIB);
    let url = format!("sqlite://{}", disk.path().join("a.db").display());
    migrate(folder.path(), &url);
    disk.read_only();
    let examined = embedded().with("DATABASE__URL", &url).examine(folder.path()).await;
    assert!(examined.finding("FAILED", "database").contains("Read-only file system"), "{}", examined.said);
    // Postgres says it of itself.
    let url = postgres::new_database().await;
    migrate(folder.path(), &url);
    let name = url.rsplit('/').next().expect("a name");
    let read_only = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    let mut connection = PgConnection::connect(&url).await.expect("the test server answers");
    sqlx::query(AssertSqlSafe(read_only)).execute(&mut connection).await.expect("set");
    connection.close().await.expect("closed");
    let examined = embedded().with("DATABASE__URL", &url).examine(folder.path()).await;
    examined.first_fails_at("database", "13. Read-only database");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full() {
    let disk = SmallDisk::mount(64 * MIB);
    let store = disk.path().display().to_string();
    disk.fill_but(64 << 10);
    let examined = embedded().with("STORE__FILE__DIR", &store).examine(disk.path()).await;
    examined.first_fails_at("disk", "14. Full disk");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_descriptors() {
    let folder = tempfile::tempdir().expect("a folder");
    let examined = embedded().after("ulimit -n 256").examine(folder.path()).await;
    examined.first_fails_at("descriptors", "15. Low handle limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_answers_500_and_a_callback_that_is_not_there() {
    let (folder, hooks) = (tempfile::tempdir().expect("a folder"), Hooks::start().await);
    hooks.refuse_next(1);
    let told = || embedded().with("WEBHOOK__SECRET", WEBHOOK_SECRET);
    let examined = told().with("WEBHOOK__URL", hooks.url()).examine(folder.path()).await;
    examined.first_fails_at("webhook", "16. Webhook answering 500");
    let nobody = format!("http://{}/ask", crate::harness::free_address());
    let examined = told().with("HOOKS__BEFORE_CREATE__URL", nobody).examine(folder.path()).await;
    examined.first_fails_at("callback before_create", "17. Callback unreachable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_server_that_is_no_store() {
    let (healthy, hooks) = (Healthy::start().await, Hooks::start().await);
    let address = hooks.url().trim_start_matches("http://").trim_end_matches("/hook").parse().expect("an address");
    let examined = healthy.behind(address).examine(healthy.path()).await;
    examined.first_fails_at("bucket", "Something that is no store");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifecycle_rule_is_looked_for() {
    let healthy = Healthy::start().await;
    for (days, status) in [(8, "ok"), (1, "warning")] {
        let rule = format!(
            "<LifecycleConfiguration><Rule><ID>parts</ID><Prefix>uploads/</Prefix><Status>Enabled</Status>\
             <AbortMultipartUpload><Days>{days}</Days></AbortMultipartUpload></Rule></LifecycleConfiguration>"
        );
        let asked =
            move |head: &http::request::Parts| head.uri.query().is_some_and(|query| query.contains("lifecycle"));
        let front = Front::saying(healthy.emulator.address, move |head| asked(head).then(|| (200, rule.clone()))).await;
        healthy.behind(front.address).examine(healthy.path()).await.is_well().has(status, "lifecycle");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_told_to_stop_leaves_nothing_behind() {
    let healthy = Healthy::start().await;
    let proxy = OssProxy::before(healthy.emulator.address).await;
    let gate = Gate::new();
    proxy.next(Operation::UploadPart, Fault::HeldBefore(gate.clone()));
    let running = healthy.behind(proxy.address).start(healthy.path());
    gate.reached().await;
    machine::signal(running.id(), Signal::INT);
    let examined = running.end().await;
    examined.has("skipped", "interrupted");
    gate.open();
    healthy.is_clean().await;
}
