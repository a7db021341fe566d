//! skeleton

use super::Failure;

/// Usage
#[derive(clap::Subcommand, Debug)]
pub enum Usage {
    /// list
    List {},
}

impl Usage {
    /// Runs the command.
    pub fn execute(self, _conf: &std::path::Path) -> Result<(), Failure> {
        Ok(())
    }
}
