//! Two files for one thing: the newest, and the one before it, which is used should the newest be unreadable.
//!
//! ```text
//! <name>          the newest
//! <name>.before   the one before it
//! <name>.new      one that is being written
//! ```
//! A damaged file is moved to `damaged/`, never written over. A file is synced before it takes its name, and the folder after that.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::LedgerError;
use super::segment::{self, io_error};

/// Where they are.
pub(super) struct Pair {
    folder: PathBuf,
    name: &'static str,
    /// The newest file was found damaged: not worth keeping as the one before.
    newest_is_bad: bool,
    /// And the one before.
    before_is_bad: bool,
}

/// Why a file can't be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// What is in it is damaged, and stays so: it is lost.
    Damaged(String),
    /// It can't be read now (no right to, no more files, the disk), or not by this program: it may hold all.
    Unread(String),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        // What the system said, and not what was found in the content.
        match error.raw_os_error() {
            Some(_) => Unusable::Unread(format!("it can't be read: {error}")),
            None => Unusable::Damaged(error.to_string()),
        }
    }
}

/// What is wrong with a file's first bytes; the last of `magic` is the version of its form.
pub(super) fn check_magic(head: &[u8; 8], magic: &[u8; 8]) -> Result<(), Unusable> {
    if head == magic {
        return Ok(());
    }
    if head[..7] == magic[..7] && head[7].is_ascii_digit() && head[7] > magic[7] {
        return Err(Unusable::Unread(
            "a newer program wrote it: run that one, or move the file away to go on without what it holds".into(),
        ));
    }
    Err(Unusable::Damaged(
        "it does not begin as a file of this version does".into(),
    ))
}

impl Pair {
    pub(super) fn new(folder: &Path, name: &'static str) -> Self {
        Pair {
            folder: folder.to_owned(),
            name,
            newest_is_bad: false,
            before_is_bad: false,
        }
    }

    pub(super) fn newest(&self) -> PathBuf {
        self.folder.join(self.name)
    }

    pub(super) fn before(&self) -> PathBuf {
        self.folder.join(format!("{}.before", self.name))
    }

    fn fresh(&self) -> PathBuf {
        self.folder.join(format!("{}.new", self.name))
    }

    /// Removes what a writer that was killed left half written; nobody else may be writing.
    pub(super) fn remove_left_over(&self) {
        let _ = fs::remove_file(self.fresh());
    }

    /// What can be read: of the newest file, else of the one before. `read` says what is wrong with a file, `Ok(None)`: it is not
    /// there. `told`: what is logged of a damaged newest file, and of both. A file that only can't be read now is an error: it is not
    /// gone on without it.
    pub(super) fn load<T>(
        &mut self,
        read: impl Fn(&Path) -> Result<Option<T>, Unusable>,
        told: [&'static str; 2],
    ) -> Result<Option<T>, LedgerError> {
        for (file, told) in [self.newest(), self.before()].into_iter().zip(told) {
            match read(&file) {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(Unusable::Unread(why)) => return Err(io_error(&file)(io::Error::other(why))),
                Err(Unusable::Damaged(why)) => {
                    tracing::error!(file = %file.display(), why, "{told}");
                    self.is_bad(&file);
                }
            }
        }
        Ok(None)
    }

    /// This file is damaged: the next write moves it to the damaged ones.
    pub(super) fn is_bad(&mut self, file: &Path) {
        self.newest_is_bad |= file == self.newest();
        self.before_is_bad |= file == self.before();
    }

    /// Writes a new file with `fill`; the newest becomes the one before.
    pub(super) fn write(&mut self, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), LedgerError> {
        let (newest, fresh) = (self.newest(), self.fresh());
        let write = || -> io::Result<()> {
            let mut file = segment::create_private(&fresh)?;
            fill(&mut file)?;
            file.sync_all()
        };
        write().map_err(|e| {
            let _ = fs::remove_file(&fresh); // it takes room
            io_error(&fresh)(e)
        })?;
        if std::mem::take(&mut self.before_is_bad) {
            segment::move_aside(&self.folder, &self.before())?;
        }
        if self.newest_is_bad {
            segment::move_aside(&self.folder, &newest)?;
        } else {
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
