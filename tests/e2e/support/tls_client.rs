//! Clients of TLS listeners that see what they were shown.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme, SupportedProtocolVersion, version,
};

use super::client::{Connection, Reply, head};
use super::until;
use crate::pki::Signed;

pub static V1_2: &[&SupportedProtocolVersion] = &[&version::TLS12];
pub static V1_3: &[&SupportedProtocolVersion] = &[&version::TLS13];
static BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

/// What a client speaks.
pub struct Speaks<'a> {
    pub versions: &'static [&'static SupportedProtocolVersion],
    pub alpn: &'a [&'a [u8]],
    pub schemes: Option<&'a [SignatureScheme]>,
    pub certificate: Option<&'a Signed>,
    pub sni: bool,
}

impl Default for Speaks<'_> {
    fn default() -> Self {
        Speaks {
            versions: BOTH,
            alpn: &[b"http/1.1"],
            schemes: None,
            certificate: None,
            sni: true,
        }
    }
}

/// A client; it remembers its sessions.
#[derive(Clone)]
pub struct Client {
    connector: TlsConnector,
    seen: Arc<Anything>,
}

/// A connection.
pub struct Made {
    pub stream: TlsStream<TcpStream>,
    pub resumed: bool,
    pub alpn: Option<Vec<u8>>,
}

impl Made {
    /// The first certificate of the chain that was shown.
    pub fn certificate(&self) -> CertificateDer<'static> {
        let chain = self.stream.get_ref().1.peer_certificates().unwrap();
        chain[0].clone().into_owned()
    }

    /// A request over HTTP/1.1.
    pub fn http(self) -> Connection {
        Connection::over(self.stream)
    }
}

impl Client {
    pub fn new(speaks: Speaks<'_>) -> Self {
        let provider = Arc::new(ring::default_provider());
        let all = provider.signature_verification_algorithms.supported_schemes();
        let seen = Arc::new(Anything {
            schemes: speaks.schemes.map_or(all, <[_]>::to_vec),
            provider: provider.clone(),
            offered: Mutex::default(),
        });
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(speaks.versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(seen.clone());
        let mut config = match speaks.certificate {
            Some(signed) => builder
                .with_client_auth_cert(vec![signed.cert.clone()], signed.key.clone_key())
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = speaks.alpn.iter().map(|name| name.to_vec()).collect();
        config.enable_sni = speaks.sni;
        Client {
            connector: TlsConnector::from(Arc::new(config)),
            seen,
        }
    }

    /// Connects and shakes hands, once the listener is there.
    pub async fn try_connect(&self, address: SocketAddr, name: &str) -> std::io::Result<Made> {
        let stream = until("the listener is there", super::client::PATIENCE, || async {
            TcpStream::connect(address).await.ok()
        })
        .await;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = self.connector.connect(name, stream).await?;
        let session = stream.get_ref().1;
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        let alpn = session.alpn_protocol().map(<[_]>::to_vec);
        Ok(Made { stream, resumed, alpn })
    }

    pub async fn connect(&self, address: SocketAddr, name: &str) -> Made {
        self.try_connect(address, name).await.unwrap()
    }

    /// The certificate shown for a name.
    pub async fn shown(&self, address: SocketAddr, name: &str) -> CertificateDer<'static> {
        self.connect(address, name).await.certificate()
    }

    /// A request of its own connection; `None`: no answer came.
    pub async fn get(&self, address: SocketAddr, path: &str) -> Option<Reply> {
        let made = self.try_connect(address, "localhost").await.ok()?;
        let mut connection = made.http();
        connection.send(&head("GET", path, &[("connection", "close")])).await;
        connection.try_reply(false).await
    }

    /// How many certificates were looked at: a resumed session shows none.
    pub fn verified(&self) -> usize {
        *self.seen.offered.lock().unwrap()
    }
}

/// Takes any certificate, but checks that its holder signed: what is shown is the tests' affair.
#[derive(Debug)]
struct Anything {
    schemes: Vec<SignatureScheme>,
    provider: Arc<CryptoProvider>,
    offered: Mutex<usize>,
}

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.offered.lock().unwrap() += 1;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
