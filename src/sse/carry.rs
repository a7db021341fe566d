//! What came of a block that has not ended.
//!
//! Memory for large blocks is used again. Taking it fresh from the system costs a page fault each 4 KiB, and giving it back in one piece holds
//! the thread up for milliseconds: a provider that sends large events one after the other would make all others wait
//! (loadtest/RESULTS.md).

use std::mem;

use parking_lot::Mutex;

/// Capacity that is kept for the next block; what is larger is given back, so that an idle stream is small.
const KEPT: usize = 1024;

/// A block of which so much has come may become as large as is kept.
const LARGE: usize = 1 << 20;

/// So many large buffers that nobody uses are kept for others …
const SPARES: usize = 4;

static SPARE: Mutex<Spare> = Mutex::new(Spare { buffers: Vec::new() });

/// Large buffers, empty.
struct Spare {
    /// … and whether each was there already when it was last looked ([`let_spare_go`]).
    buffers: Vec<(Vec<u8>, bool)>,
}

impl Spare {
    fn take(&mut self, least: usize) -> Option<Vec<u8>> {
        // The last that came is the most likely to be in a cache, and the others grow old.
        let at = self.buffers.iter().rposition(|(spare, _)| spare.capacity() >= least)?;
        Some(self.buffers.remove(at).0)
    }

    /// Takes a buffer, or gives it back where there are enough.
    fn give(&mut self, mut buffer: Vec<u8>) -> Option<Vec<u8>> {
        if self.buffers.len() >= SPARES {
            return Some(buffer);
        }
        buffer.clear();
        self.buffers.push((buffer, false));
        None
    }

    /// Those which nobody took since this was last asked.
    fn unused(&mut self) -> Vec<(Vec<u8>, bool)> {
        let unused = self.buffers.extract_if(.., |(_, seen)| mem::replace(seen, true));
        unused.collect()
    }
}

/// Gives the system back what was spare already when this was last called. To be called once in a while, where nobody has to wait for it.
pub fn let_spare_go() {
    let unused = SPARE.lock().unused();
    drop(unused);
}

/// The bytes of a block that came in earlier chunks, and whether they are still all there.
#[derive(Debug, Default)]
pub(super) struct Carry {
    pub(super) bytes: Vec<u8>,
    /// More came than is kept: `bytes` is empty until the block ends.
    pub(super) oversized: bool,
}

impl Carry {
    pub(super) fn is_inside(&self) -> bool {
        self.oversized || !self.bytes.is_empty()
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
        let spare = SPARE.lock().take(max);
        match spare {
            Some(mut spare) => {
                spare.extend_from_slice(&self.bytes);
                self.bytes = spare;
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
        let bytes = mem::take(&mut self.bytes);
        if bytes.capacity() > LARGE {
            let surplus = SPARE.lock().give(bytes);
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
        let mut spare = Spare { buffers: Vec::new() };
        let buffer = |capacity| vec![1; capacity];
        assert!(spare.give(buffer(2000)).is_none());
        assert!(spare.give(buffer(1000)).is_none());
        assert!(spare.take(3000).is_none(), "none is large enough");
        let taken = spare.take(1000).expect("the last");
        assert_eq!((taken.len(), taken.capacity()), (0, 1000));
        assert!(spare.unused().is_empty(), "it has just come");
        assert!(spare.give(taken).is_none());
        let unused = spare.unused();
        assert_eq!(unused.len(), 1, "the other was used meanwhile");
        assert_eq!(unused[0].0.capacity(), 2000);
        assert_eq!(spare.unused().len(), 1);
        for _ in 0..SPARES {
            assert!(spare.give(buffer(10)).is_none());
        }
        assert_eq!(
            spare.give(buffer(10)).map(|buffer| buffer.len()),
            Some(10),
            "there are enough"
        );
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
