//! Where a URL that an administrator enters may lead: never into the networks around the gateway, unless its operator
//! allowed them in the configuration file, which the admin API can't change (HARDENING, SSRF).
//!
//! A URL passes [`Policy::check_url`]; then its host is resolved and **all** its addresses pass [`Policy::admit`], again at
//! each resolution; then one of those very addresses is connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use url::{Host, Url};

/// Longest URL, in bytes.
const MAX_URL: usize = 2048;

/// Ports that need no permission.
const PORTS: [u16; 2] = [443, 8443];

/// What may be reached.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    allow_private: Vec<IpNet>,
    ports: Vec<u16>,
}

/// A URL that may be resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The host, without brackets.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
    /// TLS or plain.
    pub tls: bool,
}

/// Why not. What the host resolves to is not said: it is not for everybody who may enter a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a URL.
    #[error("this is not a URL: write it as \"https://api.example.com/v1\"")]
    NotAUrl,
    /// Another scheme.
    #[error("the scheme must be https (http only to networks in admin.allow_private)")]
    Scheme,
    /// A user or a password.
    #[error("a URL with a user or a password in it is not taken; a key belongs into a credential")]
    User,
    /// A query or a fragment.
    #[error("a URL with a ? or # part is not taken")]
    Query,
    /// Another port.
    #[error("the port must be 443, 8443 or one of admin.allow_ports")]
    Port,
    /// An address in place of a name.
    #[error("an address in place of a host name must be in a network of admin.allow_private")]
    Literal,
    /// It leads into a network that is not for this.
    #[error("the host leads into a network that is not public, and not in admin.allow_private")]
    Private,
    /// It does not resolve.
    #[error("the host does not resolve")]
    Unresolved,
}

impl Policy {
    /// `allow_private`: networks that may be reached although they are not public, also without TLS and by address.
    /// `ports`: ports besides 443 and 8443.
    pub fn new(allow_private: Vec<IpNet>, ports: Vec<u16>) -> Self {
        Policy { allow_private, ports }
    }

    /// Whether this URL may be resolved.
    pub fn check_url(&self, text: &str) -> Result<Checked, Refusal> {
        // The parser would drop white space and control characters: what is checked is to be what was meant.
        if text.len() > MAX_URL || text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(Refusal::NotAUrl);
        }
        let url = Url::parse(text).map_err(|_| Refusal::NotAUrl)?;
        let tls = match url.scheme() {
            "https" => true,
            "http" if !self.allow_private.is_empty() => false,
            _ => return Err(Refusal::Scheme),
        };
        let authority = text.split("://").nth(1).and_then(|rest| rest.split('/').next());
        if !url.username().is_empty() || url.password().is_some() || authority.is_none_or(|text| text.contains('@')) {
            return Err(Refusal::User);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Refusal::Query);
        }
        let port = url.port_or_known_default().ok_or(Refusal::Port)?;
        // Numbers in any of their spellings (0x7f.1, 2130706433) are addresses by now.
        let (host, literal) = match url.host().ok_or(Refusal::NotAUrl)? {
            Host::Domain(name) => (name.to_owned(), None),
            Host::Ipv4(address) => (address.to_string(), Some(IpAddr::V4(address))),
            Host::Ipv6(address) => (address.to_string(), Some(IpAddr::V6(address))),
        };
        if literal.is_some_and(|address| !self.allows(address)) {
            return Err(Refusal::Literal);
        }
        // Without TLS only allowed networks are reached, and there port 80 is what `http` means.
        let usual = if tls { PORTS.contains(&port) } else { port == 80 };
        if !usual && !self.ports.contains(&port) {
            return Err(Refusal::Port);
        }
        Ok(Checked {
            host: host.into(),
            port,
            tls,
        })
    }

    /// Whether all of these addresses may be connected to. To be asked at each resolution, and the connection to be made
    /// to one of them.
    pub fn check_addresses(&self, addresses: &[IpAddr]) -> Result<(), Refusal> {
        if addresses.is_empty() {
            return Err(Refusal::Unresolved);
        }
        match addresses
            .iter()
            .all(|address| is_global(*address) || self.allows(*address))
        {
            true => Ok(()),
            false => Err(Refusal::Private),
        }
    }

    /// As [`Policy::check_addresses`], for the host of this URL: without TLS, only networks that are allowed by name.
    pub fn admit(&self, url: &Checked, addresses: &[IpAddr]) -> Result<(), Refusal> {
        self.check_addresses(addresses)?;
        match url.tls || addresses.iter().all(|address| self.allows(*address)) {
            true => Ok(()),
            false => Err(Refusal::Scheme),
        }
    }

    fn allows(&self, address: IpAddr) -> bool {
        self.allow_private.iter().any(|network| network.contains(&address))
    }
}

