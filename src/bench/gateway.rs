//! The gateway's own API, as pages and SDKs speak it.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::StatusCode;
use http::header::RETRY_AFTER;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::bench::config::Mode;
use crate::bench::content::Content;
use crate::bench::protocol::{Failed, Pace, Protocol, body_of};
use crate::units::Secret;

/// Between the parts of a form.
const BOUNDARY: &str = "chunkgate-bench-boundary";
/// The pause before a merge is asked for again.
const MERGE_PAUSE: Duration = Duration::from_millis(20);

/// Uploads through a gateway.
#[derive(Debug)]
pub struct GatewayProtocol {
    client: Client,
    url: String,
    mode: Mode,
    key: Option<Secret>,
    /// Of which a chunk's answer has said that they are complete: nobody asks.
    complete: Mutex<HashSet<String>>,
}

impl GatewayProtocol {
    /// Speaks to the gateway at this URL.
    pub fn new(client: Client, url: &str, mode: Mode, key: Option<Secret>) -> Self {
        Self { client, url: url.trim_end_matches('/').to_owned(), mode, key, complete: Mutex::default() }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }

    fn form(&self, file: &Content, index: u64, pace: Option<Pace>) -> RequestBuilder {
        let fields = [
            ("fileId", file.id.clone()),
            ("chunkIndex", index.to_string()),
            ("totalChunks", file.chunks().to_string()),
            ("fileName", file.id.clone()),
        ];
        let begin = |name: &str| format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"");
        let mut head: String =
            fields.iter().map(|(name, value)| format!("{}\r\n\r\n{value}\r\n", begin(name))).collect();
        head.push_str(&begin("file"));
        head.push_str("; filename=\"blob\"\r\nContent-Type: application/octet-stream\r\n\r\n");
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        self.request(Method::POST, "/chunks")
            .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))
            .body(body_of(file, index, head.into(), tail.into(), pace))
    }
}

#[async_trait]
impl Protocol for GatewayProtocol {
    async fn begin(&self, file: &Content) -> Result<String, Failed> {
        if self.mode != Mode::File {
            let wanted = json!({
                "fileId": file.id, "fileName": file.id, "fileSize": file.bytes, "chunkSize": file.chunk_bytes,
            });
            let request = self.request(Method::POST, "/uploads").header("content-type", "application/json");
            answer(request.body(wanted.to_string()).send().await?).await?;
        }
        Ok(file.id.clone())
    }

    async fn send(&self, _: &str, file: &Content, index: u64, pace: Option<Pace>) -> Result<(), Failed> {
        let raw = || body_of(file, index, Bytes::new(), Bytes::new(), pace);
        let request = match self.mode {
            Mode::Put => self.request(Method::PUT, &format!("/chunks/{}/{index}", file.id)).body(raw()),
            Mode::Form => self.form(file, index, pace),
            Mode::File => self.request(Method::POST, &format!("/files?fileId={0}&fileName={0}", file.id)).body(raw()),
        };
        let stored = answer(request.send().await?).await?;
        if stored["complete"] == true {
            self.complete.lock().unwrap_or_else(PoisonError::into_inner).insert(file.id.clone());
        }
        Ok(())
    }

    async fn end(&self, _: &str, file: &Content) -> Result<(), Failed> {
        let is_complete = self.complete.lock().unwrap_or_else(PoisonError::into_inner).remove(&file.id);
        if self.mode == Mode::File || is_complete {
            return Ok(());
        }
        loop {
            let asked = self.request(Method::GET, &format!("/uploads/{}", file.id)).send().await?;
            let upload = answer(asked).await?;
            match upload["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("uploading" | "completing") => tokio::time::sleep(MERGE_PAUSE).await,
                other => return Err(Failed::new(format!("upload {}", other.unwrap_or("without a status")))),
            }
        }
    }

    async fn is_whole(&self, _: &str, file: &Content) -> Result<bool, Failed> {
        let answer = self.request(Method::GET, &format!("/files/{}/content", file.id)).send().await?;
        if answer.status() != StatusCode::OK {
            return Err(Failed::new(answer.status().as_str()));
        }
        let (mut stream, mut hash) = (answer.bytes_stream(), Sha256::new());
        while let Some(frame) = stream.next().await {
            hash.update(&frame?);
        }
        Ok(hash.finalize()[..] == file.sha256())
    }
}

/// The JSON of a success.
async fn answer(response: Response) -> Result<Value, Failed> {
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.bytes().await?;
    let json: Value = serde_json::from_slice(&text).unwrap_or_default();
    if status.is_success() {
        return Ok(json);
    }
    let code = json["code"].as_str().map_or_else(|| status.as_str().to_owned(), str::to_owned);
    let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Err(Failed { code, retry_after: after.map(Duration::from_secs) })
}
