//! A role that a token service gives out. Each store's own asks in its own words
//! (`sts` in its folder); how it is sent, and what is made of the answer, is the same.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::StatusCode;

use super::asked::{Asked, asked};
use super::source::{Source, Tools};
use super::{Fetched, NoCredentials};
use crate::domain::Timestamp;

/// A role, and how it is assumed.
#[derive(Clone, Debug)]
pub struct Role {
    /// `https://sts.cn-hangzhou.aliyuncs.com`
    pub endpoint: String,
    /// `acs:ram::123:role/uploads`, `arn:aws:iam::123456789012:role/uploads`
    pub arn: String,
    /// What the session is called in the audit log.
    pub session_name: String,
    /// For how long.
    pub duration: Duration,
    /// What the role's trust policy may ask for.
    pub external_id: Option<String>,
    /// Narrows what the session may do.
    pub policy: Option<String>,
}

impl Role {
    /// Where it comes from, when somebody with an access key assumes it.
    pub(in crate::store) fn assumed_by(&self, by: &Source) -> String {
        format!("{} for {}, which {} assumes", self.endpoint, self.arn, by.key_and_origin())
    }

    /// Where it comes from, when a token stands for whoever asks.
    pub(in crate::store) fn shown_token(&self, token: &Path) -> String {
        format!("{} for {}, by the token in {}", self.endpoint, self.arn, token.display())
    }

    /// What can be said of a refusal that nobody here knows.
    pub(in crate::store) fn look_up(&self, code: &str) -> String {
        format!("look {code} up among the error codes of STS, and whether {} is STS's", self.endpoint)
    }

    /// Asks for a session. `read` reads what is given out, `refusal` a refusal's
    /// code and request id, empty where it does not say them.
    pub(in crate::store) async fn ask<E: Display>(
        &self,
        tools: &Tools,
        mut headers: HeaderMap,
        form: String,
        read: impl FnOnce(&str, Timestamp) -> Result<Fetched, E> + Send,
        refusal: fn(&str) -> (String, String),
    ) -> Result<Fetched, NoCredentials> {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let sent = tools.client.post(&self.endpoint).headers(headers).body(form).send().await;
        let Asked { status, text, now } = asked("STS", sent).await?;
        if status.is_success() {
            return read(&text, now)
                .map_err(|why| NoCredentials::for_now("Sts", format!("the answer of {}: {why}", self.endpoint)));
        }
        let (code, request_id) = refusal(&text);
        // Its own sentence may repeat what we sent.
        let message = format!("{} refused {} (request id {request_id})", self.endpoint, self.arn);
        let is_transient =
            status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || code.contains("Throttling");
        let code = if code.is_empty() { format!("Http{}", status.as_u16()) } else { code };
        Err(NoCredentials { code, message, is_transient, kind: None, remedy: None })
    }
}
