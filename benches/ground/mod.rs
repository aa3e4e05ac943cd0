//! Where benches that look at one layer run: a folder of their own, and a
//! database that they may fill.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tempfile::TempDir;

/// Whatever went wrong: a bench only says it.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Where to run.
#[derive(Args)]
pub(crate) struct Place {
    /// An empty database, instead of SQLite
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// Where files and SQLite's database are made [default: a temporary folder]
    #[arg(long)]
    folder: Option<PathBuf>,
    /// What cargo says to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// A folder that goes when this is dropped, and the database's URL.
pub(crate) struct Ground {
    pub(crate) folder: TempDir,
    pub(crate) url: String,
}

impl Place {
    /// What the database is, by name.
    pub(crate) fn database(&self) -> &'static str {
        if self.postgres.is_some() { "Postgres" } else { "SQLite" }
    }

    pub(crate) fn prepare(&self) -> Result<Ground, Failure> {
        let folder = match &self.folder {
            Some(folder) => tempfile::tempdir_in(folder)?,
            None => tempfile::tempdir()?,
        };
        let sqlite = || format!("sqlite://{}", folder.path().join("ledger.db").display());
        Ok(Ground { url: self.postgres.clone().unwrap_or_else(sqlite), folder })
    }
}

/// A bench's exit, with its failure said.
pub(crate) fn exit(measured: Result<(), Failure>) -> ExitCode {
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
