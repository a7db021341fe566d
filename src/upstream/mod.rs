//! Which credential and which peer, and what became of it.
