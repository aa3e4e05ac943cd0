//! What is measured: the store itself, what stands in front of it, and the
//! servers that others run for the same purpose.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use chunkgate::bench::{Content, Failed, GatewayProtocol, Mode, Pace, Protocol, client};
use chunkgate::units::Secret;
use serde_json::Value;

use crate::dd::Dd;
use crate::process::Server;
use crate::s3::S3Protocol;
use crate::scene::Scene;
use crate::tus::TusProtocol;

/// One that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Subject {
    /// Straight to the null store
    Store,
    /// nginx in front of it, without buffering
    Nginx,
    /// axum and reqwest, and nothing else
    PassThrough,
    /// chunkgate, raw bodies
    Chunkgate,
    /// chunkgate, forms
    ChunkgateForm,
    /// chunkgate, raw bodies, beside 1 000 clients that send 1 KiB a second
    ChunkgateBesideSlow,
    /// chunkgate, raw bodies, before a store one in 100 of whose answers is an error
    ChunkgateFaulty,
    /// tusd as it comes
    Tusd,
    /// tusd without content hashes, its parts in memory
    TusdTuned,
    /// rustus in S3 mode
    Rustus,
    /// dd with fsync
    Dd,
    /// chunkgate into a folder
    ChunkgateFiles,
    /// The same with Postgres (--postgres)
    ChunkgatePostgres,
    /// tusd into a folder, which it does not sync
    TusdFiles,
    /// rustus into a folder, which it does not sync
    RustusFiles,
    /// rustus into a folder, synced after each chunk
    RustusSynced,
}

impl Subject {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Store => "straight to the store",
            Self::Nginx => "nginx, buffering off",
            Self::PassThrough => "axum pass-through",
            Self::Chunkgate => "**chunkgate**, raw PUT",
            Self::ChunkgateForm => "**chunkgate**, form POST",
            Self::ChunkgateBesideSlow => "**chunkgate**, beside 1 000 slow clients",
            Self::ChunkgateFaulty => "**chunkgate**, 1 % of the store's answers errors",
            Self::Tusd => "tusd S3",
            Self::TusdTuned => "tusd S3 tuned",
            Self::Rustus => "rustus S3",
            Self::Dd => "dd conv=fsync",
            Self::ChunkgateFiles => "**chunkgate**, SQLite",
            Self::ChunkgatePostgres => "**chunkgate**, Postgres",
            Self::TusdFiles => "tusd, not synced",
            Self::RustusFiles => "rustus, not synced",
            Self::RustusSynced => "rustus --force-fsync",
        }
    }

    /// Whether its clients may send chunks of one file side by side.
    pub(crate) const fn has_parallel_chunks(self) -> bool {
        !matches!(
            self,
            Self::Tusd | Self::TusdTuned | Self::TusdFiles | Self::Rustus | Self::RustusFiles | Self::RustusSynced
        )
    }
}

/// A subject that runs.
pub(crate) struct Running {
    pub(crate) subject: Subject,
    pub(crate) protocol: Arc<dyn Protocol>,
    /// None where there is nothing between the client and the store.
    pub(crate) server: Option<Server>,
    /// Where files end up, if they do.
    data: PathBuf,
}

impl Running {
    /// Removes the large files of a run and waits until nothing is on its way
    /// to the disk, so that the next one finds it as this one did. Thousands of
    /// small ones stay until the end: removing them slows down who comes next.
    pub(crate) fn clean_up(&self, scene: Scene) {
        let entries = (scene == Scene::Folder).then(|| std::fs::read_dir(&self.data));
        for entry in entries.into_iter().flatten().flatten().flatten() {
            // chunkgate's own folder, of what is under way.
            if entry.file_name() == ".chunkgate" {
                continue;
            }
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            // What cannot be removed takes up space, and that is all.
            let _ = if is_folder { std::fs::remove_dir_all(entry.path()) } else { std::fs::remove_file(entry.path()) };
        }
        rustix::fs::sync();
    }
}

/// Where things are.
pub(crate) struct Stage {
    /// For logs, configurations and databases.
    pub(crate) folder: PathBuf,
    /// Where peers were installed.
    pub(crate) peers: PathBuf,
    pub(crate) store_port: u16,
    /// An empty database, if there is one.
    pub(crate) postgres: Option<String>,
    pub(crate) scene: Scene,
}

/// A port that is free now.
pub(crate) fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

impl Stage {
    fn store(&self) -> String {
        format!("http://127.0.0.1:{}", self.store_port)
    }

