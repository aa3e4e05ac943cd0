//! A gateway that cannot start says why: the key, its value, what to do. Its
//! exit code says whether the configuration is wrong (2) or something outside
//! of it failed (1). Nobody is served before it ends.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

use crate::harness::{Emulator, Gateway, On, WEBHOOK_SECRET, free_address};
use crate::postgres;

/// Stands for every secret here; no message may have it.
const SECRET: &str = "hunter2-hunter2";

/// One start that fails.
pub(crate) struct Start<'a> {
    folder: &'a Path,
    arguments: Vec<&'a str>,
    environment: Vec<(&'a str, String)>,
}

impl<'a> Start<'a> {
    pub(crate) fn new(folder: &'a Path, arguments: &[&'a str]) -> Self {
        Self { folder, arguments: arguments.to_vec(), environment: Vec::new() }
    }

    /// With a variable: `CHUNKGATE_…`, or whole if it begins with `OSS_` or `AWS_`.
    pub(crate) fn with(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Starts it; it must end with this code and say all of this.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, says: &[&str]) {
        let (public, admin) = (free_address(), free_address());
        let own = [("LISTEN", public.to_string()), ("ADMIN_LISTEN", admin.to_string())];
        let variables = own.into_iter().chain(self.environment.clone()).map(|(name, value)| {
            let is_whole = name.starts_with("OSS_") || name.starts_with("AWS_");
            let name = if is_whole { name.to_owned() } else { format!("CHUNKGATE_{name}") };
            (name, value)
        });
        let mut child = Command::new(env!("CARGO_BIN_EXE_chunkgate"))
            .args(&self.arguments)
            .env_clear()
            .envs(variables)
            .current_dir(self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut looks = 0;
        while child.try_wait().expect("a child").is_none() {
            let served = |address: SocketAddr| TcpStream::connect(address).is_ok();
            let served = served(public) || served(admin);
            looks += 1;
            if served || looks > 6000 {
                let _ = child.kill();
                panic!("{:?} {:?} goes on (served: {served})", self.arguments, self.environment);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = child.wait_with_output().expect("its output");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{:?} {:?}: {said}", self.arguments, self.environment);
        for text in says {
            assert!(said.contains(text), "{text:?} is not in: {said}");
        }
        assert!(!said.contains(SECRET), "a secret is told: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn keys_that_there_are_not() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("chunkgate.toml"), "[store]\nknd = \"oss\"\n").expect("written");
    Start::new(folder.path(), &[]).fails(2, &["store.knd", "chunkgate.toml:2", "did you mean store.kind?"]);
    std::fs::write(folder.path().join("gate.yaml"), "stor:\n  kind: oss\n").expect("written");
    Start::new(folder.path(), &["--config", "gate.yaml"]).fails(2, &["stor.kind", "gate.yaml", "store.kind?"]);
    std::fs::write(folder.path().join("gate.json"), "{\"limits\": {\"queue_wiat\": \"1s\"}}").expect("written");
    Start::new(folder.path(), &["--config", "gate.json"]).fails(2, &["limits.queue_wiat", "limits.queue_wait?"]);
    std::fs::write(folder.path().join("half.toml"), "[store\n").expect("written");
    Start::new(folder.path(), &["--config", "half.toml"]).fails(2, &["half.toml:1", "TOML"]);
    Start::new(folder.path(), &["--config", "none.toml"]).fails(2, &["none.toml", "cannot be read"]);

    let empty = tempfile::tempdir().expect("a folder");
    let start = |arguments| Start::new(empty.path(), arguments);
    start(&[]).with("STOR__KIND", "oss").fails(2, &["CHUNKGATE_STOR__KIND", "did you mean CHUNKGATE_STORE__KIND?"]);
    start(&["--set", "upload.leese=1m"]).fails(2, &["upload.leese", "--set", "did you mean upload.lease?"]);
    start(&["fly"]).fails(2, &["unrecognized subcommand 'fly'", "--help"]);
    start(&["serve", "--no-such-flag"]).fails(2, &["--no-such-flag"]);
    assert_eq!(std::fs::read_dir(empty.path()).map(Iterator::count).ok(), Some(0), "nothing was made");
}

#[test]
fn values_that_mean_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let hook = "http://127.0.0.1:9/hook";
    for (name, value, says) in [
        ("UPLOAD__LEASE", "30 parsecs", &["upload.lease = \"30 parsecs\"", "300ms, 5s, 24h or 7d"][..]),
        ("UPLOAD__LEASE", "30", &["upload.lease = \"30\"", "no unit", "30s"]),
        ("UPLOAD__LEASE", "1s", &["upload.lease = \"1s\"", "at least 3s"]),
        ("LIMITS__MAX_FILE_SIZE", "10XB", &["limits.max_file_size = \"10XB\"", "8MiB"]),
        ("LIMITS__MAX_CONCURRENT_CHUNKS", "0", &["limits.max_concurrent_chunks = 0", "at least 1"]),
        ("LIMITS__MAX_CONCURRENT_CHUNKS", "many", &["limits.max_concurrent_chunks = \"many\""]),
        ("UPLOAD__AUTO_COMPLETE", "perhaps", &["upload.auto_complete = \"perhaps\"", "true"]),
        ("UPLOAD__KEY_TEMPLATE", "a/{name}", &["upload.key_template = \"a/{name}\"", "{random}"]),
        ("LOG__LEVEL", "loud", &["log.level = \"loud\""]),
        ("LISTEN", "localhost", &["listen = \"localhost\"", "127.0.0.1:8080"]),
        ("LISTEN", "0.0.0.0:0", &["listen = \"0.0.0.0:0\"", "auth.api_keys", "--insecure-no-auth"]),
        ("ADMIN_LISTEN", "[::]:0", &["admin_listen = \"[::]:0\"", "auth.mode"]),
        ("PUBLIC_URL", "app.example.com", &["public_url = \"app.example.com\"", "https://"]),
        ("WEBHOOK__URL", hook, &["webhook.secret", "openssl rand"]),
        ("WEBHOOK__SECRET", SECRET, &["webhook.secret = \"********\"", "whsec_"]),
        ("WEBHOOK__SECRET_FILE", "/no/such/file", &["CHUNKGATE_WEBHOOK__SECRET_FILE", "/no/such/file"]),
        ("CORS__ALLOWED_ORIGINS", "https://a.example/", &["cors.allowed_origins", "https://a.example/", "without a /"]),
        ("HEALTH__READY_REQUIRES", "luck", &["health.ready_requires", "luck", "database"]),
        ("STORE__KIND", "gcs", &["store.kind = \"gcs\"", "one of `file`, `oss`, `s3`"]),
        ("AUTH__MODE", "oidc", &["auth.mode = \"oidc\"", "keys"]),
        ("AUTH__MODE", "keys", &["auth.api_keys", "--bootstrap-key"]),
        ("AUTH__API_KEYS", SECRET, &["auth.api_keys", "name:key"]),
        ("DATABASE__URL", "mysql://me:hunter2-hunter2@127.0.0.1/gate", &["database.url", "sqlite://", "postgres://"]),
        ("DATABASE__URL", "postgres://me:hunter2-hunter2@127.0.0.1:port/gate", &["database.url", "port"]),
        ("DATABASE__URL", "sqlite::memory:", &["database.url", "file"]),
    ] {
        Start::new(folder.path(), &[]).with(name, value).fails(2, says);
    }
    // A password or a token where none belongs.
    for (name, key) in [
        ("WEBHOOK__URL", "webhook.url"),
        ("PUBLIC_URL", "public_url"),
        ("STORE__OSS__PUBLIC_ENDPOINT", "store.oss.public_endpoint"),
        ("CORS__ALLOWED_ORIGINS", "cors.allowed_origins"),
        ("UPLOAD__LEASE", "upload.lease"),
    ] {
        for value in
            [format!("http://me:{SECRET}@a/b"), format!("ftp://a/b?token={SECRET}"), format!("me:{SECRET}@a/b?c")]
        {
            Start::new(folder.path(), &[]).with(name, value).fails(2, &[key, "********"]);
        }
    }
    let several = Start::new(folder.path(), &[]).with("UPLOAD__LEASE", "1s").with("PUBLIC_URL", "x");
    several.fails(2, &["2 things", "upload.lease", "public_url"]);
    let mode = Start::new(folder.path(), &[]).with("AUTH__MODE", "keys");
    mode.fails(2, &["the configuration is wrong: auth.mode needs keys, but there is none"]);
    let keys = Start::new(folder.path(), &["--bootstrap-key"]).with("AUTH__MODE", "none");
    keys.fails(2, &["auth.mode", "--bootstrap-key"]);
    let same = free_address().to_string();
    let clash = Start::new(folder.path(), &[]).with("LISTEN", same.clone()).with("ADMIN_LISTEN", same.clone());
    clash.fails(2, &["admin_listen", &same]);
}

/// A gateway that is to use this emulator, in this bucket.
fn with_oss<'a>(folder: &'a Path, endpoint: &str, bucket: &str) -> Start<'a> {
    let start = Start::new(folder, &[]).with("STORE__KIND", "oss").with("STORE__OSS__ENDPOINT", endpoint);
    let start = start.with("STORE__OSS__BUCKET", bucket).with("STORE__OSS__PATH_STYLE", "true");
    start.with("STORE__OSS__REGION", "cn-hangzhou")
}

