//! Reads `proxy`, `bind` and `tls`: how a provider is reached.

use std::net::IpAddr;
use std::sync::Arc;

use url::Host;
use zeroize::Zeroizing;

use crate::config::Secret;
use crate::config::fields::Fields;
use crate::config::source::read_bounded;
use crate::config::value::Value;

use super::egress::{Egress, Proxy, ProxyKind, TlsFiles};
use super::environment::Environment;
use super::reference::{self, Thing};

/// Largest PEM file. The authorities of all the world are some 200 KiB.
const MAX_PEM: u64 = 1 << 20;
/// Longest user name and password: SOCKS5 has a byte for the length (RFC 1929).
const MAX_LOGIN: usize = 255;
/// Longest host name (RFC 1035, 2.3.4; SOCKS5 has a byte for the length).
const MAX_HOST: usize = 253;

const EXAMPLE: &str = "write it as \"socks5://127.0.0.1:1080\" or \"http://proxy.example:3128\"";

/// `proxy` and `bind`, or why they can't be had now (a password is missing). `None`: something is wrong, and reported.
pub(super) fn egress(fields: &mut Fields<'_>, environment: &dyn Environment) -> Option<Result<Egress, String>> {
    let value = fields.get("proxy");
    let proxy = value.as_ref().map(|value| proxy(value, environment));
    let bind = fields.get("bind").map(|value| bind(&value));
    let proxy = match proxy {
        None => Ok(None),
        Some(read) => read?.map(|proxy| Some(Arc::new(proxy))),
    };
    let bind = match bind {
        None => None,
        Some(read) => Some(read?),
    };
    Some(proxy.map(|proxy| Egress { proxy, bind, tls: None }))
}

fn bind(value: &Value<'_>) -> Option<IpAddr> {
    let address: Option<IpAddr> = value.string()?.parse().ok();
    match address {
        None => value.problem("it must be an address of this machine, without a port, as in \"192.0.2.7\""),
        Some(address) if address.is_unspecified() => value.problem("this means any address; leave it out"),
        Some(address) => return Some(address),
    }
    None
}

fn proxy(value: &Value<'_>, environment: &dyn Environment) -> Option<Result<Proxy, String>> {
    if value.is_string() {
        return address(value).map(Ok);
    }
    let mut fields = value.table()?;
    let url = fields.need("url", "url = \"socks5://127.0.0.1:1080\"");
    let user = fields.get("user");
    let password = fields.get("password").map(Value::secret);
    match (&user, &password) {
        (Some(value), None) | (None, Some(value)) => {
            value.problem("user and password belong together; write both, or neither");
        }
        _ => {}
    }
    fields.finish();
    let proxy = url.and_then(|url| address(&url));
    let login = match (user, password) {
        (Some(user), Some(password)) => {
            let user = user_name(&user);
            let password = reference::read(&password, Thing::Password, environment);
            Some((user?, password?))
        }
        (None, None) => None,
        _ => return None,
    };
    let proxy = proxy?;
    Some(match login {
        None => Ok(proxy),
        Some((_, Err(reason))) => Err(format!("the password of its proxy: {reason}")),
        Some((_, Ok(password))) if password.expose().len() > MAX_LOGIN => Err(format!(
            "the password of its proxy has more than {MAX_LOGIN} bytes, the most that proxies take"
        )),
        Some((user, Ok(password))) => Ok(Proxy {
            login: Some((user.into(), password)),
            ..proxy
        }),
    })
}

/// A colon would end it in HTTP's form (RFC 7617, 2).
fn user_name<'a>(value: &Value<'a>) -> Option<&'a str> {
    let user = value.string()?;
    if (1..=MAX_LOGIN).contains(&user.len()) && !user.contains(|c: char| c.is_control() || c == ':') {
        return Some(user);
    }
    value.problem(format!(
        "a proxy's user has 1 to {MAX_LOGIN} bytes, without colons and control characters"
    ));
    None
}

