//! The composition root: opens what a command needs, puts it together and runs
//! it. Used by the command line and by the tests.

mod access;
mod bench;
mod doctor;
mod secrets;
mod store;
mod token;

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::access::{AuthMode, Authority, OssCallbacks};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, SecretFiles};
use crate::domain::kind::Kinds;
use crate::emulator::{Emulator, EmulatorConfig};
use crate::engine::sweep::{Sweeper, Swept};
use crate::engine::{Engine, Settings};
use crate::http::{self, Api, CorsConfig, Doctor, Health};
use crate::ledger::{Allowance, Ledger, OpenError};
use crate::notify::{Hooks, Notifier};
use crate::serve::{ServeLimits, serve as accept};
use crate::store::guarded::Guarded;
use crate::store::{Store, StoreKind};
use access::access;
pub use bench::bench;
pub use doctor::{DoctorOptions, doctor};
use secrets::Rotation;
use store::{check_store, open_store};
pub use token::{WantedToken, make_access_token, make_key};

/// Connections when nothing else is said and descriptors allow it.
const CONNECTIONS_MAX: usize = 10_000;
/// Descriptors kept for all that is not a client's connection.
const DESCRIPTORS_KEPT: u64 = 256;
/// Connections that may wait to be accepted; the kernel has a bound of its own
/// (`net.core.somaxconn`).
const BACKLOG: i32 = 16 << 10;
/// How long commits in flight get once the drain's deadline has passed.
const COMMIT_GRACE: Duration = Duration::from_secs(2);

/// What the command line says about one run of the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServeOptions {
    /// Make a key at the first start when none is configured, and print it once.
    pub bootstrap_key: bool,
    /// Serve anybody who can reach us, without authentication.
    pub insecure_no_auth: bool,
}

/// Why a command ended otherwise than well.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// What was configured cannot be used: exit code 2.
    #[error("{0}")]
    Configuration(String),
    /// It failed while it ran: exit code 1.
    #[error("{0}")]
    Failed(String),
}

/// A gateway that is put together and listens, but does not serve yet.
pub struct Gateway {
    engine: Engine,
    notifier: Notifier,
    authority: Authority,
    rotation: Rotation,
    public: (TcpListener, Router),
    admin: (TcpListener, Router),
    config: Config,
    limits: ServeLimits,
    draining: CancellationToken,
    doctor: Doctor,
    metrics: PrometheusHandle,
    /// Where the public listener is.
    pub address: SocketAddr,
    /// Where the admin listener is.
    pub admin_address: SocketAddr,
}

