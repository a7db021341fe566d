//! An HTTP/2 client, over anything.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::client::{Reply, Wire};

/// A connection.
pub struct Connection {
    pub sender: SendRequest<Full<Bytes>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream).await
    }

    pub async fn over(wire: impl Wire + 'static) -> Self {
        Self::with_window(wire, 1 << 20).await
    }

    /// A client that takes so many bytes of an answer before it reads.
    pub async fn with_window(wire: impl Wire + 'static, window: u32) -> Self {
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .handshake(TokioIo::new(wire))
            .await
            .unwrap();
        let task = tokio::spawn(async move {
            let _ = connection.await;
        });
        Connection { sender, task }
    }

    /// Sends a request; the answer's header.
    pub async fn begin(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
        length: bool,
    ) -> http::Response<Incoming> {
        let size = body.len().to_string();
        let mut request = Request::post(format!("http://gateway.test{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if length {
            request = request.header("content-length", size);
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(60), self.sender.send_request(request));
        answer.await.expect("an answer in time").expect("an answer")
    }

    pub async fn post(&mut self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Reply {
        let answer = self.begin(path, headers, body, true).await;
        collect(answer).await
    }
}

/// Reads an answer to its end.
pub async fn collect(answer: http::Response<Incoming>) -> Reply {
    let (parts, mut body) = answer.into_parts();
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned()));
    let mut reply = Reply {
        status: parts.status.as_u16(),
        headers: headers.collect(),
        body: Vec::new(),
        complete: false,
        chunks: Vec::new(),
    };
    loop {
        match tokio::time::timeout(Duration::from_secs(60), body.frame())
            .await
            .expect("the answer goes on")
        {
            None => {
                reply.complete = true;
                return reply;
            }
            Some(Err(_)) => return reply,
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    reply.chunks.push(data.len());
                    reply.body.extend_from_slice(&data);
                }
            }
        }
    }
}
