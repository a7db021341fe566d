//! How to reach an address from here.
