//! The sandbox provider: speaks all four dialects, scripted by model name, counts what it served. For the quick start,
//! tests and load tests.

use std::sync::Arc;

/// The provider and its counts.
#[derive(Default)]
pub struct Sandbox {}

impl Sandbox {
    /// Its routes.
    pub fn router(self: Arc<Self>) -> axum::Router {
        axum::Router::new()
    }
}

/// Serves HTTP/1.1 and HTTP/2 (prior knowledge) until `stop` resolves.
pub async fn serve(
    _listener: tokio::net::TcpListener,
    _sandbox: Arc<Sandbox>,
    _stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    Ok(())
}
