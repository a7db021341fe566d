//! A small HTTP/1.1 client: it costs little, so that what is measured is the other side.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where to send what.
#[derive(Clone)]
pub struct Target {
    /// The address.
    pub address: SocketAddr,
    /// The whole request as it goes over the wire.
    pub request: Vec<u8>,
}

impl Target {
    /// A POST of JSON to `http://ADDRESS:PORT/PATH`, with extra headers (`name: value`).
    pub fn post(url: &str, headers: &[String], body: &[u8]) -> anyhow::Result<Target> {
        let rest = url.strip_prefix("http://").context("the URL must begin with http://")?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let address = host.parse().with_context(|| format!("{host} is no ADDRESS:PORT"))?;
        let mut head = format!(
            "POST /{path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
            body.len(),
        );
        for header in headers {
            if header.contains(['\r', '\n']) || !header.contains(':') {
                bail!("{header:?} is no header: say NAME:VALUE");
            }
            head.push_str(header);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        Ok(Target { address, request })
    }

    /// The same for HTTP/2.
    pub fn http2(&self) -> anyhow::Result<http::Request<Full<Bytes>>> {
        let end = memchr::memmem::find(&self.request, b"\r\n\r\n").context("a header")?;
        let (head, body) = self.request.split_at(end + 4);
        let mut lines = std::str::from_utf8(head)?.lines();
        let path = lines.next().and_then(|line| line.split(' ').nth(1)).context("a path")?;
        let mut request = http::Request::post(format!("http://{}{path}", self.address));
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name != "host" && name != "connection" {
                request = request.header(name, value.trim());
            }
        }
        Ok(request.body(Full::new(Bytes::copy_from_slice(body)))?)
    }
}

/// A chat request of about `size` bytes.
pub fn chat(model: &str, stream: bool, size: usize) -> Vec<u8> {
    let text = "The quick brown fox jumps over the lazy dog. ";
    let text = text.repeat(size / text.len() + 1);
    let model = serde_json::Value::from(model);
    let frame = |text: &str| {
        let stream = if stream { r#","stream":true"# } else { "" };
        format!(r#"{{"model":{model},"messages":[{{"role":"user","content":"{text}"}}]{stream}}}"#)
    };
    let room = size.saturating_sub(frame("").len());
    frame(&text[..room]).into_bytes()
}

/// How the body of a response is delimited.
enum Framing {
    Length(usize),
    Chunked,
}

/// Largest header of a response.
const MAX_HEADER: usize = 16 << 10;
/// Bytes read at once.
const READ: usize = 64 << 10;

/// One connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
    /// The latest answer had `Retry-After`.
    pub told_to_wait: bool,
}

/// A response header.
pub struct Head {
    /// The status.
    pub status: u16,
    /// Where the header ends in the buffer.
    end: usize,
    framing: Framing,
    /// The server closes the connection afterwards.
    pub closes: bool,
    /// It has `Retry-After`.
    pub told_to_wait: bool,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(address).await.context("connect")?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            buffer: vec![0; MAX_HEADER],
            filled: 0,
            told_to_wait: false,
        })
    }

    /// Sends a request and reads the header of its answer.
    pub async fn send(&mut self, request: &[u8]) -> anyhow::Result<Head> {
        self.stream.write_all(request).await.context("send")?;
        self.filled = 0;
        loop {
            if self.filled == self.buffer.len() {
                bail!("the header of the response is over {} bytes", self.filled);
            }
            let read = self
                .stream
                .read(&mut self.buffer[self.filled..])
                .await
                .context("read")?;
            if read == 0 {
                bail!("the connection was closed before the header");
            }
            self.filled += read;
            if let Some(head) = parse(&self.buffer[..self.filled])? {
                self.told_to_wait = head.told_to_wait;
                return Ok(head);
            }
        }
    }

    /// Sends a request and reads its whole answer. Returns the status, and whether the connection stays open.
    pub async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<(u16, bool)> {
        let head = self.send(request).await?;
        match head.framing {
            Framing::Length(length) => {
                let mut missing = (head.end + length).saturating_sub(self.filled);
                if missing > 0 {
                    self.buffer.resize(self.buffer.len().max(READ), 0);
                }
                while missing > 0 {
                    let room = missing.min(self.buffer.len());
                    missing -= self.read_some(room).await?;
                }
            }
            Framing::Chunked => {
                let mut chunks = Chunks::default();
                let mut done = chunks.feed(&self.buffer[head.end..self.filled])?;
                while !done {
                    self.buffer.resize(self.buffer.len().max(READ), 0);
                    let read = self.read_some(self.buffer.len()).await?;
                    done = chunks.feed(&self.buffer[..read])?;
                }
            }
        }
        Ok((head.status, !head.closes))
    }

    /// Reads on in a streamed answer, after [`send`](Connection::send): the bytes which came with the header first.
    pub async fn next(&mut self, head: &mut Option<Head>) -> anyhow::Result<&[u8]> {
        if let Some(head) = head.take()
            && head.end < self.filled
        {
            return Ok(&self.buffer[head.end..self.filled]);
        }
        let read = self.stream.read(&mut self.buffer).await.context("read")?;
        Ok(&self.buffer[..read])
    }

    async fn read_some(&mut self, room: usize) -> anyhow::Result<usize> {
        match self.stream.read(&mut self.buffer[..room]).await.context("read")? {
            0 => bail!("the connection was closed in the body"),
            read => Ok(read),
        }
    }
}

fn parse(bytes: &[u8]) -> anyhow::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = response.parse(bytes)? else {
        return Ok(None);
    };
    let (mut framing, mut closes, mut told_to_wait) = (None, false, false);
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            framing = Some(Framing::Length(std::str::from_utf8(header.value)?.trim().parse()?));
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Some(Framing::Chunked);
        } else if header.name.eq_ignore_ascii_case("connection") {
            closes = header.value.eq_ignore_ascii_case(b"close");
        } else if header.name.eq_ignore_ascii_case("retry-after") {
            told_to_wait = true;
        }
    }
    let framing = framing.context("the response says neither its length nor that it is chunked")?;
    Ok(Some(Head {
        status: response.code.unwrap_or(0),
        end,
        framing,
        closes,
        told_to_wait,
    }))
}

/// Follows the chunks of a body to find its end.
#[derive(Default)]
pub struct Chunks {
    /// Bytes of the current chunk still to come, with its line end.
    missing: usize,
    /// The line with a size, or of the trailer, so far.
    line: Vec<u8>,
    /// The last chunk was seen: what follows is the trailer.
    trailer: bool,
}

/// Longest line with the size of a chunk.
const MAX_LINE: usize = 1 << 10;

impl Chunks {
    /// Takes in bytes; true when the body is complete.
    pub fn feed(&mut self, mut bytes: &[u8]) -> anyhow::Result<bool> {
        while !bytes.is_empty() {
            if self.missing > 0 {
                let skip = self.missing.min(bytes.len());
                self.missing -= skip;
                bytes = &bytes[skip..];
                continue;
            }
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                self.line.extend_from_slice(bytes);
                if self.line.len() > MAX_LINE {
                    bail!("the size of a chunk is over {MAX_LINE} bytes long");
                }
                return Ok(false);
            };
            self.line.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            let text = std::str::from_utf8(&line)?.trim();
            match self.trailer {
                true if text.is_empty() => return Ok(true),
                true => {}
                false => {
                    let size = usize::from_str_radix(text.split(';').next().unwrap_or_default().trim(), 16)?;
                    self.trailer = size == 0;
                    self.missing = if size == 0 { 0 } else { size + 2 };
                }
            }
        }
        Ok(false)
    }
}
