//! The command line: reads what was asked for and what is configured, starts
//! the log, and hands over.

use std::hint::black_box;
use std::io::{self, Write as _};
use std::process::ExitCode;

use chunkgate::app::{self, AppError, DoctorOptions, ServeOptions, WantedToken};
use chunkgate::bench::BenchConfig;
use chunkgate::cli::{Cli, Command, ConfigArgs, DoctorArgs, ServeArgs, SweepArgs, TokenCommand};
use chunkgate::config::{self, Config, Loaded, Strictness};
use chunkgate::emulator::EmulatorConfig;
use chunkgate::logging::{self, LogConfig};
use clap::Parser as _;

/// While running.
const FAILED: u8 = 1;
/// Bad configuration or usage.
const MISUSED: u8 = 2;

/// Threads for what blocks: a folder's disk, names to be resolved, secrets in
/// files. A disk gains nothing from more calls at once, and of tokio's 512
/// hundreds were started when chunks and merges had work for it in one moment.
const BLOCKING_THREADS_MAX: usize = 64;

/// What commands that serve nobody are asked: where the listeners would be
/// does not matter to them.
const NOBODY_SERVED: Strictness = Strictness { insecure_no_auth: true, bootstrap_key: false, opens_store: false };

fn main() -> ExitCode {
    let ended = match Cli::parse().into_command() {
        Command::Serve(args) => {
            keep_freed_memory();
            serve(&args)
        }
        Command::Migrate(args) => configured(&args, NOBODY_SERVED).and_then(|config| run(app::migrate(config))),
        Command::Sweep(args) => sweep(&args),
        Command::Token(TokenCommand::Key { name }) => app::make_key(&name),
        Command::Token(TokenCommand::Access { wanted, config }) => access_token(&config, &wanted),
        Command::Emulator(config) => emulate(config),
        Command::Bench(config) => bench(&config),
        Command::Doctor(args) => return examined(*args),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complaint(&error),
    }
}

fn complaint(error: &AppError) -> ExitCode {
    eprintln!("chunkgate: {error}");
    ExitCode::from(match error {
        AppError::Configuration(_) => MISUSED,
        AppError::Failed(_) => FAILED,
    })
}

/// What is freed, glibc's malloc gives back to the kernel beyond a threshold,
/// and gets again page by page and zeroed. It puts that threshold at twice the
/// largest block of its own mapping that was freed: here, more than what a
/// connection holds at a time.
fn keep_freed_memory() {
    const BYTES: usize = 2 << 20;
    drop(black_box(Vec::<u8>::with_capacity(BYTES)));
}

/// A configuration that is wrong is a finding, as all else is.
fn examined(args: DoctorArgs) -> ExitCode {
    let DoctorArgs { url, origin, key, json, config } = args;
    let strictness = Strictness { opens_store: true, ..NOBODY_SERVED };
    let options = DoctorOptions { url, origin, key, json };
    match run(app::doctor(options, &config.sources(), strictness)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => complaint(&error),
    }
}

fn serve(args: &ServeArgs) -> Result<(), AppError> {
    let loaded = load(&args.config, args.strictness())?;
    if args.print_config {
        // Whoever reads it may stop reading: `| head` is no failure.
        let _ = io::stdout().write_all(config::to_toml(&loaded).as_bytes());
        return Ok(());
    }
    let secrets = loaded.secrets.clone();
    let config = start_log(loaded)?;
    let options = ServeOptions { bootstrap_key: args.bootstrap_key, insecure_no_auth: args.insecure_no_auth };
    run(app::serve(config, secrets, options))
}

fn emulate(config: EmulatorConfig) -> Result<(), AppError> {
    logging::start(&LogConfig::default()).map_err(|e| AppError::Configuration(e.to_string()))?;
    run(app::emulate(config))
}

fn bench(config: &BenchConfig) -> Result<(), AppError> {
    run(app::bench(config))
}

fn access_token(args: &ConfigArgs, wanted: &WantedToken) -> Result<(), AppError> {
    run(app::make_access_token(configured(args, NOBODY_SERVED)?, wanted))
}

fn sweep(args: &SweepArgs) -> Result<(), AppError> {
    let strictness = Strictness { opens_store: !args.dry_run, ..NOBODY_SERVED };
    run(app::sweep(configured(&args.config, strictness)?, args.dry_run))
}

fn configured(args: &ConfigArgs, strictness: Strictness) -> Result<Config, AppError> {
    start_log(load(args, strictness)?)
}

fn load(args: &ConfigArgs, strictness: Strictness) -> Result<Loaded, AppError> {
    config::load(&args.sources(), strictness).map_err(|e| AppError::Configuration(e.to_string()))
}

fn start_log(loaded: Loaded) -> Result<Config, AppError> {
    logging::start(&loaded.config.log).map_err(|e| AppError::Configuration(e.to_string()))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(loaded.config)
}

fn run<T>(command: impl Future<Output = Result<T, AppError>>) -> Result<T, AppError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(|e| AppError::Failed(format!("no threads could be started: {e}")))?;
    runtime.block_on(command)
}
