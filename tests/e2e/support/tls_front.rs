//! TLS in front of a provider: what comes in is passed on as it is, in whichever version of HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use crate::pki::{Authority, Signed};

/// A connection that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub from: SocketAddr,
    /// The client showed a certificate.
    pub known: bool,
    pub h2: bool,
}

/// Runs until dropped.
pub struct TlsFront {
    pub address: SocketAddr,
    taken: Arc<Mutex<Vec<Taken>>>,
    task: tokio::task::JoinHandle<()>,
}

impl TlsFront {
    /// With `clients` only for whom that authority signed.
    pub async fn start(signed: &Signed, clients: Option<&Authority>, target: SocketAddr) -> Self {
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
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let taken: Arc<Mutex<Vec<Taken>>> = Arc::default();
        let log = taken.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, from)) = listener.accept().await {
                let (acceptor, log) = (acceptor.clone(), log.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let session = stream.get_ref().1;
                    log.lock().push(Taken {
                        from,
                        known: session.peer_certificates().is_some(),
                        h2: session.alpn_protocol() == Some(b"h2"),
                    });
                    let Ok(mut behind) = TcpStream::connect(target).await else {
                        return;
                    };
                    // Who goes away is no fault here.
                    let _ = copy_bidirectional(&mut stream, &mut behind).await;
                });
            }
        });
        TlsFront { address, taken, task }
    }

    /// The connections whose handshake succeeded.
    pub fn taken(&self) -> Vec<Taken> {
        self.taken.lock().clone()
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}
