//! The command line: what was asked for, before anything is done about it.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::app::WantedToken;
use crate::bench::BenchConfig;
use crate::config::{Origin, Setting, Sources, Strictness};
use crate::emulator::EmulatorConfig;
use crate::units::{self, Secret};

const EXAMPLES: &str = "\
Examples:
  chunkgate                                    files go to ./data; only this machine is served
  chunkgate --config /etc/chunkgate.toml       with a configuration file
  chunkgate --listen 0.0.0.0:8080 --bootstrap-key
                                               other machines are served; an API key is made and printed
  chunkgate --set upload.expires_after=1d --print-config
                                               what is configured, and where; nothing is started

Every key can be set in chunkgate.toml, in the environment (store.oss.bucket is
CHUNKGATE_STORE__OSS__BUCKET), or with --set. Exit codes: 0, 1 for a failure
while running, 2 for bad configuration or usage.";

const EMULATOR_EXAMPLE: &str = "\
Example, in two terminals:
  chunkgate emulator --bucket demo --access-key-id id --access-key-secret secret
  OSS_ACCESS_KEY_ID=id OSS_ACCESS_KEY_SECRET=secret chunkgate --store oss \\
    --set store.oss.endpoint=http://127.0.0.1:9000 --set store.oss.bucket=demo \\
    --set store.oss.region=cn-hangzhou --set store.oss.path_style=true";

const BENCH_EXAMPLE: &str = "\
Examples:
  chunkgate bench --uploads 16 --file-size 64MiB
                                               sixteen files at once, three chunks of each
  chunkgate bench --mode file --file-size 16KiB --files 10000 --uploads 32
                                               small files in one request each
  chunkgate bench --slow 1000 --json           beside a thousand clients on bad networks

Exit code 1 when a file failed or has other bytes: then there is no rate.";

const DOCTOR_EXAMPLE: &str = "\
Examples:
  chunkgate doctor --config /etc/chunkgate.toml
                                               from here: name, connection, TLS, clock, key, bucket, each
                                               permission, webhook, database, a timed upload
  chunkgate doctor --url https://upload.example.com --origin https://app.example.com --key ck_...
                                               from outside, as a browser: body limit, buffering, time-outs,
                                               headers that get lost, CORS, early refusals

Each finding says what is so, why it matters, and the line that mends it. Exit
code 1 when something failed: the first that did is the cause. A running gateway
tells the same of itself: GET /admin/doctor on the admin listener.";

