//! What became of events, as an operator asks: every delivery with its newest
//! attempts, and sending again.

use std::collections::HashMap;

use serde_json::json;

use crate::domain::event::EventKind;
use crate::domain::{EventId, Owner, Timestamp, UploadId};
use crate::ledger::Ledger;
use crate::ledger::db::{Conn, Row, sql};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::Reader;
use crate::ledger::value::Value;

/// As many attempts at a delivery are kept, the newest: all of three days, and
/// of being sent again a few times.
pub const ATTEMPTS_KEPT: u32 = 128;
/// A page of deliveries has no more attempts than this, whatever its length.
const ATTEMPTS_LISTED_MAX: u32 = 2048;
const _: () = assert!(ATTEMPTS_KEPT <= ATTEMPTS_LISTED_MAX, "one delivery fits a page");

/// What has become of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// To be tried, now or later.
    Pending,
    /// The receiver took it.
    Delivered,
    /// Given up.
    Dead,
}

impl DeliveryState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::Dead];

    /// As a row and an operator say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }

    /// Reads it.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastAttempt {
    /// When.
    pub at: Timestamp,
    /// What the receiver answered, if it did.
    pub status: Option<u16>,
    /// What was wrong; none means delivered.
    pub error: Option<String>,
}

/// One event on its way to one endpoint, or arrived, or given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedDelivery {
    /// The event.
    pub event: EventId,
    /// What it tells.
    pub kind: EventKind,
    /// Of which upload.
    pub upload: UploadId,
    /// Whose.
    pub owner: Owner,
    /// The receiver's URL.
    pub endpoint: String,
    /// What has become of it.
    pub state: DeliveryState,
    /// When the event happened.
    pub created_at: Timestamp,
    /// When it is tried next, if it is.
    pub next_attempt_at: Option<Timestamp>,
    /// What was wrong last, also where nothing was sent.
    pub last_error: Option<String>,
    /// How many attempts there were.
    pub attempts_ever: u32,
    /// The newest of them, the last one last.
    pub attempts: Vec<PastAttempt>,
}

/// Where a page of deliveries ended. Receivers' URLs hold secrets, so this one
/// is named by its place among those of its event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryCursor {
    /// The event of its last delivery.
    pub event: EventId,
    /// Which one of that event's it was, from 1.
    pub nth: u32,
}

/// A page of deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryPage {
    /// Those of the newest uploads first.
    pub deliveries: Vec<ListedDelivery>,
    /// Where the next page begins, if there is one.
    pub next: Option<DeliveryCursor>,
}

impl Ledger {
    /// A page of at most `limit` deliveries, those of the newest uploads first.
    /// It ends early where their attempts would be too many.
    pub async fn list_deliveries(
        &self,
        state: Option<DeliveryState>,
        after: Option<&DeliveryCursor>,
        limit: u32,
    ) -> Result<DeliveryPage, LedgerError> {
        macro_rules! page {
            ($conditions:literal) => {
                concat!(
                    "SELECT d.event_id, d.endpoint, d.state, d.next_attempt_at, d.last_error, d.attempts_ever, e.kind, \
                     e.upload_id, e.owner, e.created_at FROM deliveries d JOIN events e ON e.id = d.event_id",
                    $conditions,
                    " ORDER BY d.event_id DESC, d.endpoint DESC LIMIT $1"
                )
            };
        }
        let text = match (state, after) {
            (None, None) => page!(""),
            (None, Some(_)) => page!(" WHERE (d.event_id, d.endpoint) < ($2, $3)"),
            (Some(_), None) => page!(" WHERE d.state = $2"),
            (Some(_), Some(_)) => page!(" WHERE d.state = $4 AND (d.event_id, d.endpoint) < ($2, $3)"),
        };
        let mut conn = self.read().await?;
        // One more than asked for tells whether there is a next page.
        let mut values = vec![Value::from(limit.saturating_add(1))];
        if let Some(after) = after {
            values.extend([after.event.as_str().into(), endpoint_of(&mut conn, after).await?.into()]);
        }
        values.extend(state.map(|state| Value::from(state.name())));
        let rows = conn.rows(sql(text).bind_all(values)).await?;
        let mut listed: Vec<ListedDelivery> = rows.iter().map(delivery).collect::<Result<_, _>>()?;
        listed.truncate(fitting(&listed, limit));
        let next = match listed.last() {
            Some(last) if listed.len() < rows.len() => Some(cursor(&mut conn, last).await?),
            _ => None,
        };
        read_attempts(&mut conn, &mut listed).await?;
        Ok(DeliveryPage { deliveries: listed, next })
    }

