//! An answer that comes faster than anything else is done takes its turns like others: a provider that sends without end does
//! not hold up its thread.

use crate::proxy::held::Held;

/// After so many bytes others have their turn. Tokio's own bound is one of 128 reads, here 8 MiB: milliseconds.
const SHARE: usize = 64 * 1024;

impl Held {
    /// Others are to have their turn now: that much of the answer came since they last had.
    pub(super) fn gives_way(&mut self) -> bool {
        let over = self.since_turn >= SHARE;
        if over {
            self.since_turn = 0;
        }
        over
    }
}
