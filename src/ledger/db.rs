//! Connections of either database, and the statements that are run on them:
//! each SQL text is written once (`words`).

use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, PgPool, Postgres, Row as _, Sqlite};
use tokio::time::{Instant, sleep};

use crate::ledger::connections::Connection;
use crate::ledger::error::LedgerError;
use crate::ledger::value::Value;
use crate::ledger::words::{Backend, in_words_of};

/// A connection, perhaps in a transaction. One that is dropped in the middle of
/// something is closed rather than given back: its transaction is rolled back,
/// and nobody waits for an answer that may never come.
pub(super) struct Conn {
    of: Of,
    /// A statement is being answered.
    busy: bool,
    in_transaction: bool,
}

enum Of {
    Sqlite(Connection),
    Postgres(PoolConnection<Postgres>),
}

/// The longest that Postgres may be silent while it is asked something. It ends
/// its own part sooner (`open::POSTGRES_SESSION`), so whoever is silent for so
/// long is not there any more, although its connection is.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// The most bytes of rows that a statement brings Postgres: with what is around
/// them they are one record of TLS. A second one would wait for the first to be
/// acknowledged, tens of milliseconds, for the driver leaves Nagle's algorithm
/// on (launchbadge/sqlx#4335).
const ROWS_BYTES_MAX: usize = 14 << 10;

/// A statement with its values.
#[derive(Debug)]
pub(super) struct Statement {
    text: &'static str,
    values: Vec<Value>,
}

/// Begins a statement. In `text` stand `$1`… for values, and in braces:
/// `{lease_clock}` is what the database adds to the lease clock;
/// `{immediate}` begins a transaction that writes;
/// `{server_version}` is its version, `{is_forgetful}` whether it acknowledges what is not on its disk;
/// `{any_int 1}`, `{any_id 1}` and `{any_text 1}` compare with the list `$1`;
/// `{skip_locked}` passes over rows that another transaction has;
/// `{bytewise}` orders a text as Rust does;
/// `{list a, b}` is one JSON list of all rows, each a list of these;
/// `{rows 1 name:type …}` are the rows `r` of the list `$1`, which `Statement::bind_rows` binds.
pub(super) const fn sql(text: &'static str) -> Statement {
    Statement { text, values: Vec::new() }
}

impl Statement {
    /// The next value.
    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// The next value: rows, each a JSON object of its columns, ids in hex.
    pub(super) fn bind_rows(self, rows: impl Iterator<Item = serde_json::Value>) -> Self {
        self.bind(serde_json::Value::from_iter(rows).to_string())
    }

    /// All the values at once.
    pub(super) fn bind_all(mut self, values: Vec<Value>) -> Self {
        self.values.extend(values);
        self
    }
}

/// The list as SQLite reads it.
fn json<T: serde::Serialize>(list: &[T]) -> String {
    serde_json::Value::from_iter(list.iter().map(|v| serde_json::json!(v))).to_string()
}

type SqliteQuery = sqlx::query::Query<'static, Sqlite, <Sqlite as sqlx::Database>::Arguments>;
type PostgresQuery = sqlx::query::Query<'static, Postgres, <Postgres as sqlx::Database>::Arguments>;

/// What SQLite was asked in this process.
#[cfg(test)]
pub(super) static SEEN: std::sync::Mutex<std::collections::BTreeSet<String>> =
    std::sync::Mutex::new(std::collections::BTreeSet::new());

fn for_sqlite(statement: Statement) -> SqliteQuery {
    let text = in_words_of(Backend::Sqlite, statement.text);
    #[cfg(test)]
    SEEN.lock().unwrap().insert(text.clone().into_owned());
    let mut query = sqlx::query::<Sqlite>(AssertSqlSafe(text));
    for value in statement.values {
        query = match value {
            Value::Int(v) => query.bind(v),
            Value::Text(v) => query.bind(v),
            Value::Id(v) => query.bind(v),
            Value::Bool(v) => query.bind(v),
            Value::Ints(list) => query.bind(json(&list)),
            Value::Ids(list) => query.bind(json(&list.iter().map(|id| id.simple().to_string()).collect::<Vec<_>>())),
            Value::Texts(list) => query.bind(json(&list)),
        };
    }
    query
}

