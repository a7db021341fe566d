//! TLS with clients: the handshake at the door, and the stream behind it.
//!
//! Pingora has TLS listeners, but takes a minute for a handshake, makes its settings out of files once, and knows neither tickets
//! nor the lowest version. So its listeners here are plain, and the door shakes hands. Who connects is counted before.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use pingora::tls::{ServerTlsStream, TlsAcceptor};
use prometheus::{IntCounterVec, register_int_counter_vec};
use rustls::{AlertDescription, Error, HandshakeKind, PeerIncompatible, ProtocolVersion, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Handshakes that succeeded. `None` only if something else took the name.
static HANDSHAKES: LazyLock<Option<IntCounterVec>> = LazyLock::new(|| {
    let help = "TLS handshakes of clients, by version and whether an earlier session was resumed.";
    register_int_counter_vec!("tollgate_tls_handshakes_total", help, &["version", "resumed"]).ok()
});

/// … and those that did not.
static FAILURES: LazyLock<Option<IntCounterVec>> = LazyLock::new(|| {
    let help = "TLS handshakes of clients that failed, by reason.";
    register_int_counter_vec!("tollgate_tls_handshake_failures_total", help, &["reason"]).ok()
});

/// The TLS of one listener. What it is made of may change while connections are open; they go on with what they began with.
pub struct Handshake {
    config: ArcSwap<ServerConfig>,
    /// The whole handshake.
    deadline: Duration,
}

impl Handshake {
    /// With `config`; a handshake takes at most `deadline`. What comes after it has its time from the door.
    pub fn new(config: Arc<ServerConfig>, deadline: Duration) -> Self {
        if let Some(handshakes) = &*HANDSHAKES {
            for (version, resumed) in [("1.2", "no"), ("1.2", "yes"), ("1.3", "no"), ("1.3", "yes")] {
                handshakes.with_label_values(&[version, resumed]);
            }
        }
        if let Some(failures) = &*FAILURES {
            for reason in Reason::ALL {
                failures.with_label_values(&[reason.as_str()]);
            }
        }
        Handshake {
            config: ArcSwap::new(config),
            deadline,
        }
    }

    /// From now on handshakes are done with `config`.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        self.config.store(config);
    }

    /// Shakes hands; `None`: it failed, and the connection is closed.
    pub async fn shake(&self, stream: Stream) -> Option<Stream> {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        let reason = match tokio::time::timeout(super::door::spread(self.deadline), acceptor.accept(stream)).await {
            Ok(Ok(tls)) => return Some(Box::new(Secured::new(tls))),
            Ok(Err(error)) => Reason::of(&error),
            Err(_) => Reason::Timeout,
        };
        if let Some(failures) = &*FAILURES {
            failures.with_label_values(&[reason.as_str()]).inc();
        }
        tracing::debug!(reason = reason.as_str(), "a TLS handshake failed");
        None
    }
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// It was not done within the deadline.
    Timeout,
    /// The client closed before it was done.
    Closed,
    /// What came is not TLS.
    NotTls,
    /// The client speaks no version we speak.
    Version,
    /// Nothing in common to encrypt, sign or speak with.
    Incompatible,
    /// There is no certificate for the name that was asked for.
    UnknownName,
    /// A client certificate is missing or not good.
    ClientCertificate,
    /// The client does not trust our certificate.
    Untrusted,
    /// The client gave up for another reason.
    Alert,
    /// Anything else.
    Other,
}

impl Reason {
    const ALL: [Reason; 10] = [
        Reason::Timeout,
        Reason::Closed,
        Reason::NotTls,
        Reason::Version,
        Reason::Incompatible,
        Reason::UnknownName,
        Reason::ClientCertificate,
        Reason::Untrusted,
        Reason::Alert,
        Reason::Other,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Reason::Timeout => "timeout",
            Reason::Closed => "closed",
            Reason::NotTls => "not_tls",
            Reason::Version => "version",
            Reason::Incompatible => "incompatible",
            Reason::UnknownName => "unknown_name",
            Reason::ClientCertificate => "client_certificate",
            Reason::Untrusted => "untrusted",
            Reason::Alert => "alert",
            Reason::Other => "other",
        }
    }

    fn of(error: &io::Error) -> Self {
        let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<Error>()) else {
            // Not of TLS: the connection ended.
            return Reason::Closed;
        };
        match error {
            Error::InvalidMessage(_) => Reason::NotTls,
            Error::PeerIncompatible(
                // What came with TLS 1.2, and is looked for first.
                PeerIncompatible::SignatureAlgorithmsExtensionRequired
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled,
            ) => Reason::Version,
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Reason::Incompatible,
            // The resolver of certificates had none.
            Error::General(_) => Reason::UnknownName,
            Error::NoCertificatesPresented | Error::InvalidCertificate(_) => Reason::ClientCertificate,
            Error::AlertReceived(
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateRevoked
                | AlertDescription::UnsupportedCertificate,
            ) => Reason::Untrusted,
            Error::AlertReceived(AlertDescription::ProtocolVersion) => Reason::Version,
            Error::AlertReceived(_) => Reason::Alert,
            _ => Reason::Other,
        }
    }
}

/// A client's connection, secured.
struct Secured {
    tls: ServerTlsStream<Stream>,
    digest: Arc<SslDigest>,
}

impl Secured {
    fn new(tls: ServerTlsStream<Stream>) -> Self {
        let session = tls.get_ref().1;
        let (version, digest) = match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => ("1.3", "TLSv1.3"),
            _ => ("1.2", "TLSv1.2"),
        };
        let resumed = match session.handshake_kind() {
            Some(HandshakeKind::Resumed) => "yes",
            _ => "no",
        };
        if let Some(handshakes) = &*HANDSHAKES {
            handshakes.with_label_values(&[version, resumed]).inc();
        }
        let suite = session
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str());
        Secured {
            // Nothing of a client's certificate: it lets in, and says no more.
            digest: Arc::new(SslDigest::new(
                Cow::Borrowed(suite.unwrap_or_default()),
                Cow::Borrowed(digest),
                None,
                None,
                Vec::new(),
            )),
            tls,
        }
    }

    fn below(&self) -> &Stream {
        self.tls.get_ref().0
    }
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secured")
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl AsyncRead for Secured {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Secured {
    async fn shutdown(&mut self) {
        // Who is gone already needs no goodbye.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Secured {
    fn id(&self) -> UniqueIDType {
        self.below().id()
    }
}

impl Ssl for Secured {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        Some(self.digest.clone())
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        match self.tls.get_ref().1.alpn_protocol()? {
            b"h2" => Some(ALPN::H2),
            _ => Some(ALPN::H1),
        }
    }
}

impl GetTimingDigest for Secured {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.below().get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.below().get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.below().get_write_pending_time()
    }
}

impl GetProxyDigest for Secured {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.below().get_proxy_digest()
    }
}

impl GetSocketDigest for Secured {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.below().get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.tls.get_mut().0.set_socket_digest(digest);
    }
}

impl Peek for Secured {}
