//! Work that one gateway does for all: whoever claims it has it until it ends
//! or falls silent.

use std::time::Duration;

use uuid::Uuid;

use crate::ledger::db::sql;
use crate::ledger::error::LedgerError;
use crate::ledger::{Ledger, millis};

/// The right to do a job once, until its lease runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobClaim {
    name: &'static str,
    token: Uuid,
}

impl Ledger {
    /// Claims the job if it is due and nobody has it.
    pub async fn claim_job(&self, name: &'static str) -> Result<Option<JobClaim>, LedgerError> {
        let claim = JobClaim { name, token: self.inner.clock.uuid_v4() };
        let text = "INSERT INTO jobs (name, next_at, lease_token, lease_until) \
                    VALUES ($1, 0, $2, $3 + $4 + {lease_clock}) \
                    ON CONFLICT (name) DO UPDATE SET lease_token = $2, lease_until = $3 + $4 + {lease_clock} \
                    WHERE jobs.next_at <= $3 + {lease_clock} AND jobs.lease_until <= $3 + {lease_clock}";
        let swap = sql(text).bind(name).bind(claim.token).bind(self.lease_clock()).bind(self.lease_millis());
        Ok(self.swap(swap).await?.then_some(claim))
    }

    /// Lets the lease last its full time from now. False when it was lost.
    pub async fn renew_job(&self, claim: JobClaim) -> Result<bool, LedgerError> {
        let text = "UPDATE jobs SET lease_until = $3 + $4 + {lease_clock} WHERE name = $1 AND lease_token = $2";
        let swap = sql(text).bind(claim.name).bind(claim.token).bind(self.lease_clock()).bind(self.lease_millis());
        self.swap(swap).await
    }

    /// The job is done; it is due again after `pause`. False when the lease was lost.
    pub async fn end_job(&self, claim: JobClaim, pause: Duration) -> Result<bool, LedgerError> {
        let text = "UPDATE jobs SET next_at = $3 + $4 + {lease_clock}, lease_token = NULL, lease_until = 0 \
                    WHERE name = $1 AND lease_token = $2";
        let swap = sql(text).bind(claim.name).bind(claim.token).bind(self.lease_clock()).bind(millis(pause));
        self.swap(swap).await
    }
}
