//! tus 1.0, as its clients speak it: one PATCH after the other.

use async_trait::async_trait;
use bytes::Bytes;
use chunkgate::bench::{Content, Failed, Pace, Protocol, body_of};
use reqwest::{Client, Method, RequestBuilder};

use crate::s3::succeeded;

#[derive(Debug)]
pub(crate) struct TusProtocol {
    pub(crate) client: Client,
    pub(crate) url: String,
}

impl TusProtocol {
    fn request(&self, method: &'static str, url: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap_or_default();
        self.client.request(method, url).header("Tus-Resumable", "1.0.0")
    }
}

#[async_trait]
impl Protocol for TusProtocol {
    async fn begin(&self, file: &Content) -> Result<String, Failed> {
        let request = self.request("POST", &self.url).header("Upload-Length", file.bytes);
        let answer = succeeded(request.header("Upload-Metadata", "filename YQ==").send().await?)?;
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| Failed::new("no location"))?;
        let joined = reqwest::Url::parse(&self.url).and_then(|base| base.join(location));
        joined.map(String::from).map_err(|_| Failed::new("an unreadable location"))
    }

    async fn send(&self, session: &str, file: &Content, index: u64, pace: Option<Pace>) -> Result<(), Failed> {
        let request = self
            .request("PATCH", session)
            .header("Upload-Offset", index * file.chunk_bytes)
            .header("Content-Type", "application/offset+octet-stream");
        let body = body_of(file, index, Bytes::new(), Bytes::new(), pace);
        succeeded(request.body(body).send().await?)?.bytes().await?;
        Ok(())
    }

    async fn end(&self, _: &str, _: &Content) -> Result<(), Failed> {
        Ok(())
    }

    /// By what the server says that it has: under which name it put it into
    /// the store, only it knows.
    async fn is_whole(&self, session: &str, file: &Content) -> Result<bool, Failed> {
        let answer = succeeded(self.request("HEAD", session).send().await?)?;
        let offset = answer.headers().get("upload-offset").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        Ok(offset == Some(file.bytes))
    }
}
