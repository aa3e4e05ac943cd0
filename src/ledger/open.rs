//! Opening a ledger: connect, lock, migrate.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::ledger::connections::Connections;
use crate::ledger::db::{Conn, sql};
use crate::ledger::error::{LedgerError, OpenError};
use crate::ledger::lock::DatabaseLock;
use crate::ledger::rows::Reader;
use crate::ledger::writer::Writer;
use crate::ledger::{DatabaseConfig, Inner, Ledger, Pools};

pub(super) static SQLITE: Migrator = sqlx::migrate!("./migrations/sqlite");
pub(super) static POSTGRES: Migrator = sqlx::migrate!("./migrations/postgres");

/// A database is read through from end to end at the start if it is no larger
/// than this: a damaged one is found before anybody relies on it.
const CHECK_BYTES_MAX: u64 = 64 << 20;

/// What migrating did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The newest migration that was there; none in a new database.
    pub before: Option<i64>,
    /// The newest migration that is there now.
    pub after: i64,
}

/// What a URL means.
pub(super) enum Target {
    Sqlite(PathBuf),
    Postgres(Box<PgConnectOptions>),
}

/// The writer's connections: one with a batch of chunks, the other with the
/// counts of the batch before it, or with small files.
const CHUNK_CONNECTIONS: u32 = 2;

/// What a statement may cost. A gateway that is frozen, or cut off, in the
/// middle of a transaction keeps its locks no longer than this, and nobody waits
/// for them for good. Set on each connection rather than in its start-up packet,
/// which poolers in between refuse.
///
/// And how it goes about it: rows come and go in some tables so quickly that
/// what Postgres knows of these is never true, and it would read them from end
/// to end, with all that was removed since. There is an index for whatever is
/// asked here. It takes what it was told not to do for costly, and what is costly
/// it would compile, which nothing here is worth. (`chunkgate.seqscan = on` of a
/// database lets it do as it thinks: for those who want to see that.)
const POSTGRES_SESSION: &str = "SET lock_timeout = '5s'; SET statement_timeout = '10s'; \
                                SET idle_in_transaction_session_timeout = '10s'; SET jit = off; \
                                SELECT set_config('enable_seqscan', \
                                coalesce(nullif(current_setting('chunkgate.seqscan', TRUE), ''), 'off'), FALSE)";

impl Ledger {
    /// Opens the ledger to read and write: connects (waiting up to
    /// `acquire_timeout`), makes and locks the SQLite file, migrates, and
    /// starts the writer. `lease` is how long a merge may go on unrenewed.
    pub async fn open(
        config: &DatabaseConfig,
        url: &str,
        clock: Arc<dyn Clock>,
        lease: Duration,
    ) -> Result<Self, OpenError> {
        let (pools, lock) = match Target::parse(url)? {
            Target::Sqlite(path) => {
                let (pools, lock, _) = open_sqlite(config, &path).await?;
                (pools, Some(lock))
            }
            Target::Postgres(options) => {
                migrate_postgres(&options, config.acquire_timeout).await?;
                (postgres_pool(config, *options), None)
            }
        };
        let writer = Writer::start(pools.clone());
        Ok(Self::assemble(pools, Some(writer), clock, lease, lock))
    }

    /// Opens the ledger to read only, also while a gateway has it open. It
    /// must be there and be migrated.
    pub async fn open_read_only(config: &DatabaseConfig, url: &str, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let target = Target::parse(url)?;
        let (pools, known) = match &target {
            Target::Sqlite(path) => {
                if !path.exists() {
                    return Err(OpenError::Missing(path.clone()));
                }
                (Pools::Sqlite { readers: readers_of(config, path), writer: None }, newest(&SQLITE))
            }
            Target::Postgres(options) => {
                let connection = connect(options, config.acquire_timeout).await?;
                drop(connection.close().await);
                (postgres_pool(config, (**options).clone()), newest(&POSTGRES))
            }
        };
        let ledger = Self::assemble(pools, None, clock, Duration::ZERO, None);
        match ledger.schema().await {
            Ok(Some(found)) if found > known => Err(OpenError::Newer { target: target.name(), found, known }),
            Ok(Some(found)) if found == known => Ok(ledger),
            Ok(Some(_) | None) | Err(LedgerError::Refused(_)) => {
                Err(OpenError::NotMigrated { target: target.name(), known })
            }
            Err(e) => Err(target.failed(&e)),
        }
    }

