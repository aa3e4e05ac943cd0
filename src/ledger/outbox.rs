//! Events and their deliveries. An event is recorded in the transaction of
//! what it announces, so neither can be without the other.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::domain::event::EventKind;
use crate::domain::{EventId, LeaseToken, Owner, Timestamp, UploadId};
use crate::ledger::attempts::ATTEMPTS_KEPT;
use crate::ledger::db::{Conn, Row, Statement, sql};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::Reader;
use crate::ledger::{End, Ledger, millis};

/// An event that is about to be recorded.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The same however often it is announced.
    pub id: EventId,
    /// What it tells.
    pub kind: EventKind,
    /// Of which upload.
    pub upload: UploadId,
    /// Whose.
    pub owner: Owner,
    /// The body as every receiver gets it.
    pub body: String,
    /// When it happened.
    pub at: Timestamp,
    /// The URLs it goes to. Without any, nothing is recorded.
    pub endpoints: Vec<String>,
}

/// One event on its way to one endpoint, leased to whoever claimed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The event.
    pub event: EventId,
    /// What it tells.
    pub kind: EventKind,
    /// The URL.
    pub endpoint: String,
    /// The body to send.
    pub body: String,
    /// How often it was tried before.
    pub attempts: u32,
    /// The same, also before it was last sent again.
    pub attempts_ever: u32,
    /// When the event happened.
    pub created_at: Timestamp,
    /// The lease: the outcome counts only while it is ours.
    pub token: LeaseToken,
}

/// How many deliveries are open, and how many were given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxCounts {
    /// To be tried, now or later.
    pub pending: u64,
    /// Given up.
    pub dead: u64,
}

impl Ledger {
    /// Claims up to `limit` deliveries to this endpoint that are due, for
    /// `lease` from now, those first that were due first. No two callers get
    /// the same one.
    pub async fn claim_deliveries(
        &self,
        endpoint: &str,
        limit: u32,
        lease: Duration,
    ) -> Result<Vec<Delivery>, LedgerError> {
        let endpoint = endpoint.to_owned();
        let token = self.inner.clock.uuid_v4();
        let (now, lease_clock, lease) = (self.now().millis(), self.lease_clock(), millis(lease));
        self.write(move |conn| {
            Box::pin(async move {
                let text = "UPDATE deliveries SET lease_token = $1, lease_until = $2 + $3 + {lease_clock} \
                            WHERE (event_id, endpoint) IN (SELECT event_id, endpoint FROM deliveries \
                            WHERE endpoint = $6 AND state = 'pending' AND next_attempt_at <= $4 AND lease_until <= $2 + {lease_clock} \
                            ORDER BY next_attempt_at, event_id LIMIT $5 {skip_locked}) \
                            RETURNING event_id";
                let claim = sql(text).bind(token).bind(lease_clock).bind(lease).bind(now).bind(limit).bind(endpoint);
                if conn.rows(claim).await?.is_empty() {
                    return Ok(End::Rollback(Vec::new()));
                }
                claimed(conn, token).await.map(End::Commit)
            })
        })
        .await
    }

    /// The endpoint took it. False when the lease is no longer ours.
    pub async fn delivered(&self, delivery: &Delivery, status: u16) -> Result<bool, LedgerError> {
        let text = "UPDATE deliveries SET state = 'delivered', attempts = attempts + 1, attempts_ever = attempts_ever + 1, \
                    lease_token = NULL, delivered_at = $4, last_status = $5, last_error = NULL \
                    WHERE event_id = $1 AND endpoint = $2 AND lease_token = $3 AND state = 'pending'";
        let change = of(delivery, text).bind(self.now().millis()).bind(u32::from(status));
        self.tried(delivery, change, Some(status), None).await
    }

    /// It is to be tried again at `next_at`. False when the lease is no longer ours.
    pub async fn retry_delivery(
        &self,
        delivery: &Delivery,
        next_at: Timestamp,
        status: Option<u16>,
        error: &str,
    ) -> Result<bool, LedgerError> {
        let text = "UPDATE deliveries SET attempts = attempts + 1, attempts_ever = attempts_ever + 1, \
                    lease_token = NULL, lease_until = 0, next_attempt_at = $4, last_status = $5, last_error = $6 \
                    WHERE event_id = $1 AND endpoint = $2 AND lease_token = $3 AND state = 'pending'";
        let change = of(delivery, text).bind(next_at.millis()).bind(status.map(i64::from)).bind(error);
        self.tried(delivery, change, status, Some(error)).await
    }

    /// It is given up. False when the lease is no longer ours.
    pub async fn bury_delivery(
        &self,
        delivery: &Delivery,
        status: Option<u16>,
        error: &str,
    ) -> Result<bool, LedgerError> {
        let text = "UPDATE deliveries SET state = 'dead', attempts = attempts + 1, attempts_ever = attempts_ever + 1, \
                    lease_token = NULL, last_status = $4, last_error = $5 \
                    WHERE event_id = $1 AND endpoint = $2 AND lease_token = $3 AND state = 'pending'";
        let change = of(delivery, text).bind(status.map(i64::from)).bind(error);
        self.tried(delivery, change, status, Some(error)).await
    }

