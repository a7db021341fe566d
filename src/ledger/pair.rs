//! Two files for one thing: the newest, and the one before it, which is used should the newest be unreadable.
//!
//! ```text
//! <name>          the newest
//! <name>.before   the one before it
//! <name>.new      one that is being written
//! ```
//! A file is synced before it takes its name, and the folder after that.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::LedgerError;
use super::segment::{self, io_error};

/// Where they are.
pub(super) struct Pair {
    folder: PathBuf,
    name: &'static str,
    /// The newest file was found unreadable: not worth keeping as the one before.
    newest_is_bad: bool,
}

impl Pair {
    pub(super) fn new(folder: &Path, name: &'static str) -> Self {
        Pair {
            folder: folder.to_owned(),
            name,
            newest_is_bad: false,
        }
    }

    pub(super) fn newest(&self) -> PathBuf {
        self.folder.join(self.name)
    }

    pub(super) fn before(&self) -> PathBuf {
        self.folder.join(format!("{}.before", self.name))
    }

    /// What can be read: of the newest file, else of the one before. `read` says what is wrong with a file, `Ok(None)`: it is not
    /// there. `told`: what is logged of an unreadable newest file, and of both.
    pub(super) fn load<T>(
        &mut self,
        read: impl Fn(&Path) -> Result<Option<T>, String>,
        told: [&'static str; 2],
    ) -> Option<T> {
        let newest = self.newest();
        match read(&newest) {
            Ok(Some(found)) => return Some(found),
            Ok(None) => {}
            Err(why) => {
                self.newest_is_bad = true;
                tracing::error!(file = %newest.display(), why, "{}", told[0]);
            }
        }
        let before = self.before();
        read(&before).unwrap_or_else(|why| {
            tracing::error!(file = %before.display(), why, "{}", told[1]);
            None
        })
    }

    /// Writes a new file with `fill`; the newest becomes the one before.
    pub(super) fn write(&mut self, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), LedgerError> {
        let (newest, fresh) = (self.newest(), self.folder.join(format!("{}.new", self.name)));
        let write = || -> io::Result<()> {
            let mut file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&fresh)?;
            fill(&mut file)?;
            file.sync_all()
        };
        write().map_err(io_error(&fresh))?;
        if !self.newest_is_bad {
            match fs::rename(&newest, self.before()) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io_error(&newest)(e)),
                _ => {}
            }
        }
        fs::rename(&fresh, &newest).map_err(io_error(&fresh))?;
        self.newest_is_bad = false;
        segment::sync_folder(&self.folder)
    }
}
