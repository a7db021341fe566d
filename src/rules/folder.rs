//! Reads the rules folder: every `*.toml` in it, in name order, within bounds.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::config::source::{Source, because};
use crate::config::{Problem, Problems};

/// Most files in the folder.
pub const MAX_FILES: usize = 1000;

/// Most bytes in all of them together.
pub const MAX_FOLDER_BYTES: usize = 64 << 20;

/// What the folder holds.
#[derive(Debug)]
pub struct Folder {
    /// The files, in name order.
    pub sources: Vec<Source>,
    /// What could not be read.
    pub problems: Problems,
    /// CRC-32C over names and contents, and over what could not be read.
    pub digest: u32,
}

impl Folder {
    /// Reads it. Never fails: what can't be read is a problem.
    pub fn read(folder: &Path) -> Self {
        let mut read = Folder {
            sources: Vec::new(),
            problems: Vec::new(),
            digest: 0,
        };
        match files(folder) {
            Ok(files) => read.take(folder, &files),
            Err(problem) => read.refuse(problem),
        }
        read
    }

    /// The same with another text in place of one file's, or beside the others.
    pub(super) fn with(mut self, changed: Source) -> Self {
        self.mix(changed.text.as_bytes());
        self.sources.retain(|source| source.file != changed.file);
        let at = self.sources.partition_point(|source| source.file < changed.file);
        self.sources.insert(at, changed);
        self
    }

    fn take(&mut self, folder: &Path, files: &[PathBuf]) {
        if files.len() > MAX_FILES {
            let help = format!("there may be {MAX_FILES} at most; join some of them");
            self.refuse(Problem::of_file(folder, format!("{} files", files.len()), help));
            return;
        }
        let mut bytes = 0;
        for file in files {
            match Source::read(file) {
                Ok(source) => {
                    bytes += source.text.len();
                    self.mix(file.as_os_str().as_encoded_bytes());
                    self.mix(source.text.as_bytes());
                    self.sources.push(source);
                }
                Err(problem) => self.refuse(problem),
            }
            if bytes > MAX_FOLDER_BYTES {
                let help = format!("the files are larger than {} MiB together", MAX_FOLDER_BYTES >> 20);
                self.refuse(Problem::of_file(folder, "too much to read", help));
                return;
            }
        }
    }

    fn refuse(&mut self, problem: Problem) {
        self.mix(problem.to_string().as_bytes());
        self.problems.push(problem);
    }

    /// Lengths are mixed in too, so that moving text from one file to the next is a change.
    fn mix(&mut self, bytes: &[u8]) {
        self.digest = crc32c::crc32c_append(self.digest, &bytes.len().to_le_bytes());
        self.digest = crc32c::crc32c_append(self.digest, bytes);
    }
}

/// Puts a text in a file's place, whole or not at all; `None`: takes the file away. On disk when this returns. The name it is
/// written under first is a hidden one, which nobody reads.
pub(super) fn replace(file: &Path, text: Option<&str>) -> std::io::Result<()> {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    match text {
        None => std::fs::remove_file(file)?,
        Some(text) => {
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(".new");
            let fresh = folder.join(hidden);
            let mut open = std::fs::File::create(&fresh)?;
            open.write_all(text.as_bytes())?;
            open.sync_all()?;
            std::fs::rename(&fresh, file)?;
        }
    }
    std::fs::File::open(folder)?.sync_all()
}

/// The files to read, in name order. Hidden ones are left out: editors keep their copies there.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Problem> {
    let cannot = |error: std::io::Error| {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "there is no such folder. Make it, or name another as `rules` in the configuration.".to_owned()
            }
            _ => because(&error),
        };
        Problem::of_file(folder, "the rules folder can't be read", help)
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension() == Some(OsStr::new("toml")) && !hidden {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            break;
        }
    }
    files.sort();
    Ok(files)
}
