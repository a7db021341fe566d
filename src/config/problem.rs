//! Problems of configuration: what, where, and what to do. All of them at once.

use std::path::PathBuf;

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0: the file as a whole.
    pub line: usize,
    /// What stands there, as in `route "cheap": targets[0].provider = "deepsek"`.
    pub what: String,
    /// What is wrong and what to do, with a suggestion where there is one.
    pub help: String,
    /// A warning leaves the configuration valid.
    pub warning: bool,
}

/// All problems found.
pub type Problems = Vec<Problem>;
