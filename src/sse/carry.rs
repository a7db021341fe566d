//! What came of a block that has not ended.
//!
//! Memory for large blocks is used again. Taking it fresh from the system costs a page fault each 4 KiB, and giving it back in one piece holds
//! the thread up for milliseconds: a provider that sends large events one after the other would make all others wait
//! (loadtest/RESULTS.md).

use std::mem;
use std::ops::RangeInclusive;

use parking_lot::Mutex;

/// Capacity that is kept for the next block; what is larger is given back, so that an idle stream is small.
pub(super) const KEPT: usize = 1024;

/// A block of which so much has come may become as large as is kept.
const LARGE: usize = 1 << 20;

/// A large buffer that nobody uses is kept for the next, beside what is counted as kept of answers: none that is larger than this, nor so small
/// that it has grown by doubling.
const SPARE: RangeInclusive<usize> = 2 * LARGE + 1..=64 << 20;

static KEPT_SPARE: Mutex<Option<Spare>> = Mutex::new(None);

/// A large buffer, empty.
#[derive(Debug)]
struct Spare {
    buffer: Vec<u8>,
    /// Bytes of it that are memory: they were written to.
    touched: usize,
    /// It was there already when it was last looked ([`let_spare_go`]).
    seen: bool,
}

/// Takes a buffer of at least this capacity.
fn take(from: &mut Option<Spare>, least: usize) -> Option<Spare> {
    from.take_if(|spare| spare.buffer.capacity() >= least)
}

/// Keeps a buffer, or gives it back where there is one.
fn give(to: &mut Option<Spare>, mut buffer: Vec<u8>, touched: usize) -> Option<Vec<u8>> {
    if to.is_some() || !SPARE.contains(&buffer.capacity()) {
        return Some(buffer);
    }
    buffer.clear();
    *to = Some(Spare {
        buffer,
        touched,
        seen: false,
    });
    None
}

/// It, if nobody took it since this was last asked.
fn unused(spare: &mut Option<Spare>) -> Option<Spare> {
    spare.take_if(|spare| mem::replace(&mut spare.seen, true))
}

/// Gives the system back what was spare already when this was last called. To be called once in a while, where nobody has to wait for it.
pub fn let_spare_go() {
    let unused = unused(&mut KEPT_SPARE.lock());
    drop(unused);
}

/// The bytes of a block that came in earlier chunks, and whether they are still all there.
#[derive(Debug, Default)]
pub(super) struct Carry {
    pub(super) bytes: Vec<u8>,
    /// More came than is kept: `bytes` is empty until the block ends.
    pub(super) oversized: bool,
    /// Bytes of the buffer that were written to when another block was in it.
    touched: usize,
}

impl Carry {
    pub(super) fn is_inside(&self) -> bool {
        self.oversized || !self.bytes.is_empty()
    }

    /// Bytes of memory held.
    pub(super) fn held(&self) -> usize {
        self.touched.max(self.bytes.len())
    }

    /// Gives up a buffer of which more is memory than the block takes. False: it is none.
    pub(super) fn shrink(&mut self) -> bool {
        let more = self.touched > self.bytes.len();
        if more {
            self.touched = 0;
            self.bytes = self.bytes.clone();
        }
        more
    }

    /// Keeps the unfinished end of a chunk, if the block is no larger than `max` with it.
    pub(super) fn keep(&mut self, tail: &[u8], max: usize) {
        if self.oversized || tail.is_empty() {
            return;
        }
        let length = self.bytes.len() + tail.len();
        if length > max {
            self.oversized = true;
            self.empty();
            return;
        }
        if length > self.bytes.capacity() {
            self.grow(length, max);
        }
        self.bytes.extend_from_slice(tail);
    }

    /// Makes room for `length` bytes: twice as much each time, but of what is large for all there may be at once. Untouched memory is none, but a
    /// copy left behind is.
    fn grow(&mut self, length: usize, max: usize) {
        if length <= LARGE {
            let more = (2 * length).min(max);
            return self.bytes.reserve_exact(more - self.bytes.len());
        }
        let spare = take(&mut KEPT_SPARE.lock(), max);
        match spare {
            Some(mut spare) => {
                spare.buffer.extend_from_slice(&self.bytes);
                (self.bytes, self.touched) = (spare.buffer, spare.touched);
            }
            None => self.bytes.reserve_exact(max - self.bytes.len()),
        }
    }

    /// Keeps no more of the block.
    pub(super) fn let_go(&mut self) {
        self.oversized |= self.is_inside();
        self.empty();
    }

    /// The block is over.
    pub(super) fn clear(&mut self) {
        self.oversized = false;
        if self.bytes.capacity() > KEPT {
            self.empty();
        } else {
            self.bytes.clear();
        }
    }

    fn empty(&mut self) {
        let held = self.held();
        self.touched = 0;
        let bytes = mem::take(&mut self.bytes);
        if bytes.capacity() > LARGE {
            let surplus = give(&mut KEPT_SPARE.lock(), bytes, held);
            drop(surplus);
        }
    }
}

impl Drop for Carry {
    fn drop(&mut self) {
        self.empty();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spare_buffer_is_used_again_and_let_go_when_nobody_wants_it() {
        let mut spare = None;
        let large = |capacity| Vec::with_capacity(capacity);
        assert!(give(&mut spare, large(2 << 20), 1).is_some(), "too small");
        assert!(give(&mut spare, large(65 << 20), 1).is_some(), "too large");
        assert!(give(&mut spare, large(3 << 20), 7).is_none());
        assert!(give(&mut spare, large(5 << 20), 8).is_some(), "there is one");
        assert!(take(&mut spare, 4 << 20).is_none(), "not large enough");
        assert!(unused(&mut spare).is_none(), "it has just come");
        let taken = take(&mut spare, 3 << 20).expect("it is there");
        assert_eq!(
            (taken.buffer.len(), taken.buffer.capacity(), taken.touched),
            (0, 3 << 20, 7)
        );
        assert!(give(&mut spare, taken.buffer, 8).is_none());
        assert!(unused(&mut spare).is_none(), "it was used meanwhile");
        assert_eq!(unused(&mut spare).map(|spare| spare.touched), Some(8));
        assert!(spare.is_none());
    }

    #[test]
    fn what_is_held_of_a_spare_buffer_counts() {
        let mut carry = Carry::default();
        carry.keep(&[1; 100], 1 << 20);
        assert_eq!(carry.held(), 100);
        carry.touched = 5000;
        assert_eq!(carry.held(), 5000);
        assert!(carry.shrink() && !carry.shrink());
        assert_eq!((carry.held(), carry.bytes.len()), (100, 100));
        carry.touched = 5000;
        carry.let_go();
        assert_eq!((carry.held(), carry.oversized), (0, true));
    }

    #[test]
    fn a_large_block_is_kept_up_to_its_bound() {
        const MAX: usize = 3 << 20;
        for _ in 0..3 {
            let mut carry = Carry::default();
            let mut all = Vec::new();
            for at in 0..48_u8 {
                let tail = [at; 1 << 16];
                carry.keep(&tail, MAX);
                all.extend_from_slice(&tail);
                assert!(!carry.oversized && carry.bytes == all);
            }
            assert!(carry.bytes.capacity() >= MAX);
            carry.keep(b"x", MAX);
            assert!(carry.oversized && carry.bytes.is_empty() && carry.bytes.capacity() == 0);
            carry.clear();
            assert!(!carry.is_inside());
        }
    }
}