fn for_postgres(statement: Statement) -> PostgresQuery {
    let mut query = sqlx::query::<Postgres>(AssertSqlSafe(in_words_of(Backend::Postgres, statement.text)));
    for value in statement.values {
        query = match value {
            Value::Int(v) => query.bind(v),
            Value::Text(v) => query.bind(v),
            Value::Id(v) => query.bind(v),
            Value::Bool(v) => query.bind(v),
            Value::Ints(list) => query.bind(list),
            Value::Ids(list) => query.bind(list),
            Value::Texts(list) => query.bind(list),
        };
    }
    query
}

impl From<Connection> for Conn {
    fn from(conn: Connection) -> Self {
        Self { of: Of::Sqlite(conn), busy: false, in_transaction: false }
    }
}

impl From<PoolConnection<Postgres>> for Conn {
    fn from(conn: PoolConnection<Postgres>) -> Self {
        Self { of: Of::Postgres(conn), busy: false, in_transaction: false }
    }
}

/// A connection of Postgres. While a password is changed, the database and
/// whoever tells us of it are not of one mind: that is waited for, as long as
/// for a connection.
pub(super) async fn acquire(pool: &PgPool) -> Result<Conn, LedgerError> {
    const PAUSE: Duration = Duration::from_millis(200);
    let until = Instant::now() + pool.options().get_acquire_timeout();
    loop {
        // Large: not a part of everybody who asks the ledger something.
        match Box::pin(pool.acquire()).await {
            Ok(connection) => return Ok(connection.into()),
            Err(error) if !is_wrong_password(&error) => return Err(error.into()),
            Err(_) if Instant::now() + PAUSE < until => sleep(PAUSE).await,
            Err(error) => return Err(LedgerError::Unavailable(LedgerError::from(error).reason())),
        }
    }
}

fn is_wrong_password(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == "28P01")
}

impl Drop for Conn {
    fn drop(&mut self) {
        match &mut self.of {
            Of::Sqlite(conn) if self.in_transaction => conn.close_on_drop(),
            Of::Postgres(conn) if self.in_transaction || self.busy => conn.close_on_drop(),
            // SQLite's own thread brings a statement to its end.
            Of::Sqlite(_) | Of::Postgres(_) => {}
        }
    }
}

impl Conn {
    /// Begins a transaction that writes.
    pub(super) async fn begin(&mut self) -> Result<(), LedgerError> {
        self.in_transaction = true;
        self.execute(sql("BEGIN {immediate}")).await.map(drop)
    }

    /// Ends the transaction; whatever it did is there for good.
    pub(super) async fn commit(&mut self) -> Result<(), LedgerError> {
        self.execute(sql("COMMIT")).await?;
        self.in_transaction = false;
        Ok(())
    }

    /// Ends the transaction as if it had not been.
    pub(super) async fn rollback(&mut self) -> Result<(), LedgerError> {
        self.execute(sql("ROLLBACK")).await?;
        self.in_transaction = false;
        Ok(())
    }

    /// Runs it and says how many rows it touched.
    pub(super) async fn execute(&mut self, statement: Statement) -> Result<u64, LedgerError> {
        self.busy = true;
        let done = match &mut self.of {
            Of::Sqlite(conn) => for_sqlite(statement).execute(conn.raw()?).await.map(|done| done.rows_affected()),
            Of::Postgres(conn) => {
                in_time(for_postgres(statement).execute(&mut **conn)).await?.map(|done| done.rows_affected())
            }
        };
        self.busy = false;
        Ok(done?)
    }

    /// Runs it and says whether it touched a row: the outcome of a compare-and-set.
    pub(super) async fn swapped(&mut self, statement: Statement) -> Result<bool, LedgerError> {
        Ok(self.execute(statement).await? > 0)
    }