impl Gateway {
    /// Opens the ledger and the store, then listens.
    pub async fn open(config: Config, secrets: SecretFiles, options: ServeOptions) -> Result<Self, AppError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let notifier = Notifier::new(&config.webhook).map_err(misconfigured)?;
        let metrics = recorder();
        let store = open_store(&config, clock.clone())?;
        check_store(&config, &*store).await?;
        let ledger = open_ledger(&config, clock.clone()).await?;
        let authority = Authority::open(ledger.clone(), clock.clone(), &config.auth).await;
        let authority = authority.map_err(|error| AppError::Failed(error.to_string()))?;
        let access = Arc::new(access(&config, options, &ledger, &clock, &authority).await?);
        let callbacks = callbacks(&config)?;
        let settings = settings(&config, &*store, &notifier)?;
        let hooks = settings.hooks.clone();
        let draining = CancellationToken::new();
        let doctor = doctor::of_gateway(&config, store.clone(), ledger.clone(), clock.clone(), draining.clone());
        let engine =
            Engine::new(ledger, Arc::new(Guarded::new(store, clock.clone(), &config.store.breaker)), clock, settings);
        let public = listen("listen", config.listen).await?;
        let admin = listen("admin_listen", config.admin_listen).await?;
        let (address, admin_address) = (local(&public)?, local(&admin)?);
        let health = Health::new(engine.clone(), &config.health.ready_requires, draining.clone());
        let api = |cors, port| {
            Api::new(http::Setup {
                engine: engine.clone(),
                access: access.clone(),
                authority: authority.clone(),
                callbacks: callbacks.clone(),
                limits: &config.limits,
                auth: &config.auth,
                cors,
                public_url: config.public_url.as_deref(),
                health: health.clone(),
                port,
            })
        };
        let rotation = Rotation {
            files: Arc::new(Mutex::new(secrets)),
            engine: engine.clone(),
            notifier: notifier.clone(),
            hooks,
            access: access.clone(),
        };
        // No page of another origin has any business on the admin listener.
        let (api, admin_api) = (api(&config.cors, address.port()), api(&CorsConfig::default(), admin_address.port()));
        Ok(Self {
            public: (public, http::public(api)),
            admin: (admin, http::admin(admin_api, metrics.clone(), doctor.clone())),
            limits: serve_limits(&config),
            authority,
            rotation,
            engine,
            notifier,
            config,
            draining,
            doctor,
            metrics,
            address,
            admin_address,
        })
    }

    /// Serves until `stop`, then drains: says that it is not ready, waits
    /// `limits.drain_delay`, lets requests in flight finish within
    /// `limits.drain_deadline`, and closes the ledger.
    pub async fn run(self, stop: CancellationToken) {
        let engine = self.engine.clone();
        let sweeping = engine.clone();
        let (authority, rotation) = (self.authority, self.rotation);
        let (delivering, notifier, pause) = (engine.clone(), self.notifier, self.config.webhook.retry_initial);
        let loops = [
            tokio::spawn(until_it_ends("sweeper", move || {
                let engine = sweeping.clone();
                async move { engine.run_sweeper().await }
            })),
            tokio::spawn(until_it_ends("delivery", move || {
                let (engine, notifier) = (delivering.clone(), notifier.clone());
                async move { engine.run_delivery(notifier, pause).await }
            })),
            tokio::spawn(until_it_ends("tokens", move || {
                let authority = authority.clone();
                async move { authority.run().await }
            })),
            tokio::spawn(until_it_ends("secrets", move || {
                let rotation = rotation.clone();
                async move { rotation.run().await }
            })),
        ];
        let upkeep = tokio::spawn(keep_metrics(self.metrics));
        let closing = CancellationToken::new();
        let public = tokio::spawn(accept(self.public.0, self.public.1, self.limits, closing.clone()));
        let admin = tokio::spawn(accept(self.admin.0, self.admin.1, self.limits, closing.clone()));
        stop.cancelled().await;
        info!("draining");
        self.draining.cancel();
        tokio::time::sleep(self.config.limits.drain_delay).await;
        closing.cancel();
        let until = tokio::time::Instant::now() + self.config.limits.drain_deadline;
        if let Ok(false) = public.await {
            warn!("connections were cut at the drain's deadline: their clients will try again");
        }
        admin.abort();
        // What was read to its end is committed: a moment for it even when the time is up.
        let until = until.max(tokio::time::Instant::now() + COMMIT_GRACE);
        let ended = async { tokio::join!(engine.drain(), self.doctor.ended()) };
        if tokio::time::timeout_at(until, ended).await.is_err() {
            warn!("work in flight was left to the next start");
        }
        for task in loops {
            task.abort();
        }
        upkeep.abort();
        engine.ledger().close().await;
        info!("stopped");
    }
}

/// Serves until told to stop, then drains.
pub async fn serve(config: Config, secrets: SecretFiles, options: ServeOptions) -> Result<(), AppError> {
    let stop = stop_signal()?;
    let gateway = Gateway::open(config, secrets, options).await?;
    info!(
        address = %format_args!("http://{}", gateway.address),
        admin = %format_args!("http://{}", gateway.admin_address),
        database = gateway.engine.ledger().backend(),
        store = gateway.engine.store().kind(),
        version = env!("CARGO_PKG_VERSION"),
        "chunkgate serves"
    );
    gateway.run(stop).await;
    Ok(())
}

/// Serves the OSS dialect from a folder until told to stop.
pub async fn emulate(config: EmulatorConfig) -> Result<(), AppError> {
    let stop = stop_signal()?;
    let (listen_on, bucket, region) = (config.listen, config.bucket.clone(), config.region.clone());
    let emulator = Emulator::open(config, Arc::new(SystemClock::new()));
    let emulator = emulator.map_err(|error| AppError::Failed(error.to_string()))?;
    let listener = listen("--listen", listen_on).await?;
    info!(address = %format_args!("http://{}", local(&listener)?), bucket, region, "emulator serves");
    if let Some(faults) = emulator.faults() {
        info!(%faults, "things go wrong on purpose");
    }
    accept(listener, emulator.router(), Emulator::serve_limits(), stop).await;
    Ok(())
}

