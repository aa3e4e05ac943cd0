//! STS and the metadata service of an ECS instance, as far as the protocol
//! goes: neither can be had without Aliyun. They check what they are asked with
//! means of their own.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use base64::Engine as _;
use chunkgate::clock::{Clock as _, SystemClock};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use sha1::Sha1;

use super::gatekeeper::{Gatekeeper, Key};

/// What the long-lived key may do is to assume the role.
pub(crate) const BASE: (&str, &str) = ("base-id", "base-hush");
pub(crate) const ROLE: &str = "acs:ram::1:role/uploads";
pub(crate) const PROVIDER: &str = "acs:ram::1:oidc-provider/ack";
const METADATA_TOKEN: &str = "metadata-hush";

/// Both of them; they let the gatekeeper know whom they let in.
#[derive(Clone)]
pub(crate) struct Services(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    gatekeeper: Gatekeeper,
    life: Duration,
    asked: AtomicU64,
    /// Answers 503 to everything.
    is_down: AtomicBool,
    /// The metadata service knows of no tokens, as those of old.
    is_old: bool,
    /// What the file of the pod's token must say.
    oidc_token: Mutex<String>,
    wrong: Mutex<Vec<String>>,
}

impl Services {
    pub(crate) async fn start(gatekeeper: &Gatekeeper, life: Duration, is_old: bool) -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let services = Self(Arc::new(Inner {
            address,
            gatekeeper: gatekeeper.clone(),
            life,
            asked: AtomicU64::new(0),
            is_down: AtomicBool::new(false),
            is_old,
            oidc_token: Mutex::default(),
            wrong: Mutex::default(),
        }));
        let router = Router::new()
            .route("/", post(sts))
            .route("/latest/api/token", put(metadata_token))
            .route("/latest/meta-data/ram/security-credentials/", get(role_name))
            .route("/latest/meta-data/ram/security-credentials/uploads", get(role_credentials))
            .with_state(services.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        services
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// How often credentials were asked for.
    pub(crate) fn asked(&self) -> u64 {
        self.0.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn set_down(&self, is_down: bool) {
        self.0.is_down.store(is_down, Ordering::SeqCst);
    }

    pub(crate) fn set_oidc_token(&self, token: &str) {
        *self.0.oidc_token.lock().expect("a lock") = token.to_owned();
    }

    /// What was asked otherwise than the protocol has it.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.0.wrong.lock().expect("a lock").clone()
    }

    /// Somebody new, whom the gatekeeper lets in for a while.
    fn mint(&self) -> serde_json::Value {
        static MINTED: AtomicU64 = AtomicU64::new(0);
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        let key = Key::of("sts", MINTED.fetch_add(1, Ordering::SeqCst), true);
        self.0.gatekeeper.admit(&key, self.0.life);
        key.json(Some(SystemClock::new().now().plus(self.0.life)))
    }

    fn refuse(&self, status: u16, code: &str) -> Response {
        if status < 500 {
            self.0.wrong.lock().expect("a lock").push(code.to_owned());
        }
        let body = json!({"Code": code, "Message": "no", "RequestId": "R"}).to_string();
        (StatusCode::from_u16(status).expect("a status"), body).into_response()
    }

    fn is_down(&self) -> bool {
        self.0.is_down.load(Ordering::SeqCst)
    }
}

async fn sts(State(services): State<Services>, RawQuery(query): RawQuery, body: String) -> Response {
    if services.is_down() {
        return services.refuse(503, "ServiceUnavailable");
    }
    let url = reqwest::Url::parse(&format!("http://localhost/?{body}")).expect("a form");
    let form: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    let said = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    if query.is_some() {
        return services.refuse(400, "SecretsInTheUrl");
    }
    if (said("RoleArn"), said("Version"), said("DurationSeconds")) != (ROLE, "2015-04-01", "3600") {
        return services.refuse(400, "InvalidParameter");
    }
    match said("Action") {
        "AssumeRole" => {
            if said("AccessKeyId") != BASE.0 {
                return services.refuse(404, "InvalidAccessKeyId.NotFound");
            }
            if said("Signature") != rpc_signature(&form, BASE.1) {
                return services.refuse(400, "SignatureDoesNotMatch");
            }
        }
        "AssumeRoleWithOIDC" => {
            let is_ours = said("OIDCToken") == *services.0.oidc_token.lock().expect("a lock");
            if !is_ours || said("OIDCProviderArn") != PROVIDER || form.contains_key("Signature") {
                return services.refuse(400, "AuthenticationFail.OIDCToken.Invalid");
            }
        }
        _ => return services.refuse(400, "InvalidAction"),
    }
    json!({"RequestId": "R", "Credentials": services.mint()}).to_string().into_response()
}

/// By the documents: all but the signature, sorted, encoded twice.
fn rpc_signature(form: &BTreeMap<String, String>, secret: &str) -> String {
    const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    let encoded = |text: &str| utf8_percent_encode(text, PLAIN).to_string();
    let pairs = form.iter().filter(|(name, _)| *name != "Signature");
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    let text = format!("POST&%2F&{}", encoded(&pairs.join("&")));
    let mut mac = Hmac::<Sha1>::new_from_slice(format!("{secret}&").as_bytes()).expect("a key");
    mac.update(text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())
}

async fn metadata_token(State(services): State<Services>, headers: HeaderMap) -> Response {
    if services.0.is_old {
        return StatusCode::NOT_FOUND.into_response();
    }
    if !headers.contains_key("x-aliyun-ecs-metadata-token-ttl-seconds") {
        return services.refuse(400, "NoTtl");
    }
    METADATA_TOKEN.into_response()
}

impl Services {
    fn has_metadata_token(&self, headers: &HeaderMap) -> bool {
        self.0.is_old || headers.get("x-aliyun-ecs-metadata-token").is_some_and(|token| token == METADATA_TOKEN)
    }
}

async fn role_name(State(services): State<Services>, headers: HeaderMap) -> Response {
    if !services.has_metadata_token(&headers) {
        return services.refuse(403, "NoToken");
    }
    "uploads".into_response()
}

async fn role_credentials(State(services): State<Services>, headers: HeaderMap) -> Response {
    if services.is_down() {
        return services.refuse(503, "ServiceUnavailable");
    }
    if !services.has_metadata_token(&headers) {
        return services.refuse(403, "NoToken");
    }
    let mut json = services.mint();
    json["Code"] = "Success".into();
    json.to_string().into_response()
}
