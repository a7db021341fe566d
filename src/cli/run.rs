//! skeleton

use super::Failure;

/// Run
#[derive(clap::Args, Debug, Default)]
pub struct Run {}

impl Run {
    /// Runs the command.
    pub fn execute(self, _conf: &std::path::Path) -> Result<(), Failure> {
        Ok(())
    }
}
