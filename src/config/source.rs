//! One file of configuration: read within bounds, parsed, with a line number for every place in it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::fields::{Context, Fields};
use super::problem::{Problem, Problems};
use super::size;

/// Largest file of configuration. 4 MiB are some 20,000 routes.
pub const MAX_FILE_BYTES: u64 = 4 << 20;

/// Most problems kept of one load; a reader fixes a few, then asks again.
pub const MAX_PROBLEMS: usize = 1000;

/// Most syntax errors told of one file: after the first, the others are often only its echo.
const MAX_SYNTAX_ERRORS: usize = 10;

/// Collects what is found while reading: problems, and the names of all fields asked for.
#[derive(Default)]
pub struct Report {
    problems: RefCell<Problems>,
    asked: RefCell<BTreeSet<String>>,
}

impl Report {
    /// Adds a problem, up to [`MAX_PROBLEMS`].
    pub fn add(&self, problem: Problem) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < MAX_PROBLEMS {
            problems.push(problem);
        }
    }

    /// Notes that a field of this path is known.
    pub(super) fn asked(&self, path: String) {
        self.asked.borrow_mut().insert(path);
    }

    /// Every field asked for so far, as `limits.body`.
    pub fn known(&self) -> BTreeSet<String> {
        self.asked.borrow().clone()
    }

    /// All problems, by file (in the order given by `files`) and line.
    pub fn into_problems(self, files: &[&Path]) -> Problems {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|p| (files.iter().position(|f| *f == p.file), p.line));
        problems
    }
}

/// The text of one file.
#[derive(Debug)]
pub struct Source {
    /// The file, as named in problems.
    pub file: PathBuf,
    /// Its text.
    pub text: String,
    /// Where lines begin.
    lines: Vec<usize>,
}

impl Source {
    /// A text that came from `file`.
    pub fn new(file: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        let (file, text) = (file.into(), text.into());
        let ends = text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
        let lines = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Source { file, text, lines }
    }

    /// Reads a file: an ordinary one, UTF-8, at most [`MAX_FILE_BYTES`].
    pub fn read(file: &Path) -> Result<Self, Problem> {
        let cannot = |help: String| Problem::of_file(file, "can't be read", help);
        let bytes = read_bounded(file, MAX_FILE_BYTES).map_err(|error| cannot(error.to_string()))?;
        String::from_utf8(bytes)
            .map(|text| Source::new(file, text))
            .map_err(|error| {
                let good = error.utf8_error().valid_up_to();
                let line = 1 + error.as_bytes()[..good].iter().filter(|b| **b == b'\n').count();
                Problem {
                    line,
                    ..cannot("it is not UTF-8 here; save it in that encoding".to_owned())
                }
            })
    }

    /// The line, from 1, of a byte of the text.
    pub fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at)
    }

    /// Parses the text; syntax errors go to the report. What could be read of a faulty file is still there, so that
    /// other files which refer to it need not be doubted.
    pub fn parse<'a>(&'a self, report: &Report) -> Document<'a> {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        for error in errors.iter().take(MAX_SYNTAX_ERRORS) {
            let at = error.span().map_or(0, |span| span.start);
            // The parser's words name kinds of tokens and never what stands there, which may be a key.
            let (what, help) = match error.message() {
                "duplicate key" => (
                    "this stands here twice",
                    "TOML allows it once; remove or rename one of the two".into(),
                ),
                message => ("this is not TOML", message.to_owned()),
            };
            report.add(Problem {
                file: self.file.clone(),
                line: self.line(at),
                what: what.to_owned(),
                help,
                warning: false,
            });
        }
        Document {
            source: self,
            table: table.into_inner(),
            sound: errors.is_empty(),
        }
    }
}

/// A parsed file.
pub struct Document<'a> {
    source: &'a Source,
    table: DeTable<'a>,
    /// Whether it had no syntax errors.
    pub sound: bool,
}

impl Document<'_> {
    /// Its top-level fields.
    pub fn root<'s>(&'s self, report: &'s Report) -> Fields<'s> {
        let context = Context {
            source: self.source,
            report,
        };
        Fields::new(context, Some(&self.table), String::new(), 0)
    }
}

/// Why a file's bytes can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A folder, a pipe, a device.
    #[error("it is not a file")]
    NotAFile,
    /// Over the bound, which is given.
    #[error("it is larger than {}, the most that is read", size::show(*.0))]
    TooLarge(u64),
    /// The system says so.
    #[error("{}", because(.0))]
    Io(#[from] std::io::Error),
}

/// The system's words without its number.
pub(crate) fn because(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "it does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// All bytes of an ordinary file (or of a link to one), if there are at most `most`.
pub(crate) fn read_bounded(file: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    // Asked before it is opened: opening a pipe would wait for a writer.
    if !std::fs::metadata(file)?.is_file() {
        return Err(ReadError::NotAFile);
    }
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(most + 1).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= most => Ok(bytes),
        _ => Err(ReadError::TooLarge(most)),
    }
}
