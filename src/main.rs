//! The command line.
use chunkgate::config::{Environment, Sources, Strictness, load};
fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let args: Vec<String> = std::env::args().collect();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    runtime.block_on(async {
        if args.get(1).is_some_and(|a| a == "emulator") {
            #[derive(clap::Parser)] struct A { #[command(flatten)] e: chunkgate::emulator::EmulatorConfig }
            let a: A = clap::Parser::parse_from(&args[1..]);
            chunkgate::app::emulate(a.e).await.unwrap();
        } else {
            let l = load(&Sources { file: None, folder: ".".into(), environment: Environment::of_process(), flags: vec![] }, Strictness::default());
            let l = match l { Ok(l) => l, Err(e) => { eprintln!("{e}"); std::process::exit(2) } };
            if let Err(e) = chunkgate::app::serve(l.config, Default::default()).await { eprintln!("{e}"); std::process::exit(1) }
        }
    });
}
