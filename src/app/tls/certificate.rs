//! One certificate with its key: read from PEM, checked, and what is to be known of it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::clock::UnixMicros;
use crate::config::{Problem, Problems, TlsFiles};

/// Most certificates of a chain: real ones have up to five.
const MAX_CHAIN: usize = 16;

/// How long before it ends a certificate is warned of, in seconds: 14 days.
const SOON: i64 = 14 * 86_400;

/// A certificate that can be shown.
pub(super) struct Certificate {
    /// Chain and key, as rustls takes them.
    pub key: Arc<CertifiedKey>,
    /// The names it is for, in lower case; `*.` before a domain means any one label.
    pub names: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub not_after: i64,
}

impl Certificate {
    /// Whether it is over at `now`.
    pub fn is_over(&self, now: UnixMicros) -> bool {
        self.not_after < now.seconds()
    }
}

/// Reads a pair. What forbids it and what is only worth telling goes to `problems`; `None`: it is no good.
pub(super) fn read(
    files: &TlsFiles,
    (chain, key): (&[u8], &[u8]),
    provider: &CryptoProvider,
    now: UnixMicros,
    problems: &mut Problems,
) -> Option<Certificate> {
    let mut tell = Teller { files, problems };
    let chain = all_of(chain, MAX_CHAIN).map_err(|why| tell.cert(why)).ok();
    let read_key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| tell.key("it has no private key in PEM (PKCS#8, PKCS#1 or SEC1, not encrypted)".to_owned()))
        .ok();
    tell.readable(&files.key);
    let (chain, read_key) = (chain?, read_key?);
    let leaf = chain.first()?.clone();
    let certified = CertifiedKey::from_der(chain, read_key, provider);
    let key = match certified {
        Ok(key) => Arc::new(key),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            tell.key(format!(
                "it is not the key of the first certificate in \"{}\". The server's own certificate must come first there, then \
                 those which signed it.",
                files.cert.display()
            ));
            return None;
        }
        Err(Error::InvalidCertificate(_)) => {
            tell.cert(
                "its first certificate can't be used: it must be X.509 of version 3, with a public key as usual"
                    .to_owned(),
            );
            return None;
        }
        Err(_) => {
            tell.key(
                "keys of this kind can't be used; RSA (2048 bits and more), ECDSA (P-256, P-384) and Ed25519 can"
                    .to_owned(),
            );
            return None;
        }
    };
    let (_, leaf) = X509Certificate::from_der(&leaf).ok()?;
    let validity = leaf.validity();
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    if until < now.seconds() {
        tell.warn(format!("it ended on {}: clients refuse it", day(until)));
    } else if until - now.seconds() < SOON {
        tell.warn(format!("it ends on {}", day(until)));
    }
    if from > now.seconds() {
        tell.warn(format!("it is not valid before {}", day(from)));
    }
    Some(Certificate {
        key,
        names: names(&leaf),
        not_after: until,
    })
}

/// All certificates of a PEM text, each one readable; at most `most`.
pub(super) fn all_of(pem: &[u8], most: usize) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut all = Vec::new();
    for found in CertificateDer::pem_slice_iter(pem) {
        let der = found.map_err(|_| "its PEM is damaged".to_owned())?;
        let whole = X509Certificate::from_der(&der).is_ok_and(|(rest, _)| rest.is_empty());
        if !whole {
            return Err(format!("its certificate {} can't be read", all.len() + 1));
        }
        if all.len() == most {
            return Err(format!("it has more than {most} certificates"));
        }
        all.push(der);
    }
    match all.is_empty() {
        true => Err("it has no certificate: no -----BEGIN CERTIFICATE----- line".to_owned()),
        false => Ok(all),
    }
}

/// The names of the alternative names; only where there are none at all, the common name.
fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let named: Vec<&str> = match leaf.subject_alternative_name() {
        Ok(Some(alternative)) => {
            let all = alternative.value.general_names.iter();
            let dns = all.filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(*name),
                _ => None,
            });
            dns.collect()
        }
        _ => {
            let common = leaf.subject().iter_common_name();
            common.filter_map(|name| name.as_str().ok()).collect()
        }
    };
    let mut names: Vec<String> = named.into_iter().map(super::choice::normal).collect();
    names.sort();
    names.dedup();
    names
}

/// `2027-03-01 12:00 UTC`
fn day(seconds: i64) -> String {
    let at = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    at.strftime("%F %H:%M UTC").to_string()
}

/// Tells of a pair, at its place in the configuration.
struct Teller<'a> {
    files: &'a TlsFiles,
    problems: &'a mut Problems,
}

impl Teller<'_> {
    fn cert(&mut self, help: String) {
        self.add("cert", &self.files.cert, help, false);
    }

    fn key(&mut self, help: String) {
        self.add("key", &self.files.key, help, false);
    }

    fn warn(&mut self, help: String) {
        self.add("cert", &self.files.cert, help, true);
    }

    fn readable(&mut self, key: &Path) {
        let mode = std::fs::metadata(key).map_or(0, |data| data.permissions().mode());
        if mode & 0o004 != 0 {
            let help = "every user of this machine can read this private key; `chmod o-r` it".to_owned();
            self.add("key", key, help, true);
        }
    }

    fn add(&mut self, field: &str, path: &Path, help: String, warning: bool) {
        self.problems
            .push(problem(&self.files.place, field, path, help, warning));
    }
}

/// A problem with what is in a file, at the place which names it.
pub(super) fn problem(
    (file, line): &(std::path::PathBuf, usize),
    field: &str,
    path: &Path,
    help: String,
    warning: bool,
) -> Problem {
    Problem {
        file: file.clone(),
        line: *line,
        what: format!("{field} = \"{}\"", path.display()),
        help,
        warning,
    }
}
