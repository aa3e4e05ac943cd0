//! Answers of services that give out credentials, read to their end.

use std::time::SystemTime;

use http::header::DATE;
use reqwest::StatusCode;

use super::NoCredentials;
use crate::domain::Timestamp;
use crate::store::remote::request::chain;

/// The longest answer that is read, in bytes.
pub(in crate::store) const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// An answer of such a service.
pub(in crate::store) struct Asked {
    pub(in crate::store) status: StatusCode,
    pub(in crate::store) text: String,
    /// What time it is there: an expiration is of that clock, not of ours.
    pub(in crate::store) now: Timestamp,
}

/// Reads an answer to its end, within a bound.
pub(in crate::store) async fn asked(
    whom: &str,
    sent: Result<reqwest::Response, reqwest::Error>,
) -> Result<Asked, NoCredentials> {
    let mut answer = sent.map_err(|e| unreachable_service(whom, e))?;
    let date = answer.headers().get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let date = date.and_then(|date| date.duration_since(SystemTime::UNIX_EPOCH).ok());
    let now = date.and_then(|date| i64::try_from(date.as_millis()).ok());
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(frame) = answer.chunk().await.map_err(|e| unreachable_service(whom, e))? {
        body.extend_from_slice(&frame);
        if body.len() as u64 > ANSWER_BYTES_MAX {
            return Err(NoCredentials::for_now("AnswerTooLarge", format!("{whom} does not come to an end")));
        }
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    let now =
        Timestamp::from_millis(now.ok_or_else(|| NoCredentials::for_now("NoDate", format!("{whom} has no Date")))?);
    Ok(Asked { status, text, now })
}

/// The URL stays out of it.
pub(in crate::store) fn unreachable_service(whom: &str, error: reqwest::Error) -> NoCredentials {
    NoCredentials::for_now("Unreachable", format!("{whom}: {}", chain(&error.without_url())))
}
