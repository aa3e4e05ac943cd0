//! SQLite's connections, handed out and taken back. sqlx's pool asks a
//! connection whether it is alive each time it comes back; one to a file in
//! this process is, and each question is a hop to its thread and back: as many
//! as a chunk has statements.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ledger::error::LedgerError;

/// Some connections to one file. Clones are the same ones.
#[derive(Clone)]
pub(super) struct Connections {
    shared: Arc<Shared>,
}

struct Shared {
    options: SqliteConnectOptions,
    /// How long somebody waits for one.
    wait: Duration,
    max: u32,
    places: Arc<Semaphore>,
    free: Mutex<Vec<SqliteConnection>>,
}

/// A connection that goes back when it is dropped.
pub(super) struct Connection {
    of: Arc<Shared>,
    /// None once it is to be closed.
    connection: Option<SqliteConnection>,
    _place: OwnedSemaphorePermit,
}

impl Connections {
    /// Up to `max`, opened when they are needed.
    pub(super) fn new(options: SqliteConnectOptions, max: u32, wait: Duration) -> Self {
        let max = max.max(1);
        let places = Arc::new(Semaphore::new(max as usize));
        Self { shared: Arc::new(Shared { options, wait, max, places, free: Mutex::default() }) }
    }

    /// One of them, as soon as there is one.
    pub(super) async fn acquire(&self) -> Result<Connection, LedgerError> {
        let places = self.shared.places.clone();
        let place = match tokio::time::timeout(self.shared.wait, places.acquire_owned()).await {
            Ok(place) => place.map_err(|_| LedgerError::Unavailable("the ledger is closed".to_owned()))?,
            Err(_) => return Err(LedgerError::Unavailable("all connections are in use".to_owned())),
        };
        let free = self.shared.free().pop();
        let connection = match free {
            Some(connection) => connection,
            // Rare, and large: not a part of everybody who waits for a connection.
            None => Box::pin(self.shared.options.connect()).await?,
        };
        Ok(Connection { of: self.shared.clone(), connection: Some(connection), _place: place })
    }

    /// Hands out no more, waits until all are back, and closes them.
    pub(super) async fn close(&self) {
        let all = self.shared.places.acquire_many(self.shared.max).await;
        self.shared.places.close();
        drop(all);
        let free = std::mem::take(&mut *self.shared.free());
        for connection in free {
            if let Err(error) = connection.close().await {
                tracing::warn!(%error, "a connection to the database did not close well");
            }
        }
    }
}

impl Shared {
    fn free(&self) -> std::sync::MutexGuard<'_, Vec<SqliteConnection>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Closes it when it is dropped.
    pub(super) fn close_on_drop(&mut self) {
        self.connection = None;
    }

    /// The connection itself.
    pub(super) fn raw(&mut self) -> Result<&mut SqliteConnection, LedgerError> {
        self.connection.as_mut().ok_or_else(|| LedgerError::Unavailable("the connection is closed".to_owned()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Before its place is free: whoever gets that finds it.
        if let Some(connection) = self.connection.take() {
            self.of.free().push(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_are_kept_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(folder.path().join("a.db")).create_if_missing(true);
        let connections = Connections::new(options, 2, Duration::from_millis(50));
        let (one, mut two) = (connections.acquire().await.unwrap(), connections.acquire().await.unwrap());
        assert!(matches!(connections.acquire().await, Err(LedgerError::Unavailable(_))));
        two.close_on_drop();
        assert!(two.raw().is_err());
        drop((one, two));
        assert_eq!(connections.shared.free().len(), 1, "the closed one is gone");
        drop((connections.acquire().await.unwrap(), connections.acquire().await.unwrap()));
        assert_eq!(connections.shared.free().len(), 2);
        connections.close().await;
        assert_eq!(connections.shared.free().len(), 0);
        assert!(connections.acquire().await.is_err());
    }
}
