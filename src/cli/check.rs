//! skeleton

use super::Failure;

/// Check
#[derive(clap::Args, Debug, Default)]
pub struct Check {}

impl Check {
    /// Runs the command.
    pub fn execute(self, _conf: &std::path::Path) -> Result<(), Failure> {
        Ok(())
    }
}
