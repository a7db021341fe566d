//! Floods: requests per second and connections at once of one client address. Estimates which only over-count
//! (count-min sketches of pingora-limits), sized so that ten thousand addresses do not disturb one another (PINGORA.md).

use std::net::IpAddr;
use std::time::Duration;

use pingora_limits::inflight::{Guard, Inflight};
use pingora_limits::rate::Rate;

/// Hashes and slots of the rate's sketch: 4 MiB (PINGORA.md, "Balancing and limits").
const HASHES: usize = 4;
const SLOTS: usize = 65_536;

/// The limits of one process.
pub struct Flood {
    requests: Rate,
    connections: Inflight,
    most_requests: isize,
    most_connections: isize,
}

/// One connection, counted until dropped.
pub struct Connection(#[expect(dead_code, reason = "held for its drop")] Guard);

impl Flood {
    /// Limits per address: `requests` a second, `connections` at once.
    pub fn new(requests: usize, connections: usize) -> Self {
        Flood {
            requests: Rate::new_with_estimator_config(Duration::from_secs(1), HASHES, SLOTS),
            connections: Inflight::new(),
            most_requests: isize::try_from(requests).unwrap_or(isize::MAX),
            most_connections: isize::try_from(connections).unwrap_or(isize::MAX),
        }
    }

    /// Counts a request; false: too many this second.
    pub fn allows(&self, address: IpAddr) -> bool {
        self.requests.observe(&address, 1) <= self.most_requests
    }

    /// Counts a connection; `None`: too many at once.
    pub fn connect(&self, address: IpAddr) -> Option<Connection> {
        let (guard, count) = self.connections.incr(address, 1);
        (count <= self.most_connections).then_some(Connection(guard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_limit() {
        let flood = Flood::new(2, 1);
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert!(flood.allows(one) && flood.allows(one) && !flood.allows(one));
        assert!(flood.allows(other));
        let held = flood.connect(one);
        assert!(held.is_some() && flood.connect(one).is_none() && flood.connect(other).is_some());
        drop(held);
        assert!(flood.connect(one).is_some(), "a closed connection is not counted");
    }
}
