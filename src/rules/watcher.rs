//! The watched folder: the rules are reloaded when a file in it changes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use crate::watch::{self, Watch, Watched};

use super::Live;
use super::folder::MAX_FILES;

impl Live {
    /// Watches the folder and reloads when it changes. An error is the system's, if it can't watch at all; that the
    /// folder is not there (now) is none.
    pub fn watch(self: &Arc<Self>) -> notify::Result<Watch> {
        Watch::start(Folder(self.clone()))
    }
}

struct Folder(Arc<Live>);

impl Watched for Folder {
    type Outside = Option<Vec<(OsString, watch::File)>>;

    const THREAD: &'static str = "rules-watch";

    fn folders(&self) -> Vec<PathBuf> {
        vec![self.0.folder().to_owned()]
    }

    fn outside(&self) -> Self::Outside {
        let entries = std::fs::read_dir(self.0.folder()).ok()?;
        let files = entries.flatten().take(2 * MAX_FILES);
        let files = files.map(|entry| (entry.file_name(), watch::file(&entry.path())));
        let mut files: Vec<_> = files.collect();
        files.sort();
        Some(files)
    }

    fn look(&mut self) {
        // It tells the log itself what became of it.
        let _ = self.0.reload_if_changed();
    }
}