    /// Runs it once for all of these rows (`Statement::bind_rows`), or for a few
    /// of them at a time, and gives back the rows that it returns. Where others
    /// may want the same keys, they come in the order in which all take them.
    pub(super) fn rows_of(
        &mut self,
        text: &'static str,
        rows: impl Iterator<Item = serde_json::Value>,
    ) -> BoxFuture<'_, Result<Vec<Row>, LedgerError>> {
        let bytes_max = match &self.of {
            Of::Sqlite(_) => usize::MAX,
            Of::Postgres(_) => ROWS_BYTES_MAX,
        };
        let pieces = pieces(rows, bytes_max);
        Box::pin(async move {
            let mut returned = Vec::new();
            for piece in pieces {
                returned.extend(self.rows(sql(text).bind(piece)).await?);
            }
            Ok(returned)
        })
    }

    /// All its rows.
    pub(super) async fn rows(&mut self, statement: Statement) -> Result<Vec<Row>, LedgerError> {
        self.busy = true;
        let rows = match &mut self.of {
            Of::Sqlite(conn) => {
                let rows = for_sqlite(statement).fetch_all(conn.raw()?).await;
                rows.map(|rows| rows.into_iter().map(Row::Sqlite).collect())
            }
            Of::Postgres(conn) => {
                let rows = in_time(for_postgres(statement).fetch_all(&mut **conn)).await?;
                rows.map(|rows| rows.into_iter().map(Row::Postgres).collect())
            }
        };
        self.busy = false;
        Ok(rows?)
    }

    /// Its one row, if there is one. Never for a statement that writes: it may
    /// be left before its end.
    pub(super) async fn row(&mut self, statement: Statement) -> Result<Option<Row>, LedgerError> {
        self.busy = true;
        let row = match &mut self.of {
            Of::Sqlite(conn) => for_sqlite(statement).fetch_optional(conn.raw()?).await.map(|row| row.map(Row::Sqlite)),
            Of::Postgres(conn) => {
                in_time(for_postgres(statement).fetch_optional(&mut **conn)).await?.map(|row| row.map(Row::Postgres))
            }
        };
        self.busy = false;
        Ok(row?)
    }
}

/// Lists of rows, in JSON, each no longer than this if it has more than one.
fn pieces(rows: impl Iterator<Item = serde_json::Value>, bytes_max: usize) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for row in rows {
        let row = row.to_string();
        match pieces.last_mut() {
            Some(last) if last.len() + row.len() < bytes_max => {
                last.push(',');
                last.push_str(&row);
            }
            Some(_) | None => pieces.push(format!("[{row}")),
        }
    }
    pieces.iter_mut().for_each(|piece| piece.push(']'));
    pieces
}

/// The answer, unless there is none for too long.
async fn in_time<T>(answer: impl Future<Output = T>) -> Result<T, LedgerError> {
    let silent = |_| LedgerError::Unavailable(format!("it was silent for {SILENCE_MAX:?}"));
    tokio::time::timeout(SILENCE_MAX, answer).await.map_err(silent)
}

/// A row of either.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// What can be read from a column of either.
pub(super) trait Column:
    for<'r> sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite> + for<'r> sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>
{
}

impl<T> Column for T where
    T: for<'r> sqlx::Decode<'r, Sqlite>
        + sqlx::Type<Sqlite>
        + for<'r> sqlx::Decode<'r, Postgres>
        + sqlx::Type<Postgres>
{
}

impl Row {
    pub(super) fn get<T: Column>(&self, column: &str) -> Result<T, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_are_cut_into_pieces() {
        let cut = |bytes_max| pieces((0..5).map(|n| json!({"n": n})), bytes_max);
        assert_eq!(cut(usize::MAX), [r#"[{"n":0},{"n":1},{"n":2},{"n":3},{"n":4}]"#]);
        assert_eq!(cut(17), [r#"[{"n":0},{"n":1}]"#, r#"[{"n":2},{"n":3}]"#, r#"[{"n":4}]"#]);
        assert_eq!(cut(0).len(), 5, "one is taken however long it is");
        assert!(pieces(std::iter::empty(), 17).is_empty());
    }
}