/// Brings the database's schema up to this program's.
pub async fn migrate(config: Config) -> Result<(), AppError> {
    let url = config.database_url();
    let migrated = Ledger::migrate_only(&config.database, url.expose()).await.map_err(of_open)?;
    let from = migrated.before.map_or("none".to_owned(), |before| before.to_string());
    info!(%from, to = migrated.after, "the database is up to date");
    Ok(())
}

/// Cleans up once what was left behind, or only says what it would.
pub async fn sweep(config: Config, dry_run: bool) -> Result<(), AppError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let url = config.database_url();
    if dry_run {
        let opened = Ledger::open_read_only(&config.database, url.expose(), clock.clone()).await;
        return say_what_is_due(&config, &opened.map_err(of_open)?, &*clock).await;
    }
    let store = open_store(&config, clock.clone())?;
    let ledger = open_ledger(&config, clock.clone()).await?;
    let notifier = Notifier::new(&config.webhook).map_err(misconfigured)?;
    let settings = settings(&config, &*store, &notifier)?;
    let engine = Engine::new(ledger, store, clock, settings);
    let swept = engine.sweep(&mut Sweeper::default()).await.map_err(|error| AppError::Failed(error.to_string()))?;
    engine.drain().await;
    engine.ledger().close().await;
    let Swept { merges, expired, cleaned, orphans, forms, deliveries, rows } = swept;
    info!(merges, expired, cleaned, orphans, forms, deliveries, rows, "swept");
    Ok(())
}

async fn say_what_is_due(config: &Config, ledger: &Ledger, clock: &dyn Clock) -> Result<(), AppError> {
    const ROWS: u32 = 1000;
    let failed = |error: crate::ledger::LedgerError| AppError::Failed(error.to_string());
    let expired = ledger.due_expired(clock.now(), ROWS).await.map_err(failed)?;
    let merges = ledger.ready_to_merge(None, ROWS).await.map_err(failed)?;
    let remains = ledger.remains(clock.now(), ROWS).await.map_err(failed)?;
    for upload in &expired {
        info!(upload = %upload.id, file_id = %upload.file_id, owner = %upload.owner, "would expire");
    }
    for upload in &merges {
        info!(upload = %upload.id, file_id = %upload.file_id, owner = %upload.owner, "would merge");
    }
    for remains in &remains {
        info!(upload = %remains.id, key = %remains.key, "would remove its parts from the store");
    }
    let before = clock.now().minus(config.sweep.orphan_after);
    let objects = ledger.objects_underway(before, ROWS).await.map_err(failed)?;
    for object in &objects {
        info!(key = %object.key, "would remove an object that became no file from the store");
    }
    if expired.is_empty() && merges.is_empty() && remains.is_empty() && objects.is_empty() {
        info!("nothing to clean up");
    }
    Ok(())
}

