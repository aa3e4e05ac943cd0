//! Side by side: chunkgate, what it is measured by, and its peers, with the
//! same files from the same clients into the same store that keeps nothing.
//!
//! ```text
//! cargo bench --bench side_by_side                      before a store that keeps nothing
//! cargo bench --bench side_by_side -- --namespace reno  in a network of its own (root)
//! cargo bench --bench side_by_side -- --scene folder    into a folder
//! cargo bench --bench side_by_side -- --scene small     10 000 small files
//! cargo bench --bench side_by_side -- --scene fairness  beside 1 000 slow clients
//! cargo bench --bench side_by_side -- --scene faults    before a store that is late, and fails
//! cargo bench --bench side_by_side -- --scene slow-store
//! ```
//!
//! Subjects take turns, A B C C B A: what drifts drifts for all. A rate is the
//! median of all rounds, a ratio the median of the ratios within each round.

mod aws_chunked;
mod dd;
mod machine;
mod null_store;
mod pass_through;
mod process;
mod s3;
mod scene;
mod subjects;
mod table;
mod tus;

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use chunkgate::bench::run;
use chunkgate::clock::SystemClock;
use chunkgate::units::parse_bytes;
use clap::Parser;

use process::Server;
use scene::{Large, Scene};
use subjects::{Running, Stage, Subject, free_port};
use table::{Sample, table};

#[derive(Parser)]
struct Arguments {
    /// What is compared with what
    #[arg(long, value_enum, default_value_t = Scene::Store)]
    scene: Scene,
    /// Who is measured [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Subject>,
    /// Uploads at once [default: by scene]
    #[arg(long, value_delimiter = ',')]
    parallel: Vec<u32>,
    /// Files in all, the same work however many of them are uploaded at once
    /// [default: one for each upload at once]
    #[arg(long)]
    files: Option<u32>,
    /// Chunks of each upload at once, where that is possible
    #[arg(long, default_value_t = 1)]
    chunks: u32,
    /// Bytes in all, of each run
    #[arg(long, default_value = "1GiB", value_parser = parse_bytes)]
    bytes: u64,
    /// Size of a chunk
    #[arg(long, default_value = "8MiB", value_parser = parse_bytes)]
    chunk_size: u64,
    /// Runs of each subject
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// In a network namespace of its own, with this TCP congestion control (root)
    #[arg(long, value_name = "CONTROL")]
    namespace: Option<String>,
    /// An empty database for chunkgate on Postgres
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// Where chunkgate and the others put their files [default: a temporary folder]
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Where benches/peers has put the others
    #[arg(long, default_value = "target/peers")]
    peers: PathBuf,
    /// What cargo says to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended =
        runtime.map_err(|error| error.to_string()).and_then(|runtime| match words.get(1..).unwrap_or_default() {
            [role, port] if role == "null-store" => {
                runtime.block_on(null_store::serve(local(port)?)).map_err(|e| e.to_string())
            }
            [role, port, store] if role == "pass-through" => {
                runtime.block_on(pass_through::serve(local(port)?, store.clone())).map_err(|e| e.to_string())
            }
            _ => {
                let arguments = Arguments::parse();
                match &arguments.namespace {
                    Some(control) => Err(within(control, &words)),
                    None => runtime.block_on(measure(&arguments)),
                }
            }
        });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("side_by_side: {error}");
            ExitCode::FAILURE
        }
    }
}

fn local(port: &str) -> Result<SocketAddr, String> {
    Ok((Ipv4Addr::LOCALHOST, port.parse().map_err(|_| format!("{port} is no port"))?).into())
}

/// The same once more in a network namespace; returns only if that fails.
fn within(control: &str, words: &[String]) -> String {
    const SCRIPT: &str = "ip link set lo up && echo \"$0\" > /proc/sys/net/ipv4/tcp_congestion_control && exec \"$@\"";
    let mut again = words.get(1..).unwrap_or_default().to_vec();
    if let Some(at) = again.iter().position(|word| word == "--namespace") {
        again.drain(at..(at + 2).min(again.len()));
    }
    let this = std::env::current_exe().unwrap_or_default();
    let mut command = Command::new("unshare");
    let error = command.args(["--net", "sh", "-c", SCRIPT, control]).arg(this).args(again).exec();
    format!("unshare, of Debian's util-linux, as root: {error}")
}

