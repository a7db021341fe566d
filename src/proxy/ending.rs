//! The end of the process, as requests under way see it.
//!
//! An answer that is still going on when the time to drain is over ends with an error in its own format, and its row is written.
//! Nobody wakes it for that: each gate looks by its own timer, every [`SEEN`], so that events of a stream cost nothing for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// After this time each request under way has seen that it is to end.
pub const SEEN: Duration = Duration::from_secs(5);

static ENDING: AtomicBool = AtomicBool::new(false);
static CLOSING: AtomicBool = AtomicBool::new(false);

/// Requests under way are to end.
pub fn end() {
    ENDING.store(true, Ordering::Relaxed);
}

/// Are they?
pub(super) fn is_ending() -> bool {
    ENDING.load(Ordering::Relaxed)
}

/// From now on each answer tells its client to close the connection, also one that began before.
pub fn close_connections() {
    CLOSING.store(true, Ordering::Relaxed);
}

/// Does it?
pub(super) fn closes_connections() -> bool {
    CLOSING.load(Ordering::Relaxed)
}
