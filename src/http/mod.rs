//! HTTP: routes, what comes in decoded, what goes out encoded. A handler is
//! decode → engine → encode; statuses are known to `problem` alone.

pub mod address;
mod admin;
pub mod auth;
pub mod body;
pub mod chunks;
pub mod config;
mod content;
pub mod cors;
mod direct;
mod disposition;
pub mod doctor;
pub mod encode;
pub mod files;
pub mod form;
mod forms;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
pub mod health;
mod large;
pub mod layer;
mod links;
pub mod multipart;
mod one_frame;
pub mod page;
mod pages;
pub mod problem;
mod rates;
mod tokens;
pub mod uploads;

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts, Path, Query};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Router};
use http::request::Parts;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::de::DeserializeOwned;
use tower_http::catch_panic::CatchPanicLayer;

use crate::access::{Access, AuthConfig, Authority, OssCallbacks};
use crate::domain::{FileId, Refusal};
use crate::engine::Engine;

pub use config::{CorsConfig, HealthConfig, LimitsConfig};
pub use doctor::Doctor;
pub use health::Health;
use problem::Problem;

/// What the handlers share.
#[derive(Clone)]
pub struct Api {
    engine: Engine,
    access: Arc<Access>,
    limits: Arc<LimitsConfig>,
    cors: cors::Cors,
    cors_config: Arc<CorsConfig>,
    lingering: body::Lingering,
    form_buffers: form::FormBuffers,
    large_answers: large::LargeAnswers,
    rates: Arc<rates::Rates>,
    links: Authority,
    callbacks: Option<Arc<OssCallbacks>>,
    public_url: Option<Arc<str>>,
    health: Health,
    /// The port we listen on: part of our own name.
    port: u16,
}

/// What a listener is made of.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The use cases.
    pub engine: Engine,
    /// Who may ask.
    pub access: Arc<Access>,
    /// Signs links, and tokens where there are any.
    pub authority: Authority,
    /// Whether callbacks are OSS's, if any are to come.
    pub callbacks: Option<Arc<OssCallbacks>>,
    /// `limits.*`
    pub limits: &'a LimitsConfig,
    /// `auth.*`
    pub auth: &'a AuthConfig,
    /// `cors.*`
    pub cors: &'a CorsConfig,
    /// `public_url`
    pub public_url: Option<&'a str>,
    /// How we are.
    pub health: Health,
    /// The port we listen on.
    pub port: u16,
}

impl Api {
    /// A listener's own.
    pub fn new(setup: Setup<'_>) -> Self {
        let Setup { engine, access, authority, callbacks, limits, auth, cors, public_url, health, port } = setup;
        Self {
            engine,
            access,
            limits: Arc::new(limits.clone()),
            cors: cors::Cors::new(cors),
            cors_config: Arc::new(cors.clone()),
            lingering: body::Lingering::default(),
            form_buffers: form::FormBuffers::new(limits.form_buffer, limits.queue_wait),
            large_answers: large::LargeAnswers::default(),
            rates: Arc::new(rates::Rates::new(limits.rate, auth.refresh_rate)),
            links: authority,
            callbacks,
            public_url: public_url.map(Into::into),
            health,
            port,
        }
    }
}

impl FromRef<Api> for Health {
    fn from_ref(api: &Api) -> Self {
        api.health.clone()
    }
}

/// The public listener's routes.
pub fn public(api: Api) -> Router {
    let routes: Router<Api> = Router::new()
        .route("/uploads", post(uploads::create).get(uploads::list))
        .route("/uploads/sign", post(forms::sign))
        .route("/uploads/{fileId}", get(uploads::get).delete(uploads::abort))
        .route("/uploads/{fileId}/parts/sign", post(direct::sign_parts))
        .route("/chunks", post(chunks::post).get(chunks::get).put(chunks::put_by_headers))
        .route("/upload-chunk", post(chunks::post))
        .route("/chunks/{fileId}/{chunkIndex}", put(chunks::put))
        .route("/chunks/complete", post(chunks::complete))
        .route("/files", post(files::post).get(files::list))
        .route("/files/{fileId}", get(files::get).delete(files::delete))
        .route("/files/{fileId}/content", get(content::content))
        .route("/files/{fileId}/sign", post(links::sign))
        .route("/callbacks/oss", post(forms::oss_callback))
        .route("/auth/tokens", post(tokens::log_in))
        .route("/auth/refresh", post(tokens::refresh))
        .route("/auth/revoke", post(tokens::revoke))
        .route("/doctor", get(doctor::sample))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/healthz", get(health::healthz));
    around(routes.with_state(api.clone()).merge(page::routes()), api)
}

/// The admin listener's routes.
pub fn admin(api: Api, metrics: PrometheusHandle, doctor: Doctor) -> Router {
    let administration = Router::new()
        .route("/admin/events", get(admin::events))
        .route("/admin/events/{id}/redeliver", post(admin::redeliver))
        .route("/admin/uploads", get(admin::uploads))
        .route("/admin/doctor", get(doctor::examine).layer(Extension(doctor)))
        .with_state(api.clone());
    let measured = Router::new().route("/metrics", get(health::metrics)).with_state((metrics, api.engine.clone()));
    let health = Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/healthz", get(health::healthz_in_detail))
        .with_state(api.health.clone());
    around(health.merge(measured).merge(administration), api)
}

/// What all routes of a listener have in common.
fn around(routes: Router, api: Api) -> Router {
    routes
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(layer::panicked))
        .layer(from_fn_with_state(api, layer::around))
        .layer(CatchPanicLayer::custom(layer::panicked_around))
}

async fn not_found() -> Response {
    Problem::from(Refusal::NotFound).into_response()
}

async fn method_not_allowed() -> Response {
    Problem::from(Refusal::MethodNotAllowed).into_response()
}

/// The fileId in a path.
pub struct FileIdPath(pub FileId);

impl FromRequestParts<Api> for FileIdPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, api).await;
        // What cannot be decoded (`%ff`) is no fileId either.
        let Path(text) = path.map_err(|_| Refusal::InvalidFileId)?;
        Ok(Self(FileId::parse(&text)?))
    }
}

/// The parameters of a query. Those that cannot be read (one name twice) get a
/// problem document; axum's own extractor would answer in plain text.
struct Parameters<T>(T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(rejection) => Err(Refusal::invalid(rejection.body_text()).into()),
        }
    }
}