    /// What has become of a delivery, and the attempt that it comes of.
    async fn tried(
        &self,
        delivery: &Delivery,
        change: Statement,
        status: Option<u16>,
        error: Option<&str>,
    ) -> Result<bool, LedgerError> {
        let of_it = |text| sql(text).bind(delivery.event.as_str()).bind(delivery.endpoint.as_str());
        // Ours alone to count while the lease is, and the change says whether it is.
        let nth = delivery.attempts_ever.saturating_add(1);
        let attempt =
            of_it("INSERT INTO attempts (event_id, endpoint, nth, at, status, error) VALUES ($1, $2, $3, $4, $5, $6)");
        let attempt = attempt.bind(nth).bind(self.now().millis()).bind(status.map(i64::from));
        let attempt = attempt.bind(error.map(ToOwned::to_owned));
        let surplus = nth.checked_sub(ATTEMPTS_KEPT).filter(|surplus| *surplus > 0).map(|surplus| {
            of_it("DELETE FROM attempts WHERE event_id = $1 AND endpoint = $2 AND nth <= $3").bind(surplus)
        });
        self.write(move |conn| {
            Box::pin(async move {
                if !conn.swapped(change).await? {
                    return Ok(End::Rollback(false));
                }
                conn.execute(attempt).await?;
                if let Some(surplus) = surplus {
                    conn.execute(surplus).await?;
                }
                Ok(End::Commit(true))
            })
        })
        .await
    }

    /// Gives up what was due by `before` and is for none of these endpoints:
    /// nobody tries it any more. Says how many.
    pub async fn bury_forgotten(
        &self,
        before: Timestamp,
        endpoints: Vec<String>,
        limit: u32,
    ) -> Result<u64, LedgerError> {
        let text = "UPDATE deliveries SET state = 'dead', lease_token = NULL, \
                    last_error = 'no gateway has this receiver in its configuration any more' \
                    WHERE (event_id, endpoint) IN (SELECT event_id, endpoint FROM deliveries \
                    WHERE state = 'pending' AND next_attempt_at < $1 AND lease_until <= $2 + {lease_clock} \
                    AND NOT (endpoint {any_text 4}) ORDER BY next_attempt_at LIMIT $3 {skip_locked})";
        let swap = sql(text).bind(before.millis()).bind(self.lease_clock()).bind(limit).bind(endpoints);
        self.run(swap).await
    }

    /// How many deliveries are open, and how many were given up.
    pub async fn outbox_counts(&self) -> Result<OutboxCounts, LedgerError> {
        let text = "SELECT (SELECT count(*) FROM deliveries WHERE state = 'pending') AS pending, \
                    (SELECT count(*) FROM deliveries WHERE state = 'dead') AS dead";
        let Some(row) = self.read().await?.row(sql(text)).await? else { return Ok(OutboxCounts::default()) };
        let read = Reader::new(&row, "deliveries", &[]);
        Ok(OutboxCounts { pending: read.size("pending")?, dead: read.size("dead")? })
    }
}

fn of(delivery: &Delivery, text: &'static str) -> Statement {
    sql(text).bind(delivery.event.as_str()).bind(delivery.endpoint.as_str()).bind(delivery.token.0)
}

async fn claimed(conn: &mut Conn, token: Uuid) -> Result<Vec<Delivery>, LedgerError> {
    let text = "SELECT d.event_id, d.endpoint, d.attempts, d.attempts_ever, e.kind, e.body, e.created_at \
                FROM deliveries d JOIN events e ON e.id = d.event_id \
                WHERE d.state = 'pending' AND d.lease_token = $1 ORDER BY d.next_attempt_at, d.event_id";
    let rows = conn.rows(sql(text).bind(token)).await?;
    rows.iter().map(|row| delivery(row, LeaseToken(token))).collect()
}

fn delivery(row: &Row, token: LeaseToken) -> Result<Delivery, LedgerError> {
    let read = Reader::new(row, "deliveries", &["event_id", "endpoint"]);
    Ok(Delivery {
        event: EventId::new(read.get::<String>("event_id")?),
        kind: read.parse::<String, _>("kind", |name| EventKind::parse(&name))?,
        endpoint: read.get("endpoint")?,
        body: read.get("body")?,
        attempts: read.count("attempts")?,
        attempts_ever: read.count("attempts_ever")?,
        created_at: read.time("created_at")?,
        token,
    })
}

/// Records the events and a delivery for each of their endpoints. An event
/// that is recorded already is the same one.
pub(super) async fn announce(conn: &mut Conn, events: &[NewEvent]) -> Result<(), LedgerError> {
    let events: Vec<&NewEvent> = events.iter().filter(|event| !event.endpoints.is_empty()).collect();
    if events.is_empty() {
        return Ok(());
    }
    let rows = events.iter().map(|event| {
        json!({
            "id": event.id.as_str(),
            "kind": event.kind.name(),
            "upload_id": event.upload.0.simple().to_string(),
            "owner": event.owner.as_str(),
            "body": event.body,
            "created_at": event.at.millis(),
        })
    });
    let text = "INSERT INTO events (id, kind, upload_id, owner, body, created_at) \
                SELECT r.id, r.kind, r.upload_id, r.owner, r.body, r.created_at \
                FROM {rows 1 id:text kind:text upload_id:uuid owner:text body:text created_at:bigint} \
                WHERE TRUE ON CONFLICT (id) DO NOTHING";
    conn.rows_of(text, rows).await?;
    let rows = events.iter().flat_map(|event| {
        let row = |endpoint| json!({"event_id": event.id.as_str(), "endpoint": endpoint, "at": event.at.millis()});
        event.endpoints.iter().map(row)
    });
    let text = "INSERT INTO deliveries (event_id, endpoint, next_attempt_at) \
                SELECT r.event_id, r.endpoint, r.at FROM {rows 1 event_id:text endpoint:text at:bigint} \
                WHERE TRUE ON CONFLICT (event_id, endpoint) DO NOTHING";
    conn.rows_of(text, rows).await.map(drop)
}
