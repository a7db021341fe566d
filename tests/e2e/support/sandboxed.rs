//! The sandbox provider, in this process: it remembers what it was asked.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tollgate::sandbox::{self, Sandbox};

/// A sandbox that listens; it stops when dropped.
pub struct Sandboxed {
    pub address: SocketAddr,
    pub sandbox: Arc<Sandbox>,
    task: tokio::task::JoinHandle<()>,
}

impl Sandboxed {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sandbox = Sandbox::new(true);
        let serve = sandbox::serve(
            listener,
            sandbox.clone(),
            std::future::pending(),
            std::future::pending(),
        );
        let task = tokio::spawn(async move {
            let _ = serve.await;
        });
        Sandboxed { address, sandbox, task }
    }
}

impl Drop for Sandboxed {
    fn drop(&mut self) {
        self.task.abort();
    }
}
