//! A provider on the loopback: plain or TLS, HTTP/1.1 and HTTP/2. Says of each request on which connection it came, from
//! where, in which version, and with which client certificate.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use crate::pki::{Authority, Signed};

pub struct Origin {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Origin {
    pub async fn plain() -> Self {
        Self::start(None).await
    }

    /// TLS with this certificate; with `clients` only for whom that authority signed.
    pub async fn tls(signed: &Signed, clients: Option<&Authority>, h2: bool) -> Self {
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.der()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
            None => builder.with_no_client_auth(),
        };
        let chain = vec![signed.cert.clone()];
        let mut config = builder.with_single_cert(chain, signed.key.clone_key()).unwrap();
        if h2 {
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        }
        Self::start(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn start(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, from)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, number, from, "").await,
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            let shown = stream.get_ref().1.peer_certificates().is_some();
                            serve(stream, number, from, if shown { " known" } else { "" }).await;
                        }
                    }
                });
            }
        });
        Origin {
            address,
            connections,
            task,
        }
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<S>(stream: S, number: usize, from: SocketAddr, known: &'static str)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| async move {
        let version = if request.version() == Version::HTTP_2 {
            "h2"
        } else {
            "h1"
        };
        let text = format!("connection {number} from {} {version}{known}", from.ip());
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
    });
    // Who goes away is no fault here.
    let _ = Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
