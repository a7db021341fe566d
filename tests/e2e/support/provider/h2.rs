//! The provider over HTTP/2.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use futures_core::Stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::{Gone, Log, Received, Script, Step};

pub(super) async fn serve(stream: TcpStream, script: Arc<Script>, log: &Arc<Log>) -> std::io::Result<()> {
    let service = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| {
        let (script, log) = (script.clone(), log.clone());
        async move { Ok::<_, Infallible>(answer_h2(request, &*script, log).await) }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    builder
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(std::io::Error::other)
}

type Pieces = mpsc::Receiver<Result<Frame<Bytes>, std::io::Error>>;

/// A channel as a stream.
struct Channel(Pieces);

impl Stream for Channel {
    type Item = Result<Frame<Bytes>, std::io::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

async fn answer_h2(
    request: http::Request<hyper::body::Incoming>,
    script: &Script,
    log: Arc<Log>,
) -> http::Response<StreamBody<Channel>> {
    log.begun.fetch_add(1, Ordering::Relaxed);
    let (parts, body) = request.into_parts();
    let mut received = Received {
        version: "HTTP/2",
        method: parts.method.to_string(),
        target: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        ..Received::default()
    };
    received.headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    received.body = body
        .collect()
        .await
        .map_or_else(|_| Vec::new(), |body| body.to_bytes().to_vec());
    log.received.lock().push(received.clone());
    let id = received.id();
    let answer = script(&received);
    if let Some(wait) = answer.wait() {
        tokio::time::sleep(wait).await;
    }
    let (sender, receiver) = mpsc::channel(1);
    let mut response = http::Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    tokio::spawn(async move {
        for step in answer.steps {
            let sent = match step {
                Step::Send(bytes) => sender.send(Ok(Frame::data(bytes))).await.is_ok(),
                Step::Wait(time) => {
                    tokio::time::sleep(time).await;
                    true
                }
                Step::Until(told) => {
                    told.notified().await;
                    true
                }
                Step::Hang => {
                    sender.closed().await;
                    false
                }
                Step::Cut | Step::Reset => {
                    let _ = sender.send(Err(std::io::ErrorKind::ConnectionReset.into())).await;
                    return;
                }
                Step::Flood(bytes, times) => {
                    let mut open = true;
                    for _ in 0..times {
                        open = sender.send(Ok(Frame::data(bytes.clone()))).await.is_ok();
                        if !open {
                            break;
                        }
                        log.sent.fetch_add(bytes.len(), Ordering::Relaxed);
                    }
                    open
                }
            };
            if !sent {
                log.gone.lock().push(Gone { id, at: Instant::now() });
                return;
            }
        }
    });
    response.body(StreamBody::new(Channel(receiver))).unwrap()
}
