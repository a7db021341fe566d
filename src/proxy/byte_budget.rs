//! Memory that many requests share: request bodies, and what is kept of answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes which may be held at once, over all requests.
pub struct ByteBudget {
    used: AtomicUsize,
    most: usize,
}

/// A share of the budget, given back when dropped.
pub struct BytePermit {
    budget: Arc<ByteBudget>,
    bytes: usize,
}

impl ByteBudget {
    /// A budget of `most` bytes.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(ByteBudget {
            used: AtomicUsize::new(0),
            most,
        })
    }

    /// Bytes held now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// A share of nothing yet.
    pub fn permit(self: &Arc<Self>) -> BytePermit {
        BytePermit {
            budget: self.clone(),
            bytes: 0,
        }
    }
}

impl BytePermit {
    /// The share.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes the share at least `bytes` large; false: the budget is spent, and the share is what it was.
    pub fn hold(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let most = self.budget.most;
        let fits = |used: usize| used.checked_add(more).filter(|used| *used <= most);
        let held = self
            .budget
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fits)
            .is_ok();
        self.bytes += if held { more } else { 0 };
        held
    }

    /// Makes the share at most `bytes` large.
    pub fn shrink(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.budget.used.fetch_sub(less, Ordering::AcqRel);
        self.bytes -= less;
    }
}

impl Drop for BytePermit {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_and_given_back() {
        let budget = ByteBudget::new(100);
        let (mut one, mut other) = (budget.permit(), budget.permit());
        assert!(one.hold(60) && one.hold(10) && other.hold(40));
        assert_eq!((one.bytes(), budget.used()), (60, 100));
        assert!(!one.hold(61), "nothing is left");
        assert_eq!((one.bytes(), budget.used()), (60, 100));
        drop(other);
        assert!(one.hold(100));
        one.shrink(200);
        assert_eq!(budget.used(), 100);
        one.shrink(20);
        assert_eq!((one.bytes(), budget.used()), (20, 20));
        drop(one);
        assert_eq!(budget.used(), 0);
    }
}
