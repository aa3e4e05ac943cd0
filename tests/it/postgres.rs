//! A Postgres server for the tests: one per test process, one database per
//! test. It runs in a folder of its own on a port of its own, and ends with
//! the test process however that ends.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// The URL of a new, empty database.
pub(crate) async fn new_database() -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}", MADE.fetch_add(1, Ordering::Relaxed));
    let server = server();
    let mut connection = PgConnection::connect(&server.url("postgres")).await.expect("the test server answers");
    // Copying the small template1 needs no checkpoint.
    let create = format!("CREATE DATABASE {name} STRATEGY wal_log");
    sqlx::query(AssertSqlSafe(create)).execute(&mut connection).await.expect("a database");
    connection.close().await.expect("closed");
    server.url(&name)
}

struct Server {
    port: u16,
    /// The shell that the server runs under; both end when its input closes.
    _leash: Child,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

impl Server {
    fn url(&self, database: &str) -> String {
        format!("postgres://gate:unused@127.0.0.1:{}/{database}", self.port)
    }

    fn start() -> Self {
        let programs = programs();
        for _ in 0..5 {
            let folder = tempfile::Builder::new().prefix("chunkgate-postgres-").tempdir().expect("a folder").keep();
            Self::init(&programs, &folder);
            if let Some(server) = Self::serve(&programs, &folder) {
                return server;
            }
        }
        panic!("Postgres does not start");
    }

    fn init(programs: &Path, folder: &Path) {
        let user = user();
        if let Some((uid, gid)) = user {
            chown(folder, Some(uid), Some(gid)).expect("chown");
        }
        let init = as_user(programs.join("initdb"), user)
            .args(["--username=gate", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(folder.join("data"))
            .current_dir(folder)
            .output()
            .expect("initdb runs");
        assert!(init.status.success(), "initdb: {}", String::from_utf8_lossy(&init.stderr));
    }

    /// None when somebody else got the port.
    fn serve(programs: &Path, folder: &Path) -> Option<Self> {
        // The shell waits for its input to end, which it does when this process
        // does, and then stops the server by its pid.
        const LEASH: &str = r#""$@" >"$FOLDER/log" 2>&1 </dev/null &
            pid=$!; read -r _; kill -INT $pid; wait $pid; rm -rf "$FOLDER""#;
        let port = free_port();
        let mut shell = as_user("/bin/sh", user())
            .env("FOLDER", folder)
            .args(["-c", LEASH, "leash"])
            .arg(programs.join("postgres"))
            .arg("-D")
            .arg(folder.join("data"))
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-c", "max_connections=400", "-c", "shared_buffers=64MB"])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        for _ in 0..300 {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            if log.contains("ready to accept connections") && TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Some(Self { port, _leash: shell });
            }
            if log.contains("could not bind") {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
        eprintln!("Postgres did not start on port {port}: {log}");
        drop(shell.stdin.take());
        let _ = shell.wait();
        None
    }
}

/// The folder of `initdb` and `postgres`.
fn programs() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    debian.sort();
    let mut folders = std::env::split_paths(&path).chain(debian.into_iter().rev());
    folders
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
        .expect("Postgres is not installed: apt-get install postgresql")
}

/// Postgres refuses to run as root: then somebody else is found.
fn user() -> Option<(u32, u32)> {
    let own = fs::metadata("/proc/self").map(|me| std::os::unix::fs::MetadataExt::uid(&me));
    if own.is_ok_and(|uid| uid != 0) {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = |name: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    ids("postgres").or_else(|| ids("nobody"))
}

fn as_user(program: impl AsRef<OsStr>, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).expect("a port").port()
}