    /// Starts it; or why it cannot be measured here.
    pub(crate) async fn start(&self, subject: Subject) -> Result<Running, String> {
        let client = client().map_err(|error| error.to_string())?;
        let port = free_port().map_err(|error| error.to_string())?;
        let folder = self.folder.join(format!("{subject:?}"));
        let data = folder.join("data");
        std::fs::create_dir_all(&data).map_err(|error| error.to_string())?;
        let url = format!("http://127.0.0.1:{port}");
        let bucket = self.scene.bucket(subject);
        let gateway = |mode| GatewayProtocol::new(client.clone(), &url, mode, Some(Secret::new(KEY)));
        let protocol: Arc<dyn Protocol> = match subject {
            Subject::Store => Arc::new(S3Protocol { client, url: self.store(), bucket }),
            Subject::Nginx | Subject::PassThrough => Arc::new(S3Protocol { client, url, bucket }),
            Subject::Chunkgate | Subject::ChunkgateForm | Subject::ChunkgateBesideSlow | Subject::ChunkgateFaulty => {
                let mode = if subject == Subject::ChunkgateForm { Mode::Form } else { Mode::Put };
                Arc::new(OverNullStore { gateway: gateway(mode), client, url })
            }
            Subject::ChunkgateFiles | Subject::ChunkgatePostgres => {
                Arc::new(gateway(if self.scene == Scene::Small { Mode::File } else { Mode::Put }))
            }
            Subject::Dd => Arc::new(Dd { folder: data.clone() }),
            Subject::Tusd
            | Subject::TusdTuned
            | Subject::TusdFiles
            | Subject::Rustus
            | Subject::RustusFiles
            | Subject::RustusSynced => Arc::new(TusProtocol { client, url: format!("{url}/files/") }),
        };
        let server = match self.command(subject, port, &folder)? {
            Some(mut command) => Some(Server::start(&mut command, &folder.join("log"), port).await?),
            None => None,
        };
        Ok(Running { subject, protocol, server, data })
    }

    fn command(&self, subject: Subject, port: u16, folder: &Path) -> Result<Option<Command>, String> {
        Ok(match subject {
            Subject::Store | Subject::Dd => None,
            Subject::Nginx => Some(self.nginx(port, folder)?),
            Subject::PassThrough => {
                let this = std::env::current_exe().map_err(|error| error.to_string())?;
                let mut command = Command::new(this);
                command.args(["pass-through", &port.to_string(), &self.store()]);
                Some(command)
            }
            Subject::Chunkgate | Subject::ChunkgateForm | Subject::ChunkgateBesideSlow | Subject::ChunkgateFaulty => {
                Some(self.before_store(port, folder, self.scene.bucket(subject))?)
            }
            Subject::ChunkgateFiles => Some(Self::on_files(port, folder, None)?),
            Subject::ChunkgatePostgres => {
                let url = self.postgres.as_deref().ok_or("give --postgres the URL of an empty database")?;
                Some(Self::on_files(port, folder, Some(url))?)
            }
            Subject::Tusd => Some(self.tusd(port, folder, false)?),
            Subject::TusdTuned => Some(self.tusd(port, folder, true)?),
            Subject::TusdFiles => {
                let mut command = Command::new(self.program("tusd", "benches/peers installs it, with Go")?);
                command.args(["-host", "127.0.0.1", "-port", &port.to_string(), "-disable-cors"]);
                command.args(["-upload-dir", "data"]).current_dir(folder);
                Some(command)
            }
            Subject::Rustus => Some(self.rustus(port, folder)?),
            Subject::RustusFiles => Some(self.rustus_on_files(port, folder)?),
            Subject::RustusSynced => {
                let mut command = self.rustus_on_files(port, folder)?;
                command.arg("--force-fsync");
                Some(command)
            }
        })
    }

