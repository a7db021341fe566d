//! Problems of configuration: what, where, and what to do. All of them at once.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// Most problems written to the log at once; `tollgate check` tells all.
const MAX_LOGGED: usize = 50;

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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

impl Problem {
    /// A problem with a file as a whole.
    pub fn of_file(file: impl Into<PathBuf>, what: impl Into<String>, help: impl Into<String>) -> Self {
        Problem {
            file: file.into(),
            line: 0,
            what: what.into(),
            help: help.into(),
            warning: false,
        }
    }

    /// Where it is: `rules/20-cheap.toml:7`, or only the file.
    pub fn place(&self) -> String {
        place(&self.file, self.line)
    }
}

/// `file:line`, or only the file for line 0.
pub(crate) fn place(file: &std::path::Path, line: usize) -> String {
    match line {
        0 => file.display().to_string(),
        line => format!("{}:{line}", file.display()),
    }
}

/// Two lines: place and what stands there; below, indented, what to do.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}\n    {}", self.place(), self.what, self.help)
    }
}

/// Writes them to the log, the first of them where they are many.
pub(crate) fn log(problems: &[Problem]) {
    for p in problems.iter().take(MAX_LOGGED) {
        match p.warning {
            true => tracing::warn!(at = %p.place(), what = %p.what, "{}", p.help),
            false => tracing::error!(at = %p.place(), what = %p.what, "{}", p.help),
        }
    }
}

/// Parts what forbids from what warns.
pub(crate) fn part(all: Problems) -> (Problems, Problems) {
    all.into_iter().partition(|p| !p.warning)
}
