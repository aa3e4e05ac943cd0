//! Leases: the right to do something alone lasts as long as it is renewed.

use tracing::warn;

use crate::engine::Engine;
use crate::ledger::LedgerError;

impl Engine {
    /// Works while the lease is renewed every third of its life. None when it
    /// was lost: somebody else does it now, and the work is dropped.
    pub(super) async fn while_renewed<T, R>(&self, renew: impl Fn() -> R, work: impl Future<Output = T>) -> Option<T>
    where
        R: Future<Output = Result<bool, LedgerError>>,
    {
        let renewals = async {
            loop {
                tokio::time::sleep(self.shared.settings.upload.lease / 3).await;
                match renew().await {
                    Ok(true) => {}
                    Ok(false) => return,
                    // The ledger may be back before the lease is over; writes under it are conditional anyway.
                    Err(error) => warn!(%error, "a lease could not be renewed"),
                }
            }
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = renewals => None,
        }
    }
}
