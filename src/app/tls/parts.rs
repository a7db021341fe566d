//! What a listener's files hold, checked, and the settings of rustls made of it.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion, version};

use crate::clock::UnixMicros;
use crate::config::source::ReadError;
use crate::config::{ClientAuth, Problem, Problems, TlsListener, TlsVersion};

use super::Memory;
use super::certificate::{self, Certificate, problem};
use super::choice::Choice;
use super::files::Files;

/// Most authorities of clients.
const MAX_AUTHORITIES: usize = 1024;

/// One scheme of each kind of key there is.
const KINDS: &[SignatureScheme] = &[
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
];

/// What a listener's files hold.
pub(super) struct Parts {
    /// In the order of the configuration.
    pub certificates: Vec<Certificate>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl Parts {
    /// Checks everything; all problems and warnings are told. `None`: it can't be used.
    pub fn of(settings: &TlsListener, files: &Files, now: UnixMicros, problems: &mut Problems) -> Option<Self> {
        let provider = Arc::new(ring::default_provider());
        let pairs = settings.certificates.iter().zip(&files.pairs);
        let certificates = pairs.map(|(named, (chain, key))| {
            let mut cannot = |field, path, why: &ReadError| {
                problems.push(problem(
                    &named.place,
                    field,
                    path,
                    format!("the file can't be read: {why}"),
                    false,
                ));
            };
            let chain = chain.as_ref().map_err(|why| cannot("cert", &named.cert, why)).ok();
            let key = key.as_ref().map_err(|why| cannot("key", &named.key, why)).ok();
            certificate::read(named, (chain?, key?), &provider, now, problems)
        });
        // All are looked at, so that all problems are told.
        let certificates: Vec<Option<Certificate>> = certificates.collect();
        let clients = clients(settings, files, &provider, problems);
        let certificates: Vec<Certificate> = certificates.into_iter().collect::<Option<_>>()?;
        unreachable_ones(settings, &certificates, problems);
        Some(Parts {
            certificates,
            clients: clients?,
            provider,
        })
    }

    /// When each certificate ends, in seconds since 1970.
    pub fn ends(&self) -> Vec<i64> {
        self.certificates
            .iter()
            .map(|certificate| certificate.not_after)
            .collect()
    }

    /// The settings; `memory` is what sessions are resumed by.
    pub fn config(&self, settings: &TlsListener, http2: bool, memory: &Memory) -> Result<Arc<ServerConfig>, Problem> {
        let versions: &[&SupportedProtocolVersion] = match settings.min_version {
            TlsVersion::V1_2 => &[&version::TLS13, &version::TLS12],
            TlsVersion::V1_3 => &[&version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(versions)
            .map_err(|error| of_listener(settings, error.to_string()))?;
        let builder = match &self.clients {
            Some(clients) => builder.with_client_cert_verifier(clients.clone()),
            None => builder.with_no_client_auth(),
        };
        let choice = Choice::new(&self.certificates, settings.unknown_name);
        let mut config = builder.with_cert_resolver(Arc::new(choice));
        let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        if self.clients.is_none() {
            config.ticketer = memory.tickets.clone();
            config.session_storage = memory.sessions.clone();
        } else {
            // Who resumes a session shows no certificate, and each session makes the next: one that has ended would never be
            // asked for again.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Arc::new(config))
    }
}

/// Who verifies clients; the outer `None`: the authorities can't be used.
#[expect(
    clippy::option_option,
    reason = "no verifier, or none that could be made: not the same"
)]
fn clients(
    settings: &TlsListener,
    files: &Files,
    provider: &Arc<CryptoProvider>,
    problems: &mut Problems,
) -> Option<Option<Arc<dyn ClientCertVerifier>>> {
    let (Some(path), Some(read)) = (&settings.client_ca, &files.client_ca) else {
        return Some(None);
    };
    let made = (|| {
        let pem = read.as_ref().map_err(|why| format!("the file can't be read: {why}"))?;
        let mut roots = RootCertStore::empty();
        for (at, authority) in certificate::all_of(pem, MAX_AUTHORITIES)?.into_iter().enumerate() {
            let added = roots.add(authority);
            added.map_err(|_| format!("its certificate {} can't be one of an authority", at + 1))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let verifier = match settings.client_auth {
            ClientAuth::Require => verifier,
            ClientAuth::Request => verifier.allow_unauthenticated(),
        };
        verifier.build().map_err(|error| error.to_string())
    })();
    match made {
        Ok(verifier) => Some(Some(verifier)),
        Err(why) => {
            problems.push(problem(&settings.place, "client_ca", path, why, false));
            None
        }
    }
}

/// Warns of certificates that no client is ever shown, or not for all of their names.
fn unreachable_ones(settings: &TlsListener, certificates: &[Certificate], problems: &mut Problems) {
    let mut seen = HashMap::new();
    for (at, (certificate, files)) in certificates.iter().zip(&settings.certificates).enumerate() {
        if at > 0 && certificate.names.is_empty() {
            let help =
                "it names no domain, so no client is shown it: only the first certificate stands in for other names";
            problems.push(problem(&files.place, "cert", &files.cert, help.to_owned(), true));
        }
        // By what it signs: RSA, or the curve.
        let kind = certificate
            .key
            .key
            .choose_scheme(KINDS)
            .map(|signer| u16::from(signer.scheme()));
        let twice = certificate.names.iter().filter_map(|name| {
            let earlier = *seen.entry((name.as_str(), kind)).or_insert(at);
            (earlier != at).then_some((name, earlier))
        });
        let twice: Vec<(&String, usize)> = twice.collect();
        if let Some((name, earlier)) = twice.first()
            && let Some(other) = settings.certificates.get(*earlier)
        {
            let more = match twice.len() {
                1 => String::new(),
                n => format!(" (and {} more of its names)", n - 1),
            };
            let help = format!(
                "{name}{more} is in \"{}\" too, which comes first and has the same kind of key: this one is not shown for it",
                other.cert.display()
            );
            problems.push(problem(&files.place, "cert", &files.cert, help, true));
        }
    }
}

/// A problem with the listener's TLS as a whole.
pub(super) fn of_listener(settings: &TlsListener, help: String) -> Problem {
    Problem {
        file: settings.place.0.clone(),
        line: settings.place.1,
        what: "tls".to_owned(),
        help,
        warning: false,
    }
}
