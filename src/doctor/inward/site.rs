//! A gateway behind its URL, and how it is asked.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use reqwest::{Client, Method, RequestBuilder, Url};
use serde_json::Value;

use super::Inward;
use crate::doctor::net::Place;
use crate::units::Secret;

/// Longer than anything that is held on purpose.
const PATIENCE: Duration = Duration::from_secs(120);

/// A gateway as browsers see it.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) place: Place,
    /// Without a slash at its end.
    pub(super) base: String,
    pub(super) key: Option<Secret>,
    /// One per run: names what is uploaded.
    pub(super) run: String,
    client: Client,
    /// The uploads that were begun.
    begun: Mutex<Vec<String>>,
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) json: Value,
}

impl Answer {
    /// The code of a refusal of the gateway's.
    pub(super) fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }

    /// The gateway's own sentence.
    pub(super) fn detail(&self) -> &str {
        self.json["detail"].as_str().unwrap_or_default()
    }
}

impl Site {
    pub(super) fn new(inward: &Inward) -> Result<Self, String> {
        let text = inward.url.trim();
        let url = Url::parse(text).map_err(|error| format!("{text:?} is no URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("{text:?} is not reached by http or https"));
        }
        let place = Place::of_url(&url, "--url").ok_or_else(|| format!("{text:?} names no host"))?;
        // A connection for each request, as its way is what is looked at.
        let client = Client::builder()
            .no_proxy()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(0)
            .timeout(PATIENCE)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            place,
            base: text.trim_end_matches('/').to_owned(),
            key: inward.key.clone(),
            run: format!("doctor-{:032x}", inward.clock.random()),
            client,
            begun: Mutex::default(),
        })
    }

    /// A request, with the key if there is one.
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }

    /// Its answer, or why there is none.
    pub(super) async fn ask(&self, request: RequestBuilder) -> Result<Answer, String> {
        let response = request.send().await.map_err(told)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.map_err(told)?;
        Ok(Answer { status, headers, json: serde_json::from_str(&text).unwrap_or(Value::Null) })
    }

    /// The path of a chunk that no upload has: refused by its head.
    pub(super) fn nobodys_chunk(&self) -> String {
        format!("/chunks/{}-none/0", self.run)
    }

    pub(super) fn begins(&self, file_id: &str) {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).push(file_id.to_owned());
    }

    pub(super) fn begun(&self) -> Vec<String> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An error and its causes, without the URL.
fn told(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