    /// Migrates and goes away. A SQLite file must not be open in a gateway.
    pub async fn migrate_only(config: &DatabaseConfig, url: &str) -> Result<Migrated, OpenError> {
        match Target::parse(url)? {
            Target::Sqlite(path) => {
                let (pools, _lock, migrated) = open_sqlite(config, &path).await?;
                if let Pools::Sqlite { readers, writer: Some(writer) } = pools {
                    readers.close().await;
                    writer.close().await;
                }
                Ok(migrated)
            }
            Target::Postgres(options) => migrate_postgres(&options, config.acquire_timeout).await,
        }
    }

    /// The newest migration in the database.
    pub(super) async fn schema(&self) -> Result<Option<i64>, LedgerError> {
        newest_applied(&mut self.read().await?).await
    }

    pub(super) fn assemble(
        pools: Pools,
        writer: Option<Writer>,
        clock: Arc<dyn Clock>,
        lease: Duration,
        lock: Option<DatabaseLock>,
    ) -> Self {
        let (boot, lease_clock_shift) = (clock.uuid_v4(), AtomicI64::new(0));
        Self { inner: Arc::new(Inner { pools, writer, clock, lease, boot, lease_clock_shift, lock: Mutex::new(lock) }) }
    }
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, OpenError> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" | ":memory:" => Err(OpenError::Url("a file is needed, for memory does not outlive a crash".into())),
                path => Ok(Self::Sqlite(PathBuf::from(path))),
            };
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            // The parser's error does not repeat the URL, in which a password may stand.
            let options = PgConnectOptions::from_str(url).map_err(|e| OpenError::Url(e.to_string()))?;
            return Ok(Self::Postgres(Box::new(options)));
        }
        Err(OpenError::Url("it begins otherwise".to_owned()))
    }

    fn name(&self) -> String {
        match self {
            Self::Sqlite(path) => path.display().to_string(),
            Self::Postgres(options) => name_of(options),
        }
    }

    fn failed(&self, e: &LedgerError) -> OpenError {
        match self {
            Self::Sqlite(path) => of_file(path, e),
            Self::Postgres(_) => OpenError::Unreachable { target: self.name(), reason: e.reason() },
        }
    }
}

impl Ledger {
    /// From now on, new connections are made as whoever this says: a password
    /// that rotates. The database stays the one that is open.
    pub fn renew(&self, url: &str) -> Result<(), OpenError> {
        let Pools::Postgres { shared, writer } = &self.inner.pools else { return Ok(()) };
        let Target::Postgres(options) = Target::parse(url)? else {
            return Err(OpenError::Url("the ledger is in Postgres already: that takes a restart".to_owned()));
        };
        let place = |options: &PgConnectOptions| name_of(options);
        if place(&options) != place(&shared.connect_options()) {
            return Err(OpenError::Url(
                "it is another database than the one that is open: that takes a restart".into(),
            ));
        }
        let options = options.disable_statement_logging();
        shared.set_connect_options(options.clone());
        writer.set_connect_options(options);
        Ok(())
    }
}

fn name_of(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    match options.get_socket() {
        Some(socket) => format!("{}/{database}", socket.display()),
        None => format!("{}:{}/{database}", options.get_host(), options.get_port()),
    }
}

fn of_file(path: &Path, e: &LedgerError) -> OpenError {
    match e {
        LedgerError::Damaged(reason) => {
            OpenError::Damaged { target: path.display().to_string(), reason: reason.clone() }
        }
        LedgerError::Unavailable(_)
        | LedgerError::Full(_)
        | LedgerError::Broken(_)
        | LedgerError::Corrupt { .. }
        | LedgerError::Refused(_)
        | LedgerError::ReadOnly => OpenError::File { path: path.to_owned(), reason: e.to_string() },
    }
}

