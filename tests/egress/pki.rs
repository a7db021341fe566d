//! Authorities and what they sign.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SerialNumber, date_time_ymd};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// When certificates of servers end: 2045-06-07.
pub const END: (i32, u8, u8) = (2045, 6, 7);

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

pub struct Signed {
    pub cert_pem: String,
    pub key_pem: String,
    pub cert: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A certificate for this name with this serial number.
    pub fn sign(&self, name: &str, serial: u64) -> Signed {
        self.sign_until(name, serial, END)
    }

    /// … that ends on this day.
    pub fn sign_until(&self, name: &str, serial: u64, end: (i32, u8, u8)) -> Signed {
        self.sign_key(name, serial, end, KeyPair::generate().unwrap())
    }

    /// … with this key.
    pub fn sign_key(&self, name: &str, serial: u64, end: (i32, u8, u8), key: KeyPair) -> Signed {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_after = date_time_ymd(end.0, end.1, end.2);
        let cert = params.signed_by(&key, &self.0).unwrap();
        Signed {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
            cert: cert.der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }
}
