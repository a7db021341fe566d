//! File descriptors. At the limit Pingora stops to accept for a second at a time, and providers can't be reached: so the bounds of
//! connections and requests are kept where that does not happen.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// Kept for files (journal, store, logs, rules), listeners, the admin API and the metrics page.
const KEPT: usize = 256;
/// What a process begins with is often 1,024, for programs that use `select`. It is raised as far as the system lets us, at most to this.
const MOST_FILES: u64 = 1 << 20;
/// Least of each bound, however few descriptors there are.
const LEAST: usize = 16;

/// Bounds in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections of clients at once.
    pub connections: usize,
    /// Requests at once, each with a connection to its provider; 0: none is configured.
    pub concurrent: usize,
}

/// Raises the limit of this process to what the system allows, and says what fits into it.
pub fn bounds(config: &Config) -> Bounds {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(MOST_FILES, |maximum| maximum.min(MOST_FILES));
    let limit = if limit.current.is_none_or(|current| current >= wanted) {
        limit.current
    } else {
        let raised = Rlimit {
            current: Some(wanted),
            maximum: limit.maximum,
        };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => raised.current,
            Err(error) => {
                tracing::warn!(%error, "the limit of open files could not be raised");
                limit.current
            }
        }
    };
    let descriptors = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let wanted = Bounds {
        connections: config.limits.connections,
        concurrent: config.overload.concurrent,
    };
    let bounds = fit(wanted, descriptors);
    if bounds != wanted {
        tracing::warn!(
            descriptors,
            connections = bounds.connections,
            concurrent = bounds.concurrent,
            "limits.connections and overload.concurrent are lowered: the system allows no more descriptors (LimitNOFILE, ulimit -n)"
        );
    }
    bounds
}

/// Both bounds, lowered to what fits: half for each, and what one does not need for the other.
fn fit(wanted: Bounds, descriptors: usize) -> Bounds {
    let room = descriptors.saturating_sub(KEPT.min(descriptors / 4)).max(2 * LEAST);
    if wanted.connections.saturating_add(wanted.concurrent) <= room {
        return wanted;
    }
    let half = room / 2;
    if wanted.concurrent == 0 {
        return Bounds {
            connections: wanted.connections.min(half),
            concurrent: 0,
        };
    }
    let concurrent = wanted.concurrent.min(half.max(room.saturating_sub(wanted.connections)));
    Bounds {
        connections: wanted.connections.min(room - concurrent),
        concurrent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_lowered() {
        let bounds = |connections, concurrent| Bounds {
            connections,
            concurrent,
        };
        let cases = [
            (bounds(20_000, 10_000), 1 << 20, bounds(20_000, 10_000)),
            (bounds(20_000, 10_000), 1024, bounds(384, 384)),
            (bounds(100, 10_000), 1024, bounds(100, 668)),
            (bounds(20_000, 100), 1024, bounds(668, 100)),
            (bounds(20_000, 0), 1024, bounds(384, 0)),
            (bounds(300, 300), 64, bounds(24, 24)),
            (bounds(300, 300), 8, bounds(16, 16)),
        ];
        for (wanted, descriptors, expected) in cases {
            assert_eq!(fit(wanted, descriptors), expected, "{wanted:?} in {descriptors}");
        }
    }
}
