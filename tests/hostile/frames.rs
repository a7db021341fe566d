//! HTTP/2 by hand: frames as they are wanted, also wrong ones.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::client::PATIENCE;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A header block without compression (RFC 7541, 6.2.2: literals that are not indexed).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            integer(&mut out, text.len());
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// RFC 7541, 5.1, with a prefix of seven bits.
pub fn integer(out: &mut Vec<u8>, mut number: usize) {
    if number < 127 {
        out.push(number as u8);
        return;
    }
    out.push(127);
    number -= 127;
    while number >= 128 {
        out.push((number % 128) as u8 | 128);
        number /= 128;
    }
    out.push(number as u8);
}

/// A connection over which the preface went.
pub struct Frames {
    stream: TcpStream,
    read: Vec<u8>,
    /// Frames that came.
    pub came: Vec<Frame>,
    /// The other side closed it.
    pub closed: bool,
}

impl Frames {
    /// `settings`: pairs of identifier and value.
    pub async fn open(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        let hello = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(SETTINGS, 0, 0, &payload),
        ]
        .concat();
        stream.write_all(&hello).await.unwrap();
        Frames {
            stream,
            read: Vec::new(),
            came: Vec::new(),
            closed: false,
        }
    }

    /// Sends bytes; false: it is closed, or takes no more.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = timeout(Duration::from_secs(5), self.stream.write_all(bytes)).await;
        matches!(sent, Ok(Ok(())))
    }

    /// Reads frames until one is `wanted`, or it closes, or for so long.
    pub async fn until(&mut self, wait: Duration, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let end = tokio::time::Instant::now() + wait;
        loop {
            while let Some(next) = self.next() {
                self.came.push(next.clone());
                if wanted(&next) {
                    return Some(next);
                }
            }
            if self.closed {
                return None;
            }
            let mut piece = vec![0; 16 * 1024];
            match tokio::time::timeout_at(end, self.stream.read(&mut piece)).await {
                Err(_) => return None,
                Ok(Ok(0) | Err(_)) => self.closed = true,
                Ok(Ok(read)) => self.read.extend_from_slice(&piece[..read]),
            }
        }
    }

    fn next(&mut self) -> Option<Frame> {
        let head = self.read.get(..9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if self.read.len() < 9 + length {
            return None;
        }
        let payload = self.read[9..9 + length].to_vec();
        self.read.drain(..9 + length);
        Some(Frame {
            kind,
            flags,
            stream,
            payload,
        })
    }

    /// Waits until it is closed, or the patience is over.
    pub async fn closes(&mut self) -> bool {
        self.until(PATIENCE, |_| false).await;
        self.closed
    }

    /// The end of this stream: a reset, or an answer's last frame; `None`: the connection ended first.
    pub async fn end_of(&mut self, stream: u32) -> Option<Frame> {
        self.until(PATIENCE, |frame| {
            frame.stream == stream
                && (frame.kind == RST_STREAM || matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0)
        })
        .await
    }

    /// The status of the answer on this stream, as far as it is one of those with an entry in the static table.
    pub fn status(&self, stream: u32) -> Option<u16> {
        let head = self
            .came
            .iter()
            .find(|frame| frame.stream == stream && frame.kind == HEADERS)?;
        // Changes of the table's size come first.
        let first = head.payload.iter().find(|byte| **byte & 0xe0 != 0x20)?;
        match first {
            0x88 => Some(200),
            0x89 => Some(204),
            0x8c => Some(400),
            0x8d => Some(404),
            0x8e => Some(500),
            _ => Some(0),
        }
    }
}
