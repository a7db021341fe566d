//! skeleton

use super::Failure;

/// Keys
#[derive(clap::Subcommand, Debug)]
pub enum Keys {
    /// list
    List {},
}

impl Keys {
    /// Runs the command.
    pub fn execute(self, _conf: &std::path::Path) -> Result<(), Failure> {
        Ok(())
    }
}
