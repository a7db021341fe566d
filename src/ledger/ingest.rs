//! skeleton, replaced by the books helper