#[test]
fn endpoints_that_are_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let keyed = |endpoint: &str, bucket: &str| {
        with_oss(folder.path(), endpoint, bucket).with("OSS_ACCESS_KEY_ID", "ak").with("OSS_ACCESS_KEY_SECRET", SECRET)
    };
    for (endpoint, says) in [
        ("not a host", "not a host"),
        ("ftp://127.0.0.1", "ftp"),
        ("http://127.0.0.1:99999", "no valid port"),
        ("http://127.0.0.1:9/path", "path"),
        ("http://me:hunter2-hunter2@127.0.0.1:9", "********@127.0.0.1:9"),
        ("http://127.0.0.1:9/?token=hunter2-hunter2", "127.0.0.1:9/?********"),
    ] {
        keyed(endpoint, "bkt").fails(2, &["store.oss.endpoint", says]);
    }
    keyed("http://127.0.0.1:9", "B!").fails(2, &["store.oss.bucket = \"B!\"", "3 to 63"]);
    keyed("http://127.0.0.1:9", "").fails(2, &["store.oss.bucket: must be set"]);
    keyed("http://127.0.0.1:9", "bkt").with("STORE__OSS__REGION", "").fails(2, &["store.oss.region", "cn-hangzhou"]);
    let none = Start::new(folder.path(), &[]).with("STORE__KIND", "oss");
    let told = ["4 things", "store.oss.endpoint: must be set", "oss-cn-hangzhou.aliyuncs.com", "store.oss.region"];
    none.fails(2, &[&told[..], &["OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"]].concat());
    let start = with_oss(folder.path(), "http://127.0.0.1:9", "bkt");
    start.fails(2, &["store.oss.access_key_id", "OSS_ACCESS_KEY_ID"]);
    let start = with_oss(folder.path(), "http://127.0.0.1:9", "bkt").with("OSS_ACCESS_KEY_ID", "ak");
    start.fails(2, &["store.oss.access_key_secret", "OSS_ACCESS_KEY_SECRET"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_that_refuse() {
    let folder = tempfile::tempdir().expect("a folder");
    let emulator = Emulator::start(&folder.path().join("emulator")).await;
    let endpoint = format!("http://{}", emulator.address);
    let start = |bucket: &str, id: &str, secret: &str| {
        let start = with_oss(folder.path(), &endpoint, bucket);
        start.with("OSS_ACCESS_KEY_ID", id).with("OSS_ACCESS_KEY_SECRET", secret)
    };
    let place = format!("bucket bkt at {endpoint}");
    start("bkt", "ak", SECRET).fails(1, &[&place, "SignatureDoesNotMatch", "store.oss.access_key_secret"]);
    start("bkt", "who", "sk").fails(1, &[&place, "InvalidAccessKeyId", "store.oss.access_key_id"]);
    start("other", "ak", "sk").fails(1, &["bucket other", "NoSuchBucket", "store.oss.bucket"]);
    // Somebody answers, but not as OSS does: another gateway's page.
    let other = Gateway::start(On::FileAndSqlite).await;
    let elsewhere = with_oss(folder.path(), &other.url(""), "bkt");
    let elsewhere = elsewhere.with("OSS_ACCESS_KEY_ID", "ak").with("OSS_ACCESS_KEY_SECRET", SECRET);
    elsewhere
        .fails(1, &["Http404", &other.address.to_string(), "this does not answer like OSS: check store.oss.endpoint"]);
    let beijing = start("bkt", "ak", "sk").with("STORE__OSS__REGION", "cn-beijing");
    beijing.fails(1, &[&place, "store.oss.region"]);
}

/// A store that is away may come back, and its gateway with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_waited_for() {
    let nowhere = free_address();
    let endpoint = format!("http://{nowhere}");
    let away = [("STORE__OSS__ENDPOINT", endpoint.as_str())];
    let gateway = Gateway::start_with(On::OssAndPostgres, &away).await;
    let refused = gateway.post("/uploads", serde_json::json!({"fileName": "a", "fileSize": 0})).await;
    refused.is_refused(503, "store_unavailable");
    let log = gateway.log();
    assert!(log.contains(&endpoint) && log.contains("503 until it can; check store.oss.endpoint"), "{log}");
    let failed = log.lines().find(|line| line.contains("request failed")).expect("a line about the request");
    assert!(failed.contains(&format!("PutObject at {nowhere}: ConnectFailed")), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_that_do_not_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = free_address();
    let url = format!("postgres://me:{SECRET}@{nowhere}/gate");
    for arguments in [&["serve"][..], &["migrate"], &["sweep"], &["sweep", "--dry-run"]] {
        let start = Start::new(folder.path(), arguments).with("DATABASE__ACQUIRE_TIMEOUT", "500ms");
        let says = [&format!("{nowhere}/gate cannot be reached: Connection refused")[..], "database.url"];
        start.with("DATABASE__URL", url.clone()).fails(1, &says);
    }
    let there = postgres::new_database().await;
    let (server, _) = there.rsplit_once('/').expect("a URL");
    let missing = format!("{}/nowhere", server.replace("unused", SECRET));
    Start::new(folder.path(), &[]).with("DATABASE__URL", missing).fails(1, &["/nowhere", "does not exist"]);
}

/// Marks a database as one that a later program has used.
const LATER: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
    VALUES (9999, 'later', TRUE, '', 0)";

#[tokio::test(flavor = "multi_thread")]
async fn databases_of_a_later_program() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = postgres::new_database().await;
    let of_postgres = || Start::new(folder.path(), &["migrate"]).with("DATABASE__URL", url.clone());
    let mut gateway = Gateway::start(On::FileAndSqlite).await;
    assert!(gateway.stop().await.success());
    let file = gateway.folder.path().join("data/chunkgate.db");
    let mut sqlite = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.expect("the file opens");
    sqlx::query(AssertSqlSafe(LATER)).execute(&mut sqlite).await.expect("inserted");
    sqlite.close().await.expect("closed");
    for arguments in [&["serve"][..], &["migrate"], &["sweep", "--dry-run"]] {
        let start = Start::new(gateway.folder.path(), arguments);
        start.fails(1, &["data/chunkgate.db", "schema 9999", "run a newer program"]);
    }
    let migrated = Command::new(env!("CARGO_BIN_EXE_chunkgate"))
        .args(["migrate", "--database-url", &url])
        .current_dir(&folder)
        .status();
    assert!(migrated.expect("it runs").success());
    let mut postgres = PgConnection::connect(&url).await.expect("the test server answers");
    sqlx::query(AssertSqlSafe(LATER)).execute(&mut postgres).await.expect("inserted");
    of_postgres().fails(1, &["schema 9999", "run a newer program"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_has() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let (folder, holder) = (gateway.folder.path(), format!("process {}", gateway.pid()));
    Start::new(folder, &[]).fails(1, &["store.file.dir", "data/objects", &holder]);
    Start::new(folder, &["sweep"]).fails(1, &["data/objects", &holder]);
    let other_store = Start::new(folder, &[]).with("STORE__FILE__DIR", "elsewhere");
    other_store.fails(1, &["data/chunkgate.db", &holder, "stop it first"]);
    Start::new(folder, &["migrate"]).fails(1, &["data/chunkgate.db", &holder]);

    let own = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let start = Start::new(own.path(), &[]).with("LISTEN", address.clone());
    start.fails(1, &[&format!("listen = {address}"), "in use", "another port"]);
    let free = free_address().to_string();
    let start = Start::new(own.path(), &[]).with("LISTEN", free).with("ADMIN_LISTEN", address.clone());
    start.fails(1, &[&format!("admin_listen = {address}"), "in use", "another port"]);
    // TEST-NET-1: nobody has it.
    let start = Start::new(own.path(), &["--insecure-no-auth"]).with("LISTEN", "192.0.2.1:8080");
    start.fails(1, &["listen = 192.0.2.1:8080", "this machine has no such address"]);
}

/// What commands that serve nobody have done is said in words.
#[test]
fn commands_say_what_they_did() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chunkgate"));
        let output = command.args(arguments).env_clear().current_dir(&folder).output().expect("it runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let migrated = run(&["migrate"]);
    assert!(migrated.contains("from=none") && migrated.contains("to=3"), "{migrated}");
    let url = [
        "--set",
        "webhook.url=https://a.example/h?token=hunter2-hunter2",
        "--set",
        &format!("webhook.secret={WEBHOOK_SECRET}"),
    ];
    let printed = run(&[&["serve", "--print-config"], &url[..]].concat());
    assert!(printed.contains("# url = \"https://a.example/h?********\"") && !printed.contains(SECRET), "{printed}");
    let due = run(&["sweep", "--dry-run"]);
    assert!(due.contains("nothing to clean up"), "{due}");
    let swept = run(&["sweep"]);
    assert!(swept.contains("swept merges=0 expired=0"), "{swept}");
}

#[test]
fn files_that_cannot_be_used() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("file"), "").expect("written");
    std::fs::write(folder.path().join("junk.db"), vec![0xa5; 5000]).expect("written");
    Start::new(folder.path(), &[]).with("DATA_DIR", "file").fails(1, &["store.file.dir = file/objects"]);
    let junk = || Start::new(folder.path(), &[]).with("DATABASE__URL", "sqlite://junk.db");
    junk().fails(1, &["junk.db", "damaged", "backup"]);
    let below = Start::new(folder.path(), &[]).with("DATABASE__URL", "sqlite://file/a.db");
    below.fails(1, &["file/a.db", "cannot be opened"]);
}