    /// A peer's program: installed here, or on the path.
    fn program(&self, name: &str, advice: &str) -> Result<PathBuf, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(self.peers.clone()).chain(std::env::split_paths(&path)).chain(["/usr/sbin".into()]);
        let found = all.map(|folder| folder.join(name)).find(|program| program.is_file());
        found.ok_or_else(|| format!("{name} is not installed: {advice}"))
    }

    fn nginx(&self, port: u16, folder: &Path) -> Result<Command, String> {
        let program = self.program("nginx", "apt-get install nginx-light")?;
        let configuration = format!(
            "daemon off; user root; worker_processes auto; pid {0}/pid; error_log {0}/error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy;\n\
             upstream store {{ server 127.0.0.1:{1}; keepalive 256; }}\n\
             server {{ listen 127.0.0.1:{port}; client_max_body_size 0; client_body_buffer_size 256k;\n\
             location / {{ proxy_pass http://store; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
             proxy_request_buffering off; proxy_buffering off; }} }} }}\n",
            folder.display(),
            self.store_port,
        );
        let path = folder.join("nginx.conf");
        std::fs::write(&path, configuration).map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.arg("-p").arg(folder).arg("-c").arg(path);
        Ok(command)
    }

    /// chunkgate with these settings; keys are checked.
    fn chunkgate(port: u16, folder: &Path, settings: &[String]) -> Result<Command, String> {
        let admin = free_port().map_err(|error| error.to_string())?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_chunkgate"));
        command.current_dir(folder).args(["--log-level", "warn"]);
        let common = [
            format!("listen=127.0.0.1:{port}"),
            format!("admin_listen=127.0.0.1:{admin}"),
            "auth.mode=keys".to_owned(),
            format!("auth.api_keys=bench:{KEY}"),
            "upload.simple_max_bytes=16MiB".to_owned(),
            // Slow clients leave theirs behind.
            "limits.max_open_uploads=1000000".to_owned(),
        ];
        for setting in common.iter().chain(settings) {
            command.arg("--set").arg(setting);
        }
        Ok(command)
    }

    fn before_store(&self, port: u16, folder: &Path, bucket: &str) -> Result<Command, String> {
        let settings = [
            "store.kind=oss".to_owned(),
            format!("store.oss.endpoint={}", self.store()),
            format!("store.oss.bucket={bucket}"),
            "store.oss.region=cn-hangzhou".to_owned(),
            "store.oss.path_style=true".to_owned(),
            "store.oss.access_key_id=id".to_owned(),
            "store.oss.access_key_secret=secret".to_owned(),
        ];
        Self::chunkgate(port, folder, &settings)
    }

    fn on_files(port: u16, folder: &Path, database: Option<&str>) -> Result<Command, String> {
        // The database elsewhere: what is in the folder of files is removed between runs.
        let mut settings = vec!["data_dir=state".to_owned(), "store.file.dir=data".to_owned()];
        settings.extend(database.map(|url| format!("database.url={url}")));
        Self::chunkgate(port, folder, &settings)
    }

    fn tusd(&self, port: u16, folder: &Path, is_tuned: bool) -> Result<Command, String> {
        let program = self.program("tusd", "benches/peers installs it, with Go")?;
        let mut command = Command::new(program);
        let store = self.store();
        let port = port.to_string();
        command.args(["-host", "127.0.0.1", "-port", &port, "-s3-bucket", "bkt", "-s3-endpoint", &store]);
        command.args(["-s3-part-size", "8388608", "-disable-cors"]);
        command.envs([("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_REGION", "us-east-1")]);
        // Parts wait in files for their turn.
        command.env("TMPDIR", folder);
        if is_tuned {
            command.arg("-s3-disable-content-hashes").env("TMPDIR", "/dev/shm");
        }
        Ok(command)
    }

    fn rustus(&self, port: u16, folder: &Path) -> Result<Command, String> {
        let program = self.program("rustus", "benches/peers says how")?;
        let mut command = Command::new(program);
        let (port, store) = (port.to_string(), self.store());
        command.args(["--host", "127.0.0.1", "--port", &port, "--storage", "s3", "--s3-url", &store]);
        command.args(["--s3-bucket", "bkt", "--s3-region", "us-east-1", "--s3-access-key", "id"]);
        command.args(["--s3-secret-key", "secret", "--s3-force-path-style", "--log-level", "error"]);
        command.args(["--max-body-size", "16777216"]).current_dir(folder);
        command.arg("--info-dir").arg(folder.join("info")).arg("--data-dir").arg(folder.join("data"));
        Ok(command)
    }

    fn rustus_on_files(&self, port: u16, folder: &Path) -> Result<Command, String> {
        let mut command = Command::new(self.program("rustus", "benches/peers says how")?);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--storage", "file-storage"]);
        command.args(["--data-dir", "data", "--info-dir", "info", "--log-level", "error"]);
        command.args(["--max-body-size", "16777216"]).current_dir(folder);
        Ok(command)
    }
}

/// What chunkgate's clients show: the key is checked for each request.
const KEY: &str = "ck_0123456789abcdef0123456789abcdef";

/// chunkgate before a store that keeps nothing: a file is compared by what the
/// gateway and the store have agreed on.
#[derive(Debug)]
struct OverNullStore {
    gateway: GatewayProtocol,
    client: reqwest::Client,
    url: String,
}

#[async_trait]
impl Protocol for OverNullStore {
    async fn begin(&self, file: &Content) -> Result<String, Failed> {
        self.gateway.begin(file).await
    }

    async fn send(&self, session: &str, file: &Content, index: u64, pace: Option<Pace>) -> Result<(), Failed> {
        self.gateway.send(session, file, index, pace).await
    }

    async fn end(&self, session: &str, file: &Content) -> Result<(), Failed> {
        self.gateway.end(session, file).await
    }

    async fn is_whole(&self, _: &str, file: &Content) -> Result<bool, Failed> {
        let answer = self.client.get(format!("{}/files/{}", self.url, file.id)).bearer_auth(KEY).send().await?;
        let known: Value = serde_json::from_slice(&answer.bytes().await?).unwrap_or_default();
        let agreed = (known["fileSize"].as_u64(), known["checksum"]["crc64"].as_str().map(str::to_owned));
        Ok(agreed == (Some(file.bytes), Some(file.crc64().to_string())))
    }
}
