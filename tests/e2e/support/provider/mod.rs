//! A provider which keeps requests exactly as they came and plays scripted answers byte by byte. It tells HTTP/2 (prior
//! knowledge) from HTTP/1.1 by the preface.

mod answer;
mod h1;
mod h2;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};

pub use answer::{Answer, Step};

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// `HTTP/1.1` or `HTTP/2`.
    pub version: &'static str,
    pub method: String,
    pub target: String,
    /// In order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without its framing.
    pub body: Vec<u8>,
}

impl Received {
    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// Its only value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "`{name}` stands more than once: {all:?}");
        all.first().copied()
    }

    /// The gateway's id of the request.
    pub fn id(&self) -> String {
        self.header("x-request-id").unwrap_or_default().to_owned()
    }
}

type Script = dyn Fn(&Received) -> Answer + Send + Sync;

/// The gateway closed its connection before the answer was complete.
#[derive(Clone, Debug)]
pub struct Gone {
    /// The request.
    pub id: String,
    /// When that was seen.
    pub at: Instant,
}

#[derive(Default)]
struct Log {
    received: Mutex<Vec<Received>>,
    gone: Mutex<Vec<Gone>>,
    begun: AtomicUsize,
    connections: AtomicUsize,
    sent: AtomicUsize,
}

/// A provider which runs until dropped.
pub struct Provider {
    pub address: SocketAddr,
    log: Arc<Log>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Provider {
    /// Answers each request with what `script` says.
    pub async fn start(script: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Log::default());
        let (script, keep): (Arc<Script>, _) = (Arc::new(script), log.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let (script, log) = (script.clone(), keep.clone());
                log.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let _ = serve(stream, script, &log).await;
                    log.connections.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Provider { address, log, task }
    }

    /// Complete requests so far.
    pub fn received(&self) -> Vec<Received> {
        self.log.received.lock().clone()
    }

    /// Requests of which at least the header came.
    pub fn count(&self) -> usize {
        self.log.begun.load(Ordering::Relaxed)
    }

    /// The latest one.
    pub fn last(&self) -> Received {
        self.log
            .received
            .lock()
            .last()
            .cloned()
            .expect("the provider was called")
    }

    /// Forgets what came.
    pub fn forget(&self) {
        self.log.received.lock().clear();
        self.log.gone.lock().clear();
        self.log.begun.store(0, Ordering::Relaxed);
    }

    /// Answers the gateway did not wait for.
    pub fn gone(&self) -> Vec<Gone> {
        self.log.gone.lock().clone()
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.log.connections.load(Ordering::Relaxed)
    }

    /// Bytes of flood the gateway took.
    pub fn flooded(&self) -> usize {
        self.log.sent.load(Ordering::Relaxed)
    }
}

async fn serve(stream: TcpStream, script: Arc<Script>, log: &Arc<Log>) -> std::io::Result<()> {
    let mut first = [0u8; 3];
    // Peeking does not consume: wait until three bytes are there.
    while stream.peek(&mut first).await? < 3 {
        if stream.peek(&mut first).await? == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    if &first == b"PRI" {
        h2::serve(stream, script, log).await
    } else {
        h1::serve(stream, script, log).await
    }
}
