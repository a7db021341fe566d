//! skeleton, replaced by the configuration helper
