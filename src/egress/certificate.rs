//! When a provider's certificate ends, so that it can be said ahead of time.

use std::sync::{Arc, OnceLock};

use pingora::connectors::L4Connect;
use pingora::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora::tls::{CertificateDer, RootCertStore, ServerName, TlsConnector, load_platform_certs_incl_env_into_store};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::clock::UnixMicros;

use super::Reach;
use super::peer::tunnel;
use super::tunnel::dial;

/// Connects, shakes hands, and reads when the provider's certificate ends. `None`: it speaks no TLS. The error is for
/// people, and holds no secret: a certificate that is not valid is one. Takes at most `times.total`.
pub async fn certificate_expiry(reach: Reach<'_>) -> Result<Option<UnixMicros>, String> {
    if !reach.tls {
        return Ok(None);
    }
    match tokio::time::timeout(reach.times.total, shake_hands(&reach)).await {
        Ok(end) => end.map(Some),
        Err(_) => Err("no TLS in time".into()),
    }
}

async fn shake_hands(reach: &Reach<'_>) -> Result<UnixMicros, String> {
    if let Some(why) = reach.egress.why_broken() {
        return Err(why.to_owned());
    }
    let config = reach.egress.tls(system_roots()?)?;
    let name = ServerName::try_from(reach.host.to_owned())
        .map_err(|_| "the host is no name a certificate could have".to_owned())?;
    let stream = match tunnel(reach) {
        Some(tunnel) => tunnel.connect(&PeerAddr::Inet(reach.address)).await,
        None => dial(reach.address, reach.egress.bind).await,
    };
    let stream = stream.map_err(|error| format!("no connection: {error}"))?;
    let tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let tls = tls.map_err(|error| format!("no TLS: {error}"))?;
    not_after(tls.get_ref().1.peer_certificates())
}

/// When the first certificate of a chain ends.
pub(super) fn not_after(chain: Option<&[CertificateDer<'_>]>) -> Result<UnixMicros, String> {
    let leaf = chain
        .and_then(<[_]>::first)
        .ok_or("the provider showed no certificate")?;
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| "the certificate can't be read".to_owned())?;
    let seconds = leaf.validity().not_after.timestamp();
    Ok(UnixMicros(seconds.saturating_mul(1_000_000)))
}

/// The authorities Pingora trusts where a way has none of its own, read once.
pub(super) fn system_roots() -> Result<&'static Arc<RootCertStore>, String> {
    static ROOTS: OnceLock<Result<Arc<RootCertStore>, String>> = OnceLock::new();
    let read = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        load_platform_certs_incl_env_into_store(&mut roots)
            .map(|()| Arc::new(roots))
            .map_err(|_| "the system's certificates can't be read".to_owned())
    });
    read.as_ref().map_err(Clone::clone)
}
