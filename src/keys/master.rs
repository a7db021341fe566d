//! The master key: 32 bytes in a file of their own (HARDENING S1). Other keys are derived from it.

use std::path::Path;

/// The master key. Wiped from memory when dropped; can't be printed.
pub struct MasterKey {}

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file can't be read or made.
    #[error("the master key {file}: {source}")]
    Io {
        /// Which.
        file: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not 32 bytes (64 hexadecimal digits), all zero, or readable by others.
    #[error("the master key {file}: {why}")]
    Unfit {
        /// Which.
        file: std::path::PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
}

impl MasterKey {
    /// Reads the key; makes one (mode 0400) if the file is missing and `may_create`.
    pub fn load(_file: &Path, _may_create: bool) -> Result<Self, MasterKeyError> {
        unreachable!("skeleton")
    }

    /// A key for one purpose: HKDF-SHA256(master, purpose).
    pub fn derive(&self, _purpose: &str) -> zeroize::Zeroizing<[u8; 32]> {
        unreachable!("skeleton")
    }
}
