//! `/auth`: tokens for browsers, handed out to back ends.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use crate::access::terms::WrittenTerms;
use crate::access::{AccessError, Authority, Login, Pair};
use crate::domain::{Owner, Refusal, Scopes};
use crate::engine::EngineError;
use crate::http::address::ClientAddress;
use crate::http::auth::BackEnd;
use crate::http::problem::Problem;
use crate::http::{Api, body};

/// What a back end asks for. A name that is none of these is a mistake that
/// would hand out more than was meant; telling it is why the names of
/// `WrittenTerms` stand here once more (serde cannot flatten and deny).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TokensBody {
    subject: String,
    device_id: Option<String>,
    scope: Option<String>,
    max_file_size: Option<u64>,
    allowed_types: Option<Vec<String>>,
    file_id: Option<String>,
    key_prefix: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RefreshBody {
    refresh_token: String,
    device_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RevokeBody {
    refresh_token: String,
}

/// `POST /auth/tokens`
pub(super) async fn log_in(State(api): State<Api>, _: BackEnd, body: Body) -> Result<Response, Problem> {
    let authority = authority(&api)?;
    let wanted: TokensBody = body::json(body, api.limits.body_idle_timeout).await?;
    let scopes = match wanted.scope.as_deref().filter(|scope| !scope.is_empty()) {
        None => Scopes::BROWSER,
        Some(text) => Scopes::parse(text).ok_or_else(|| {
            Refusal::invalid(format!("scope is one or more of {}, with spaces between them", Scopes::ALL))
        })?,
    };
    let login = Login {
        subject: Owner::parse(&wanted.subject).map_err(|_| {
            Refusal::invalid(format!("subject is 1 to {} bytes without control characters", Owner::BYTES_MAX))
        })?,
        device: wanted.device_id,
        scopes,
        terms: WrittenTerms {
            max_file_size: wanted.max_file_size,
            allowed_types: wanted.allowed_types,
            file_id: wanted.file_id,
            key_prefix: wanted.key_prefix,
            metadata: wanted.metadata,
        },
    };
    Ok(shown(&authority.log_in(login).await?))
}

/// `POST /auth/refresh`
pub(super) async fn refresh(State(api): State<Api>, address: ClientAddress, body: Body) -> Result<Response, Problem> {
    let authority = authority(&api)?;
    let wanted: RefreshBody = body::json(body, api.limits.body_idle_timeout).await?;
    api.rates.of_refreshes(&wanted.refresh_token)?;
    let pair = authority.refresh(&wanted.refresh_token, wanted.device_id.as_deref()).await;
    if let Err(AccessError::Refused(_)) = &pair {
        api.rates.of_failures(&address)?;
    }
    Ok(shown(&pair?))
}

/// `POST /auth/revoke`
pub(super) async fn revoke(State(api): State<Api>, address: ClientAddress, body: Body) -> Result<StatusCode, Problem> {
    let authority = authority(&api)?;
    let wanted: RevokeBody = body::json(body, api.limits.body_idle_timeout).await?;
    let revoked = authority.revoke(&wanted.refresh_token).await;
    if let Err(AccessError::Refused(_)) = &revoked {
        api.rates.of_failures(&address)?;
    }
    revoked?;
    Ok(StatusCode::NO_CONTENT)
}

fn authority(api: &Api) -> Result<&Authority, Refusal> {
    let what = "this gateway hands out no tokens: set auth.mode = [\"tokens\"] and auth.api_keys";
    api.access.authority().ok_or(Refusal::NotSupported { what })
}

fn shown(pair: &Pair) -> Response {
    let body = json!({
        "accessToken": pair.access,
        "refreshToken": pair.refresh,
        "tokenType": "Bearer",
        "expiresIn": pair.expires_in.as_secs(),
    });
    let mut answer = Json(body).into_response();
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Refused(refusal) => refusal.into(),
            AccessError::Ledger(error) => EngineError::from(error).into(),
        }
    }
}
