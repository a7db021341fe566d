//! Which certificate a client is shown: by the name it asks for, and by what it can verify.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::UnknownName;

use super::certificate::Certificate;

/// A name as it is compared: lower case, no dot behind it.
pub(super) fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// The certificates of one listener, by name.
#[derive(Debug)]
pub(super) struct Choice {
    keys: Vec<Arc<CertifiedKey>>,
    /// Positions of the certificates for each name; wildcards under `*.domain`.
    names: HashMap<String, Vec<usize>>,
    /// For other names, and for none.
    others: Vec<usize>,
}

impl Choice {
    /// Of these, in their order.
    pub fn new(certificates: &[Certificate], unknown: UnknownName) -> Self {
        let mut names: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, certificate) in certificates.iter().enumerate() {
            for name in &certificate.names {
                names.entry(name.clone()).or_default().push(at);
            }
        }
        let first = certificates.first().map_or(&[][..], |first| &first.names);
        // The first, and those of other kinds of keys for the same names.
        let alike = |certificate: &Certificate| certificate.names.iter().any(|name| first.contains(name));
        let others = match unknown {
            UnknownName::First => {
                let all = certificates.iter().enumerate();
                all.filter(|(at, certificate)| *at == 0 || alike(certificate))
                    .map(|(at, _)| at)
                    .collect()
            }
            UnknownName::Refuse => Vec::new(),
        };
        Choice {
            keys: certificates.iter().map(|certificate| certificate.key.clone()).collect(),
            names,
            others,
        }
    }

    /// The first certificate for `name` which a client that knows these `schemes` can verify; where there is none such, the
    /// first, and the handshake says what is missing. `None`: there is none for that name.
    pub fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Arc<CertifiedKey>> {
        let fit = match name {
            Some(name) => self.named(name),
            None => None,
        };
        let fit = fit.unwrap_or(&self.others);
        let can = |at: &&usize| {
            let key = self.keys.get(**at);
            key.is_some_and(|key| key.key.choose_scheme(schemes).is_some())
        };
        let at = fit.iter().find(can).or(fit.first())?;
        self.keys.get(*at)
    }

    /// Exact before wildcard, which stands for one label.
    fn named(&self, name: &str) -> Option<&Vec<usize>> {
        let lower = name.bytes().all(|byte| !byte.is_ascii_uppercase()) && !name.ends_with('.');
        let name: Cow<'_, str> = match lower {
            true => name.into(),
            false => normal(name).into(),
        };
        if let Some(fit) = self.names.get(&*name) {
            return Some(fit);
        }
        let (_, domain) = name.split_once('.')?;
        self.names.get(&format!("*.{domain}"))
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
    use rustls::crypto::ring;
    use rustls_pki_types::PrivateKeyDer;

    use super::*;

    const EC: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];
    const ED: &[SignatureScheme] = &[SignatureScheme::ED25519];
    const BOTH: &[SignatureScheme] = &[SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256];

    fn certificate(names: &[&str], ed: bool) -> Certificate {
        let kind = if ed { &PKCS_ED25519 } else { &PKCS_ECDSA_P256_SHA256 };
        let key = KeyPair::generate_for(kind).unwrap();
        let made = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let key = CertifiedKey::from_der(vec![made.der().clone()], key, &ring::default_provider()).unwrap();
        Certificate {
            key: Arc::new(key),
            names: names.iter().map(|name| normal(name)).collect(),
            not_after: 0,
        }
    }

    fn chosen(
        all: &[Certificate],
        unknown: UnknownName,
        name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<usize> {
        let choice = Choice::new(all, unknown);
        let key = choice.choose(name, schemes)?;
        all.iter().position(|one| Arc::ptr_eq(&one.key, key))
    }

    #[test]
    fn exact_beats_wildcard_and_a_wildcard_is_one_label() {
        let all = [
            certificate(&["first.test"], false),
            certificate(&["*.a.test"], false),
            certificate(&["x.a.test", "A.Test"], false),
        ];
        let named = |name| chosen(&all, UnknownName::First, Some(name), EC);
        for (name, at) in [
            ("x.a.test", 2),
            ("X.A.TEST", 2),
            ("y.a.test", 1),
            ("Y.a.Test", 1),
            ("y.x.a.test", 0),
            ("a.test", 2),
            ("b.test", 0),
            ("test", 0),
            ("", 0),
        ] {
            assert_eq!(named(name), Some(at), "{name}");
        }
        assert_eq!(chosen(&all, UnknownName::First, None, EC), Some(0));
        for name in [None, Some("b.test"), Some("first.test.b")] {
            assert_eq!(chosen(&all, UnknownName::Refuse, name, EC), None, "{name:?}");
        }
        assert_eq!(chosen(&all, UnknownName::Refuse, Some("first.test"), EC), Some(0));
    }

    #[test]
    fn of_several_for_a_name_one_is_chosen_that_the_client_can_verify() {
        let all = [
            certificate(&["a.test"], true),
            certificate(&["b.test"], false),
            certificate(&["a.test", "c.test"], false),
        ];
        let named = |name, schemes| chosen(&all, UnknownName::First, name, schemes);
        assert_eq!(named(Some("a.test"), ED), Some(0));
        assert_eq!(named(Some("a.test"), EC), Some(2));
        assert_eq!(named(Some("a.test"), BOTH), Some(0), "the first that fits");
        assert_eq!(
            named(Some("b.test"), ED),
            Some(1),
            "nothing fits: the handshake says so"
        );
        assert_eq!(named(None, EC), Some(2), "so also for no name");
        assert_eq!(named(Some("else"), ED), Some(0));
    }
}
