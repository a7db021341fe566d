//! An HTTP/1.1 client which sends what it is told, also what no library would, and tells how an answer ended.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body came to its proper end: all of Content-Length, or the last chunk.
    pub complete: bool,
    /// Sizes of the chunks, as they were framed.
    pub chunks: Vec<usize>,
}

impl Reply {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The connection ends with it.
    pub fn closes(&self) -> bool {
        self.header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("status {}: not JSON ({error}): {}", self.status, self.text()))
    }
}

/// Any connection.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// A connection.
pub struct Connection {
    wire: Box<dyn Wire>,
    read: Vec<u8>,
    ended: bool,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        Self::try_open(address).await.unwrap()
    }

    pub async fn try_open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }

    pub fn over(wire: impl Wire + 'static) -> Self {
        Connection {
            wire: Box::new(wire),
            read: Vec::new(),
            ended: false,
        }
    }

    /// Sends bytes; what can't be sent because the other side closed shows when the answer is read.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = timeout(PATIENCE, self.wire.write_all(bytes))
            .await
            .expect("the gateway takes what is sent");
        let _ = self.wire.flush().await;
    }

    /// Reads more; false: the other side closed.
    pub async fn fill(&mut self) -> bool {
        if self.ended {
            return false;
        }
        let mut piece = vec![0; 256 * 1024];
        match timeout(PATIENCE, self.wire.read(&mut piece))
            .await
            .expect("an answer, or the end of the connection")
        {
            Ok(0) | Err(_) => {
                self.ended = true;
                false
            }
            Ok(read) => {
                self.read.extend_from_slice(&piece[..read]);
                true
            }
        }
    }

    /// Waits until the other side closes; what it sent before.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.read)
    }

    /// What was read and not yet used.
    pub fn buffered(&self) -> &[u8] {
        &self.read
    }

    /// Status and headers of the next answer; `None`: closed before.
    pub async fn head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if !self.fill().await {
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        Some((status, headers.collect()))
    }

    /// The next final answer; `None`: closed before its header.
    pub async fn try_reply(&mut self, head_request: bool) -> Option<Reply> {
        let (status, headers) = loop {
            let (status, headers) = self.head().await?;
            if status >= 200 {
                break (status, headers);
            }
        };
        let mut reply = Reply {
            status,
            headers,
            body: Vec::new(),
            complete: false,
            chunks: Vec::new(),
        };
        if head_request || matches!(status, 204 | 304) {
            reply.complete = true;
        } else if reply.header("transfer-encoding").is_some() {
            reply.complete = self.chunked(&mut reply).await;
        } else if let Some(length) = reply.header("content-length") {
            let length: usize = length.parse().unwrap();
            while self.read.len() < length && self.fill().await {}
            reply.complete = self.read.len() >= length;
            reply.body = self.read.drain(..length.min(self.read.len())).collect();
        } else {
            reply.body = self.rest().await;
        }
        Some(reply)
    }

    pub async fn reply(&mut self) -> Reply {
        self.try_reply(false)
            .await
            .expect("an answer before the connection closes")
    }

    async fn chunked(&mut self, reply: &mut Reply) -> bool {
        loop {
            let line_end = loop {
                if let Some(end) = self.read.windows(2).position(|two| two == b"\r\n") {
                    break end;
                }
                if !self.fill().await {
                    return false;
                }
            };
            let size = std::str::from_utf8(&self.read[..line_end]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            while self.read.len() < line_end + 2 + size + 2 {
                if !self.fill().await {
                    reply
                        .body
                        .extend_from_slice(self.read.get(line_end + 2..).unwrap_or_default());
                    return false;
                }
            }
            reply
                .body
                .extend_from_slice(&self.read[line_end + 2..line_end + 2 + size]);
            self.read.drain(..line_end + 2 + size + 2);
            if size == 0 {
                return true;
            }
            reply.chunks.push(size);
        }
    }

    /// Waits until the answer's header is there and `bytes` of its body as it stands on the wire.
    pub async fn started(&mut self, bytes: usize) {
        if self.head().await.is_some() {
            while self.read.len() < bytes && self.fill().await {}
        }
    }
}

/// The header of a request; names and values as they are given.
pub fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: gateway.test\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    head.into_bytes()
}

/// A request with Content-Length on a connection of its own.
pub async fn send(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let length = body.len().to_string();
    let mut all = headers.to_vec();
    if !body.is_empty() || method == "POST" {
        all.push(("content-length", &length));
    }
    all.push(("connection", "close"));
    let mut connection = Connection::open(address).await;
    let mut bytes = head(method, path, &all);
    bytes.extend_from_slice(body);
    connection.send(&bytes).await;
    connection
        .try_reply(method == "HEAD")
        .await
        .unwrap_or_else(|| panic!("{method} {path}: no answer"))
}

pub async fn get(address: SocketAddr, path: &str) -> Reply {
    send(address, "GET", path, &[], &[]).await
}

/// Where nobody may listen yet.
pub async fn try_get(address: SocketAddr, path: &str) -> Option<Reply> {
    let mut connection = Connection::try_open(address).await.ok()?;
    connection.send(&head("GET", path, &[("connection", "close")])).await;
    connection.try_reply(false).await
}

/// `body` in chunks of these sizes, in turn.
pub fn chunked(body: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + body.len() / 64);
    let (mut rest, mut turn) = (body, 0);
    while !rest.is_empty() {
        let size = sizes[turn % sizes.len()].min(rest.len());
        turn += 1;
        out.extend_from_slice(format!("{size:x}\r\n").as_bytes());
        out.extend_from_slice(&rest[..size]);
        out.extend_from_slice(b"\r\n");
        rest = &rest[size..];
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}
