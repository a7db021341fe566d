//! The way to a provider, compiled from the rules when they are loaded: proxy, local address, certificates.
//!
//! A way that can't be compiled is not replaced by a direct connection, which may be just what its owner wants to avoid:
//! nothing goes over it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, OnceLock};

use pingora::protocols::tls::CaType;
use pingora::tls::{CertificateDer, ClientConfig, PrivateKeyDer, RootCertStore};
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls_pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::config::Secret;
use crate::rules;

use super::book::Spot;
use super::tunnel::Hop;
use super::{Authority, Names};

/// Most certificates in one file: more than any operating system trusts.
const MAX_CERTIFICATES: usize = 512;

/// Keys the hashes that tell ways apart, so that they say nothing of the passwords that went into them.
static KEYED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// A hash which only this process knows how to make.
pub(super) fn keyed(value: impl std::hash::Hash) -> u64 {
    KEYED.hash_one(value)
}

/// One way, compiled.
#[derive(Default)]
pub struct Way {
    pub(super) hop: Option<Arc<Hop>>,
    pub(super) bind: Option<IpAddr>,
    pub(super) ca: Option<Arc<CaType>>,
    pub(super) identity: Option<Arc<CertKey>>,
    /// Tells it from every other one: connections are shared only where this is the same.
    pub(super) key: u64,
    /// Why it can't be used.
    broken: Option<Box<str>>,
    spot: OnceLock<Arc<Spot>>,
}

/// The ways to one provider: its own, and those of credentials which have one of their own.
#[derive(Default)]
pub struct Ways {
    provider: Way,
    credentials: HashMap<Arc<str>, Way>,
}

/// What the rules say, the credential's word before the provider's.
struct Parts<'a> {
    proxy: Option<&'a rules::egress::Proxy>,
    bind: Option<IpAddr>,
    ca: Option<&'a [u8]>,
    identity: Option<&'a (Vec<u8>, Secret)>,
}

/// Whether these files are what they should be; else what is wrong, to be told with the rules' other problems.
pub fn check(files: &rules::egress::TlsFiles) -> Result<(), String> {
    let parts = Parts {
        proxy: None,
        bind: None,
        ca: files.ca.as_deref(),
        identity: files.identity.as_ref(),
    };
    compile(&parts).map(|_| ())
}

/// This machine, as the rules of a gateway see it: the process's environment, and certificates must be such as its TLS takes.
#[derive(Clone, Copy, Debug)]
pub struct Machine;

impl rules::environment::Environment for Machine {
    fn raw(&self, name: &str) -> Option<std::ffi::OsString> {
        rules::environment::Process.raw(name)
    }

    /// Only the running gateway opens its store: here each secret is taken to be in it, as is any word for it.
    fn stored(&self, name: &str) -> Result<Secret, String> {
        Ok(Secret::new(format!("taken-to-be-stored-{name}")))
    }

    fn check(&self, files: &rules::egress::TlsFiles) -> Result<(), String> {
        check(files)
    }
}

impl Way {
    /// Compiles one. The error is for people: which file is wrong and how, without its content.
    pub fn new(egress: &rules::Egress) -> Result<Self, String> {
        compile(&Parts::of(egress, None))
    }

    /// What nothing goes over, and why.
    fn broken(why: String) -> Self {
        Way {
            key: keyed(("broken", &why)),
            broken: Some(why.into()),
            ..Way::default()
        }
    }

    /// Why nothing goes over it; `None`: it can be used.
    pub fn why_broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// It leads through a proxy.
    pub fn is_proxied(&self) -> bool {
        self.hop.is_some()
    }

    /// What connections go to first, if that is a proxy.
    pub fn proxy(&self) -> Option<&Authority> {
        self.hop.as_ref().map(|hop| &hop.authority)
    }

    /// An address of this family can be reached from the local address.
    pub fn reaches(&self, address: IpAddr) -> bool {
        self.bind.is_none_or(|bind| bind.is_ipv4() == address.is_ipv4())
    }

    /// How connecting to the addresses of the proxy goes.
    pub fn spot(&self, names: &Names) -> Option<&Arc<Spot>> {
        let hop = self.hop.as_ref()?;
        Some(self.spot.get_or_init(|| names.spot(&hop.host, hop.port)))
    }

    /// As [`Way::spot`]; `None` also if nothing went through it yet.
    pub fn known_spot(&self) -> Option<&Arc<Spot>> {
        self.spot.get()
    }

    /// TLS as Pingora does it over this way, with `system` as the authorities where the way has none of its own.
    pub(super) fn tls(&self, system: &Arc<RootCertStore>) -> Result<ClientConfig, String> {
        let roots = match &self.ca {
            Some(ca) => Arc::new(roots(ca.iter().map(|one| one.borrow_raw_cert().clone()))?),
            None => system.clone(),
        };
        let identity = self.identity.as_ref().map(|identity| {
            let mut chain = vec![identity.leaf().into()];
            chain.extend(identity.intermediates().into_iter().map(CertificateDer::from));
            (chain, identity.key().clone())
        });
        client(roots, identity)
    }
}