/// SIGTERM and SIGINT, as a token.
fn stop_signal() -> Result<CancellationToken, AppError> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error: std::io::Error| AppError::Failed(format!("signals cannot be received: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    Ok(stop)
}

async fn open_ledger(config: &Config, clock: Arc<dyn Clock>) -> Result<Ledger, AppError> {
    let url = config.database_url();
    Ledger::open(&config.database, url.expose(), clock, config.upload.lease).await.map_err(of_open)
}

fn of_open(error: OpenError) -> AppError {
    if let OpenError::Url(_) = error {
        return misconfigured(error);
    }
    AppError::Failed(error.to_string())
}

/// What only shows when it is used, said like what shows when it is read.
fn misconfigured(problem: impl std::fmt::Display) -> AppError {
    AppError::Configuration(format!("the configuration is wrong: {problem}"))
}

fn settings(config: &Config, store: &dyn Store, notifier: &Notifier) -> Result<Settings, AppError> {
    let largest = store.limits().object_bytes_max;
    Ok(Settings {
        upload: config.upload.clone(),
        sweep: config.sweep.clone(),
        file_bytes_max: config.limits.max_file_size.map_or(largest, |bytes| bytes.min(largest)),
        // What cannot be read was refused when the configuration was.
        kinds: Kinds::parse(&config.upload.allowed_types).ok(),
        allowance: Allowance { open_uploads_max: config.limits.max_open_uploads, bytes_max: config.limits.quota_bytes },
        chunks_in_flight_max: config.limits.max_concurrent_chunks,
        owners_share: config.auth.mode != AuthMode::None,
        queue_wait: config.limits.queue_wait,
        subscriptions: notifier.subscriptions().to_vec(),
        hooks: Hooks::new(&config.hooks, &config.webhook).map_err(misconfigured)?,
    })
}

/// Who checks that a callback is OSS's, where any are to come.
fn callbacks(config: &Config) -> Result<Option<Arc<OssCallbacks>>, AppError> {
    let oss = &config.store.oss;
    let Some(url) = oss.callback_url.as_deref().filter(|_| config.store.kind == StoreKind::Oss) else {
        return Ok(None);
    };
    let callbacks = OssCallbacks::new(url, oss.callback_key_url.as_deref());
    callbacks
        .map(|callbacks| Some(Arc::new(callbacks)))
        .map_err(|why| misconfigured(format!("store.oss.callback_url {why}")))
}

async fn listen(key: &str, address: SocketAddr) -> Result<TcpListener, AppError> {
    let failed = |error: io::Error| {
        let advice = unusable(error.kind()).map_or(String::new(), |advice| format!("; {advice}"));
        AppError::Failed(format!("{key} = {address}: {error}{advice}"))
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    // tokio asks for 1024: clients that all come back at once would wait for a retransmission, or be reset.
    SockRef::from(&listener).listen(BACKLOG).map_err(failed)?;
    Ok(listener)
}

/// What to do about an address that cannot be listened on.
#[expect(clippy::wildcard_enum_match_arm, reason = "the operating system's errors are many")]
fn unusable(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::AddrInUse => Some("another program listens there: choose another port"),
        io::ErrorKind::AddrNotAvailable => Some("this machine has no such address: choose one of its own, or 0.0.0.0"),
        io::ErrorKind::PermissionDenied => Some("choose a port from 1024: those below need a privilege"),
        _ => None,
    }
}

fn local(listener: &TcpListener) -> Result<SocketAddr, AppError> {
    listener.local_addr().map_err(|error| AppError::Failed(format!("a listener has no address: {error}")))
}

fn serve_limits(config: &Config) -> ServeLimits {
    ServeLimits {
        header_timeout: config.limits.header_timeout,
        write_timeout: config.limits.body_idle_timeout,
        connections_max: config.limits.max_connections.unwrap_or_else(connections_that_fit),
        drain_deadline: config.limits.drain_deadline,
        ..ServeLimits::default()
    }
}

/// As many connections as leave each a descriptor for its way to the store.
fn connections_that_fit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let fit = limit.saturating_sub(DESCRIPTORS_KEPT) / 2;
    usize::try_from(fit).unwrap_or(usize::MAX).clamp(16, CONNECTIONS_MAX)
}

/// The process's metrics: one recorder, however many gateways a test opens.
fn recorder() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];
    let build = || {
        let builder = PrometheusBuilder::new();
        let matcher = Matcher::Suffix("_seconds".to_owned());
        // Refused only for no buckets at all.
        let builder = builder.set_buckets_for_metric(matcher, &SECONDS).unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            warn!("somebody else records this process's metrics");
        }
        handle
    };
    HANDLE.get_or_init(build).clone()
}

/// Runs a loop of the background, and again when it panics: without it nothing
/// would tell that uploads no longer expire, or events no longer go out.
async fn until_it_ends<F: Future<Output = ()>>(name: &str, task: impl Fn() -> F) {
    const PAUSE: Duration = Duration::from_secs(1);
    while AssertUnwindSafe(task()).catch_unwind().await.is_err() {
        error!(name, "a background loop panicked; it begins again");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn keep_metrics(handle: PrometheusHandle) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        handle.run_upkeep();
    }
}
