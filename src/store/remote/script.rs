//! A server that does as it is told, request by request.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// Longer than any test waits.
const LONG: Duration = Duration::from_secs(20);

/// What the server does with one request.
pub(crate) enum Act {
    /// Reads it to its end and says this.
    Answer(String),
    /// Says this before the body is read, then reads on.
    AnswerEarly(String),
    /// Reads so many bytes of the body, then nothing more.
    StopReading(usize),
    /// Reads it to its end and keeps silent.
    KeepSilent,
    /// Reads so many bytes of the body, then drops the connection.
    Drop(usize),
    /// Reads it, says this, and neither goes on nor closes.
    AnswerPart(String),
}

/// What came.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) heads: Vec<String>,
    /// Bytes of a body that ended before its length.
    pub(crate) cut_short: Vec<usize>,
}

/// A server that does as it is told, request by request.
pub(crate) struct Script {
    pub(crate) acts: Mutex<VecDeque<Act>>,
    pub(crate) seen: Mutex<Seen>,
}

impl Script {
    /// One that is told this, and its endpoint.
    pub(crate) async fn start(acts: impl IntoIterator<Item = Act>) -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = listener.local_addr().expect("an address").to_string();
        let script = Arc::new(Self { acts: Mutex::new(acts.into_iter().collect()), seen: Mutex::default() });
        let serving = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&serving).serve(socket));
            }
        });
        (script, endpoint)
    }

    async fn serve(self: Arc<Self>, mut socket: TcpStream) {
        let mut buffer = Vec::new();
        while let Some(end) = read_head(&mut socket, &mut buffer).await {
            let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            self.seen.lock().expect("unpoisoned").heads.push(String::from_utf8_lossy(&buffer[..end]).into_owned());
            let already = (buffer.len() - end).min(length);
            buffer.drain(..end + already);
            let act = self.acts.lock().expect("unpoisoned").pop_front();
            let Some(act) = act else { return };
            let left = length - already;
            match act {
                Act::Answer(text) => {
                    if !self.read(&mut socket, left, already).await {
                        return;
                    }
                    say(&mut socket, &text).await;
                }
                Act::AnswerEarly(text) => {
                    say(&mut socket, &text).await;
                    self.read(&mut socket, left, already).await;
                    return;
                }
                Act::StopReading(bytes) => {
                    self.read(&mut socket, bytes.saturating_sub(already), already).await;
                    sleep(LONG).await;
                }
                Act::KeepSilent => {
                    self.read(&mut socket, left, already).await;
                    sleep(LONG).await;
                }
                Act::Drop(bytes) => {
                    self.read(&mut socket, bytes.saturating_sub(already), already).await;
                    return;
                }
                Act::AnswerPart(text) => {
                    self.read(&mut socket, left, already).await;
                    say(&mut socket, &text).await;
                    sleep(LONG).await;
                }
            }
        }
    }

    async fn read(&self, socket: &mut TcpStream, mut left: usize, already: usize) -> bool {
        let (mut buffer, wanted) = (vec![0; 64 << 10], left + already);
        while left > 0 {
            let most = left.min(buffer.len());
            match socket.read(&mut buffer[..most]).await {
                Ok(0) | Err(_) => {
                    self.seen.lock().expect("unpoisoned").cut_short.push(wanted - left);
                    return false;
                }
                Ok(n) => left -= n,
            }
        }
        true
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.seen.lock().expect("unpoisoned").heads.clone()
    }
}

pub(crate) async fn read_head(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<usize> {
    loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            return Some(at + 4);
        }
        if socket.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

async fn say(socket: &mut TcpStream, text: &str) {
    // A client that is gone is what some of these tests are about.
    let _ = socket.write_all(text.as_bytes()).await;
}
