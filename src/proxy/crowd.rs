//! Who is connected. All connections of clients are counted, and so are those on which nobody has shown a good key yet
//! (strangers): a flood of connections that are idle, or drip, must not crowd out clients. For a new stranger over their bound
//! the oldest one is closed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::metrics::{self, Shed};

/// A stranger is not closed for another before it had this long to show a key: else a flood would close everybody in the middle
/// of the TLS handshake.
const GRACE: Duration = Duration::from_secs(1);

/// The connections of this process.
pub struct Crowd {
    most: usize,
    most_strangers: usize,
    all: AtomicUsize,
    numbers: AtomicU64,
    /// By number, and so by age.
    strangers: Mutex<BTreeMap<u64, Arc<Member>>>,
}

/// One connection.
#[derive(Debug)]
pub struct Member {
    number: u64,
    since: Instant,
    known: AtomicBool,
    asked: AtomicBool,
    close: Notify,
}

/// Counts a connection until dropped.
pub struct Counted {
    crowd: Arc<Crowd>,
    member: Arc<Member>,
}

impl Crowd {
    /// Bounds: all connections, and strangers among them.
    pub fn new(most: usize, most_strangers: usize) -> Arc<Self> {
        Arc::new(Crowd {
            most,
            most_strangers: most_strangers.min(most),
            all: AtomicUsize::new(0),
            numbers: AtomicU64::new(0),
            strangers: Mutex::default(),
        })
    }

    /// A connection comes; `None`: there is no room for it.
    pub fn enter(self: &Arc<Self>, now: Instant) -> Option<Counted> {
        if self.all.fetch_add(1, Ordering::AcqRel) >= self.most {
            self.all.fetch_sub(1, Ordering::AcqRel);
            // Room for the next one.
            self.close_oldest(&mut self.strangers.lock(), now);
            metrics::shed(Shed::Connections);
            return None;
        }
        let member = Arc::new(Member {
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            since: now,
            known: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            close: Notify::new(),
        });
        let mut strangers = self.strangers.lock();
        if strangers.len() >= self.most_strangers && !self.close_oldest(&mut strangers, now) {
            drop(strangers);
            self.all.fetch_sub(1, Ordering::AcqRel);
            metrics::shed(Shed::Unauthenticated);
            return None;
        }
        strangers.insert(member.number, member.clone());
        metrics::strangers(strangers.len());
        drop(strangers);
        Some(Counted {
            crowd: self.clone(),
            member,
        })
    }

    fn close_oldest(&self, strangers: &mut BTreeMap<u64, Arc<Member>>, now: Instant) -> bool {
        let Some(oldest) = strangers.first_entry() else {
            return false;
        };
        if now.saturating_duration_since(oldest.get().since) < GRACE {
            return false;
        }
        oldest.remove().close.notify_one();
        metrics::strangers(strangers.len());
        metrics::shed(Shed::Unauthenticated);
        true
    }

    fn forget(&self, member: &Member) {
        let mut strangers = self.strangers.lock();
        if strangers.remove(&member.number).is_some() {
            metrics::strangers(strangers.len());
        }
    }

    /// A good key was shown on this connection: it is no stranger's.
    pub fn know(&self, member: &Member) {
        // One of the few that were not the first looks no further.
        if !member.known.load(Ordering::Relaxed) && !member.known.swap(true, Ordering::AcqRel) {
            self.forget(member);
        }
    }
}

impl Counted {
    /// The connection.
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if !self.member.known.load(Ordering::Acquire) {
            self.crowd.forget(&self.member);
        }
        self.crowd.all.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Member {
    /// Ends when the connection is to be closed for another.
    pub async fn closed(&self) {
        self.close.notified().await;
    }

    /// A good key was shown on it.
    pub fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// The header of a request came whole.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// The header of some request came whole.
    pub fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_closed(counted: &Counted) -> bool {
        let closed = pin!(counted.member().closed());
        closed.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_oldest_stranger_makes_room_for_a_new_one_and_clients_stay() {
        let crowd = Crowd::new(10, 2);
        let start = Instant::now();
        let client = crowd.enter(start).unwrap();
        crowd.know(client.member());
        crowd.know(client.member());
        let (first, second) = (crowd.enter(start).unwrap(), crowd.enter(start + GRACE / 2).unwrap());
        assert!(
            crowd.enter(start + GRACE / 2).is_none(),
            "both strangers are too young to be closed"
        );
        let third = crowd.enter(start + GRACE).unwrap();
        assert!(is_closed(&first) && !is_closed(&second) && !is_closed(&third) && !is_closed(&client));
        assert!(crowd.enter(start + GRACE).is_none(), "the second is too young still");
        drop(second);
        assert!(crowd.enter(start + GRACE).is_some(), "one that left makes room too");
        drop((client, first, third));
        assert_eq!(crowd.all.load(Ordering::Relaxed), 0);
        assert!(crowd.strangers.lock().is_empty());
    }

    #[test]
    fn nobody_comes_in_over_the_bound_of_all() {
        let crowd = Crowd::new(2, 5);
        let start = Instant::now();
        let client = crowd.enter(start).unwrap();
        crowd.know(client.member());
        let stranger = crowd.enter(start).unwrap();
        assert!(crowd.enter(start + 2 * GRACE).is_none());
        assert!(is_closed(&stranger), "its place is for who comes next");
        drop(stranger);
        assert!(crowd.enter(start).is_some());
    }
}