pub(super) fn newest(migrator: &Migrator) -> i64 {
    migrator.iter().map(|m| m.version).max().unwrap_or(0)
}

async fn newest_applied(conn: &mut Conn) -> Result<Option<i64>, LedgerError> {
    let row = conn.row(sql("SELECT max(version) AS version FROM _sqlx_migrations WHERE success")).await?;
    row.map(|row| Reader::new(&row, "_sqlx_migrations", &[]).get("version")).transpose().map(Option::flatten)
}

fn not_migrated(target: String, known: i64, e: &MigrateError) -> OpenError {
    if let MigrateError::VersionMissing(found) = e {
        OpenError::Newer { target, found: *found, known }
    } else {
        OpenError::Migration { target, reason: e.to_string() }
    }
}

/// Migrates over one connection and says what was there before.
async fn migrate<C: Migrate>(migrator: &Migrator, conn: &mut C) -> Result<Migrated, MigrateError> {
    conn.ensure_migrations_table(&migrator.table_name).await?;
    let applied = conn.list_applied_migrations(&migrator.table_name).await?;
    let before = applied.iter().map(|m| m.version).max();
    let known = newest(migrator);
    if let Some(found) = before.filter(|&found| found > known) {
        return Err(MigrateError::VersionMissing(found));
    }
    migrator.run_direct(None, conn, false).await?;
    Ok(Migrated { before, after: known })
}

async fn open_sqlite(config: &DatabaseConfig, path: &Path) -> Result<(Pools, DatabaseLock, Migrated), OpenError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        let made = std::fs::create_dir_all(folder);
        made.map_err(|e| OpenError::File { path: path.to_owned(), reason: e.to_string() })?;
    }
    let lock = DatabaseLock::take(path)?;
    let writer = writer_of(config, path);
    let migrated = prepare_sqlite(&writer, path).await?;
    let readers = readers_of(config, path);
    Ok((Pools::Sqlite { readers, writer: Some(writer) }, lock, migrated))
}

/// Checks and migrates the file, and voids the leases of whoever had it before.
async fn prepare_sqlite(writer: &Connections, path: &Path) -> Result<Migrated, OpenError> {
    let failed = |e: LedgerError| of_file(path, &e);
    let acquire = || async { writer.acquire().await.map_err(failed) };
    let mut conn = Conn::from(acquire().await?);
    if std::fs::metadata(path).is_ok_and(|file| file.len() <= CHECK_BYTES_MAX) {
        let row = conn.row(sql("PRAGMA quick_check(1)")).await.map_err(failed)?;
        let verdict = row.and_then(|row| row.get::<String>("quick_check").ok()).unwrap_or_default();
        if verdict != "ok" {
            return Err(OpenError::Damaged { target: path.display().to_string(), reason: verdict });
        }
    }
    drop(conn);
    let migrated = migrate(&SQLITE, acquire().await?.raw().map_err(failed)?).await;
    let migrated = migrated.map_err(|e| not_migrated(path.display().to_string(), newest(&SQLITE), &e))?;
    let mut conn = Conn::from(acquire().await?);
    for text in [
        "UPDATE uploads SET lease_until = 0 WHERE state = 'completing' AND lease_until <> 0",
        "UPDATE deliveries SET lease_until = 0 WHERE state = 'pending' AND lease_until <> 0",
        "UPDATE uploads SET lease_until = 0 WHERE clean_at IS NOT NULL AND lease_until <> 0",
        "UPDATE objects_underway SET lease_until = 0 WHERE lease_until <> 0",
        "DELETE FROM jobs",
    ] {
        conn.execute(sql(text)).await.map_err(failed)?;
    }
    Ok(migrated)
}

fn sqlite_options(path: &Path, config: &DatabaseConfig) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(config.acquire_timeout)
        .foreign_keys(true)
        // Rows cross from the connection's thread; ten thousand of them in few crossings.
        .row_buffer_size(1024)
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging()
}

