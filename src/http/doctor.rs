//! What a doctor asks a running gateway: for an answer to look at on its way
//! out (`GET /doctor`), and how its own dependencies are (`GET /admin/doctor`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use futures_util::future::BoxFuture;
use http::{HeaderValue, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::domain::Refusal;
use crate::http::auth::{May, Operator, WriteUploads};
use crate::http::problem::Problem;
use crate::http::{Api, Parameters};

/// The longest that an answer is held back.
const HELD_SECONDS_MAX: u64 = 60;

#[derive(Deserialize)]
pub(super) struct SampleQuery {
    after: Option<String>,
}

/// `GET /doctor`: a refusal as a busy gateway gives it, with every header that
/// uploaders live by; with `after`, an answer that takes so many seconds.
/// Whoever may upload may see what becomes of both on the way.
pub(super) async fn sample(
    State(_): State<Api>,
    _: May<WriteUploads>,
    Parameters(query): Parameters<SampleQuery>,
) -> Result<Response, Problem> {
    if let Some(after) = query.after.as_deref() {
        let seconds = after.parse().ok().filter(|seconds| *seconds <= HELD_SECONDS_MAX);
        let reason = || format!("is a number of seconds up to {HELD_SECONDS_MAX}");
        let seconds = seconds.ok_or_else(|| Refusal::InvalidParameter { name: "after", reason: reason() })?;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        return Ok(Json(json!({"after": seconds})).into_response());
    }
    let mut answer = Problem::from(Refusal::Overloaded).into_response();
    let headers = answer.headers_mut();
    headers.insert(header::ETAG, HeaderValue::from_static("\"doctor\""));
    headers.insert(header::LOCATION, HeaderValue::from_static("/doctor"));
    Ok(answer)
}

/// Examines what the gateway stands on, for a page of this origin if one is named.
pub type Examination = dyn Fn(Option<String>) -> BoxFuture<'static, Value> + Send + Sync;

/// Examines on demand, one at a time.
#[derive(Clone)]
pub struct Doctor {
    examination: Arc<Examination>,
    turn: Arc<Semaphore>,
}

impl fmt::Debug for Doctor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doctor").finish_non_exhaustive()
    }
}

impl Doctor {
    /// Examines so.
    pub fn new(examination: Arc<Examination>) -> Self {
        Self { examination, turn: Arc::new(Semaphore::new(1)) }
    }

    /// Waits until nobody is being examined.
    pub async fn ended(&self) {
        let _ = self.turn.acquire().await;
    }
}

#[derive(Deserialize)]
pub(super) struct ExamineQuery {
    origin: Option<String>,
}

/// `GET /admin/doctor`
pub(super) async fn examine(
    Extension(doctor): Extension<Doctor>,
    _: Operator,
    Parameters(query): Parameters<ExamineQuery>,
) -> Result<Response, Problem> {
    let Ok(turn) = doctor.turn.clone().try_acquire_owned() else { return Err(Refusal::Overloaded.into()) };
    let examined = (doctor.examination)(query.origin);
    // In a task of its own: who asked may leave, and what was put into the store is still removed.
    let report = tokio::spawn(async move {
        let report = examined.await;
        drop(turn);
        report
    });
    let report = report.await.map_err(|_| Refusal::Internal)?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(report)).into_response())
}
