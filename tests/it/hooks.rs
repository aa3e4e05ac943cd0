//! A receiver of webhooks, which can also refuse them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

/// A receiver of webhooks.
#[derive(Clone)]
pub(crate) struct Hooks {
    address: SocketAddr,
    state: Arc<Mutex<HooksState>>,
}

#[derive(Default)]
struct HooksState {
    events: Vec<Hook>,
    refuse: usize,
}

/// One webhook that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Hook {
    pub(crate) id: String,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) json: Value,
    pub(crate) accepted: bool,
}

impl Hooks {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(HooksState::default()));
        let router = Router::new().route("/hook", post(receive)).with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Answers the next so many with 500.
    pub(crate) fn refuse_next(&self, events: usize) {
        self.state.lock().expect("a lock").refuse = events;
    }

    /// All that arrived, accepted or not.
    pub(crate) fn all(&self) -> Vec<Hook> {
        self.state.lock().expect("a lock").events.clone()
    }

    /// Those about one file, accepted ones only.
    pub(crate) fn of(&self, file_id: &str) -> Vec<Hook> {
        self.all().into_iter().filter(|hook| hook.accepted && hook.json["data"]["fileId"] == file_id).collect()
    }

    /// Waits for the first accepted event about a file. One that a gateway took
    /// along when it died comes after its lease of a minute.
    pub(crate) async fn wait_for(&self, file_id: &str) -> Hook {
        for _ in 0..1600 {
            if let Some(hook) = self.of(file_id).into_iter().next() {
                return hook;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no webhook about {file_id}");
    }
}

async fn receive(State(state): State<Arc<Mutex<HooksState>>>, headers: HeaderMap, text: String) -> StatusCode {
    let mut state = state.lock().expect("a lock");
    let accepted = state.refuse == 0;
    state.refuse = state.refuse.saturating_sub(1);
    let id = headers["webhook-id"].to_str().expect("an id").to_owned();
    let json = serde_json::from_str(&text).expect("JSON");
    state.events.push(Hook { id, headers, text, json, accepted });
    if accepted { StatusCode::NO_CONTENT } else { StatusCode::INTERNAL_SERVER_ERROR }
}