/// One connection: SQLite has one writer.
pub(super) fn writer_of(config: &DatabaseConfig, path: &Path) -> Connections {
    let options = sqlite_options(path, config)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // An acknowledged chunk is on the disk.
        .synchronous(SqliteSynchronous::Full);
    Connections::new(options, 1, config.acquire_timeout)
}

pub(super) fn readers_of(config: &DatabaseConfig, path: &Path) -> Connections {
    let options = sqlite_options(path, config).read_only(true);
    Connections::new(options, config.max_connections.saturating_sub(1), config.acquire_timeout)
}

pub(super) fn postgres_pool(config: &DatabaseConfig, options: PgConnectOptions) -> Pools {
    let options = options.disable_statement_logging();
    let (min, max) = (config.min_connections, config.max_connections);
    let pool = |min: u32, max: u32| {
        PgPoolOptions::new()
            .max_connections(max)
            .min_connections(min.min(max))
            .idle_timeout(config.idle_timeout)
            .max_lifetime(config.max_lifetime)
            .acquire_timeout(config.acquire_timeout)
            .after_connect(|connection, _| {
                Box::pin(async move { sqlx::raw_sql(POSTGRES_SESSION).execute(connection).await.map(drop) })
            })
            .connect_lazy_with(options.clone())
    };
    let shared = pool(min.saturating_sub(CHUNK_CONNECTIONS), max.saturating_sub(CHUNK_CONNECTIONS).max(1));
    Pools::Postgres { shared, writer: pool(min, CHUNK_CONNECTIONS) }
}

async fn migrate_postgres(options: &PgConnectOptions, timeout: Duration) -> Result<Migrated, OpenError> {
    let mut connection = connect(options, timeout).await?;
    let migrated = migrate(&POSTGRES, &mut connection).await;
    warn_of_forgetful(&mut connection).await;
    // Closed whatever came of it: the lock that migrating takes is the connection's.
    drop(connection.close().await);
    migrated.map_err(|e| not_migrated(name_of(options), newest(&POSTGRES), &e))
}

/// A server may be told to acknowledge what is not on its disk. That is its
/// operator's choice, but hardly one made for this.
async fn warn_of_forgetful(connection: &mut PgConnection) {
    let query = "SELECT current_setting('synchronous_commit') = 'off' OR current_setting('fsync') = 'off'";
    if let Ok(true) = sqlx::query_scalar(query).fetch_one(connection).await {
        tracing::warn!("Postgres runs with synchronous_commit or fsync off: a crash may lose acknowledged chunks");
    }
}

/// Connects, again and again until the time is over if the server is not there yet.
pub(super) async fn connect(options: &PgConnectOptions, timeout: Duration) -> Result<PgConnection, OpenError> {
    const PAUSE: Duration = Duration::from_millis(100);
    let unreachable = |reason: String| OpenError::Unreachable { target: name_of(options), reason };
    let mut last = "it did not answer in time".to_owned();
    let attempts = async {
        loop {
            match PgConnection::connect_with(options).await {
                Ok(connection) => return Ok(connection),
                Err(e) => {
                    let e = LedgerError::from(e);
                    last = e.reason();
                    if !e.is_transient() {
                        return Err(unreachable(e.reason()));
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    match tokio::time::timeout(timeout, attempts).await {
        Ok(connected) => connected,
        Err(_) => Err(unreachable(last)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_its_target_and_never_its_password() {
        let name = |url| Target::parse(url).map(|t| t.name());
        assert_eq!(name("sqlite:///var/lib/a.db").unwrap(), "/var/lib/a.db");
        assert_eq!(name("sqlite://data/a.db").unwrap(), "data/a.db");
        assert_eq!(name("postgres://me:secret@db.example:5433/gate").unwrap(), "db.example:5433/gate");
        for url in ["mysql://a:secret@b/c", "postgres://me:secret@db:notaport/x", "sqlite::memory:", ""] {
            let refused = name(url).unwrap_err().to_string();
            assert!(refused.starts_with("database.url is not") && !refused.contains("secret"), "{refused}");
        }
    }
}
