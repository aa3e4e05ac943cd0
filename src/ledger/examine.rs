//! What a doctor asks of the database: what it is, whether its schema is ours,
//! whether it takes writes and how long one takes to be durable.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection as _;
use tokio::task::spawn_blocking;

use crate::clock::Clock;
use crate::ledger::db::sql;
use crate::ledger::error::{LedgerError, OpenError};
use crate::ledger::lock::DatabaseLock;
use crate::ledger::open::{POSTGRES, SQLITE, Target, connect, newest, postgres_pool, readers_of, writer_of};
use crate::ledger::rows::Reader;
use crate::ledger::words::Backend;
use crate::ledger::writer::Writer;
use crate::ledger::{DatabaseConfig, Ledger, Pools};

/// Commits that are timed: what counts is the one in the middle.
const COMMITS: usize = 9;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// `sqlite` or `postgres`.
    pub backend: &'static str,
    /// Its own version; none where it was not asked.
    pub version: Option<String>,
    /// The newest migration that it has; none in a new database.
    pub schema: Option<i64>,
    /// The newest migration that this program has.
    pub known: i64,
    /// How long a durable write takes; none where nothing was written.
    pub commit: Option<Duration>,
    /// Whether it acknowledges what is not on its disk.
    pub is_forgetful: bool,
    /// The process of the gateway that has it open, where that is another one.
    pub held_by: Option<u32>,
}

impl Ledger {
    /// Examines a ledger that is open.
    pub async fn examine(&self) -> Result<Examined, LedgerError> {
        let mut connection = self.read().await?;
        let asked = connection.row(sql("SELECT {server_version} AS version, {is_forgetful} AS forgetful")).await?;
        let (mut version, mut is_forgetful) = (None, false);
        if let Some(row) = asked {
            let row = Reader::new(&row, "settings", &[]);
            (version, is_forgetful) = (Some(row.get("version")?), row.get("forgetful")?);
        }
        drop(connection);
        let known = self.known_schema();
        // A database that nobody has migrated yet has no table that says so.
        let schema = match self.schema().await {
            Err(LedgerError::Refused(_)) => None,
            found => found?,
        };
        let writes = self.inner.writer.is_some() && schema == Some(known);
        let commit = if writes { Some(self.time_commits().await?) } else { None };
        Ok(Examined { backend: self.backend(), version, schema, known, commit, is_forgetful, held_by: None })
    }

    /// Examines a database that no gateway of this process has open, unless it
    /// cannot be opened. Nothing is migrated. A SQLite file that a gateway has
    /// open is only read.
    pub async fn examine_closed(
        config: &DatabaseConfig,
        url: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Result<Examined, LedgerError>, OpenError> {
        let target = Target::parse(url)?;
        let (pools, lock, held_by) = match &target {
            Target::Sqlite(path) if !path.exists() => return examine_absent(path, clock).await.map(Ok),
            Target::Sqlite(path) => {
                let readers = readers_of(config, path);
                match DatabaseLock::take(path) {
                    Ok(lock) => (Pools::Sqlite { readers, writer: Some(writer_of(config, path)) }, Some(lock), None),
                    Err(OpenError::Locked { pid, .. }) => {
                        (Pools::Sqlite { readers, writer: None }, None, Some(pid.unwrap_or_default()))
                    }
                    Err(other) => return Err(other),
                }
            }
            Target::Postgres(options) => {
                let connection = connect(options, config.acquire_timeout).await?;
                drop(connection.close().await);
                (postgres_pool(config, (**options).clone()), None, None)
            }
        };
        let writer = held_by.is_none().then(|| Writer::start(pools.clone()));
        let ledger = Self::assemble(pools, writer, clock, Duration::ZERO, lock);
        let examined = ledger.examine().await;
        ledger.close().await;
        Ok(examined.map(|examined| Examined { held_by, ..examined }))
    }

    fn known_schema(&self) -> i64 {
        match self.inner.pools.backend() {
            Backend::Sqlite => newest(&SQLITE),
            Backend::Postgres => newest(&POSTGRES),
        }
    }

    /// The usual time of one commit: of a row of no consequence, which is
    /// removed. One that a crash leaves is nobody's job, and the next doctor's.
    async fn time_commits(&self) -> Result<Duration, LedgerError> {
        let clock = &self.inner.clock;
        let mut times = Vec::with_capacity(COMMITS);
        for count in 0..COMMITS {
            let began = clock.monotonic();
            let write = sql("INSERT INTO jobs (name, next_at, lease_until) VALUES ('doctor', $1, 0) \
                 ON CONFLICT (name) DO UPDATE SET next_at = EXCLUDED.next_at");
            self.run(write.bind(i64::try_from(count).unwrap_or_default())).await?;
            times.push(clock.monotonic().saturating_sub(began));
        }
        self.run(sql("DELETE FROM jobs WHERE name = 'doctor'")).await?;
        times.sort_unstable();
        Ok(times[COMMITS / 2])
    }
}

/// There is none yet: `serve` makes it. Whether it can shows a file beside it.
async fn examine_absent(path: &Path, clock: Arc<dyn Clock>) -> Result<Examined, OpenError> {
    let place = path.to_owned();
    let tried = spawn_blocking(move || {
        let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut name = place.as_os_str().to_owned();
        name.push(".doctor");
        let began = clock.monotonic();
        let mut file = File::create(&name)?;
        let written = file.write_all(&[0; 4096]).and_then(|()| file.sync_all());
        let took = clock.monotonic().saturating_sub(began);
        std::fs::remove_file(&name)?;
        written.map(|()| took)
    });
    let failed = |reason: String| OpenError::File { path: path.to_owned(), reason };
    let commit = tried.await.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
    let known = newest(&SQLITE);
    let (version, schema, is_forgetful, held_by) = (None, None, false, None);
    Ok(Examined { backend: "sqlite", version, schema, known, commit: Some(commit), is_forgetful, held_by })
}
