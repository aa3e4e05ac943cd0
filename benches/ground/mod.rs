//! Where benches that look at one layer run: a folder of their own, and a
//! database that they may fill.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tempfile::TempDir;

/// Whatever went wrong: a bench only says it.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Where to run.
#[derive(Args)]
pub struct Place {
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
pub struct Ground {
    pub folder: TempDir,
    pub url: String,
}

impl Place {
    /// What the database is, by name.
    pub fn database(&self) -> &'static str {
        if self.postgres.is_some() { "Postgres" } else { "SQLite" }
    }

    pub fn prepare(&self) -> Result<Ground, Failure> {
        let folder = match &self.folder {
            Some(folder) => tempfile::tempdir_in(folder)?,
            None => tempfile::tempdir()?,
        };
        let sqlite = || format!("sqlite://{}", folder.path().join("ledger.db").display());
        Ok(Ground { url: self.postgres.clone().unwrap_or_else(sqlite), folder })
    }
}

/// A bench's exit, with its failure said.
pub fn exit(measured: Result<(), Failure>) -> ExitCode {
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
