//! Reads `conf/tollgate.toml`.

use std::path::Path;

use super::{Config, Problems};

/// Reads and checks the file; every problem at once. Warnings come along with the configuration.
pub fn load(_file: &Path) -> Result<(Config, Problems), Problems> {
    Err(Vec::new())
}
