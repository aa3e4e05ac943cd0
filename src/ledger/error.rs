//! What can go wrong in the ledger, told apart by what the caller can do about it.

use std::path::PathBuf;

/// An error of a ledger that is open. Clonable, for one failed commit is the
/// answer to all who wrote in its batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// Worth trying again later: a lost connection, a pool or a lock that was
    /// not free in time, a database that restarts. Whether a write took place
    /// is not known.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// No space is left; nothing was written, and what was written is readable.
    #[error("the database's disk is full: {0}")]
    Full(String),
    /// A write could not be made durable: what the disk holds is not known, and
    /// nothing is written any more until the gateway was restarted.
    #[error("the database could not make a write durable, and takes no more until a restart: {0}")]
    Broken(String),
    /// A row that this program never wrote.
    #[error("the ledger's table {table} has a corrupt {column} in row {row}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column, as the query names it.
        column: &'static str,
        /// The row's key.
        row: String,
    },
    /// The database file is damaged.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The database refused a statement: a mistake of ours.
    #[error("the database refused a statement: {0}")]
    Refused(String),
    /// This ledger was opened to read only.
    #[error("the ledger was opened to read only")]
    ReadOnly,
}

impl LedgerError {
    /// Whether space would mend it.
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// Whether the database, rather than the program or its data, is to blame.
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Broken(_))
    }

    /// What happened, for a sentence that says already that it is the database.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Unavailable(reason)
            | Self::Full(reason)
            | Self::Broken(reason)
            | Self::Damaged(reason)
            | Self::Refused(reason) => reason.clone(),
            Self::Corrupt { .. } | Self::ReadOnly => self.to_string(),
        }
    }

    /// Whether the connection, rather than the statement, is to blame, so that
    /// the same statement may succeed on another one.
    pub(super) const fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Full(_)
            | Self::Broken(_)
            | Self::Corrupt { .. }
            | Self::Damaged(_)
            | Self::Refused(_)
            | Self::ReadOnly => false,
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "sqlx's enum is open, and the rest of it are mistakes of ours")]
impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        let text = said(&error);
        match &error {
            sqlx::Error::Database(e) => {
                // SQLite's codes are numbers, Postgres' are five characters.
                let code = e.code().unwrap_or_default();
                if e.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
                    of_sqlite(code.parse().unwrap_or(0), text)
                } else {
                    of_postgres(&code, text)
                }
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => Self::Unavailable(text),
            _ => Self::Refused(text),
        }
    }
}

/// What happened, without sqlx's word that it is about the database: whoever
/// tells it says so.
fn said(error: &sqlx::Error) -> String {
    if let sqlx::Error::Database(e) = error {
        return e.to_string();
    }
    if let sqlx::Error::Io(e) = error {
        return e.to_string();
    }
    error.to_string()
}

/// By SQLite's extended result code: <https://sqlite.org/rescode.html>.
fn of_sqlite(code: i32, text: String) -> LedgerError {
    const READ: i32 = 10 | (1 << 8);
    const SHORT_READ: i32 = 10 | (2 << 8);
    match (code & 0xff, code) {
        // BUSY, LOCKED, NOMEM, INTERRUPT, CANTOPEN, PROTOCOL
        (5 | 6 | 7 | 9 | 14 | 15, _) | (10, READ | SHORT_READ) => LedgerError::Unavailable(text),
        // IOERR while writing, truncating or syncing: after a failed fsync the
        // kernel may report the next one as good although the bytes are gone.
        (10, _) => LedgerError::Broken(text),
        (13, _) => LedgerError::Full(text),
        // CORRUPT, NOTADB
        (11 | 26, _) => LedgerError::Damaged(text),
        _ => LedgerError::Refused(text),
    }
}

/// By SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn of_postgres(code: &str, text: String) -> LedgerError {
    match (code.get(..2).unwrap_or_default(), code) {
        (_, "53100") => LedgerError::Full(text),
        // index_corrupted, data_corrupted
        (_, "XX001" | "XX002") => LedgerError::Damaged(text),
        // Connection lost; rolled back (deadlock, serialization); resources; shutdown and
        // start-up, cancelled; I/O; a standby that does not write (25006), a transaction of ours that was
        // idle for too long (25P03), a lock that was not to be had in time (55P03).
        ("08" | "40" | "53" | "57" | "58", _) | (_, "25006" | "25P03" | "55P03") => LedgerError::Unavailable(text),
        _ => LedgerError::Refused(text),
    }
}

