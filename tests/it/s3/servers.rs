//! S3 servers that nobody here wrote, installed under `target/` where they are
//! not there yet, and stopped by their process ids.

use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::StatusCode;
use tokio::sync::Mutex;

use crate::harness::{Running, client, free_address};
use crate::python::{python, run, text};

/// The access key of both.
pub(crate) const KEY_ID: &str = "ak";
/// Its secret.
pub(crate) const SECRET: &str = "only-for-tests";
/// The version that was tried.
const VERSITYGW: &str = "github.com/versity/versitygw/cmd/versitygw@v1.8.0";

/// One builds, and those who need it wait.
static BUILDING: Mutex<()> = Mutex::const_new(());

/// A running server with a bucket called `bkt`.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    /// `http://127.0.0.1:1234`
    pub(crate) endpoint: String,
    folder: tempfile::TempDir,
    process: Option<Running>,
    command: fn(&Path, &str) -> Command,
}

impl Server {
    /// S3 in a folder: keeps checksums, checks signatures.
    pub(crate) async fn versitygw() -> Self {
        versitygw().await;
        let command = |folder: &Path, address: &str| {
            let mut command = Command::new(binary());
            // Without keep-alive it closes with an object half read, and a machine that is busy
            // forgets such a connection.
            command.args(["--quiet", "--keep-alive", "--port", address, "posix"]).arg(folder.join("data"));
            command.env_clear().env("ROOT_ACCESS_KEY_ID", KEY_ID).env("ROOT_SECRET_ACCESS_KEY", SECRET);
            command
        };
        let server = Self::start("versitygw", command).await;
        std::fs::create_dir_all(server.folder.path().join("data/bkt")).expect("a bucket");
        server
    }

    /// The same, with users who come and go beside the first key.
    pub(crate) async fn versitygw_with_users() -> Self {
        versitygw().await;
        let command = |folder: &Path, address: &str| {
            let mut command = Command::new(binary());
            command.args(["--quiet", "--keep-alive", "--port", address, "--iam-cache-disable", "--iam-dir"]);
            command.arg(folder.join("users")).arg("posix").arg(folder.join("data"));
            command.env_clear().env("ROOT_ACCESS_KEY_ID", KEY_ID).env("ROOT_SECRET_ACCESS_KEY", SECRET);
            command
        };
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("users")).expect("a folder");
        let server = Self::start_in(folder, "versitygw", command).await;
        std::fs::create_dir_all(server.folder.path().join("data/bkt")).expect("a bucket");
        server
    }

    /// Somebody who may do all that a gateway does but this: their key and its secret.
    pub(crate) async fn somebody_without(&self, action: &str) -> (String, String) {
        let (id, secret) = (format!("no-{}", action.replace(':', "-")), "of-theirs-for-tests");
        if self.name == "versitygw" {
            self.administer(&["create-user", "-a", &id, "-s", secret, "-r", "user"]).await;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/s3/rights.py");
        let mut rights = tokio::process::Command::new(python("s3").await);
        rights.arg(script).args([self.name, &self.endpoint, &id, secret, action]);
        let made = run(&mut rights).await;
        assert!(made.status.success(), "{}", text(&made));
        let said = String::from_utf8_lossy(&made.stdout).into_owned();
        let (id, secret) = said.trim().split_once(' ').expect("a key and its secret");
        (id.to_owned(), secret.to_owned())
    }

    /// Somebody may come in with this key from now on.
    pub(crate) async fn admit(&self, id: &str, secret: &str) {
        self.administer(&["create-user", "-a", id, "-s", secret, "-r", "admin"]).await;
    }

    /// With this key nobody comes in any more.
    pub(crate) async fn withdraw(&self, id: &str) {
        self.administer(&["delete-user", "-a", id]).await;
    }

    async fn administer(&self, what: &[&str]) {
        let mut command = tokio::process::Command::new(binary());
        command.args(["admin", "-a", KEY_ID, "-s", SECRET, "--er", &self.endpoint]).args(what);
        let output = command.output().await.expect("it runs");
        assert!(output.status.success(), "{what:?}: {}", text(&output));
    }

    /// S3 in memory.
    pub(crate) async fn moto() -> Self {
        let python = python("s3").await;
        let program = python.with_file_name("moto_server");
        assert!(program.exists(), "there is no {}", program.display());
        let command = |_: &Path, address: &str| {
            let (host, port) = address.rsplit_once(':').expect("an address");
            let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp lies in target");
            let mut command = Command::new(target.join("clients/s3-venv/bin/moto_server"));
            command.args(["-H", host, "-p", port]);
            command
        };
        let server = Self::start("moto", command).await;
        let made = client().put(format!("{}/bkt", server.endpoint)).send().await.expect("an answer");
        assert!(made.status().is_success(), "{made:?}");
        server
    }

    async fn start(name: &'static str, command: fn(&Path, &str) -> Command) -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"), name, command).await
    }

    async fn start_in(folder: tempfile::TempDir, name: &'static str, command: fn(&Path, &str) -> Command) -> Self {
        std::fs::create_dir(folder.path().join("data")).expect("a folder");
        let address = free_address().to_string();
        let mut server = Self { name, endpoint: format!("http://{address}"), folder, process: None, command };
        server.boot().await;
        server
    }

    /// Starts the process and waits until it answers, whatever it says.
    pub(crate) async fn boot(&mut self) {
        let log = self.folder.path().join("server.log");
        let address = self.endpoint.trim_start_matches("http://").to_owned();
        let mut running = Running::start(&mut (self.command)(self.folder.path(), &address), &log);
        running.wait_until(&self.endpoint, &log, |status: StatusCode| !status.is_server_error()).await;
        self.process = Some(running);
    }

    pub(crate) fn stop(&mut self) {
        drop(self.process.take());
    }

    /// How a gateway is told of it.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("STORE__KIND", "s3".to_owned()),
            ("STORE__S3__ENDPOINT", self.endpoint.clone()),
            ("STORE__S3__BUCKET", "bkt".to_owned()),
            ("STORE__S3__ACCESS_KEY_ID", KEY_ID.to_owned()),
            ("STORE__S3__ACCESS_KEY_SECRET", SECRET.to_owned()),
        ]
    }
}

fn binary() -> PathBuf {
    folder().join("versitygw")
}

fn folder() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp lies in target");
    target.join("clients/s3-bin")
}

/// Builds it, once, from the Go module proxy.
async fn versitygw() {
    let _one = BUILDING.lock().await;
    let made_of = folder().join("versitygw.version");
    if std::fs::read_to_string(&made_of).is_ok_and(|version| version == VERSITYGW) {
        return;
    }
    std::fs::create_dir_all(folder()).expect("a folder");
    let how = format!("GOBIN={} go install {VERSITYGW}", folder().display());
    let built = tokio::process::Command::new("go").args(["install", VERSITYGW]).env("GOBIN", folder()).output().await;
    match built {
        Ok(output) if output.status.success() => std::fs::write(made_of, VERSITYGW).expect("is written"),
        Ok(output) => panic!("it cannot be built: {how}\n{}", text(&output)),
        Err(error) => panic!("{error}: there is no Go 1.25 or newer; install it, then: {how}"),
    }
}
