//! A Postgres server for the tests: one per test process, one database per
//! test. It runs in a folder of its own on a port of its own, and ends with
//! the test process however that ends. A test that stops servers has a
//! [`Cluster`] of its own.

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

use rustix::process::Signal;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::machine;

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
    leash: Child,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.leash.stdin.take());
        let _ = self.leash.wait();
    }
}

/// A server of one test, which may stop it and start it again.
pub(crate) struct Cluster {
    server: Option<Server>,
    programs: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// As an operator does it: connections are ended, the log is written out.
    Fast,
    /// As a crash does it: the next start recovers.
    Immediate,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let (programs, folder) = (programs(), new_folder());
        Server::init(&programs, folder.path());
        Self::on(programs, folder)
    }

    fn on(programs: PathBuf, folder: tempfile::TempDir) -> Self {
        let mut cluster = Self { programs, folder, port: 0, server: None };
        for _ in 0..5 {
            cluster.port = free_port();
            cluster.server = Server::serve(&cluster.programs, cluster.folder.path(), cluster.port, "");
            if cluster.server.is_some() {
                return cluster;
            }
        }
        panic!("Postgres does not start");
    }

    pub(crate) fn url(&self) -> String {
        url(self.port, "postgres")
    }

    /// As a role that has a password.
    pub(crate) fn url_of(&self, role: &str, password: &str) -> String {
        format!("postgres://{role}:{password}@127.0.0.1:{}/postgres", self.port)
    }

    /// Makes a role that is not let in without its password.
    pub(crate) async fn ask_for_a_password(&self, role: &str, password: &str) {
        let rules = self.folder.path().join("data/pg_hba.conf");
        let known = fs::read_to_string(&rules).expect("the rules");
        fs::write(&rules, format!("host all {role} 127.0.0.1/32 scram-sha-256\n{known}")).expect("written");
        self.tell(format!("CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{password}'")).await;
        self.tell("SELECT pg_reload_conf()".to_owned()).await;
        let without = self.url_of(role, "wrong");
        for _ in 0..100 {
            if PgConnection::connect(&without).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("Postgres lets {role} in without a password");
    }

    pub(crate) async fn set_password(&self, role: &str, password: &str) {
        self.tell(format!("ALTER ROLE {role} PASSWORD '{password}'")).await;
    }

    async fn tell(&self, statement: String) {
        let mut connection = PgConnection::connect(&self.url()).await.expect("the test server answers");
        sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await.expect("done");
    }

    pub(crate) fn stop(&mut self, how: Stop) {
        let pid = fs::read_to_string(self.folder.path().join("data/postmaster.pid")).expect("a server runs");
        let pid = pid.lines().next().and_then(|pid| pid.trim().parse().ok()).expect("a process id");
        machine::signal(
            pid,
            match how {
                Stop::Fast => Signal::INT,
                Stop::Immediate => Signal::QUIT,
            },
        );
        drop(self.server.take());
    }

    /// On the port it had.
    pub(crate) fn start_again(&mut self) {
        for _ in 0..50 {
            self.server = Server::serve(&self.programs, self.folder.path(), self.port, "");
            if self.server.is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("Postgres does not start again on port {}", self.port);
    }

    /// A second server that has all that this one has acknowledged from now on.
    pub(crate) async fn standby(&self) -> Self {
        let folder = new_folder();
        let copy = as_user(self.programs.join("pg_basebackup"), user())
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "gate", "-R", "-c", "fast", "-D"])
            .arg(folder.path().join("data"))
            .current_dir(folder.path())
            .output()
            .expect("pg_basebackup runs");
        assert!(copy.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&copy.stderr));
        let standby = Self::on(self.programs.clone(), folder);
        let mut connection = PgConnection::connect(&self.url()).await.expect("the test server answers");
        for statement in ["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"] {
            sqlx::query(statement).execute(&mut connection).await.expect("done");
        }
        let is_synchronous = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        for _ in 0..200 {
            if sqlx::query_scalar::<_, i64>(is_synchronous).fetch_one(&mut connection).await.expect("a count") > 0 {
                return standby;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the standby does not follow");
    }

    /// The standby takes the primary's place, at its address. The primary must be stopped.
    pub(crate) fn take_the_place_of(&mut self, primary: &Self) {
        self.stop(Stop::Fast);
        fs::remove_file(self.folder.path().join("data/standby.signal")).expect("it was a standby");
        // It was copied with the primary's settings: nobody follows it.
        self.port = primary.port;
        self.start_again();
    }
}

fn new_folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("chunkgate-postgres-").tempdir().expect("a folder");
    if let Some((uid, gid)) = user() {
        chown(folder.path(), Some(uid), Some(gid)).expect("chown");
    }
    folder
}

fn url(port: u16, database: &str) -> String {
    format!("postgres://gate:unused@127.0.0.1:{port}/{database}")
}

impl Server {
    fn url(&self, database: &str) -> String {
        url(self.port, database)
    }

    fn start() -> Self {
        let programs = programs();
        for _ in 0..5 {
            let folder = new_folder().keep();
            Self::init(&programs, &folder);
            // Nobody is left to remove the folder when the test process has ended.
            if let Some(server) = Self::serve(&programs, &folder, free_port(), "rm -rf \"$FOLDER\"") {
                return server;
            }
        }
        panic!("Postgres does not start");
    }

    fn init(programs: &Path, folder: &Path) {
        let init = as_user(programs.join("initdb"), user())
            .args(["--username=gate", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(folder.join("data"))
            .current_dir(folder)
            .output()
            .expect("initdb runs");
        assert!(init.status.success(), "initdb: {}", String::from_utf8_lossy(&init.stderr));
    }

    /// None when somebody else got the port. `afterwards` is run when the server has ended.
    fn serve(programs: &Path, folder: &Path, port: u16, afterwards: &str) -> Option<Self> {
        // The shell waits for its input to end, which it does when this process
        // does, and then stops the server by its pid.
        const LEASH: &str = r#""$@" >"$FOLDER/log" 2>&1 </dev/null &
            pid=$!; read -r _; kill -INT $pid; wait $pid; eval "$AFTERWARDS""#;
        let mut shell = as_user("/bin/sh", user())
            .env("FOLDER", folder)
            .env("AFTERWARDS", afterwards)
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
            if log.contains("ready to accept ") && TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Some(Self { port, leash: shell });
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
        .find(|folder| ["initdb", "postgres", "pg_basebackup"].iter().all(|program| folder.join(program).exists()))
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
