//! Starts the OSS emulator on a port of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use chunkgate::clock::SystemClock;
use chunkgate::emulator::{Emulator, EmulatorConfig, EmulatorOptions};
use chunkgate::serve::serve;
use chunkgate::units::Secret;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A running emulator of the bucket `bkt` in `cn-hangzhou`, for the access
/// key `ak` with the secret `sk` and two of STS, in a folder of its own.
pub(crate) struct RunningEmulator {
    listen: SocketAddr,
    stop: CancellationToken,
    server: JoinHandle<bool>,
    _folder: tempfile::TempDir,
}

impl RunningEmulator {
    pub(crate) async fn start() -> Self {
        let sts = ["STS.valid:sk2:token+/2==", "STS.expired:sk3:token3:2020-01-01T00:00:00Z"];
        let sts = sts.iter().map(|key| key.parse().expect("a key")).collect();
        Self::start_with(EmulatorOptions { sts, ..EmulatorOptions::default() }).await
    }

    pub(crate) async fn start_with(options: EmulatorOptions) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let listen = listener.local_addr().expect("an address");
        let config = EmulatorConfig {
            listen,
            bucket: "bkt".to_owned(),
            access_key_id: "ak".to_owned(),
            access_key_secret: Secret::new("sk"),
            region: "cn-hangzhou".to_owned(),
            data_dir: folder.path().to_owned(),
            options,
        };
        let emulator = Emulator::open(config, Arc::new(SystemClock::new())).expect("the emulator opens");
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, emulator.router(), Emulator::serve_limits(), stop.clone()));
        Self { listen, stop, server, _folder: folder }
    }

    /// `http://127.0.0.1:1234`
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.listen)
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.server.await.expect("the emulator stops");
    }
}