async fn measure(arguments: &Arguments) -> Result<(), String> {
    let folder = match &arguments.folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let folder = folder.map_err(|error| error.to_string())?;
    let store_port = free_port().map_err(|error| error.to_string())?;
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut store = Command::new(this);
    store.args(["null-store", &store_port.to_string()]);
    let _store = Server::start(&mut store, &folder.path().join("store.log"), store_port).await?;
    // Servers are started in folders of their own.
    let peers = arguments.peers.canonicalize().unwrap_or_else(|_| arguments.peers.clone());
    let scene = arguments.scene;
    let stage =
        Stage { folder: folder.path().to_owned(), peers, store_port, postgres: arguments.postgres.clone(), scene };
    let wanted = if arguments.only.is_empty() { scene.subjects() } else { &arguments.only[..] };
    let parallel = if arguments.parallel.is_empty() { scene.parallel() } else { &arguments.parallel[..] };
    let (mut running, mut absent) = (Vec::new(), Vec::new());
    for &subject in wanted {
        match stage.start(subject).await {
            Ok(subject) => running.push(subject),
            Err(why) => absent.push(format!("{}: not measured: {why}", subject.name())),
        }
    }
    println!("{}", machine::describe(folder.path()));
    let Arguments { bytes, chunk_size, chunks, rounds, .. } = arguments;
    let files = arguments.files.map_or("c files".to_owned(), |files| format!("{files} files"));
    if scene.is_large() {
        println!(
            "{bytes} bytes as {files} in chunks of {chunk_size}, c uploads at once, {chunks} chunks of each at once, {rounds} rounds\n"
        );
    } else {
        println!("10 000 files of 16 KiB, c at once, {rounds} rounds\n");
    }
    let mut samples = Vec::new();
    for &parallel in parallel {
        for round in 0..=*rounds {
            let mut order: Vec<&Running> = running.iter().collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for subject in order {
                let sample = sample(arguments, subject, parallel, round).await;
                subject.clean_up(scene);
                // The first round warms up.
                if round > 0 {
                    samples.push(sample);
                }
            }
        }
    }
    let measured: Vec<Subject> = running.iter().map(|running| running.subject).collect();
    println!("{}", table(scene, &samples, &measured, parallel));
    absent.iter().for_each(|why| println!("\n{why}"));
    Ok(())
}

async fn sample(arguments: &Arguments, running: &Running, parallel: u32, round: u32) -> Sample {
    let scene = arguments.scene;
    let files = arguments.files.unwrap_or(parallel);
    let large = Large { bytes: arguments.bytes, files, chunk_bytes: arguments.chunk_size, chunks: arguments.chunks };
    let load = scene.load(parallel, running.subject, large);
    let server = running.server.as_ref();
    if let Some(server) = server {
        server.forget_peak();
    }
    let before = server.map(Server::cpu_seconds);
    let report = run(&load, running.protocol.clone(), Arc::new(SystemClock::new()), |_, _| {}).await;
    if !report.is_sound() {
        eprintln!("{}, {parallel} at once: {report}", running.subject.name());
    }
    let cost = server.zip(before).map(|(server, before)| scene.cost(server.cpu_seconds() - before, report.bytes));
    let (rate, (unit, cost_unit)) = (scene.rate(&report), scene.units());
    let shown = |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
    eprintln!(
        "{parallel:>3} at once, round {round}: {:>8} {unit}, {} {cost_unit}  {}",
        shown(rate, 0),
        shown(cost, 2),
        running.subject.name()
    );
    Sample { subject: running.subject, parallel, round, rate, cost, peak_mib: server.map(Server::peak_mib) }
}
