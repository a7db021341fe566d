//! The only room that knows the phases of Pingora.
