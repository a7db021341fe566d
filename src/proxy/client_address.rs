//! The client's address (HARDENING H5): the peer's, unless the peer is known to name its client in a header of its own, or is
//! a trusted proxy; then the right-most address of `X-Forwarded-For` that is not.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;
use pingora::proxy::Session;

use crate::config::AddressHeader;

/// The address of who asks; `None`: unknown (not an internet socket, or a proxy's word of it that can't be read).
pub fn of(session: &Session, trusted: &[IpNet], named: &[AddressHeader]) -> Option<IpAddr> {
    find(peer(session)?, &session.req_header().headers, trusted, named)
}

/// The address of who is connected: the client, or its proxy.
pub fn peer(session: &Session) -> Option<IpAddr> {
    Some(session.client_addr()?.as_inet()?.ip().to_canonical())
}

fn find(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet], named: &[AddressHeader]) -> Option<IpAddr> {
    for named in named.iter().filter(|named| is_trusted(peer, &named.from)) {
        let mut values = headers.get_all(&named.header).iter();
        match (values.next(), values.next()) {
            (None, _) => {}
            (Some(value), None) => return read(value.as_bytes()),
            // Somebody meddled with it.
            (Some(_), Some(_)) => return None,
        }
    }
    if trusted.is_empty() || !is_trusted(peer, trusted) {
        return Some(peer);
    }
    let forwarded_for = headers.get_all("x-forwarded-for");
    if forwarded_for.iter().next().is_none() {
        return Some(peer);
    }
    // Never the proxy's own in the place of one that can't be read: it may be in networks which the client is not in.
    forwarded(forwarded_for.iter().map(|value| value.as_bytes()), trusted)
}

fn read(hop: &[u8]) -> Option<IpAddr> {
    let address: IpAddr = std::str::from_utf8(hop).ok()?.trim().parse().ok()?;
    Some(address.to_canonical())
}

/// Whether it is in one of these networks.
pub(super) fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// The right-most address that is not a trusted proxy's; anything unreadable on the way ends the search.
fn forwarded<'a>(values: impl Iterator<Item = &'a [u8]>, trusted: &[IpNet]) -> Option<IpAddr> {
    let hops: Vec<&[u8]> = values.flat_map(|value| value.split(|byte| *byte == b',')).collect();
    let mut last = None;
    for hop in hops.into_iter().rev() {
        let address = read(hop)?;
        last = Some(address);
        if !is_trusted(address, trusted) {
            return last;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_most_untrusted_hop_counts() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let find = |values: &[&str]| {
            forwarded(values.iter().map(|value| value.as_bytes()), &trusted).map(|address| address.to_string())
        };
        assert_eq!(
            find(&["6.6.6.6, 203.0.113.9, 10.1.1.1"]).as_deref(),
            Some("203.0.113.9"),
            "what stands left of it may be forged"
        );
        assert_eq!(
            find(&["203.0.113.9", "10.1.1.1"]).as_deref(),
            Some("203.0.113.9"),
            "several headers are one list"
        );
        assert_eq!(find(&["10.2.2.2, 10.1.1.1"]).as_deref(), Some("10.2.2.2"));
        assert_eq!(
            find(&["203.0.113.9, junk"]),
            None,
            "what can't be read is not guessed past"
        );
        assert_eq!(find(&[]), None);
    }

    #[test]
    fn what_cant_be_read_does_not_make_the_client_its_proxy() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let named = vec![AddressHeader {
            header: http::HeaderName::from_static("cf-connecting-ip"),
            from: trusted.clone(),
        }];
        let peer: IpAddr = "10.0.0.5".parse().unwrap();
        let ask = |name: &'static str, values: &[&[u8]], named: &[AddressHeader]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(name, http::HeaderValue::from_bytes(value).unwrap());
            }
            super::find(peer, &headers, &trusted, named).map(|address| address.to_string())
        };
        let forwarded = |value: &[u8]| ask("x-forwarded-for", &[value], &[]);
        assert_eq!(
            forwarded(b"\xff, 203.0.113.9").as_deref(),
            Some("203.0.113.9"),
            "what the client wrote does not hide what its proxy wrote"
        );
        assert_eq!(forwarded(b"203.0.113.9, \xff"), None);
        assert_eq!(forwarded(b"unknown"), None);
        assert_eq!(
            ask("x-forwarded-for", &[], &[]),
            Some(peer.to_string()),
            "the proxy asks itself"
        );
        assert_eq!(
            ask("cf-connecting-ip", &[b"2001:db8::1"], &named).as_deref(),
            Some("2001:db8::1")
        );
        assert_eq!(ask("cf-connecting-ip", &[b"junk"], &named), None);
        assert_eq!(ask("cf-connecting-ip", &[b"192.0.2.1", b"192.0.2.2"], &named), None);
    }
}
