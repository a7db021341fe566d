//! Incremental SSE decoder (to be written by the dialects helper).
