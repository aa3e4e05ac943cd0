//! A proxy in front of the emulator that knows many access keys, each for as
//! long as it is good. What it lets through it signs with the emulator's own.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use bytes::Bytes;
use chunkgate::domain::Timestamp;
use chunkgate::store::oss::SignatureVersion;
use chunkgate::store::oss::sign::{self, Signer};
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::oss_proxy::{sign_anew, signable};

/// An access key.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
}

impl Key {
    /// The nth of a kind; of STS, with a token.
    pub(crate) fn of(kind: &str, n: u64, is_temporary: bool) -> Self {
        let name = |what: &str| format!("{kind}-{what}-{n}");
        Self { id: name("id"), secret: name("hush"), token: is_temporary.then(|| name("hushtoken")) }
    }

    /// As files, commands and services write it.
    pub(crate) fn json(&self, ends: Option<Timestamp>) -> serde_json::Value {
        let mut json = serde_json::json!({"AccessKeyId": self.id, "AccessKeySecret": self.secret});
        if let Some(token) = &self.token {
            json["SecurityToken"] = token.as_str().into();
        }
        if let Some(ends) = ends {
            json["Expiration"] = ends.rfc3339().into();
        }
        json
    }
}

/// The proxy.
#[derive(Clone)]
pub(crate) struct Gatekeeper {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    emulator: SocketAddr,
    http: reqwest::Client,
    keys: Mutex<Vec<(Key, Instant)>>,
    used: Mutex<HashSet<String>>,
    refused: AtomicU64,
}

impl Gatekeeper {
    pub(crate) async fn before(emulator: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let http = reqwest::Client::builder().no_proxy().http1_only().build().expect("a client");
        let (keys, used, refused) = (Mutex::default(), Mutex::default(), AtomicU64::new(0));
        let state = Arc::new(State { emulator, http, keys, used, refused });
        let serving = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = serving.clone();
                let service = service_fn(move |request| answer(state.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, state }
    }

    /// Lets this key in, for so long.
    pub(crate) fn admit(&self, key: &Key, life: Duration) {
        let mut keys = self.state.keys.lock().expect("a lock");
        keys.retain(|(known, _)| known.id != key.id);
        keys.push((key.clone(), Instant::now() + life));
    }

    /// Lets nobody in any more.
    pub(crate) fn revoke_all(&self) {
        for (_, ends) in self.state.keys.lock().expect("a lock").iter_mut() {
            *ends = Instant::now();
        }
    }

    /// How many keys were used.
    pub(crate) fn used(&self) -> usize {
        self.state.used.lock().expect("a lock").len()
    }

    /// How many requests were refused for their key.
    pub(crate) fn refused(&self) -> u64 {
        self.state.refused.load(Ordering::SeqCst)
    }
}

impl State {
    /// Whether the signature is that of a key that is good, as OSS finds it.
    fn check(&self, head: &http::request::Parts) -> Result<(), &'static str> {
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let said = text("authorization");
        let id = said.split("Credential=").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let keys = self.keys.lock().expect("a lock");
        let (key, ends) = keys.iter().find(|(key, _)| key.id == id).ok_or("InvalidAccessKeyId")?;
        if key.token.as_deref().unwrap_or_default() != text("x-oss-security-token") {
            return Err("InvalidSecurityToken");
        }
        let signed_at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text("x-oss-date")).expect("a date");
        let signed_at = signed_at.to_zoned(jiff::tz::TimeZone::UTC).expect("a time").timestamp();
        let mut headers: HeaderMap = head.headers.clone();
        headers.remove(AUTHORIZATION);
        let signer = Signer {
            access_key_id: &key.id,
            access_key_secret: &key.secret,
            security_token: key.token.as_deref(),
            region: "cn-hangzhou",
        };
        let url = reqwest::Url::parse(&format!("http://localhost{}", head.uri)).expect("a URL");
        let (bucket, object, query) = signable(&url);
        let request = sign::Request {
            method: head.method.as_str(),
            bucket: Some(&bucket),
            key: object.as_deref(),
            query: &query,
        };
        let at = Timestamp::from_millis(signed_at.as_millisecond());
        sign::sign(SignatureVersion::V4, &signer, at, &request, &mut headers).expect("signed");
        if headers[AUTHORIZATION] != said {
            return Err("SignatureDoesNotMatch");
        }
        if *ends <= Instant::now() {
            return Err(if key.token.is_some() { "SecurityTokenExpired" } else { "InvalidAccessKeyId" });
        }
        self.used.lock().expect("a lock").insert(id.to_owned());
        Ok(())
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, reqwest::Error> {
    let (mut head, mut body) = request.into_parts();
    if let Err(code) = state.check(&head) {
        state.refused.fetch_add(1, Ordering::SeqCst);
        // Read on, so that the answer is not lost with the connection.
        while let Some(Ok(_)) = body.frame().await {}
        let text = format!("<Error><Code>{code}</Code><Message>no</Message><RequestId>R</RequestId></Error>");
        let mut refusal = Response::new(Full::from(text));
        *refusal.status_mut() = StatusCode::FORBIDDEN;
        return Ok(refusal);
    }
    let url = reqwest::Url::parse(&format!("http://{}{}", state.emulator, head.uri)).expect("a URL");
    head.headers.remove("x-oss-security-token");
    sign_anew(&head.method, &url, &mut head.headers);
    let request = state.http.request(head.method, url).headers(head.headers).body(reqwest::Body::wrap(body));
    let response = request.send().await?;
    let (status, mut headers) = (response.status(), response.headers().clone());
    headers.remove(TRANSFER_ENCODING);
    headers.insert("x-seen-by", HeaderValue::from_static("the gatekeeper"));
    let mut answer = Response::new(Full::from(response.bytes().await?));
    (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
    Ok(answer)
}
