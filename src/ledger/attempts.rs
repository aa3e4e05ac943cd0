//! What became of events, as an operator asks: every delivery with every
//! attempt, and sending again.

use std::collections::HashMap;

use crate::domain::event::EventKind;
use crate::domain::{EventId, Owner, Timestamp, UploadId};
use crate::ledger::Ledger;
use crate::ledger::db::{Row, Value, sql};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::Reader;

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
    /// Every attempt, the first one first.
    pub attempts: Vec<PastAttempt>,
}

impl Ledger {
    /// A page of deliveries, those of the newest uploads first. `after` is the
    /// last one of the page before.
    pub async fn list_deliveries(
        &self,
        state: Option<DeliveryState>,
        after: Option<(&EventId, &str)>,
        limit: u32,
    ) -> Result<Vec<ListedDelivery>, LedgerError> {
        macro_rules! page {
            ($conditions:literal) => {
                concat!(
                    "SELECT d.event_id, d.endpoint, d.state, d.next_attempt_at, d.last_error, e.kind, e.upload_id, \
                     e.owner, e.created_at FROM deliveries d JOIN events e ON e.id = d.event_id",
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
        let mut values = vec![Value::from(limit)];
        values.extend(after.into_iter().flat_map(|(event, endpoint)| [event.as_str().into(), endpoint.into()]));
        values.extend(state.map(|state| Value::from(state.name())));
        let mut conn = self.read().await?;
        let rows = conn.rows(sql(text).bind_all(values)).await?;
        let mut listed: Vec<ListedDelivery> = rows.iter().map(delivery).collect::<Result<_, _>>()?;
        let text = "SELECT event_id, endpoint, at, status, error FROM attempts WHERE event_id {any_text 1} \
                    ORDER BY event_id, endpoint, nth";
        let events: Vec<String> = listed.iter().map(|delivery| delivery.event.as_str().to_owned()).collect();
        let mut attempts = HashMap::<(String, String), Vec<PastAttempt>>::new();
        for row in conn.rows(sql(text).bind(events)).await? {
            let read = Reader::new(&row, "attempts", &["event_id", "endpoint"]);
            attempts.entry((read.get("event_id")?, read.get("endpoint")?)).or_default().push(PastAttempt {
                at: read.time("at")?,
                status: read.get::<Option<i64>>("status")?.and_then(|status| u16::try_from(status).ok()),
                error: read.get("error")?,
            });
        }
        for delivery in &mut listed {
            let key = (delivery.event.as_str().to_owned(), delivery.endpoint.clone());
            delivery.attempts = attempts.remove(&key).unwrap_or_default();
        }
        Ok(listed)
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
        attempts: Vec::new(),
    })
}
