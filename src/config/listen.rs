//! `[[listener]]`: where clients connect, and the TLS they find there. What is in the files of certificates is looked at in
//! `app/tls/`, which also reads them again when they change.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::fields::Fields;
use super::sound::{self, Bound, Seen};
use super::source::{MAX_FILE_BYTES, read_bounded};
use super::value::Value;

/// Most listeners.
const MAX_LISTENERS: usize = 64;

/// Most certificates of one listener.
const MAX_CERTIFICATES: usize = 256;

/// One address to serve.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The address.
    pub listen: SocketAddr,
    /// Certificates and who may come; `None`: plain.
    pub tls: Option<TlsListener>,
    /// HTTP/2: by ALPN on TLS; by prior knowledge (h2c) on plain listeners, for internal networks only.
    pub http2: bool,
}

/// The TLS of one listener.
#[derive(Clone, Debug)]
pub struct TlsListener {
    /// Its certificates. At least one.
    pub certificates: Vec<TlsFiles>,
    /// What a client gets that asks for a name which no certificate has, or for none.
    pub unknown_name: UnknownName,
    /// The lowest version of TLS that is spoken.
    pub min_version: TlsVersion,
    /// The authorities (PEM) which sign certificates of clients; `None`: clients are not asked for any.
    pub client_ca: Option<PathBuf>,
    /// Whether every client must have one.
    pub client_auth: ClientAuth,
    /// Where it stands: file and line.
    pub place: (PathBuf, usize),
}

/// Certificate chain and private key, PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The chain.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
    /// Where it stands: file and line.
    pub place: (PathBuf, usize),
}

/// What a client gets that asks for a name which no certificate has, or for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownName {
    /// The first certificate.
    #[default]
    First,
    /// No connection.
    Refuse,
}

/// A version of TLS. Older ones are not spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2
    #[default]
    V1_2,
    /// 1.3
    V1_3,
}

/// Whether every client must have a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// Yes.
    #[default]
    Require,
    /// A client without one is let in; one whose certificate is not good is not.
    Request,
}

/// All of them; where there is none, the default.
pub(super) fn listeners<'a>(root: &mut Fields<'a>, seen: &mut Seen<'a>) -> Vec<Listener> {
    let Some(value) = root.get("listener") else {
        let default = Listener::default();
        seen.bound.push(Bound::new("listener[0].listen", default.listen, None));
        return vec![default];
    };
    let Some(all) = value.list() else {
        return Vec::new();
    };
    if all.is_empty() || all.len() > MAX_LISTENERS {
        value.problem(format!(
            "there must be 1 to {MAX_LISTENERS} of them; leave it out for 127.0.0.1:8080"
        ));
    }
    let all = all.into_iter().take(MAX_LISTENERS);
    all.filter_map(|value| listener(value.table()?, seen)).collect()
}

fn listener<'a>(mut fields: Fields<'a>, seen: &mut Seen<'a>) -> Option<Listener> {
    let listen = fields.need("listen", "listen = \"127.0.0.1:8080\"");
    let tls = fields.get("tls").and_then(|value| tls(value.table()?));
    let http2 = fields.get("http2");
    let http2_on = http2.as_ref().and_then(Value::boolean).unwrap_or(tls.is_some());
    fields.finish();
    let listen = listen?;
    let address = listen.address()?;
    if http2_on && tls.is_none() && sound::is_public(address.ip()) {
        http2.unwrap_or(listen.clone()).warn(
            "HTTP/2 without TLS is for internal networks, and this address may be reachable from elsewhere. \
             Add tls = { cert = \"...\", key = \"...\" }, or bind an internal address.",
        );
    }
    seen.bound
        .push(Bound::new(listen.name(), address, Some(listen.clone())));
    Some(Listener {
        listen: address,
        tls,
        http2: http2_on,
    })
}

fn tls(mut fields: Fields<'_>) -> Option<TlsListener> {
    let place = fields.place();
    let several = fields.get("certificates");
    let certificates = match &several {
        Some(value) => certificates(value, &mut fields),
        None => pair(&mut fields).map(|pair| vec![pair]),
    };
    let unknown_name = fields
        .get("unknown_name")
        .and_then(|value| value.word(&[("first", UnknownName::First), ("refuse", UnknownName::Refuse)]));
    let min_version = fields
        .get("min_version")
        .and_then(|value| value.word(&[("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)]));
    let client_ca = fields.get("client_ca");
    let client_auth = fields.get("client_auth");
    if let (None, Some(value)) = (&client_ca, &client_auth) {
        value.problem("it says nothing without client_ca = \"FILE\", the authorities which sign clients' certificates");
    }
    let client_auth =
        client_auth.and_then(|value| value.word(&[("require", ClientAuth::Require), ("request", ClientAuth::Request)]));
    fields.finish();
    let client_ca = match client_ca {
        // A file that is no good must not open the listener to everybody.
        Some(value) => Some(pem(&value)?),
        None => None,
    };
    Some(TlsListener {
        certificates: certificates?,
        unknown_name: unknown_name.unwrap_or_default(),
        min_version: min_version.unwrap_or_default(),
        client_ca,
        client_auth: client_auth.unwrap_or_default(),
        place,
    })
}

/// `certificates = [{ cert, key }, ...]`
fn certificates(value: &Value<'_>, fields: &mut Fields<'_>) -> Option<Vec<TlsFiles>> {
    for beside in ["cert", "key"] {
        if let Some(one) = fields.get(beside) {
            one.problem("cert and key are for one certificate; with certificates = [...] they go into that list");
        }
    }
    let all = value.list()?;
    if all.is_empty() || all.len() > MAX_CERTIFICATES {
        value.problem(format!("there must be 1 to {MAX_CERTIFICATES} of them"));
        return None;
    }
    let pairs = all.into_iter().map(|value| {
        let mut fields = value.table()?;
        let pair = pair(&mut fields);
        fields.finish();
        pair
    });
    // All are looked at, so that all problems are told.
    let pairs: Vec<Option<TlsFiles>> = pairs.collect();
    pairs.into_iter().collect()
}

fn pair(fields: &mut Fields<'_>) -> Option<TlsFiles> {
    let place = fields.place();
    let cert = fields
        .need("cert", "cert = \"FILE\", the certificate chain in PEM")
        .and_then(|v| pem(&v));
    let key = fields
        .need("key", "key = \"FILE\", the private key in PEM")
        .and_then(|v| pem(&v));
    Some(TlsFiles {
        cert: cert?,
        key: key?,
        place,
    })
}

/// A PEM file that is there.
fn pem(value: &Value<'_>) -> Option<PathBuf> {
    let path = value.path()?;
    match read_bounded(&path, MAX_FILE_BYTES) {
        Ok(bytes) if bytes.windows(11).any(|w| w == b"-----BEGIN ") => return Some(path),
        Ok(_) => value.problem("the file is not PEM: it has no -----BEGIN ...----- line"),
        Err(why) => value.problem(format!("the file can't be read: {why}")),
    }
    None
}