/// Why a ledger could not be opened. Names where the database is, never a password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is none that we know.
    #[error("database.url is not sqlite://PATH or postgres://USER@HOST:PORT/NAME: {0}")]
    Url(String),
    /// Another process has the SQLite file.
    #[error("the database {path} is in use by {}: stop it first", match pid { Some(pid) => format!("process {pid}"), None => "another process".to_owned() })]
    Locked {
        /// The database file.
        path: PathBuf,
        /// Who has it, if it has said so.
        pid: Option<u32>,
    },
    /// There is no such file, and opening to read does not make one.
    #[error("there is no database {0}: start the gateway once, or run migrate")]
    Missing(PathBuf),
    /// The file or its folder cannot be used.
    #[error("the database {path} cannot be opened: {reason}")]
    File {
        /// The database file.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// The server does not answer, or not to us.
    #[error("the database {target} cannot be reached: {reason}; check database.url, and that the server runs")]
    Unreachable {
        /// `host:port/name`
        target: String,
        /// What the connection or the server says.
        reason: String,
    },
    /// A newer program has been here.
    #[error("the database {target} has schema {found}, and this program knows only up to {known}: run a newer program")]
    Newer {
        /// The file, or `host:port/name`.
        target: String,
        /// The newest migration in the database.
        found: i64,
        /// The newest migration in this program.
        known: i64,
    },
    /// The database lacks migrations, and opening to read does not make them.
    #[error("the database {target} is not migrated to schema {known}: run migrate")]
    NotMigrated {
        /// The file, or `host:port/name`.
        target: String,
        /// The newest migration in this program.
        known: i64,
    },
    /// The file is damaged.
    #[error("the database {target} is damaged ({reason}): restore it from a backup, or move it away to begin anew")]
    Damaged {
        /// The file, or `host:port/name`.
        target: String,
        /// What the database says.
        reason: String,
    },
    /// A migration failed, or one was changed after it was applied.
    #[error("the database {target} cannot be migrated: {reason}")]
    Migration {
        /// The file, or `host:port/name`.
        target: String,
        /// What the database says.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_fsync_is_not_a_full_disk_and_not_a_busy_one() {
        let text = String::new;
        assert_eq!(of_sqlite(5, text()), LedgerError::Unavailable(text()));
        assert_eq!(of_sqlite(5 | (1 << 8), text()), LedgerError::Unavailable(text()));
        assert_eq!(of_sqlite(13, text()), LedgerError::Full(text()));
        assert_eq!(of_sqlite(1034, text()), LedgerError::Broken(text()));
        assert_eq!(of_sqlite(26, text()), LedgerError::Damaged(text()));
        assert_eq!(of_sqlite(19, text()), LedgerError::Refused(text()));
    }

    #[test]
    fn a_server_that_restarts_is_worth_another_try() {
        let text = String::new;
        for code in ["57P01", "57P03", "08006", "40P01", "53300", "58030", "25006"] {
            assert_eq!(of_postgres(code, text()), LedgerError::Unavailable(text()), "{code}");
        }
        assert_eq!(of_postgres("53100", text()), LedgerError::Full(text()));
        assert_eq!(of_postgres("42601", text()), LedgerError::Refused(text()));
        assert_eq!(of_postgres("", text()), LedgerError::Refused(text()));
    }

    #[test]
    fn the_holder_of_a_lock_is_named() {
        let held = OpenError::Locked { path: "a.db".into(), pid: Some(42) };
        assert_eq!(held.to_string(), "the database a.db is in use by process 42: stop it first");
    }

    #[test]
    fn a_database_that_is_away_is_said_to_be_so_once() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "Connection refused");
        let error = LedgerError::from(sqlx::Error::Io(refused));
        assert_eq!(error.to_string(), "the database is unavailable: Connection refused");
        let error = OpenError::Unreachable { target: "db:5432/gate".to_owned(), reason: error.reason() };
        assert_eq!(
            error.to_string(),
            "the database db:5432/gate cannot be reached: Connection refused; check database.url, and that the server runs"
        );
    }
}
