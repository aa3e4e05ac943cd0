//! A request by hand, as far as it is sent: what HTTP clients hide is what
//! shows who stands in between.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::site::Site;
use crate::doctor::net::tls;

/// The longest head that is read.
const HEAD_BYTES_MAX: usize = 32 << 10;
const HEADERS_MAX: usize = 100;
const OPENING: Duration = Duration::from_secs(10);

trait Line: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Line for T {}

/// A site, and the address that takes connections.
pub(super) struct Wire<'a> {
    pub(super) site: &'a Site,
    pub(super) way: Option<IpAddr>,
}

/// A request of which the head was sent.
pub(super) struct Sent {
    line: Box<dyn Line>,
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
}

impl Head {
    /// Whether the gateway said it: whoever stands in between says it in HTML.
    pub(super) fn is_the_gateways(&self) -> bool {
        let kind = self.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        kind.starts_with("application/problem+json") || (self.status < 300 && kind.starts_with("application/json"))
    }

    /// Who else said it, as far as it tells.
    pub(super) fn server(&self) -> &str {
        self.headers.get("server").and_then(|server| server.to_str().ok()).unwrap_or("something in between")
    }
}

impl Wire<'_> {
    /// Sends the head of a PUT of so many bytes.
    pub(super) async fn put(&self, path: &str, bytes: u64) -> io::Result<Sent> {
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let mut line = timeout(OPENING, self.open()).await.map_err(late)??;
        let (host, prefix) = self.host_and_prefix();
        let key = self.site.key.as_ref();
        let authorization = key.map(|key| format!("Authorization: Bearer {}\r\n", key.expose())).unwrap_or_default();
        let head = format!(
            "PUT {prefix}{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: chunkgate-doctor\r\nConnection: close\r\n\
             Content-Type: application/octet-stream\r\nContent-Length: {bytes}\r\n{authorization}\r\n"
        );
        line.write_all(head.as_bytes()).await?;
        line.flush().await?;
        Ok(Sent { line })
    }

    async fn open(&self) -> io::Result<Box<dyn Line>> {
        let place = &self.site.place;
        let stream = match self.way {
            Some(address) => TcpStream::connect((address, place.port)).await?,
            None => TcpStream::connect((place.host.as_str(), place.port)).await?,
        };
        stream.set_nodelay(true)?;
        if place.is_https { Ok(Box::new(tls::connect(&place.host, stream).await?)) } else { Ok(Box::new(stream)) }
    }

    /// What goes into `Host`, and what comes before each path.
    fn host_and_prefix(&self) -> (&str, &str) {
        let rest = self.site.base.split_once("://").map_or(self.site.base.as_str(), |(_, rest)| rest);
        rest.find('/').map_or((rest, ""), |at| rest.split_at(at))
    }
}

impl Sent {
    /// Sends some of the body.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.line.write_all(bytes).await?;
        self.line.flush().await
    }

    /// The head of the answer, if it comes in this time. `Ok(None)` is silence.
    pub(super) async fn answer(&mut self, within: Duration) -> io::Result<Option<Head>> {
        match timeout(within, self.head()).await {
            Err(_) => Ok(None),
            Ok(head) => head.map(Some),
        }
    }

    async fn head(&mut self) -> io::Result<Head> {
        let mut text = Vec::new();
        loop {
            if let Some((head, bytes)) = parse(&text)? {
                if head.status >= 200 {
                    return Ok(head);
                }
                // 100 Continue: the answer is yet to come.
                text.drain(..bytes);
                continue;
            }
            if text.len() > HEAD_BYTES_MAX {
                return Err(io::Error::other("the answer's head has no end"));
            }
            if self.line.read_buf(&mut text).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
        }
    }
}

/// A head, and how many bytes it has; None while it is not whole.
fn parse(text: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(bytes) = response.parse(text).map_err(io::Error::other)? else { return Ok(None) };
    let pair = |header: &httparse::Header<'_>| {
        Some((HeaderName::from_bytes(header.name.as_bytes()).ok()?, HeaderValue::from_bytes(header.value).ok()?))
    };
    let headers = response.headers.iter().filter_map(pair).collect();
    Ok(Some((Head { status: response.code.unwrap_or_default(), headers }, bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_and_told_whose_they_are() {
        let ours = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\n\r\n{";
        let (head, bytes) = parse(ours).expect("a head").expect("whole");
        assert!(head.is_the_gateways() && head.status == 404 && bytes == ours.len() - 1);
        let nginx = b"HTTP/1.1 413 Too Large\r\nServer: nginx\r\nContent-Type: text/html\r\n\r\n";
        let (head, _) = parse(nginx).expect("a head").expect("whole");
        assert!(!head.is_the_gateways() && head.server() == "nginx");
        assert!(parse(&ours[..20]).expect("a beginning").is_none());
        assert!(parse(b"SSH-2.0-x\r\n").is_err());
    }
}
