//! The provider over HTTP/1.1, by hand: requests as they came, answers byte by byte.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::answer::Framing;
use super::{Answer, Gone, Log, Received, Script, Step};

pub(super) async fn serve(mut stream: TcpStream, script: Arc<Script>, log: &Log) -> std::io::Result<()> {
    let mut read = Vec::new();
    loop {
        let Some(request) = read_request(&mut stream, &mut read, log).await? else {
            return Ok(());
        };
        let id = request.id();
        log.received.lock().push(request.clone());
        let answer = script(&request);
        drop(request);
        let (mut reader, mut writer) = stream.split();
        let mut byte = [0u8; 1];
        let done = tokio::select! {
            biased;
            played = play(&mut writer, &answer, log) => played,
            // Nobody pipelines here: what can be read is the end.
            _ = reader.read(&mut byte) => Err(std::io::ErrorKind::ConnectionAborted.into()),
        };
        match done {
            Ok(Some(Step::Reset)) => {
                #[allow(
                    deprecated,
                    reason = "what blocks is the close of a lingering socket; this one does not linger"
                )]
                stream.set_linger(Some(Duration::ZERO))?;
                return Ok(());
            }
            Ok(Some(_)) => return Ok(()),
            Ok(None) => {}
            Err(error) => {
                log.gone.lock().push(Gone { id, at: Instant::now() });
                return Err(error);
            }
        }
    }
}

/// Plays an answer; `Some`: the step which ends the connection.
async fn play(
    writer: &mut tokio::net::tcp::WriteHalf<'_>,
    answer: &Answer,
    log: &Log,
) -> std::io::Result<Option<Step>> {
    if let Some(wait) = answer.wait() {
        tokio::time::sleep(wait).await;
    }
    let mut head = format!("HTTP/1.1 {} Status\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    match answer.framing {
        Framing::Length => {
            let length: usize = answer
                .steps
                .iter()
                .map(|step| if let Step::Send(bytes) = step { bytes.len() } else { 0 })
                .sum();
            head += &format!("content-length: {length}\r\n\r\n");
        }
        Framing::Chunked => head += "transfer-encoding: chunked\r\n\r\n",
        Framing::Raw => head.clear(),
    }
    // A hang or an end before any byte of the body is one before the header too.
    let mut head = Some(head).filter(|head| !head.is_empty());
    for step in &answer.steps {
        match step {
            Step::Send(bytes) => {
                let mut out = head.take().unwrap_or_default().into_bytes();
                frame(&mut out, bytes, answer.framing);
                writer.write_all(&out).await?;
                writer.flush().await?;
            }
            Step::Wait(time) => tokio::time::sleep(*time).await,
            Step::Until(told) => told.notified().await,
            Step::Hang => std::future::pending().await,
            Step::Cut | Step::Reset => return Ok(Some(step.clone())),
            Step::Flood(bytes, times) => {
                let mut out = Vec::new();
                frame(&mut out, bytes, answer.framing);
                if let Some(head) = head.take() {
                    writer.write_all(head.as_bytes()).await?;
                }
                for _ in 0..*times {
                    writer.write_all(&out).await?;
                    log.sent.fetch_add(bytes.len(), Ordering::Relaxed);
                }
            }
        }
    }
    match answer.framing {
        Framing::Chunked => writer.write_all(b"0\r\n\r\n").await?,
        Framing::Raw => return Ok(Some(Step::Cut)),
        Framing::Length => {}
    }
    Ok(None)
}

fn frame(out: &mut Vec<u8>, bytes: &[u8], framing: Framing) {
    if framing != Framing::Chunked {
        out.extend_from_slice(bytes);
    } else if !bytes.is_empty() {
        out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
        out.extend_from_slice(bytes);
        out.extend_from_slice(b"\r\n");
    }
}

async fn read_request(stream: &mut TcpStream, read: &mut Vec<u8>, log: &Log) -> std::io::Result<Option<Received>> {
    let end = loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(read).await? == 0 {
            return Ok(None);
        }
    };
    log.begun.fetch_add(1, Ordering::Relaxed);
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    read.drain(..end);
    let mut lines = head.trim_end().split("\r\n");
    let mut line = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, target) = (line.next().unwrap_or_default(), line.next().unwrap_or_default());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let mut request = Received {
        version: "HTTP/1.1",
        method,
        target,
        headers: headers.collect(),
        body: Vec::new(),
    };
    if request.header("transfer-encoding").is_some() {
        loop {
            while !read.windows(2).any(|two| two == b"\r\n") {
                if stream.read_buf(read).await? == 0 {
                    return Ok(None);
                }
            }
            let line = read.windows(2).position(|two| two == b"\r\n").unwrap_or(0);
            let size = usize::from_str_radix(&String::from_utf8_lossy(&read[..line]), 16).unwrap_or(0);
            while read.len() < line + 2 + size + 2 {
                if stream.read_buf(read).await? == 0 {
                    return Ok(None);
                }
            }
            request.body.extend_from_slice(&read[line + 2..line + 2 + size]);
            read.drain(..line + 2 + size + 2);
            if size == 0 {
                return Ok(Some(request));
            }
        }
    }
    let length = request
        .header("content-length")
        .map_or(0usize, |length| length.parse().unwrap_or(0));
    read.reserve(length.saturating_sub(read.len()));
    while read.len() < length {
        if stream.read_buf(read).await? == 0 {
            return Ok(None);
        }
    }
    request.body = read.drain(..length).collect();
    Ok(Some(request))
}
