//! Writes that many ask for at the same time, and that are done for all of
//! them in as few statements as for one.

use std::any::Any;

use futures_util::future::BoxFuture;

use crate::ledger::Nature;
use crate::ledger::db::Conn;
use crate::ledger::error::LedgerError;
use crate::ledger::writer::group::settle_all;
use crate::ledger::writer::{Answer, Keep, Reply, Transaction};

/// A kind of write.
pub(in crate::ledger) trait Alike: Send + Sync + Sized + 'static {
    /// It is one statement, which a database does whole or not at all.
    const IS_ONE_STATEMENT: bool;
    /// On Postgres, too, those who ask at the same time share a transaction.
    /// Else each has a connection of its own, and waits for nobody else's locks.
    const SHARES_ON_POSTGRES: bool;
    /// Whoever hears that it is not done looks at it alone: it says more then.
    const IS_TRIED_ALONE: bool;

    /// Says of each whether it is done. `None` when one of them keeps the
    /// others from it: then nothing is to stay.
    fn write<'c>(conn: &'c mut Conn, all: &'c [Self]) -> BoxFuture<'c, Result<Option<Vec<bool>>, LedgerError>>;

    /// Whether it can be done together with these.
    fn goes_with(&self, _others: &[Self]) -> bool {
        true
    }
}

/// Writes of one kind, with those who wait for them.
pub(super) struct Together<K> {
    all: Vec<K>,
    replies: Vec<Reply<bool>>,
    done: Result<Vec<bool>, LedgerError>,
}

impl<K: Alike> Together<K> {
    pub(super) fn one(write: K, reply: Reply<bool>) -> Box<dyn Transaction> {
        Box::new(Self { all: vec![write], replies: vec![reply], done: Ok(Vec::new()) })
    }
}

impl<K: Alike> Transaction for Together<K> {
    fn nature(&self) -> Nature {
        Nature { is_one_statement: K::IS_ONE_STATEMENT, ..Nature::default() }
    }

    fn join(&mut self, other: Box<dyn Transaction>) -> Result<(), Box<dyn Transaction>> {
        let goes = |mine: &Self, other: &Self| other.all.iter().all(|write| write.goes_with(&mine.all));
        match (&*other as &dyn Any).downcast_ref::<Self>() {
            Some(same) if goes(self, same) => {}
            Some(_) | None => return Err(other),
        }
        if let Ok(other) = (other as Box<dyn Any>).downcast::<Self>() {
            self.all.extend(other.all);
            self.replies.extend(other.replies);
        }
        Ok(())
    }

    fn run<'c>(&'c mut self, conn: &'c mut Conn) -> BoxFuture<'c, Result<Keep, LedgerError>> {
        Box::pin(async move {
            let none = vec![false; self.all.len()];
            let (done, keep) = match K::write(conn, &self.all).await {
                Ok(Some(done)) => (Ok(done), Ok(Keep::Yes)),
                Ok(None) => (Ok(none), Ok(Keep::No)),
                Err(e) if K::IS_TRIED_ALONE && !e.is_transient() => (Ok(none), Err(e)),
                Err(e) => (Err(e.clone()), Err(e)),
            };
            self.done = done;
            keep
        })
    }

    fn settle(self: Box<Self>, committed: Answer) {
        let Self { replies, done, .. } = *self;
        match committed.and(done) {
            Err(e) => settle_all(replies, Err(e)),
            Ok(done) => {
                for (reply, done) in replies.into_iter().zip(done) {
                    // Nobody may be waiting any more.
                    let _ = reply.send(Ok(done));
                }
            }
        }
    }
}
