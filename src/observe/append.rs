//! A file that lines are appended to, made with its folders, opened again when somebody moved it away (logrotate).

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation, flock};
use rustix::io::Errno;

/// An open log file.
#[derive(Debug)]
pub struct Appender {
    path: PathBuf,
    mode: u32,
    file: File,
}

impl Appender {
    /// Opens or makes the file with these permissions (an existing file keeps its own); missing folders are made for the
    /// owner and the group only.
    pub fn open(path: &Path, mode: u32) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
        }
        Ok(Appender {
            path: path.into(),
            mode,
            file: Self::open_file(path, mode)?,
        })
    }

    fn open_file(path: &Path, mode: u32) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).mode(mode).open(path)
    }

    /// Where it writes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file again if the path no longer leads to the open one, and says whether it did. When that fails the
    /// old file stays in use.
    pub fn follow_path(&mut self) -> io::Result<bool> {
        let same = self.is_at_path()?;
        if !same {
            *self = Self::open(&self.path, self.mode)?;
        }
        Ok(!same)
    }

    fn is_at_path(&self) -> io::Result<bool> {
        let open = self.file.metadata()?;
        let at_path = std::fs::metadata(&self.path);
        Ok(at_path.is_ok_and(|now| (now.dev(), now.ino()) == (open.dev(), open.ino())))
    }

    /// Renames the file and opens a new one; says whether a new one is open. If another process just renamed it, only the new
    /// one is opened; if another is about to, nothing happens. What others still write into the renamed file stays in it. When
    /// something fails the old file stays in use.
    pub fn put_away(&mut self, to: &Path) -> io::Result<bool> {
        // Of the file itself, not of its name: who comes second finds that the name leads elsewhere.
        match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(false),
            locked => locked?,
        }
        let outcome = self.put_away_locked(to);
        if outcome.is_err() {
            let _ = flock(&self.file, FlockOperation::Unlock);
        }
        // Else the lock went with the file.
        outcome.map(|()| true)
    }

    fn put_away_locked(&mut self, to: &Path) -> io::Result<()> {
        if self.is_at_path()? {
            std::fs::rename(&self.path, to)?;
        }
        *self = Self::open(&self.path, self.mode)?;
        Ok(())
    }

    /// How long the file is, in bytes.
    pub fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Takes back what was written behind this length, so that nothing half-written stays.
    pub fn cut_to(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    /// Sets room on the disk aside behind the end, of so many bytes; the file's length stays. A file system that can't is not
    /// asked for it: then what is written may still meet a full disk.
    pub fn reserve(&self, bytes: u64) -> io::Result<()> {
        let length = self.length()?;
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, length, bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            reserved => Ok(reserved?),
        }
    }

    /// Makes what was written survive a power cut.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

impl Write for Appender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
