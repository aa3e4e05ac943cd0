//! The ledger: what was acknowledged, in SQLite or Postgres. The only SQL.
//!
//! Every arrow between states is a compare-and-set, and what follows from it
//! (the file's row, the events, the owner's counter) is in its transaction.
//! No transaction and no connection is held while anybody waits for a client
//! or a store.
//!
//! - `open` connects, locks and migrates; `error` says what can go wrong;
//! - `db` makes two databases one, by `words`; `rows` reads what they hold;
//! - `writer` commits what many ask for at once in one batch; `record` is what
//!   it does for chunks;
//! - `create`, `underway`, `uploads`, `states`, `chunks`, `files`, `forms`, `sweeping`, `jobs` and `outbox`
//!   are the questions and the arrows themselves.

mod attempts;
mod chunks;
pub mod config;
mod connections;
mod create;
mod db;
pub mod error;
mod examine;
mod files;
mod forms;
mod jobs;
mod keys;
mod listing;
mod lock;
mod open;
mod outbox;
mod owners;
#[cfg(test)]
mod plans;
mod record;
mod rows;
mod states;
mod swap;
mod sweeping;
mod tokens;
mod underway;
mod uploads;
mod value;
mod wish;
mod words;
mod writer;
mod written;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::PgPool;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::{Timestamp, UploadId};
use connections::Connections;
use db::{Conn, Statement, sql};
use lock::DatabaseLock;
use words::Backend;
use writer::Writer;

pub use attempts::{ATTEMPTS_KEPT, DeliveryCursor, DeliveryPage, DeliveryState, ListedDelivery, PastAttempt};
pub use config::DatabaseConfig;
pub use create::Creation;
pub use error::{LedgerError, OpenError};
pub use examine::Examined;
pub use files::FileCreation;
pub use forms::AwaitedFile;
pub use jobs::JobClaim;
pub use listing::{FileFilter, PageStart};
pub use open::Migrated;
pub use outbox::{Delivery, NewEvent, OutboxCounts};
pub use owners::{Allowance, Reservation};
pub use record::{RecordChunk, Recorded};
pub use states::Failing;
pub use sweeping::{Remains, RemainsClaim};
pub use tokens::{Family, KeySecret, SigningKey};
pub use underway::{Claim, Intent, Orphan};
pub use uploads::SessionSet;
pub use wish::{KeyOrigin, NewUpload};

/// The ledger, open. Clones are the same ledger.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    pools: Pools,
    /// None when it was opened to read only.
    writer: Option<Writer>,
    clock: Arc<dyn Clock>,
    /// How long a lease lasts unless it is renewed.
    lease: Duration,
    /// Names this opening of the ledger in the leases it takes.
    boot: Uuid,
    /// Milliseconds that a test has put on the lease clock.
    lease_clock_shift: AtomicI64,
    /// Held until the ledger is closed or dropped.
    lock: Mutex<Option<DatabaseLock>>,
}

/// The connections.
#[derive(Clone)]
enum Pools {
    Sqlite {
        readers: Connections,
        /// The one connection that writes; none when nothing does.
        writer: Option<Connections>,
    },
    Postgres {
        /// For all that reads, and for transactions.
        shared: PgPool,
        /// For chunks: their bytes are in the store already when they are
        /// recorded, and must not wait behind those who only ask.
        writer: PgPool,
    },
}

/// What is said of a transaction that cannot be seen from outside.
#[derive(Clone, Copy, Debug, Default)]
struct Nature {
    /// It is one statement, which a database does whole or not at all.
    is_one_statement: bool,
    /// The upload whose chunks it may remove.
    forgets_of: Option<UploadId>,
}

/// How a transaction ends.
enum End<T> {
    Commit(T),
    Rollback(T),
}

impl Ledger {
    /// `sqlite` or `postgres`.
    pub fn backend(&self) -> &'static str {
        match self.inner.pools.backend() {
            Backend::Sqlite => "sqlite",
            Backend::Postgres => "postgres",
        }
    }

    /// Whether the database answers and takes writes.
    pub async fn ping(&self) -> Result<(), LedgerError> {
        if let Some(writer) = &self.inner.writer {
            writer.sound()?;
        }
        self.read().await?.row(sql("SELECT 1 AS one")).await.map(|_| ())
    }

    /// Commits what is queued, takes no more, and closes all connections.
    pub async fn close(&self) {
        if let Some(writer) = &self.inner.writer {
            writer.close().await;
        }
        match &self.inner.pools {
            Pools::Sqlite { readers, writer } => {
                readers.close().await;
                // Last, so that its closing folds the write-ahead log into the file.
                if let Some(writer) = writer {
                    writer.close().await;
                }
            }
            Pools::Postgres { shared, writer } => {
                writer.close().await;
                shared.close().await;
            }
        }
        self.inner.lock.lock().await.take();
    }

    /// For tests: lets all leases age by this much at once.
    pub fn age_leases(&self, by: Duration) {
        self.inner.lease_clock_shift.fetch_add(millis(by), Ordering::SeqCst);
    }

    /// A connection to read with.
    async fn read(&self) -> Result<Conn, LedgerError> {
        self.inner.pools.reader().await
    }

    /// Runs a transaction to its end, whether or not the caller stays for it.
    /// SQLite: in the writer's next batch. Postgres: on a connection of its own.
    async fn write<T, F>(&self, job: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<End<T>, LedgerError>> + Send + 'static,
    {
        self.transact(Nature::default(), job).await
    }

    /// The same for one of this nature.
    async fn transact<T, F>(&self, nature: Nature, job: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<End<T>, LedgerError>> + Send + 'static,
    {
        self.writer()?.transact(nature, job).await
    }

    fn writer(&self) -> Result<&Writer, LedgerError> {
        self.inner.writer.as_ref().ok_or(LedgerError::ReadOnly)
    }

    /// Runs one statement as a transaction of its own and says how many rows it touched.
    async fn run(&self, statement: Statement) -> Result<u64, LedgerError> {
        let nature = Nature { is_one_statement: true, ..Nature::default() };
        self.transact(nature, move |conn| Box::pin(async move { conn.execute(statement).await.map(End::Commit) })).await
    }

    /// The same, and says whether it touched a row: the outcome of a compare-and-set.
    async fn swap(&self, statement: Statement) -> Result<bool, LedgerError> {
        self.run(statement).await.map(|rows| rows > 0)
    }

    fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// What we add to `{lease_clock}`. SQLite has one gateway, so its lease
    /// clock is that gateway's monotonic one, and every lease of an earlier
    /// start is void. Postgres' is the server's, the same for all gateways.
    fn lease_clock(&self) -> i64 {
        let shift = self.inner.lease_clock_shift.load(Ordering::SeqCst);
        match self.inner.pools.backend() {
            Backend::Sqlite => millis(self.inner.clock.monotonic()).saturating_add(shift),
            Backend::Postgres => shift,
        }
    }

    fn lease_millis(&self) -> i64 {
        millis(self.inner.lease)
    }
}

impl Pools {
    const fn backend(&self) -> Backend {
        match self {
            Self::Sqlite { .. } => Backend::Sqlite,
            Self::Postgres { .. } => Backend::Postgres,
        }
    }

    async fn reader(&self) -> Result<Conn, LedgerError> {
        Ok(match self {
            Self::Sqlite { readers, .. } => readers.acquire().await?.into(),
            Self::Postgres { shared, .. } => db::acquire(shared).await?,
        })
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("backend", &self.backend()).finish_non_exhaustive()
    }
}

/// Milliseconds as the ledger keeps them.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A size as the ledger keeps it: no store holds more than 2⁶³ bytes.
fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