/// IPv4 networks that are not the public internet: HARDENING's list, and the rest of IANA's special-purpose registry
/// (RFC 6890 and its successors).
const V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),       // this network
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // shared by carriers
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // this machine
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link-local: metadata of clouds
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),     // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),     // reserved, broadcast
];

/// The one IPv6 network that is the public internet: 2000::/3 (RFC 4291, 2.4). What lies outside needs no mention: ::, ::1,
/// fc00::/7, fe80::/10, ff00::/8, and what carries an IPv4 address: ::/96, ::ffff:0:0/96, 64:ff9b::/96, 64:ff9b:1::/48.
const V6_GLOBAL: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Networks in it that are not.
const V6: &[(Ipv6Addr, u32)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments, with Teredo 2001::/32
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

/// An address of the public internet.
pub fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let lies_in = |(network, bits): &(Ipv4Addr, u32)| {
                (address.to_bits() ^ network.to_bits())
                    .checked_shr(32 - bits)
                    .unwrap_or(0)
                    == 0
            };
            !V4.iter().any(lies_in)
        }
        IpAddr::V6(address) => {
            let lies_in = |(network, bits): &(Ipv6Addr, u32)| {
                (address.to_bits() ^ network.to_bits())
                    .checked_shr(128 - bits)
                    .unwrap_or(0)
                    == 0
            };
            lies_in(&V6_GLOBAL) && !V6.iter().any(lies_in)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap_or_else(|_| panic!("{text}"))
    }

    fn allowing(networks: &[&str], ports: &[u16]) -> Policy {
        Policy::new(
            networks.iter().map(|one| one.parse().unwrap()).collect(),
            ports.to_vec(),
        )
    }

    #[test]
    fn every_blocked_network_is_blocked_from_its_first_to_its_last_address() {
        for (first, last) in [
            ("0.0.0.0", "0.255.255.255"),
            ("10.0.0.0", "10.255.255.255"),
            ("100.64.0.0", "100.127.255.255"),
            ("127.0.0.0", "127.255.255.255"),
            ("169.254.0.0", "169.254.255.255"),
            ("172.16.0.0", "172.31.255.255"),
            ("192.0.0.0", "192.0.0.255"),
            ("192.168.0.0", "192.168.255.255"),
            ("198.18.0.0", "198.19.255.255"),
            ("224.0.0.0", "239.255.255.255"),
            ("240.0.0.0", "255.255.255.255"),
            ("::", "::1"),
            ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("::ffff:0.0.0.0", "::ffff:255.255.255.255"),
            ("64:ff9b::", "64:ff9b::ffff:ffff"),
            ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"),
            ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("::7f00:1", "::a00:1"),
            ("fec0::", "fec0::1"),
        ] {
            for address in [first, last] {
                assert!(!is_global(ip(address)), "{address}");
                let of_good_company = [ip("8.8.8.8"), ip(address)];
                assert_eq!(
                    Policy::default().check_addresses(&of_good_company),
                    Err(Refusal::Private),
                    "{address}"
                );
            }
        }
    }

    #[test]
    fn their_neighbours_are_not() {
        for address in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2a00:1450::1",
        ] {
            assert!(is_global(ip(address)), "{address}");
            assert_eq!(Policy::default().check_addresses(&[ip(address)]), Ok(()), "{address}");
        }
        assert_eq!(Policy::default().check_addresses(&[]), Err(Refusal::Unresolved));
    }

    #[test]
    fn urls_are_checked_before_anything_is_resolved() {
        let policy = Policy::default();
        for (url, refusal) in [
            ("http://api.example.com/", Refusal::Scheme),
            ("ftp://api.example.com/", Refusal::Scheme),
            ("file:///etc/passwd", Refusal::Scheme),
            ("gopher://a.example:443/", Refusal::Scheme),
            ("https://user@api.example.com/", Refusal::User),
            ("https://:secret@api.example.com/", Refusal::User),
            ("https://@api.example.com/", Refusal::User),
            ("https://api.example.com/?x=1", Refusal::Query),
            ("https://api.example.com/#x", Refusal::Query),
            ("https://api.example.com?", Refusal::Query),
            ("https://api.example.com:22/", Refusal::Port),
            ("https://api.example.com:80/", Refusal::Port),
            ("https://127.0.0.1/", Refusal::Literal),
            ("https://8.8.8.8/", Refusal::Literal),
            ("https://0x7f.1/", Refusal::Literal),
            ("https://2130706433/", Refusal::Literal),
            ("https://0177.0.0.1/", Refusal::Literal),
            ("https://127.1/", Refusal::Literal),
            ("https://１２７.0.0.1/", Refusal::Literal),
            ("https://[::1]/", Refusal::Literal),
            ("https://[::ffff:127.0.0.1]/", Refusal::Literal),
            ("https://[2606:4700::1]/", Refusal::Literal),
            ("https://api.example.com\\@127.0.0.1/", Refusal::NotAUrl),
            ("https://api.example.com\t/", Refusal::NotAUrl),
            ("https://api.exam\nple.com/", Refusal::NotAUrl),
            (" https://api.example.com/", Refusal::NotAUrl),
            ("https://", Refusal::NotAUrl),
            ("https:///", Refusal::NotAUrl),
            ("api.example.com", Refusal::NotAUrl),
            ("", Refusal::NotAUrl),
        ] {
            assert_eq!(policy.check_url(url), Err(refusal), "{url}");
        }
        let long = format!("https://api.example.com/{}", "x".repeat(MAX_URL));
        assert_eq!(policy.check_url(&long), Err(Refusal::NotAUrl));
        for (url, host, port) in [
            ("https://api.example.com/v1", "api.example.com", 443),
            ("https://API.Example.com:8443", "api.example.com", 8443),
            ("https://bücher.example/", "xn--bcher-kva.example", 443),
        ] {
            let checked = policy
                .check_url(url)
                .unwrap_or_else(|refusal| panic!("{url}: {refusal}"));
            assert_eq!((&*checked.host, checked.port, checked.tls), (host, port, true), "{url}");
        }
    }

    #[test]
    fn the_operator_can_allow_networks_and_ports() {
        let policy = allowing(&["10.0.0.0/8", "fd00::/8"], &[11434]);
        let models = policy.check_url("http://models.internal:11434/v1").unwrap();
        assert_eq!((models.port, models.tls), (11434, false));
        assert_eq!(policy.admit(&models, &[ip("10.1.2.3"), ip("fd00::1")]), Ok(()));
        assert_eq!(
            policy.admit(&models, &[ip("10.1.2.3"), ip("8.8.8.8")]),
            Err(Refusal::Scheme),
            "plain text"
        );
        assert_eq!(
            policy.admit(&models, &[ip("10.1.2.3"), ip("127.0.0.1")]),
            Err(Refusal::Private)
        );
        assert_eq!(
            policy.admit(&models, &[ip("::ffff:10.1.2.3")]),
            Err(Refusal::Private),
            "not in disguise"
        );
        assert!(policy.check_url("http://10.1.2.3/").is_ok());
        assert_eq!(policy.check_url("https://192.168.0.1/"), Err(Refusal::Literal));
        assert_eq!(policy.check_url("http://10.1.2.3:8080/"), Err(Refusal::Port));
        let both = policy.check_url("https://models.internal").unwrap();
        assert_eq!(policy.admit(&both, &[ip("10.1.2.3"), ip("8.8.8.8")]), Ok(()));
    }
}
