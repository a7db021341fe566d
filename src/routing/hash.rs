//! The hash by which requests of one conversation, one key or one route are known again.

use std::hash::{DefaultHasher, Hash, Hasher};

/// SipHash with fixed keys, as the standard library's `DefaultHasher` has it (1-3 today): the same in every process of one
/// build, which is what nodes of one gateway run. Not kept on disk: another build may hash otherwise.
pub(super) fn of(what: &impl Hash) -> u64 {
    let mut hasher = begin();
    what.hash(&mut hasher);
    hasher.finish()
}

/// The same, fed bit by bit.
pub(super) fn begin() -> DefaultHasher {
    DefaultHasher::new()
}
