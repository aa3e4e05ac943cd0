//! The application behind: asked before uploads begin and once their files are
//! there, told of their ends, and asking what became of what it was told.

mod events;
mod hooks;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::harness::{Gateway, On};

/// What the application answers: so late, this status, this body.
type Says = (Duration, u16, String);

/// An application that is asked.
#[derive(Clone)]
pub(crate) struct Application {
    address: SocketAddr,
    says: Arc<Mutex<Says>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// A question that came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    hook: String,
    headers: HeaderMap,
    text: String,
    json: Value,
}

impl Application {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let says = Arc::new(Mutex::new((Duration::ZERO, 204, String::new())));
        let application = Self { address, says, asked: Arc::default() };
        let router = Router::new().route("/{hook}", post(answer)).with_state(application.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        application
    }

    /// From now on it answers so.
    pub(crate) fn says(&self, status: u16, body: impl ToString) {
        self.says_after(Duration::ZERO, status, body);
    }

    pub(crate) fn says_after(&self, delay: Duration, status: u16, body: impl ToString) {
        *self.says.lock().expect("a lock") = (delay, status, body.to_string());
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("a lock").clone()
    }

    pub(crate) fn url(&self, hook: &str) -> String {
        format!("http://{}/{hook}", self.address)
    }

    /// A gateway that asks it this.
    pub(crate) async fn gateway(&self, on: On, hook: &str) -> Gateway {
        let variable = format!("HOOKS__{}__URL", hook.to_ascii_uppercase());
        Gateway::start_with(on, &[(&variable, &self.url(hook))]).await
    }
}

async fn answer(
    State(application): State<Application>,
    Path(hook): Path<String>,
    headers: HeaderMap,
    text: String,
) -> (StatusCode, String) {
    let json = serde_json::from_str(&text).expect("JSON");
    application.asked.lock().expect("a lock").push(Asked { hook, headers, text, json });
    let (delay, status, body) = application.says.lock().expect("a lock").clone();
    tokio::time::sleep(delay).await;
    (StatusCode::from_u16(status).expect("a status"), body)
}