const TOKEN_EXAMPLE: &str = "\
Examples:
  chunkgate token key shop                     a key for the back end named shop
  chunkgate token access user-7 --expires-in 1h --allowed-types image/*
                                               a token for one user's browser, an hour long

A key is printed once and kept nowhere: what goes into auth.api_keys is its hash.
A token that is made by hand is signed with the gateways' own key, which is read
from the database, also while they run. It has no login: nothing can revoke it.";

/// A gateway for resumable uploads: browsers send files in chunks, and one
/// object arrives in the store.
#[derive(Debug, Parser)]
#[command(name = "chunkgate", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; to serve if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The flags of `serve`, which may be left out.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the upload API (the default)
    #[command(after_help = EXAMPLES)]
    Serve(Box<ServeArgs>),
    /// Bring the database's schema up to date, and stop
    ///
    /// `serve` does the same when it starts. Run it on its own before a new
    /// version is rolled out to several gateways.
    Migrate(ConfigArgs),
    /// Clean up once what was left behind, and stop
    ///
    /// `serve` does the same every `sweep.interval`: it expires uploads that
    /// nobody continues, finishes merges whose gateway died, and removes parts
    /// that belong to nothing.
    Sweep(SweepArgs),
    /// Find out why uploads fail
    ///
    /// Goes from here to the store, the database and the webhook, step by step,
    /// or with --url from outside to a gateway. What it puts anywhere it
    /// removes again; a receiver of webhooks gets one signed `doctor.ping`, and
    /// one that is wrongly signed.
    #[command(after_help = DOCTOR_EXAMPLE)]
    Doctor(Box<DoctorArgs>),
    /// Make an API key or an access token by hand
    #[command(after_help = TOKEN_EXAMPLE, subcommand)]
    Token(TokenCommand),
    /// Serve the OSS dialect from a folder, to try and test uploads without Aliyun
    ///
    /// One bucket, one access key, V1 and V4 signatures. The official OSS SDKs
    /// upload to it, and so does a gateway with `store.kind = "oss"`.
    #[command(after_help = EMULATOR_EXAMPLE)]
    Emulator(EmulatorConfig),
    /// Load a gateway with uploads and say how fast it is
    ///
    /// Uploads files that differ in every chunk, sends again what is refused
    /// for now, and compares some of the files afterwards. What it uploaded
    /// stays: take a gateway whose store may be emptied.
    #[command(after_help = BENCH_EXAMPLE)]
    Bench(BenchConfig),
}

/// `chunkgate serve`
#[derive(Clone, Debug, Default, Args)]
pub struct ServeArgs {
    /// Print the effective configuration, with where each value comes from, and stop
    #[arg(long)]
    pub print_config: bool,
    /// At the first start, make an API key if none is configured, and print it once
    #[arg(long)]
    pub bootstrap_key: bool,
    /// Serve other machines although anybody could then upload, read and delete
    #[arg(long)]
    pub insecure_no_auth: bool,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// `chunkgate doctor`
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Look from outside, at the gateway behind this URL
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The page that uploads: whether a browser lets it
    #[arg(long, value_name = "ORIGIN")]
    pub origin: Option<String>,
    /// An API key, or an access token that may upload; with --url
    #[arg(long, requires = "url", value_name = "KEY", value_parser = secret)]
    pub key: Option<Secret>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// `chunkgate sweep`
#[derive(Clone, Debug, Args)]
pub struct SweepArgs {
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// `chunkgate token`
#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Make an API key: for a back end, which may then act as anybody
    Key {
        /// What the key is called: its owner is key:NAME
        name: String,
    },
    /// Make an access token: for one user's browser
    Access {
        /// What it says.
        #[command(flatten)]
        wanted: Box<WantedToken>,
        /// Where the configuration comes from.
        #[command(flatten)]
        config: Box<ConfigArgs>,
    },
}

/// Flags that say what is configured. They win over the environment, which
/// wins over the file.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Configuration")]
pub struct ConfigArgs {
    /// The configuration file: TOML, YAML or JSON [default: chunkgate.toml here, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the API and the page listen [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Where metrics and health details are [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDRESS")]
    pub admin_listen: Option<String>,
    /// How clients reach the API: the start of every URL that is given out
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// Where the embedded database and the local store lie [default: ./data]
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<String>,
    /// sqlite://PATH or postgres://… [default: a file in the data folder]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// Where objects end up: file or oss [default: file]
    #[arg(long, value_name = "KIND")]
    pub store: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Any other key, such as limits.max_file_size=10GiB; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", action = ArgAction::Append, value_parser = units::parse_pair)]
    pub set: Vec<(String, String)>,
}

#[expect(clippy::unnecessary_wraps, reason = "clap's value parsers return a Result")]
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

impl Cli {
    /// What was asked for. To serve is what is meant when nothing else is said.
    pub fn into_command(self) -> Command {
        self.command.unwrap_or_else(|| Command::Serve(Box::new(self.serve)))
    }
}

impl ServeArgs {
    /// How safe the configuration has to be.
    pub fn strictness(&self) -> Strictness {
        Strictness {
            insecure_no_auth: self.insecure_no_auth,
            bootstrap_key: self.bootstrap_key,
            // Whoever only looks at a configuration may not have the keys.
            opens_store: !self.print_config,
        }
    }
}

impl ConfigArgs {
    /// All places that a configuration comes from, with this process's
    /// working directory and environment.
    pub fn sources(&self) -> Sources {
        Sources {
            file: self.config.clone(),
            folder: PathBuf::new(),
            environment: crate::config::Environment::of_process(),
            flags: self.settings(),
        }
    }

    /// What the flags set. Named flags win over `--set`.
    fn settings(&self) -> Vec<Setting> {
        let named = [
            ("listen", "--listen", &self.listen),
            ("admin_listen", "--admin-listen", &self.admin_listen),
            ("public_url", "--public-url", &self.public_url),
            ("data_dir", "--data-dir", &self.data_dir),
            ("database.url", "--database-url", &self.database_url),
            ("store.kind", "--store", &self.store),
            ("log.format", "--log-format", &self.log_format),
            ("log.level", "--log-level", &self.log_level),
        ];
        let set = self.set.iter().map(|(key, value)| Setting::text(key, value, Origin::Flag("--set".to_owned())));
        let named = named.into_iter().filter_map(|(key, flag, value)| {
            Some(Setting::text(key, value.as_deref()?, Origin::Flag(flag.to_owned())))
        });
        set.chain(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::config::Raw;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(Cli::into_command)
    }

    fn served(line: &str) -> ServeArgs {
        match parse(line) {
            Ok(Command::Serve(args)) => *args,
            other => panic!("{line} is {other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn to_serve_is_the_default() {
        assert!(served("chunkgate --bootstrap-key").bootstrap_key);
        assert!(served("chunkgate serve --bootstrap-key").bootstrap_key);
        assert!(matches!(parse("chunkgate sweep --dry-run"), Ok(Command::Sweep(args)) if args.dry_run));
        assert!(matches!(parse("chunkgate migrate --config a.toml"), Ok(Command::Migrate(_))));
    }

    #[test]
    fn flags_become_settings() {
        let settings = served("chunkgate --set store.kind=file --store oss --set upload.lease=1m").config.settings();
        let text = |key: &str| {
            settings
                .iter()
                .rfind(|setting| setting.key == key)
                .map(|setting| (&setting.value, setting.origin.to_string()))
        };
        assert_eq!(text("store.kind"), Some((&Raw::Text("oss".to_owned()), "--store".to_owned())));
        assert_eq!(text("upload.lease"), Some((&Raw::Text("1m".to_owned()), "--set".to_owned())));
    }

    #[test]
    fn wrong_usage_has_exit_code_2() {
        for line in [
            "chunkgate --no-such-flag",
            "chunkgate fly",
            "chunkgate doctor --key k",
            "chunkgate --set upload.lease",
            "chunkgate --set =1",
        ] {
            assert_eq!(parse(line).err().map(|e| e.exit_code()), Some(2), "{line}");
        }
        assert_eq!(parse("chunkgate --help").err().map(|e| e.exit_code()), Some(0));
    }
}
