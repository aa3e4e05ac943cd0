//! `/livez`, `/readyz`, `/healthz`, and the admin listener's `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::engine::Engine;
use crate::http::config::Dependency;

/// How old an answer of `/healthz` may be.
const FRESH: Duration = Duration::from_secs(5);
/// How long a dependency may take to say that it is well.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// The health of this gateway and of what it depends on.
#[derive(Clone, Debug)]
pub struct Health {
    engine: Engine,
    required: Arc<[Dependency]>,
    draining: tokio_util::sync::CancellationToken,
    database: Arc<Mutex<Option<Found>>>,
    store: Arc<Mutex<Option<Found>>>,
}

/// What was found, and when on the monotonic clock.
type Found = (Duration, Check);

/// One thing that was checked.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    name: &'static str,
    status: &'static str,
    kind: &'static str,
    milliseconds: u64,
    /// Why not: for the admin listener only.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Health {
    /// `required`: what must be well for `/readyz` beside our own disk.
    /// `draining` fires when we shut down.
    pub fn new(engine: Engine, required: &[Dependency], draining: tokio_util::sync::CancellationToken) -> Self {
        Self { engine, required: required.into(), draining, database: Arc::default(), store: Arc::default() }
    }

    async fn checks(&self) -> Vec<Check> {
        let (database, store) =
            tokio::join!(Box::pin(self.recent(Dependency::Database)), Box::pin(self.recent(Dependency::Store)));
        vec![database, store]
    }

    /// What was found of a dependency, at most `FRESH` ago.
    async fn recent(&self, dependency: Dependency) -> Check {
        // One at a time: a thousand probes are one question.
        let mut last = match dependency {
            Dependency::Database => self.database.lock().await,
            Dependency::Store => self.store.lock().await,
        };
        let now = self.engine.clock().monotonic();
        if let Some((at, check)) = last.as_ref()
            && now.saturating_sub(*at) < FRESH
        {
            return check.clone();
        }
        let check = match dependency {
            Dependency::Database => {
                let asked = async { self.engine.ledger().ping().await.map_err(|error| error.to_string()) };
                self.check("database", self.engine.ledger().backend(), asked).await
            }
            Dependency::Store => {
                let asked = async { self.engine.store().check().await.map_err(|error| error.to_string()) };
                self.check("store", self.engine.store().kind(), asked).await
            }
        };
        *last = Some((self.engine.clock().monotonic(), check.clone()));
        check
    }

    async fn check(
        &self,
        name: &'static str,
        kind: &'static str,
        question: impl Future<Output = Result<(), String>>,
    ) -> Check {
        let began = self.engine.clock().monotonic();
        let answer = tokio::time::timeout(CHECK_TIMEOUT, question).await;
        let reason = answer.unwrap_or_else(|_| Err(format!("no answer within {} s", CHECK_TIMEOUT.as_secs()))).err();
        let took = self.engine.clock().monotonic().saturating_sub(began);
        let status = if reason.is_none() { "ok" } else { "failing" };
        Check { name, status, kind, milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX), reason }
    }

    /// A shared dependency that is away takes no replica out of the load
    /// balancer, unless the operator says so; our own disk does. What is not
    /// required is not asked: a store that hangs must not make us slow to answer.
    fn is_required(&self, dependency: Dependency) -> bool {
        let own = match dependency {
            Dependency::Database => self.engine.ledger().backend() == "sqlite",
            Dependency::Store => self.engine.store().kind() == "file",
        };
        own || self.required.contains(&dependency)
    }
}

/// `/livez`: the process answers.
pub async fn livez() -> &'static str {
    "ok\n"
}

/// `/readyz`: it may get requests.
pub async fn readyz(State(health): State<Health>) -> Response {
    if health.draining.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    for dependency in [Dependency::Database, Dependency::Store] {
        if health.is_required(dependency) {
            let check = Box::pin(health.recent(dependency)).await;
            if check.status != "ok" {
                return (StatusCode::SERVICE_UNAVAILABLE, format!("{} is failing\n", check.name)).into_response();
            }
        }
    }
    "ok\n".into_response()
}

/// `/healthz` of the public listener: nothing secret.
pub(super) async fn healthz(health: State<Health>, query: RawQuery) -> Response {
    report(health, query, false).await
}

/// `/healthz` of the admin listener: with reasons.
pub(super) async fn healthz_in_detail(health: State<Health>, query: RawQuery) -> Response {
    report(health, query, true).await
}

async fn report(State(health): State<Health>, RawQuery(query): RawQuery, in_detail: bool) -> Response {
    let mut checks = health.checks().await;
    if !in_detail {
        checks.iter_mut().for_each(|check| check.reason = None);
    }
    let well = checks.iter().all(|check| check.status == "ok");
    let strict = query.is_some_and(|query| query.split('&').any(|pair| matches!(pair, "strict=1" | "strict=true")));
    let status = if strict && !well { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let overall = if well { "ok" } else { "failing" };
    let body = serde_json::json!({"status": overall, "checks": checks});
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// `/metrics` in Prometheus' text format.
pub async fn metrics(State((handle, engine)): State<(PrometheusHandle, Engine)>) -> Response {
    if let Ok(counts) = engine.ledger().outbox_counts().await {
        metrics::gauge!("chunkgate_outbox_events", "state" => "pending").set(counts.pending as f64);
        metrics::gauge!("chunkgate_outbox_events", "state" => "dead").set(counts.dead as f64);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render()).into_response()
}
