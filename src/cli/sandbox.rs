//! skeleton

use super::Failure;

/// Sandbox
#[derive(clap::Args, Debug)]
pub struct Sandbox {}

impl Sandbox {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        Ok(())
    }
}
