//! Multipart uploads as S3 and OSS have them, unsigned: straight to the null
//! store, or to a proxy in front of it.

use async_trait::async_trait;
use bytes::Bytes;
use chunkgate::bench::{Content, Failed, Pace, Protocol, body_of};
use reqwest::{Client, Response};

#[derive(Debug)]
pub(crate) struct S3Protocol {
    pub(crate) client: Client,
    pub(crate) url: String,
    pub(crate) bucket: &'static str,
}

impl S3Protocol {
    fn url(&self, file: &Content) -> String {
        format!("{}/{}/{}", self.url, self.bucket, file.id)
    }
}

#[async_trait]
impl Protocol for S3Protocol {
    async fn begin(&self, file: &Content) -> Result<String, Failed> {
        let answer = succeeded(self.client.post(format!("{}?uploads", self.url(file))).send().await?)?;
        let text = answer.text().await?;
        let id = text.split_once("<UploadId>").and_then(|(_, rest)| rest.split_once("</UploadId>"));
        id.map(|(id, _)| id.to_owned()).ok_or_else(|| Failed::new("no upload id"))
    }

    async fn send(&self, session: &str, file: &Content, index: u64, pace: Option<Pace>) -> Result<(), Failed> {
        let url = format!("{}?partNumber={}&uploadId={session}", self.url(file), index + 1);
        let body = body_of(file, index, Bytes::new(), Bytes::new(), pace);
        succeeded(self.client.put(url).body(body).send().await?)?.bytes().await?;
        Ok(())
    }

    async fn end(&self, session: &str, file: &Content) -> Result<(), Failed> {
        let url = format!("{}?uploadId={session}", self.url(file));
        succeeded(self.client.post(url).send().await?)?.bytes().await?;
        Ok(())
    }

    async fn is_whole(&self, _: &str, file: &Content) -> Result<bool, Failed> {
        object_is(&self.client, &self.url(file), file).await
    }
}

/// Whether the store's object has the size and the CRC-64 of the file.
pub(crate) async fn object_is(client: &Client, url: &str, file: &Content) -> Result<bool, Failed> {
    let answer = succeeded(client.head(url).send().await?)?;
    let number = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    Ok((number("content-length"), number("x-oss-hash-crc64ecma")) == (Some(file.bytes), Some(file.crc64().0)))
}

pub(crate) fn succeeded(answer: Response) -> Result<Response, Failed> {
    if answer.status().is_success() { Ok(answer) } else { Err(Failed::new(answer.status().as_str())) }
}