    /// Sends an event to all its endpoints again, as if it had just happened;
    /// what is being sent at this moment is left alone. Says to how many, none
    /// if there is no such event.
    pub async fn redeliver(&self, event: &str) -> Result<Option<u64>, LedgerError> {
        let known = sql("SELECT id FROM events WHERE id = $1").bind(event);
        if self.read().await?.row(known).await?.is_none() {
            return Ok(None);
        }
        let text = "UPDATE deliveries SET state = 'pending', attempts = 0, next_attempt_at = $2, lease_token = NULL, \
                    lease_until = 0 WHERE event_id = $1 \
                    AND NOT (state = 'pending' AND lease_until > $3 + {lease_clock})";
        let again = sql(text).bind(event).bind(self.now().millis()).bind(self.lease_clock());
        self.run(again).await.map(Some)
    }
}

/// How many of these a page has.
fn fitting(listed: &[ListedDelivery], limit: u32) -> usize {
    let mut attempts = 0;
    let fit = listed.iter().take(limit as usize).take_while(|delivery| {
        attempts += delivery.attempts_ever.min(ATTEMPTS_KEPT);
        attempts <= ATTEMPTS_LISTED_MAX
    });
    fit.count()
}

/// Where a page ended that this delivery was the last of.
async fn cursor(conn: &mut Conn, last: &ListedDelivery) -> Result<DeliveryCursor, LedgerError> {
    let text = "SELECT count(*) AS nth FROM deliveries WHERE event_id = $1 AND endpoint >= $2";
    let row = conn.row(sql(text).bind(last.event.as_str()).bind(last.endpoint.as_str())).await?;
    let nth = row.map_or(Ok(1), |row| Reader::new(&row, "deliveries", &[]).count("nth"))?;
    Ok(DeliveryCursor { event: last.event.clone(), nth })
}

/// The receiver that a page ended with; where the event is forgotten by now,
/// what stands before all receivers, for then the next event is next.
async fn endpoint_of(conn: &mut Conn, cursor: &DeliveryCursor) -> Result<String, LedgerError> {
    let text = "SELECT event_id, endpoint FROM deliveries WHERE event_id = $1 ORDER BY endpoint DESC LIMIT 1 OFFSET $2";
    let row = conn.row(sql(text).bind(cursor.event.as_str()).bind(cursor.nth.saturating_sub(1))).await?;
    row.map_or_else(|| Ok(String::new()), |row| Reader::new(&row, "deliveries", &["event_id"]).get("endpoint"))
}

/// What is kept of the attempts at these deliveries.
async fn read_attempts(conn: &mut Conn, listed: &mut [ListedDelivery]) -> Result<(), LedgerError> {
    let text = "SELECT a.event_id, a.endpoint, a.at, a.status, a.error FROM {rows 1 event_id:text endpoint:text} \
                JOIN attempts a ON a.event_id = r.event_id AND a.endpoint = r.endpoint \
                ORDER BY a.event_id, a.endpoint, a.nth";
    let of = listed.iter().map(|delivery| json!({"event_id": delivery.event.as_str(), "endpoint": delivery.endpoint}));
    let mut attempts = HashMap::<(String, String), Vec<PastAttempt>>::new();
    for row in conn.rows(sql(text).bind_rows(of)).await? {
        let read = Reader::new(&row, "attempts", &["event_id", "endpoint"]);
        attempts.entry((read.get("event_id")?, read.get("endpoint")?)).or_default().push(PastAttempt {
            at: read.time("at")?,
            status: read.get::<Option<i64>>("status")?.and_then(|status| u16::try_from(status).ok()),
            error: read.get("error")?,
        });
    }
    for delivery in listed {
        let key = (delivery.event.as_str().to_owned(), delivery.endpoint.clone());
        delivery.attempts = attempts.remove(&key).unwrap_or_default();
    }
    Ok(())
}

fn delivery(row: &Row) -> Result<ListedDelivery, LedgerError> {
    let read = Reader::new(row, "deliveries", &["event_id", "endpoint"]);
    let state = read.parse::<String, _>("state", |name| DeliveryState::parse(&name))?;
    Ok(ListedDelivery {
        event: EventId::new(read.get::<String>("event_id")?),
        kind: read.parse::<String, _>("kind", |name| EventKind::parse(&name))?,
        upload: UploadId(read.get("upload_id")?),
        owner: read.parse::<String, _>("owner", |text| Owner::parse(&text).ok())?,
        endpoint: read.get("endpoint")?,
        state,
        created_at: read.time("created_at")?,
        next_attempt_at: (state == DeliveryState::Pending).then(|| read.time("next_attempt_at")).transpose()?,
        last_error: read.get("last_error")?,
        attempts_ever: read.count("attempts_ever")?,
        attempts: Vec::new(),
    })
}