impl Ways {
    /// Compiles the ways to a provider. What is wrong is in the log, and closes the way it belongs to.
    pub fn new(provider: &rules::Provider) -> Self {
        let compiled = |parts: &Parts<'_>, credential: Option<&str>| {
            compile(parts).unwrap_or_else(|why| {
                tracing::error!(
                    provider = &*provider.name,
                    credential,
                    why,
                    "the way to a provider can't be used"
                );
                Way::broken(why)
            })
        };
        let own = provider
            .credentials
            .iter()
            .filter(|credential| credential.egress.is_set());
        let credentials = own.map(|credential| {
            let parts = Parts::of(&provider.egress, Some(&credential.egress));
            (credential.name.clone(), compiled(&parts, Some(&*credential.name)))
        });
        Ways {
            credentials: credentials.collect(),
            provider: compiled(&Parts::of(&provider.egress, None), None),
        }
    }

    /// The way with this credential; `None`: without one.
    pub fn of(&self, credential: Option<&rules::Credential>) -> &Way {
        credential
            .and_then(|credential| self.credentials.get(&credential.name))
            .unwrap_or(&self.provider)
    }

    /// The closed ones: whose (a credential's; `None`: the provider's own), and why.
    pub fn problems(&self) -> impl Iterator<Item = (Option<&str>, &str)> {
        let own = self.provider.why_broken().map(|why| (None, why));
        let others = self.credentials.iter();
        own.into_iter()
            .chain(others.filter_map(|(name, way)| Some((Some(&**name), way.why_broken()?))))
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Way> {
        std::iter::once(&self.provider).chain(self.credentials.values())
    }
}

impl<'a> Parts<'a> {
    fn of(provider: &'a rules::Egress, credential: Option<&'a rules::Egress>) -> Self {
        let both = || credential.into_iter().chain([provider]);
        let files = || both().filter_map(|egress| egress.tls.as_deref());
        Parts {
            proxy: both().find_map(|egress| egress.proxy.as_deref()),
            bind: both().find_map(|egress| egress.bind),
            ca: files().find_map(|files| files.ca.as_deref()),
            identity: files().find_map(|files| files.identity.as_ref()),
        }
    }
}

fn compile(parts: &Parts<'_>) -> Result<Way, String> {
    let hop = parts.proxy.map(Hop::new).transpose()?.map(Arc::new);
    let ca = parts.ca.map(|pem| certificates(pem, "the CA file")).transpose()?;
    if let Some(ca) = &ca {
        roots(ca.iter().cloned())?;
    }
    let identity = parts.identity.map(identity).transpose()?;
    let secret_parts = identity.as_ref().map(|(chain, key)| (chain, key.secret_der()));
    let told = (hop.as_ref().map(|hop| hop.key()), parts.bind, &ca, secret_parts);
    // All that stand for "as it comes" are the same.
    let key = match told {
        (None, None, None, None) => 0,
        told => keyed(told),
    };
    Ok(Way {
        hop,
        bind: parts.bind,
        ca: ca.map(|ca| ca.into_iter().map(|der| WrappedX509::new(der, parse_x509)).collect()),
        identity: identity.map(|(chain, key)| Arc::new(CertKey::new(chain, key.secret_der().to_vec()))),
        key,
        broken: None,
        spot: OnceLock::new(),
    })
}

/// The certificates of a PEM file, in DER, each one readable: Pingora panics at one that is not.
fn certificates(pem: &[u8], what: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut all = Vec::new();
    for found in CertificateDer::pem_slice_iter(pem) {
        let der = found.map_err(|error| format!("{what} is not good PEM: {error}"))?;
        if all.len() >= MAX_CERTIFICATES {
            return Err(format!("{what} has more than {MAX_CERTIFICATES} certificates"));
        }
        X509Certificate::from_der(&der).map_err(|_| format!("{what} has a certificate that can't be read"))?;
        all.push(der.to_vec());
    }
    match all.is_empty() {
        true => Err(format!(
            "{what} has no certificate: it needs -----BEGIN CERTIFICATE----- (PEM)"
        )),
        false => Ok(all),
    }
}

fn roots(ca: impl Iterator<Item = Vec<u8>>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for der in ca {
        let added = roots.add(CertificateDer::from(der));
        added.map_err(|error| format!("the CA file has a certificate that can't be trusted: {error}"))?;
    }
    Ok(roots)
}

type Identity = (Vec<Vec<u8>>, PrivateKeyDer<'static>);

fn identity((chain, key): &(Vec<u8>, Secret)) -> Result<Identity, String> {
    let chain = certificates(chain, "the client certificate's file")?;
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
        .map_err(|_| "the client certificate's key is not a private key in PEM".to_owned())?;
    let as_sent = chain.iter().cloned().map(CertificateDer::from).collect();
    // Proves that key and certificate belong together, and that Pingora, which panics at others, knows this kind of key.
    client(
        Arc::new(RootCertStore::empty()),
        Some((as_sent, key.secret_der().to_vec())),
    )?;
    Ok((chain, key))
}

fn client(
    roots: Arc<RootCertStore>,
    identity: Option<(Vec<CertificateDer<'static>>, Vec<u8>)>,
) -> Result<ClientConfig, String> {
    pingora::tls::install_default_crypto_provider();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let Some((chain, key)) = identity else {
        return Ok(builder.with_no_client_auth());
    };
    let key = PrivateKeyDer::try_from(key).map_err(|why| format!("the client certificate's key: {why}"))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| format!("the client certificate and its key can't be used: {error}"))
}
