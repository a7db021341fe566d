//! The provider: answers a request with the recording which its `traceparent` names (a header the gateway passes on), in
//! the pieces which it names. Plain HTTP/1.1 by hand, because the pieces are the point: each is one write and one chunk.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::case::Case;

/// In the mode byte by byte: how much of one answer comes so; the rest comes in one piece. All recordings but one are shorter.
const BYTEWISE: usize = 200 * 1024;

/// How an answer is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pieces {
    /// A stream event by event, anything else whole.
    Recorded,
    /// Byte by byte.
    Bytes,
}

/// A request as it arrived.
pub struct Seen {
    pub target: String,
    pub body: Vec<u8>,
}

type AllSeen = HashMap<(usize, Pieces), Vec<Seen>>;

pub struct Provider {
    pub address: SocketAddr,
    seen: Arc<Mutex<AllSeen>>,
}

/// A `traceparent` (W3C Trace Context) which names a recording.
pub fn ticket(index: usize, pieces: Pieces) -> String {
    let span = if pieces == Pieces::Recorded { 1 } else { 2 };
    format!("00-{:032x}-{span:016x}-01", index + 1)
}

fn read_ticket(ticket: &str) -> Option<(usize, Pieces)> {
    let mut parts = ticket.split('-').skip(1);
    let index = usize::from_str_radix(parts.next()?, 16).ok()?.checked_sub(1)?;
    let span = usize::from_str_radix(parts.next()?, 16).ok()?;
    Some((index, if span == 1 { Pieces::Recorded } else { Pieces::Bytes }))
}

impl Provider {
    pub async fn start(cases: Arc<Vec<Case>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(AllSeen::new()));
        let all = seen.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (cases, seen) = (cases.clone(), all.clone());
                // A connection which breaks is the other side's affair: the judge sees what came of it.
                tokio::spawn(async move { serve(connection, &cases, &seen).await.ok() });
            }
        });
        Provider { address, seen }
    }

    /// What has arrived, by recording and mode.
    pub fn seen(&self) -> AllSeen {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

async fn serve(mut connection: TcpStream, cases: &[Case], seen: &Mutex<AllSeen>) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if connection.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
        let header = |name: &str| {
            text.lines()
                .skip(1)
                .filter_map(|line| line.split_once(':'))
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim())
        };
        let length: usize = header("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        while buffer.len() < head + 4 + length {
            if connection.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let rest = buffer.split_off(head + 4 + length);
        let body = buffer.split_off(head + 4);
        buffer = rest;
        let target = text.split(' ').nth(1).unwrap_or_default().to_owned();
        let Some((index, pieces)) = header("traceparent").and_then(read_ticket) else {
            return connection
                .write_all(b"HTTP/1.1 599 No Ticket\r\ncontent-length: 0\r\n\r\n")
                .await;
        };
        seen.lock()
            .unwrap()
            .entry((index, pieces))
            .or_default()
            .push(Seen { target, body });
        answer(&mut connection, &cases[index], pieces).await?;
    }
}

async fn answer(connection: &mut TcpStream, case: &Case, pieces: Pieces) -> std::io::Result<()> {
    let framing = if case.stream {
        "transfer-encoding: chunked".to_owned()
    } else {
        format!("content-length: {}", case.answer.len())
    };
    let head = format!(
        "HTTP/1.1 {} Recorded\r\ncontent-type: {}\r\n{framing}\r\n\r\n",
        case.status, case.content_type
    );
    connection.write_all(head.as_bytes()).await?;
    for piece in cut(case, pieces) {
        if case.stream {
            let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
            chunk.extend_from_slice(piece);
            chunk.extend_from_slice(b"\r\n");
            connection.write_all(&chunk).await?;
        } else {
            connection.write_all(piece).await?;
        }
    }
    if case.stream {
        connection.write_all(b"0\r\n\r\n").await?;
    }
    Ok(())
}

fn cut(case: &Case, pieces: Pieces) -> Vec<&[u8]> {
    let bytes = &case.answer[..];
    match pieces {
        Pieces::Bytes => {
            let (slow, fast) = bytes.split_at(bytes.len().min(BYTEWISE));
            slow.chunks(1).chain((!fast.is_empty()).then_some(fast)).collect()
        }
        Pieces::Recorded if !case.stream => (!bytes.is_empty()).then_some(bytes).into_iter().collect(),
        Pieces::Recorded => {
            let (mut all, mut from) = (Vec::new(), 0);
            for at in 1..=bytes.len() {
                let done = &bytes[from..at];
                if done.ends_with(b"\n\n") || done.ends_with(b"\r\n\r\n") || at == bytes.len() {
                    all.push(done);
                    from = at;
                }
            }
            all
        }
    }
}
