//! The client's address (HARDENING H5): the peer's, unless the peer is known to name its client in a header of its own, or is
//! a trusted proxy; then the right-most address of `X-Forwarded-For` that is not.

use std::net::IpAddr;

use ipnet::IpNet;
use pingora::proxy::Session;

use crate::config::AddressHeader;

/// The address of who asks; `None`: unknown (not an internet socket).
pub fn of(session: &Session, trusted: &[IpNet], named: &[AddressHeader]) -> Option<IpAddr> {
    let peer = session.client_addr()?.as_inet()?.ip().to_canonical();
    let named = named.iter().filter(|named| is_trusted(peer, &named.from));
    for named in named {
        // Two of them, or one that can't be read: somebody meddled with it.
        let mut values = session.req_header().headers.get_all(&named.header).iter();
        if let (Some(value), None) = (values.next(), values.next())
            && let Some(address) = value.to_str().ok().and_then(|text| text.trim().parse::<IpAddr>().ok())
        {
            return Some(address.to_canonical());
        }
    }
    if trusted.is_empty() || !is_trusted(peer, trusted) {
        return Some(peer);
    }
    let headers = session.req_header().headers.get_all("x-forwarded-for");
    Some(forwarded(headers.iter().filter_map(|value| value.to_str().ok()), trusted).unwrap_or(peer))
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// The right-most address that is not a trusted proxy's; anything unreadable on the way ends the search.
fn forwarded<'a>(values: impl Iterator<Item = &'a str>, trusted: &[IpNet]) -> Option<IpAddr> {
    let hops: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    let mut last = None;
    for hop in hops.into_iter().rev() {
        let address: IpAddr = hop.parse::<IpAddr>().ok()?.to_canonical();
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
        let find = |values: &[&str]| forwarded(values.iter().copied(), &trusted).map(|address| address.to_string());
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
}
