//! `/admin`: what an operator asks and does, on the admin listener alone and
//! with an API key.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::domain::{EventId, Owner, Refusal, Status, Timestamp};
use crate::engine::deliver::place_of;
use crate::http::auth::Operator;
use crate::http::problem::Problem;
use crate::http::{Api, Parameters, encode, pages, uploads};
use crate::ledger::{DeliveryCursor, DeliveryState, ListedDelivery, PastAttempt};

#[derive(Deserialize)]
pub(super) struct EventsQuery {
    state: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeliveryBody<'a> {
    id: &'a str,
    r#type: &'static str,
    owner: &'a str,
    upload_id: String,
    endpoint: &'a str,
    state: &'static str,
    created_at: String,
    next_attempt_at: Option<String>,
    last_error: Option<&'a str>,
    attempt_count: u32,
    attempts: Vec<AttemptBody<'a>>,
}

#[derive(Serialize)]
struct AttemptBody<'a> {
    at: String,
    status: Option<u16>,
    error: Option<&'a str>,
}

fn delivery(delivery: &ListedDelivery) -> DeliveryBody<'_> {
    fn attempt(attempt: &PastAttempt) -> AttemptBody<'_> {
        AttemptBody { at: attempt.at.rfc3339(), status: attempt.status, error: attempt.error.as_deref() }
    }
    DeliveryBody {
        id: delivery.event.as_str(),
        r#type: delivery.kind.name(),
        owner: delivery.owner.as_str(),
        upload_id: delivery.upload.to_string(),
        endpoint: place_of(&delivery.endpoint),
        state: delivery.state.name(),
        created_at: delivery.created_at.rfc3339(),
        next_attempt_at: delivery.next_attempt_at.map(Timestamp::rfc3339),
        last_error: delivery.last_error.as_deref(),
        attempt_count: delivery.attempts_ever,
        attempts: delivery.attempts.iter().map(attempt).collect(),
    }
}

/// `GET /admin/events`
pub(super) async fn events(
    State(api): State<Api>,
    _: Operator,
    Parameters(query): Parameters<EventsQuery>,
) -> Result<Response, Problem> {
    let state = query.state.as_deref().map(parse_state).transpose()?;
    let limit = pages::limit(query.limit.as_deref())?;
    let after = query.cursor.as_deref().map(after).transpose()?;
    let page = api.engine.deliveries(state, after.as_ref(), limit).await?;
    let next = page.next.as_ref().map(cursor);
    let bodies: Vec<_> = page.deliveries.iter().map(delivery).collect();
    Ok(api.large_answers.json(&json!({"events": bodies, "nextCursor": next}))?)
}

fn parse_state(text: &str) -> Result<DeliveryState, Refusal> {
    DeliveryState::parse(text).ok_or_else(|| Refusal::InvalidParameter {
        name: "state",
        reason: format!("is one of {}", DeliveryState::ALL.map(DeliveryState::name).join(", ")),
    })
}

fn cursor(DeliveryCursor { event, nth }: &DeliveryCursor) -> String {
    URL_SAFE_NO_PAD.encode(format!("{nth} {}", event.as_str()))
}

fn after(text: &str) -> Result<DeliveryCursor, Refusal> {
    let read = || {
        let plain = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (nth, event) = plain.split_once(' ')?;
        Some(DeliveryCursor { event: EventId::new(event), nth: nth.parse().ok().filter(|nth| *nth > 0)? })
    };
    read().ok_or_else(pages::unknown_cursor)
}

/// `POST /admin/events/{id}/redeliver`
pub(super) async fn redeliver(
    State(api): State<Api>,
    _: Operator,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    // What cannot be decoded (`%ff`) is no event's id.
    let Path(id) = id.map_err(|_| Refusal::EventNotFound)?;
    let receivers = api.engine.redeliver(&id).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"receivers": receivers}))).into_response())
}

#[derive(Deserialize)]
pub(super) struct UploadsQuery {
    status: Option<String>,
    owner: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
}

/// `GET /admin/uploads`: of everybody, with their places in the store.
pub(super) async fn uploads(
    State(api): State<Api>,
    _: Operator,
    Parameters(query): Parameters<UploadsQuery>,
) -> Result<Response, Problem> {
    let status = query.status.as_deref().map(uploads::parse_status).transpose()?;
    let owner = query.owner.as_deref().map(Owner::parse).transpose()?;
    let after = query.cursor.as_deref().map(pages::after).transpose()?;
    let limit = pages::limit(query.limit.as_deref())?;
    let mut listed = match (status, &owner) {
        (Some(Status::Failed), owner) => api.engine.failed_uploads(owner.as_ref(), after, limit + 1).await?,
        (status, owner) => api.engine.uploads(owner.as_ref(), status, after, limit + 1).await?,
    };
    let more = listed.len() > limit as usize;
    listed.truncate(limit as usize);
    let more = pages::fit(&mut listed, |view| &view.upload.metadata) || more;
    let next = listed.last().filter(|_| more).map(|last| pages::cursor(last.upload.created_at, last.upload.id));
    let bucket = api.engine.store().bucket();
    let bodies: Vec<_> = listed.iter().map(|view| encode::placed(view, bucket)).collect();
    Ok(api.large_answers.json(&json!({"uploads": bodies, "nextCursor": next}))?)
}