/// `socks5://host:port` or `http://host:port`, and nothing else in it.
fn address(value: &Value<'_>) -> Option<Proxy> {
    let text = value.string()?;
    // What stands between `//` and `@` is a password.
    let value = match text.contains('@') {
        true => value.clone().secret(),
        false => value.clone(),
    };
    let wrong = |help: &str| {
        value.problem(help);
        None
    };
    let Some((scheme, rest)) = text.split_once("://") else {
        return wrong(&format!("it is not a URL; {EXAMPLE}"));
    };
    let kind = match scheme {
        "http" => ProxyKind::Connect,
        "socks5" | "socks5h" => ProxyKind::Socks5,
        "https" => return wrong("TLS to the proxy itself is not offered; it must be http:// or socks5://"),
        _ => return wrong(&format!("the scheme must be socks5 or http; {EXAMPLE}")),
    };
    if rest.contains('@') {
        return wrong(
            "user and password must not stand in the URL. Write proxy = { url = \"...\", user = \"...\", password = \
             \"env:NAME\" }, with the password in that environment variable.",
        );
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return wrong(&format!("a proxy has a host and a port, no path; {EXAMPLE}"));
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => return wrong(&format!("the port is missing; {EXAMPLE}")),
    };
    let Some(port) = port.parse::<u16>().ok().filter(|port| *port > 0) else {
        return wrong(&format!("the port must be from 1 to 65535; {EXAMPLE}"));
    };
    let host = match Host::parse(host) {
        Ok(Host::Ipv6(address)) => address.to_string(),
        Ok(host) => host.to_string(),
        Err(_) => return wrong(&format!("the host is not valid; {EXAMPLE}")),
    };
    if host.len() > MAX_HOST {
        return wrong(&format!("the host is longer than {MAX_HOST} bytes"));
    }
    Some(Proxy {
        kind,
        host: host.into(),
        port,
        login: None,
    })
}

/// `tls = { ca, cert, key }`. `None`: something is wrong, and reported.
pub(super) fn tls(value: &Value<'_>, environment: &dyn Environment) -> Option<TlsFiles> {
    let mut fields = value.table()?;
    let ca = fields.get("ca");
    let cert = fields.get("cert");
    let key = fields.get("key");
    match (&cert, &key) {
        (Some(cert), None) => cert.problem("its private key is missing. Write key = \"FILE\" beside it."),
        (None, Some(key)) => key.problem("its certificate is missing. Write cert = \"FILE\" beside it."),
        (None, None) if ca.is_none() => {
            value.problem("it says nothing. Write ca = \"FILE\", or cert and key, or leave it out.");
        }
        _ => {}
    }
    fields.finish();
    let ca = ca.map(|value| pem(&value, Pem::Certificate));
    let cert = cert.map(|value| pem(&value, Pem::Certificate));
    let key = key.map(|value| pem(&value, Pem::Key));
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => {
            let (cert, key) = (cert?, Zeroizing::new(key?));
            let key = std::str::from_utf8(&key).map(Secret::new).ok()?;
            Some((cert, key))
        }
        (None, None) => None,
        _ => return None,
    };
    let files = TlsFiles {
        ca: match ca {
            None => None,
            Some(read) => Some(read?),
        },
        identity,
    };
    match environment.check(&files) {
        Ok(()) => Some(files),
        Err(why) => {
            value.problem(why);
            None
        }
    }
}

#[derive(Clone, Copy)]
enum Pem {
    Certificate,
    Key,
}

/// The text of a PEM file, if it holds what it should.
fn pem(value: &Value<'_>, wanted: Pem) -> Option<Vec<u8>> {
    let path = value.path()?;
    let bytes = match read_bounded(&path, MAX_PEM) {
        Ok(bytes) => bytes,
        Err(why) => {
            value.problem(format!("the file can't be read: {why}"));
            return None;
        }
    };
    let Ok(text) = std::str::from_utf8(&bytes) else {
        value.problem("the file is not PEM: it is not even text");
        return None;
    };
    let certificate = text.contains("-----BEGIN CERTIFICATE-----");
    let key = text
        .lines()
        .any(|l| l.starts_with("-----BEGIN ") && l.contains("PRIVATE KEY-----"));
    let encrypted = text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED");
    match wanted {
        Pem::Certificate if certificate => return Some(bytes),
        Pem::Key if key && !encrypted => return Some(bytes),
        Pem::Key if key => value.problem("the private key is encrypted; give one without a passphrase"),
        Pem::Certificate => value.problem("there is no certificate in the file (-----BEGIN CERTIFICATE-----)"),
        Pem::Key => value.problem("there is no private key in the file (-----BEGIN PRIVATE KEY-----)"),
    }
    None
}
